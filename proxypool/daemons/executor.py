"""Observe a scene and execute operations: where the planner's values meet the adapters.

Runs on the dataplane thread only.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from typing import Protocol

from proxypool.adapters import iptables, netlink
from proxypool.adapters.netlink import Home
from proxypool.adapters.sysctl import observe_sysctls, write_sysctl
from proxypool.core.addressing import ENI_DEVICE
from proxypool.core.errors import PermanentError, ProxypoolError
from proxypool.core.planner import ChangeSet, MakeNamespace, Operation, Put, Remove, RemoveNamespace
from proxypool.core.scene import AnyObject, Eni, Scene, Sysctl, Table


class Driver(Protocol):
    """What the dataplane thread needs of a kernel."""

    def identity_of(self, namespace: str | None) -> int | None:
        """Tells a namespace from a later one under the same name; None: there is none."""

    def observe(self, desired: Scene) -> Scene:
        """Our objects of the namespace, as they are now."""

    def execute(self, namespace: str | None, batch: Sequence[Operation]) -> list[ProxypoolError | None]:
        """Apply what `batches` gave."""


class KernelDriver:
    """The kernel of this machine."""

    def __init__(self, home: Home) -> None:
        """For the thread that alone enters namespaces."""
        self._home = home
        self._memories: dict[str | None, tuple[int, netlink.Memory]] = {}
        """Namespace -> its identity, and what is known of it."""

    def identity_of(self, namespace: str | None) -> int | None:
        """See `Driver`."""
        return 0 if namespace is None else netlink.namespace_inode(namespace)

    def observe(self, desired: Scene) -> Scene:
        """Our objects of the namespace, as they are now.

        Raises:
            TransientError: the kernel did not answer.
            PermanentError: somebody else's namespace has the name.
        """
        if desired.namespace is not None and not netlink.namespace_exists(desired.namespace):
            self._memories.pop(desired.namespace, None)
            return Scene.absent(desired.namespace)
        what = f"namespace {desired.namespace}" if desired.namespace is not None else "this machine"
        with self._home.inside(desired.namespace), netlink.View(what, self._memory(desired.namespace)) as view:
            if desired.namespace is not None:
                ownership = view.ownership()
                if ownership is not netlink.Ownership.OURS and not desired.exists:
                    return Scene.absent(desired.namespace)
                if ownership is netlink.Ownership.FOREIGN:
                    raise PermanentError(f"{what} exists and is not ours: remove or rename it")
                if ownership is netlink.Ownership.UNMARKED:
                    return Scene.absent(desired.namespace)
            found = view.objects(desired)
            others = [item for item in desired.objects.values() if isinstance(item, Sysctl | Table)]
            found |= {item.key: item for item in observe_sysctls([item for item in others if isinstance(item, Sysctl)])}
            found |= {item.key: iptables.observe_table(item) for item in others if isinstance(item, Table)}
        return Scene(desired.namespace, found)

    def _memory(self, namespace: str | None) -> netlink.Memory:
        """Of earlier looks at the namespace that has this name now."""
        identity = self.identity_of(namespace) or 0
        known = self._memories.get(namespace)
        if known is None or known[0] != identity:
            known = self._memories[namespace] = (identity, netlink.Memory())
        return known[1]

    def execute(self, namespace: str | None, batch: Sequence[Operation]) -> list[ProxypoolError | None]:
        """Apply what `batches` gave: what was refused of it, and why. Of a refused one nothing or all is in place."""
        share = _share_of(batch[0])
        if share is None or any(_share_of(operation) is not share for operation in batch):
            return [self._outcome(namespace, operation) for operation in batch]
        try:
            with self._home.inside(namespace):
                if share is _Share.VISIT:
                    return [_error_of(functools.partial(_write, operation)) for operation in batch]
                return netlink.apply_batch(_changes(batch))
        except ProxypoolError as error:
            return [error] * len(batch)

    def _outcome(self, namespace: str | None, operation: Operation) -> ProxypoolError | None:
        return _error_of(functools.partial(_execute_one, self._home, namespace, operation))


def _error_of(run: Callable[[], None]) -> ProxypoolError | None:
    try:
        run()
    except ProxypoolError as error:
        return error
    return None


class _Share(Enum):
    """What operations that follow one another can have in common."""

    MESSAGES = "messages"
    """One send to the kernel."""
    VISIT = "visit"
    """One visit of the namespace."""


def batches(operations: Iterable[Operation]) -> Iterator[tuple[Operation, ...]]:
    """The operations in their order, those together that are done in one go."""
    for share, group in itertools.groupby(operations, _share_of):
        if share is not None:
            yield tuple(group)
        else:
            yield from ((operation,) for operation in group)


def _share_of(operation: Operation) -> _Share | None:
    match operation:
        case Put(Sysctl()):
            return _Share.VISIT
        case Put(item) | Remove(item) if isinstance(item, netlink.BATCHED):
            return _Share.MESSAGES
        case _:
            return None


def _changes(batch: Sequence[Operation]) -> list[tuple[netlink.Batched, bool]]:
    return [
        (operation.item, isinstance(operation, Put))
        for operation in batch
        if isinstance(operation, Put | Remove) and isinstance(operation.item, netlink.BATCHED)
    ]


def _write(operation: Operation) -> None:
    if isinstance(operation, Put) and isinstance(operation.item, Sysctl):
        write_sysctl(operation.item)


def _execute_one(home: Home, namespace: str | None, operation: Operation) -> None:
    match operation:
        case MakeNamespace(name):
            netlink.create_namespace(home, name)
        case RemoveNamespace(name):
            if netlink.namespace_exists(name):
                with home.inside(name):
                    netlink.remove_object(Eni(ENI_DEVICE, ""), name, home)
            netlink.remove_namespace(name, home.names)
        case Put(item):
            with home.inside(namespace):
                _put(item, namespace, home)
        case ChangeSet(name, added, removed):
            with home.inside(namespace):
                netlink.change_set(name, added, removed)
        case Remove(item):
            with home.inside(namespace):
                if isinstance(item, Table):
                    iptables.remove_table(item.name)
                elif not isinstance(item, Sysctl):
                    netlink.remove_object(item, namespace, home)


def _put(item: AnyObject, namespace: str | None, home: Home) -> None:
    match item:
        case Table():
            iptables.apply_table(item)
        case Sysctl():
            write_sysctl(item)
        case _:
            netlink.apply_object(item, namespace, home)
