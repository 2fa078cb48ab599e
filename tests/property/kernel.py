"""A model of one network namespace: what the kernel makes of the planner's operations.

It refuses what the kernel refuses (`Refused`), takes along what the kernel takes along, and keeps objects of others,
which `observe` does not show. What it models:

- an address, route, neighbour (proxied or not) or forwarding entry needs its device, a gateway an address on its network, or onlink;
- two tunnels cannot have the same kind, local address and key, nor can one be changed in more than MTU and state;
- a device that goes takes its addresses, routes, neighbours, forwarding entries and sysctls along; the last address
  that goes takes the device's routes and neighbours along, proxied ones too; so does a device that goes down;
- a set that a table refers to cannot go, and a table cannot refer to a set that is not there; a set's type is for life;
- per-device sysctls need the device, `nf_conntrack_tcp_loose` needs a rule that has loaded conntrack.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from proxypool.core.host_firewall import LOOPBACK
from proxypool.core.planner import ChangeSet, MakeNamespace, Operation, Put, Remove, RemoveNamespace
from proxypool.core.scene import (
    Address,
    AddressSet,
    AnyObject,
    Eni,
    ForwardingEntry,
    Key,
    MarkedSet,
    Neighbour,
    ProxyNeighbour,
    Route,
    Rule,
    Scene,
    SourceGuard,
    Sysctl,
    Table,
    Tunnel,
    UnknownSet,
)

Link: TypeAlias = Eni | Tunnel
CONNTRACK_SYSCTL = "netfilter/"


class Refused(Exception):
    """The kernel said no: the plan's order is wrong."""


class Kernel:
    """One namespace, ours or the machine's own (None)."""

    def __init__(self, namespace: str | None, foreign: Iterable[AnyObject] = ()) -> None:
        self.namespace = namespace
        self.exists = namespace is None
        self.objects: dict[Key, AnyObject] = {}
        self.foreign: dict[Key, AnyObject] = {item.key: item for item in foreign}
        """Of others: another protocol number, chain prefix or device name. Keyed apart, as they do not collide."""

    def observe(self) -> Scene:
        """Ours only."""
        return Scene(self.namespace, dict(self.objects), self.exists)

    def apply(self, operation: Operation) -> None:
        """Do one operation.

        Raises:
            Refused: the kernel does not do it in this state.
        """
        match operation:
            case MakeNamespace(name):
                self._require(name == self.namespace, f"made {name} for {self.namespace}")
                self.exists = True
            case RemoveNamespace(name):
                self._require(name == self.namespace, f"removed {name} for {self.namespace}")
                self.exists = False
                self.objects.clear()
            case Put(item):
                self._require(self.exists, f"put {item.key} into no namespace")
                self._put(item)
            case ChangeSet(name, added, removed):
                old = self.objects.get(("set", name))
                self._require(isinstance(old, AddressSet), f"no set {name}")
                assert isinstance(old, AddressSet)
                self.objects[old.key] = AddressSet(name, (old.members | added) - removed)
            case Remove(item):
                self._require(self.exists, f"removed {item.key} from no namespace")
                self._remove(item)

    def _put(self, item: AnyObject) -> None:
        match item:
            case Eni() | Tunnel():
                self._put_link(item)
            case Route(gateway=gateway) if item.device is not None:
                self._require_link(item.device, item)
                reachable = (
                    gateway is None
                    or item.is_onlink
                    or any(gateway in one.interface.network for one in self._addresses(item.device))
                )
                self._require(reachable, f"{item.key}: gateway {gateway} is not on a network of {item.device}")
            case SourceGuard() | Address() | Neighbour() | ProxyNeighbour() | ForwardingEntry():
                self._require_link(item.device, item)
            case Sysctl(path):
                self._require(path_is_there(path, self.objects.values()), f"{path} is not there")
            case Table():
                missing = [name for name in sets_of(item) if ("set", name) not in self.objects]
                self._require(not missing, f"no set {missing}")
            case AddressSet() | MarkedSet() | UnknownSet():
                old = self.objects.get(item.key)
                self._require(old is None or type(old) is type(item), f"set {item.name} is of another type")
            case _:
                pass
        self.objects[item.key] = item

    def _put_link(self, new: Link) -> None:
        old = self.objects.get(new.key)
        if isinstance(new, Tunnel):
            self._require(not isinstance(old, Tunnel) or old.can_become(new), f"{new.device}: File exists")
            for other in self.objects.values():
                clash = isinstance(other, Tunnel) and other.device != new.device
                self._require(not (clash and identity(other) == identity(new)), f"{new.device}: File exists")
        elif isinstance(old, Eni):
            self._require(old.match.lower() == new.match.lower(), f"{new.device}: another card is in its place")
        if not new.is_up:
            self._drop(new.device, (Route, Neighbour, ProxyNeighbour))

    def _remove(self, item: AnyObject) -> None:
        if isinstance(item, AddressSet | MarkedSet | UnknownSet):
            used = any(isinstance(one, Table) and item.name in sets_of(one) for one in self.objects.values())
            self._require(not used, f"set {item.name} is in use")
        self.objects.pop(item.key, None)
        if isinstance(item, Eni | Tunnel):
            self._drop(item.device, (SourceGuard, Address, Route, Neighbour, ProxyNeighbour, ForwardingEntry))
            gone = [
                one for one in self.objects.values() if isinstance(one, Sysctl) and device_of(one.path) == item.device
            ]
            for one in gone:
                del self.objects[one.key]
        elif isinstance(item, Address) and not self._addresses(item.device):
            self._drop(item.device, (Route, Neighbour, ProxyNeighbour))

    def _drop(self, device: str, kinds: tuple[type, ...]) -> None:
        gone = [
            one.key for one in self.objects.values() if isinstance(one, kinds) and getattr(one, "device", "") == device
        ]
        for key in gone:
            del self.objects[key]

    def _addresses(self, device: str) -> list[Address]:
        return [one for one in self.objects.values() if isinstance(one, Address) and one.device == device]

    def _require_link(self, device: str, item: AnyObject) -> None:
        there = any(isinstance(one, Eni | Tunnel) and one.device == device for one in self.objects.values())
        self._require(there or device == LOOPBACK, f"{item.key}: no device {device}")

    def _require(self, is_so: bool, why: str) -> None:  # noqa: FBT001 - an assertion
        if not is_so:
            raise Refused(why)


def identity(tunnel: AnyObject) -> tuple[object, ...]:
    """What the kernel takes for the same tunnel."""
    assert isinstance(tunnel, Tunnel)
    return (tunnel.kind, tunnel.local, tunnel.tunnel_key)


def device_of(path: str) -> str | None:
    """The device of a per-device sysctl, such as `ipv4/conf/eni0/rp_filter`."""
    match path.split("/"):
        case [_, "conf" | "neigh", device, _] if device != "all":
            return device
        case _:
            return None


def path_is_there(path: str, objects: Iterable[AnyObject]) -> bool:
    """Whether the kernel has a sysctl."""
    there = tuple(objects)
    device = device_of(path)
    if device is not None:
        return any(isinstance(one, Eni | Tunnel) and one.device == device for one in there)
    return not path.startswith(CONNTRACK_SYSCTL) or any(isinstance(one, Table) for one in there)


def sets_of(table: Table) -> set[str]:
    """The sets that the table's rules look into."""
    return {
        value.split()[0]
        for chain in table.chains
        for rule in chain.rules
        if isinstance(rule, Rule)
        for match in rule.matches
        if match.name == "set"
        for _, value in match.options
    }
