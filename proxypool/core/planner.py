"""plan(desired, observed) -> operations: the whole difference, in the order it must be applied.

Pure. `plan(x, x)` is empty; after any prefix of a plan has been applied, planning again leads to the same end (the
property tests interrupt after every operation). An operation names a value, never a step of a procedure, and applying
one twice is the same as once.

Theory of the order (PHASES):
- What must go goes first, what hangs on a link before the link. A link that cannot be changed in place goes before its
  successor comes: the kernel refuses a second tunnel with the same local address and key. What the kernel takes along
  with a link, or with its last address, is found missing at the next look and put in the next round.
- In a new namespace filter tables come before links, so that no packet is ever forwarded or leaves without NAT.
- The card and the tunnel come before what hangs on them: addresses, then routes, then neighbours.
- sysctls come late: `nf_conntrack_tcp_loose` exists only after a rule has loaded conntrack, per-device ones only
  after the device.
- The gate is not in the plan. It follows the VRRP state, not the reconcile loop (see `core.role`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from proxypool.core.scene import AnyObject, Eni, Scene, Tunnel


@dataclass(frozen=True, slots=True)
class MakeNamespace:
    """Create the namespace."""

    name: str


@dataclass(frozen=True, slots=True)
class RemoveNamespace:
    """Give the card back to the root namespace, then remove the namespace with all that is in it."""

    name: str


@dataclass(frozen=True, slots=True)
class Put:
    """Make the object exist and be as described, whatever it is now."""

    item: AnyObject


@dataclass(frozen=True, slots=True)
class Remove:
    """Make the object not exist. Removing what is absent succeeds."""

    item: AnyObject


Operation: TypeAlias = MakeNamespace | RemoveNamespace | Put | Remove

PUT_PHASES = ("set", "table", "eni", "tunnel", "address", "route", "neighbour", "fdb", "sysctl", "rule")
REMOVE_PHASES = tuple(reversed(PUT_PHASES))


def plan(desired: Scene, observed: Scene) -> tuple[Operation, ...]:
    """Operations that turn what was observed into what is desired.

    Raises:
        ValueError: the scenes are of different namespaces.
    """
    if desired.namespace != observed.namespace:
        raise ValueError(f"scenes of different namespaces: {desired.namespace} and {observed.namespace}")
    if not desired.exists:
        if not observed.exists or desired.namespace is None:
            return ()
        return (RemoveNamespace(desired.namespace),)
    operations: list[Operation] = []
    if not observed.exists and desired.namespace is not None:
        operations.append(MakeNamespace(desired.namespace))
    operations += _removals(desired, observed)
    operations += _puts(desired, observed)
    return tuple(operations)


def _removals(desired: Scene, observed: Scene) -> list[Operation]:
    doomed = [item for key, item in observed.objects.items() if _must_go(item, desired.objects.get(key))]
    doomed.sort(key=lambda item: (REMOVE_PHASES.index(item.key[0]), item.key))
    return [Remove(item) for item in doomed]


def _must_go(item: AnyObject, wanted: AnyObject | None) -> bool:
    if wanted is None:
        return True
    if isinstance(item, Tunnel) and isinstance(wanted, Tunnel):
        return not item.can_become(wanted)
    if isinstance(item, Eni) and isinstance(wanted, Eni):
        return item.match.lower() != wanted.match.lower()
    return False


def _puts(desired: Scene, observed: Scene) -> list[Operation]:
    missing = [item for key, item in desired.objects.items() if observed.objects.get(key) != item]
    missing.sort(key=lambda item: (PUT_PHASES.index(item.key[0]), item.key))
    return [Put(item) for item in missing]
