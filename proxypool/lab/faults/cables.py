"""Cables that are pulled: the underlay's, the ENIs'."""

# ruff: noqa: ARG001 - all acts are called alike

from __future__ import annotations

import time

from proxypool.lab import network
from proxypool.lab.building import Builder
from proxypool.lab.errors import LabError
from proxypool.lab.fault_kinds import Options
from proxypool.lab.faults import packets
from proxypool.lab.machine import Machine
from proxypool.lab.topology import UNDERLAY, Interface, fabric_port


def ports_of(machine: Machine) -> list[str]:
    """The fabric's ends of all cables of a machine, underlay first."""
    return [fabric_port(machine.name, card.name) for card in machine.spec.interfaces if card.bridge]


def cut_underlay(builder: Builder, machine: Machine, options: Options) -> float:
    """The machine sees its carrier go, as with a pulled cable."""
    return _set_ports(builder, machine, [packets.underlay_port(machine)], up=False)


def heal_underlay(builder: Builder, machine: Machine, options: Options) -> float:
    """The cable, and everything that happened to its packets."""
    port = packets.underlay_port(machine)
    packets.heal(builder, machine)
    return _set_ports(builder, machine, [port], up=True)


def cut_eni(builder: Builder, machine: Machine, options: Options) -> float:
    """The card stays, without a carrier."""
    cards = [card for card in _enis(builder, machine, options) if _exists(builder, machine, card)]
    return _set_ports(builder, machine, [fabric_port(machine.name, card.name) for card in cards], up=False)


def delete_eni(builder: Builder, machine: Machine, options: Options) -> float:
    """The card is gone, as when somebody detaches the ENI in the cloud's console."""
    machine.require_on()
    ports = [fabric_port(machine.name, card.name) for card in _enis(builder, machine, options)]
    began = time.monotonic()
    builder.in_fabric(network.remove_ports(ports), tolerant=True)
    return began


def heal_eni(builder: Builder, machine: Machine, options: Options) -> float:
    """Plug in; a card that was deleted comes back in the machine's own namespace, as a new one does."""
    cards = _enis(builder, machine, options)
    restore(builder, machine, cards)
    return _set_ports(builder, machine, [fabric_port(machine.name, card.name) for card in cards], up=True)


def restore(builder: Builder, machine: Machine, cards: list[Interface]) -> None:
    """Give back those that are gone."""
    for card in cards:
        if not _exists(builder, machine, card):
            builder.in_fabric(network.cable_to_fabric(machine.name, card, machine.pid))


def all_enis(machine: Machine) -> list[Interface]:
    """Its cards but the underlay's."""
    return [card for card in machine.spec.interfaces if card.bridge not in (None, UNDERLAY)]


def _enis(builder: Builder, machine: Machine, options: Options) -> list[Interface]:
    by_subnet = {
        plan.id: card
        for plan in builder.topology.subnet_plans
        for member in plan.all_members
        for card in machine.spec.interfaces
        if member.node == machine.name and card.name == member.eni
    }
    if not by_subnet:
        raise LabError(f"{machine.name} has no ENI")
    if options.subnet is None:
        return list(by_subnet.values())
    if options.subnet not in by_subnet:
        names = ", ".join(by_subnet)
        raise LabError(f"{machine.name} has no ENI in subnet {options.subnet!r}; it has one in {names}")
    return [by_subnet[options.subnet]]


def _exists(builder: Builder, machine: Machine, card: Interface) -> bool:
    return fabric_port(machine.name, card.name) in builder.fabric_devices()


def _set_ports(builder: Builder, machine: Machine, ports: list[str], *, up: bool) -> float:
    machine.require_on()
    began = time.monotonic()
    builder.in_fabric(network.set_ports(ports, up=up))
    return began
