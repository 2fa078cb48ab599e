"""Packets on a machine's underlay cable: lost or late, all or some, one way or both.

Losses happen in the fabric, at its end of the cable: a classic BPF program on the port's ingress (what the machine
sends) or egress (what it gets). So nothing of it is seen in the machine, no flush there ends it, and it costs a packet
nothing to speak of. Delays happen in the machine, because the kernels this runs on have no network emulator: a rule
puts packets into a queue, and a small program gives them back later (`proxypool.lab.inside.delayer`).
"""

# ruff: noqa: ARG001 - all acts are called alike

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from proxypool.lab import background, namespaces
from proxypool.lab.building import Builder
from proxypool.lab.errors import LabError
from proxypool.lab.fault_kinds import Options
from proxypool.lab.machine import Machine
from proxypool.lab.processes import environment
from proxypool.lab.topology import UNDERLAY, ZOOKEEPER_PORT, fabric_port

Instruction = tuple[int, int, int, int]
"""Of classic BPF: code, jump if true, jump if false, operand."""
Act = Callable[[Builder, Machine, Options], float]

OUT, IN = "ingress", "egress"
"""As the machine sees it; the fabric's port receives what the machine sends."""
_WORD, _HALF, _BYTE, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x28, 0x30, 0x15, 0x35, 0x06
_RANDOM = 0xFFFFF038
"""SKF_AD_OFF + SKF_AD_RANDOM: 32 random bits."""
_DROP, _GO_ON = 2, 0xFFFFFFFF
"""TC_ACT_SHOT, TC_ACT_UNSPEC."""
DELAY = f"{background.PREFIX}delay"
QUEUE = "77"
_CHAIN = "LAB-DELAY"


@dataclass(frozen=True)
class Kind:
    """Packets that are meant."""

    preference: int
    """Of its first filter: filters of different kinds stand beside each other."""
    alternatives: tuple[tuple[tuple[int, int, int], ...], ...]
    """Each one: (load, offset, value), all of which must be so. A filter for each."""
    match: tuple[str, ...] = ()
    """The same for iptables."""

    def programs(self, share: float) -> list[list[Instruction]]:
        """Each drops that share of what it means."""
        return [_program(tests, share) for tests in self.alternatives]


def _program(tests: tuple[tuple[int, int, int], ...], share: float) -> list[Instruction]:
    dice: list[Instruction] = [(_WORD, 0, 0, _RANDOM), (_AT_LEAST, 1, 0, int(share * 0xFFFFFFFF))]
    tail = [*(dice if share < 1 else []), (_RETURN, 0, 0, _DROP), (_RETURN, 0, 0, _GO_ON)]
    found: list[Instruction] = []
    for index, (load, offset, value) in enumerate(tests):
        # If it is not so: over the tests that are left, and all of the tail but its last line.
        found += [(load, 0, 0, offset), (_EQUAL, 0, 2 * (len(tests) - index - 1) + len(tail) - 1, value)]
    return found + tail


_IPV4 = (_HALF, 12, 0x0800)
ANYTHING = Kind(10, ((),))
VRRP = Kind(20, ((_IPV4, (_BYTE, 23, 112)),), ("-p", "112"))
ZOOKEEPER = Kind(
    30,
    (
        (_IPV4, (_BYTE, 23, 6), (_HALF, 34, ZOOKEEPER_PORT)),
        (_IPV4, (_BYTE, 23, 6), (_HALF, 36, ZOOKEEPER_PORT)),
    ),
)


def underlay_port(machine: Machine) -> str:
    """The fabric's end of its underlay cable. `LabError` if it has none."""
    for card in machine.spec.interfaces:
        if card.bridge == UNDERLAY:
            return fabric_port(machine.name, card.name)
    raise LabError(f"{machine.name} is not on the underlay")


def lose(kind: Kind, directions: tuple[str, ...]) -> Act:
    """All of them."""

    def act(builder: Builder, machine: Machine, options: Options) -> float:
        return _filter(builder, machine, kind, directions, 1.0)

    return act


def lose_some(kind: Kind) -> Act:
    """`percent` of them, each way."""

    def act(builder: Builder, machine: Machine, options: Options) -> float:
        return _filter(builder, machine, kind, (IN, OUT), options.percent / 100)

    return act


def _filter(builder: Builder, machine: Machine, kind: Kind, directions: tuple[str, ...], share: float) -> float:
    machine.require_on()
    port = underlay_port(machine)
    _tc(builder, [f"qdisc add dev {port} clsact"], tolerant=True)
    began = time.monotonic()
    place = f"filter replace dev {port}"
    _tc(
        builder,
        [
            f"{place} {direction} protocol all pref {number} handle 1 bpf da bytecode {_text(program)}"
            for direction in directions
            for number, program in enumerate(kind.programs(share), kind.preference)
        ],
    )
    return began


def _text(program: list[Instruction]) -> str:
    return f"'{len(program)}," + ",".join(" ".join(map(str, instruction)) for instruction in program) + "'"


def heal(builder: Builder, machine: Machine) -> None:
    """All of it, on a machine that is on."""
    machine.require_on()
    _tc(builder, [f"qdisc del dev {underlay_port(machine)} clsact"] if _has_underlay(machine) else [], tolerant=True)
    if background.end(machine, DELAY):
        machine.run(["sh", "-c", _FORGET_DELAY], check=False)


def filtered(builder: Builder) -> set[str]:
    """Machines whose packets are lost or late."""
    command = [*namespaces.enter(builder.fabric_pid(), network_only=True), "tc", "qdisc", "show"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": namespaces.PATH}).stdout
    ports = set(re.findall(r"^qdisc clsact \S+ dev (\S+)", shown, re.MULTILINE))
    return {
        name for name, machine in builder.machines.items() if _has_underlay(machine) and underlay_port(machine) in ports
    }


def _has_underlay(machine: Machine) -> bool:
    return any(card.bridge == UNDERLAY for card in machine.spec.interfaces)


_FORGET_DELAY = f"""
iptables-legacy -w -t raw -D PREROUTING -i eth0 -j {_CHAIN}
iptables-legacy -w -t raw -F {_CHAIN}; iptables-legacy -w -t raw -X {_CHAIN}
"""


def delay_vrrp(builder: Builder, machine: Machine, options: Options) -> float:
    """Adverts arrive late, and out of order."""
    return _delay(machine, VRRP, options)


def delay_underlay(builder: Builder, machine: Machine, options: Options) -> float:
    """Everything arrives late, and out of order."""
    return _delay(machine, ANYTHING, options)


def _delay(machine: Machine, kind: Kind, options: Options) -> float:
    """The rule lets packets through while nobody reads the queue, so an end of the program ends the delay."""
    machine.require_on()
    if background.end(machine, DELAY):
        machine.run(["sh", "-c", _FORGET_DELAY], check=False)
    background.start(machine, DELAY, "delayer", QUEUE, str(options.delay_ms), str(options.jitter_ms))
    match = " ".join(kind.match)
    script = f"""
    iptables-legacy -w -t raw -N {_CHAIN}
    iptables-legacy -w -t raw -A {_CHAIN} {match} -j NFQUEUE --queue-num {QUEUE} --queue-bypass &&
    iptables-legacy -w -t raw -I PREROUTING -i eth0 -j {_CHAIN}
    """
    began = time.monotonic()
    machine.run(["sh", "-c", script])
    return began


def _tc(builder: Builder, lines: list[str], *, tolerant: bool = False) -> None:
    namespaces.batch("tc", builder.fabric_pid(), lines, environment(builder.state.name, "fabric"), tolerant=tolerant)
