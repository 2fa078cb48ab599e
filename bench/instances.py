"""Thousands of instances behind one host, and their first packets.

They are addresses of one machine: its kernel takes a whole range for its own, and the host routes the range to it. A
socket that is bound to one of them is an instance.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from proxypool.lab.lab import Lab
from proxypool.lab.namespaces import in_network_of
from proxypool.lab.topology import RESPONDER_PORT

RANGES = {"pod1": IPv4Network("10.33.0.0/16"), "pod2": IPv4Network("10.34.0.0/16")}
"""Machine -> the instances that it stands for."""
PATIENCE_S = 2.0
"""A first packet without an answer for so long is lost."""
QUESTION = b"first packet"


@dataclass
class Times:
    """Of many attaches, in ms."""

    calls: list[float] = field(default_factory=list)
    """Until the attach had been answered, or the last process had ended."""
    firsts: list[float] = field(default_factory=list)
    """Until the database's answer to the packet sent right after that."""
    lost: int = 0
    """First packets that had no answer; they count with the time that was waited for one."""


def lay_range(lab: Lab, pod: str, host: str) -> None:
    """Make a machine all instances of its range."""
    machine, network = lab.machine(pod), RANGES[pod]
    machine.run(["ip", "route", "add", "local", str(network), "dev", "lo"])
    lab.machine(host).run(["ip", "route", "add", str(network), "via", machine.spec.ip, "dev", pod])


def instance(pod: str, number: int) -> IPv4Address:
    """The n-th instance of a machine, from 1."""
    return RANGES[pod][number]


def instances(pod: str, first: int, count: int) -> list[IPv4Address]:
    """Some that follow each other."""
    return [instance(pod, number) for number in range(first, first + count)]


@contextlib.contextmanager
def links(
    lab: Lab, pod: str, addresses: Iterable[IPv4Address], kind: socket.SocketKind
) -> Iterator[list[socket.socket]]:
    """A socket of each instance that has sent nothing yet."""

    def make() -> list[socket.socket]:
        return [_bound(address, kind) for address in addresses]

    made = in_network_of(lab.machine(pod).pid, make)
    try:
        yield made
    finally:
        for link in made:
            link.close()


def _bound(address: IPv4Address, kind: socket.SocketKind) -> socket.socket:
    link = socket.socket(socket.AF_INET, kind)
    link.settimeout(PATIENCE_S)
    link.bind((str(address), 0))
    return link


def measure(times: Times, attach: Callable[[], object], link: socket.socket, database: str) -> None:
    """One attach, and the first packet of the instance: a question over UDP, or the SYN of a connection."""
    target = (database, RESPONDER_PORT)
    if link.type is socket.SOCK_DGRAM:
        link.connect(target)
    began = time.monotonic()
    attach()
    called = time.monotonic()
    try:
        if link.type is socket.SOCK_DGRAM:
            link.send(QUESTION)
            link.recv(len(QUESTION))
        else:
            link.connect(target)
    except OSError:
        # A refusal that comes at once is no better than silence.
        times.lost += 1
        ended = called + PATIENCE_S
    else:
        ended = time.monotonic()
    times.calls.append((called - began) * 1e3)
    times.firsts.append((ended - began) * 1e3)


@contextlib.contextmanager
def hurried() -> Iterator[None]:
    """As the lab's instruments: real-time priority, so that the one who measures is not what is measured.

    What is started meanwhile does not inherit it.
    """
    gc.collect()
    gc.disable()
    with contextlib.suppress(OSError):
        if len(os.sched_getaffinity(0)) > 1:
            os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        gc.enable()
