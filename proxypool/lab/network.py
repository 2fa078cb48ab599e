"""The `ip -batch` text that makes bridges and cables and configures their ends. Pure.

A cable is a veth pair: made in the fabric with the far end born in the machine's namespace (named by the pid of the
machine's init), or between two machines when there is no bridge between them.
"""

from __future__ import annotations

from collections.abc import Iterable

from proxypool.lab.topology import UNDERLAY, Interface, MachineSpec, Topology, fabric_port


def bridges(topology: Topology) -> list[str]:
    """Run once in the fabric. Snooping is off: it would hold back multicast for a while after a port comes up."""
    names = (UNDERLAY, *(subnet.bridge for subnet in topology.subnet_plans))
    options = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
    return ["link set lo up", *(f"link add {name} up {options}" for name in names)]


def cables_to_fabric(machine: MachineSpec, pid: int) -> list[str]:
    """Run in the fabric: the machine's cables, plugged into their bridges."""
    return [line for card in machine.interfaces for line in cable_to_fabric(machine.name, card, pid)]


def cable_to_fabric(machine: str, card: Interface, pid: int) -> list[str]:
    """Run in the fabric: one of these cables; none if the card is on no bridge."""
    if not card.bridge:
        return []
    near = f"link add {fabric_port(machine, card.name)} up master {card.bridge}"
    return [f"{near} type veth peer name {card.name} address {card.mac} netns {pid}"]


def cable_between(near: Interface, far: Interface, far_pid: int) -> str:
    """Run in the near machine: a cable straight to another machine."""
    return f"link add {near.name} address {near.mac} type veth peer name {far.name} address {far.mac} netns {far_pid}"


def configure(cards: Iterable[Interface]) -> list[str]:
    """Run in the machine that owns `cards`: addresses, links up, default route."""
    lines: list[str] = []
    for card in cards:
        if card.address and card.facing:
            lines.append(f"addr replace {card.address.partition('/')[0]} peer {card.facing}/32 dev {card.name}")
        elif card.address:
            lines.append(f"addr replace {card.address} brd + dev {card.name}")
        lines.append(f"link set {card.name} up")
        if card.gateway:
            lines.append(f"route replace default via {card.gateway}")
    return lines


def set_ports(ports: Iterable[str], *, up: bool) -> list[str]:
    """Run in the fabric: pull or plug cables. The machine's end sees its carrier go or come."""
    return [f"link set {port} {'up' if up else 'down'}" for port in ports]


def remove_ports(ports: Iterable[str]) -> list[str]:
    """Run in the fabric: a cable disappears at both ends."""
    return [f"link del {port}" for port in ports]
