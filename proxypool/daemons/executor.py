"""Observe a scene and execute operations: where the planner's values meet the adapters.

Runs on the dataplane thread only.
"""

from __future__ import annotations

from proxypool.adapters import iptables, netlink
from proxypool.adapters.netlink import Home
from proxypool.adapters.sysctl import observe_sysctls, write_sysctl
from proxypool.core.addressing import ENI_DEVICE
from proxypool.core.errors import PermanentError
from proxypool.core.planner import MakeNamespace, Operation, Put, Remove, RemoveNamespace
from proxypool.core.scene import AnyObject, Eni, Scene, Sysctl, Table


def observe(home: Home, desired: Scene) -> Scene:
    """Our objects of the namespace, as they are now.

    Raises:
        TransientError: the kernel did not answer.
        PermanentError: somebody else's namespace has the name.
    """
    if desired.namespace is not None and not netlink.namespace_exists(desired.namespace):
        return Scene.absent(desired.namespace)
    what = f"namespace {desired.namespace}" if desired.namespace is not None else "this machine"
    with home.inside(desired.namespace), netlink.View(what) as view:
        if desired.namespace is not None:
            ownership = view.ownership()
            if ownership is not netlink.Ownership.OURS and not desired.exists:
                return Scene.absent(desired.namespace)
            if ownership is netlink.Ownership.FOREIGN:
                raise PermanentError(f"{what} exists and is not ours: remove or rename it")
            if ownership is netlink.Ownership.UNMARKED:
                return Scene.absent(desired.namespace)
        found = view.objects(desired)
        found += observe_sysctls([item for item in desired.objects.values() if isinstance(item, Sysctl)])
        for item in desired.objects.values():
            if isinstance(item, Table):
                found.append(iptables.observe_table(item))
    return Scene.of(desired.namespace, found)


def execute(home: Home, namespace: str | None, operation: Operation) -> None:
    """Apply one operation.

    Raises:
        TransientError, PermanentError: it could not be applied; nothing or all of it is in place.
    """
    match operation:
        case MakeNamespace(name):
            netlink.create_namespace(home, name)
        case RemoveNamespace(name):
            if netlink.namespace_exists(name):
                with home.inside(name):
                    netlink.remove_object(Eni(ENI_DEVICE, ""), name, home)
            netlink.remove_namespace(name)
        case Put(item):
            with home.inside(namespace):
                _put(item, namespace, home)
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
