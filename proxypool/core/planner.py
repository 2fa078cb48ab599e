"""plan(desired, observed) -> operations: the whole difference, in the order it must be applied.

Pure. `plan(x, x)` is empty; after any prefix of a plan has been applied, planning again leads to the same end (the
property tests interrupt after every operation). An operation names a value, never a step of a procedure, and applying
one twice is the same as once.

Theory of the order (PHASES):
- What must go goes first, what hangs on a link before the link. A link that cannot be changed in place goes before its
  successor comes: the kernel refuses a second tunnel with the same local address and key. What the kernel takes along
  with a link, or with its last address, counts as missing and is put again. A set of another type goes as well; the
  kernel refuses while a rule refers to it, and the error says so.
- In a new namespace filter tables come before links, so that no packet is ever forwarded or leaves without NAT.
- The card gets its guard before it has an address, which no packet of ours could leave without.
- The card and the tunnel come before what hangs on them: addresses, then routes, then neighbours.
- sysctls come late: `nf_conntrack_tcp_loose` exists only after a rule has loaded conntrack, per-device ones only
  after the device.
- A proxy neighbour comes after all that: from then on the customer's servers get answers, if the gate is open.
- The gate is not in the plan. It follows the VRRP state, not the reconcile loop (see `core.role`).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TypeAlias

from proxypool.core.composite import Composite, flat
from proxypool.core.scene import (
    Address,
    AddressSet,
    AnyObject,
    Eni,
    ForwardingEntry,
    Key,
    Neighbour,
    ProxyNeighbour,
    Route,
    Scene,
    SourceGuard,
    Sysctl,
    Tunnel,
)


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


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """Add and remove members of an address set that is there. Adding what is there is fine, and so is the contrary."""

    name: str
    added: frozenset[IPv4Address]
    removed: frozenset[IPv4Address]


Operation: TypeAlias = MakeNamespace | RemoveNamespace | Put | Remove | ChangeSet

PUT_PHASES = (
    "set",
    "table",
    "eni",
    "guard",
    "tunnel",
    "address",
    "route",
    "neighbour",
    "fdb",
    "sysctl",
    "proxy",
    "rule",
)
REMOVE_PHASES = tuple(reversed(PUT_PHASES))
_PUT_PHASE = {kind: number for number, kind in enumerate(PUT_PHASES)}
Objects: TypeAlias = Mapping[Key, AnyObject]


def key_of(operation: Operation) -> Key | None:
    """The object that an operation is about; None: the whole namespace."""
    match operation:
        case Put(item) | Remove(item):
            return item.key
        case ChangeSet(name):
            return ("set", name)
        case _:
            return None


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
    wanted, found = _what_may_differ(desired.objects, observed.objects)
    # Most of what was observed is the wanted object itself; comparing all fields of ten thousand takes its time.
    doomed = [item for key, item in found.items() if (asked := wanted.get(key)) is not item and _must_go(item, asked)]
    doomed.sort(key=lambda item: (REMOVE_PHASES.index(item.key[0]), item.key))
    operations += [Remove(item) for item in doomed]
    if any(isinstance(item, Eni | Tunnel | Address) for item in doomed):
        # They may take along what is otherwise as it must be.
        wanted, found = flat(desired.objects), _survivors(observed, doomed)
    missing = [(key, item) for key, item in wanted.items() if (is_now := found.get(key)) is not item and is_now != item]
    missing.sort(key=lambda entry: (_PUT_PHASE[entry[0][0]], entry[0]))
    operations += [_put(item, found.get(key)) for key, item in missing]
    return tuple(operations)


def _put(item: AnyObject, found: AnyObject | None) -> Operation:
    """A set that is there has members by the thousand, of which one is to come or go."""
    if isinstance(item, AddressSet) and isinstance(found, AddressSet):
        return ChangeSet(item.name, item.members - found.members, found.members - item.members)
    return Put(item)


def _what_may_differ(desired: Objects, observed: Objects) -> tuple[Objects, Objects]:
    """Without the parts that both have: one more host among ten thousand is a matter of its own few objects."""
    if isinstance(desired, Composite) and isinstance(observed, Composite):
        return desired.unlike(observed), observed.unlike(desired)
    return flat(desired), flat(observed)


def _must_go(item: AnyObject, wanted: AnyObject | None) -> bool:
    if wanted is None:
        return True
    if isinstance(item, Tunnel) and isinstance(wanted, Tunnel):
        return not item.can_become(wanted)
    if isinstance(item, Eni) and isinstance(wanted, Eni):
        return item.match.lower() != wanted.match.lower()
    # A set keeps its type for life.
    return type(item) is not type(wanted)


def _survivors(observed: Scene, doomed: Iterable[AnyObject]) -> dict[Key, AnyObject]:
    """What is left when the doomed are gone and the kernel has taken along what hung on them."""
    gone = {item.key for item in doomed}
    left = {key: item for key, item in observed.objects.items() if key not in gone}
    links = {item.device for item in doomed if isinstance(item, Eni | Tunnel)}
    addressed = {item.device for item in left.values() if isinstance(item, Address)}
    bare = {item.device for item in doomed if isinstance(item, Address)} - addressed
    return {key: item for key, item in left.items() if not (_hangs_on(item, links) or _needs_address(item, bare))}


def _needs_address(item: AnyObject, bare: Container[str | None]) -> bool:
    """Whether it hangs on a device that has no address left."""
    return isinstance(item, Route | Neighbour | ProxyNeighbour) and item.device in bare


def _hangs_on(item: AnyObject, links: Container[str]) -> bool:
    match item:
        case SourceGuard() | Address() | Route() | Neighbour() | ProxyNeighbour() | ForwardingEntry():
            return item.device in links
        case Sysctl(path):
            return any(part in links for part in path.split("/"))
        case _:
            return False
