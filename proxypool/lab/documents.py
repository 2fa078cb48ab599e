"""What `proxypool lab status` and `lab demo` print with `-o json` and `-o yaml`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from proxypool.lab.topology import Topology


class Service(Struct, frozen=True, kw_only=True):
    """A program that a machine runs."""

    name: str
    running: bool


class LabMachine(Struct, frozen=True, kw_only=True):
    """A machine of a lab, as it is now."""

    name: str
    kind: str
    """fabric, zookeeper, node, host, controller, pod or database."""
    state: str
    """on, off, or paused: nothing in it goes on."""
    pid: int | None
    """Of its first process; None: it is off."""
    addresses: Mapping[str, str | None]
    """Network card -> address and prefix length; None: an ENI, which the node's daemon configures."""
    services: tuple[Service, ...]
    cut: tuple[str, ...]
    """Network cards whose cable is cut."""
    mode: str | UnsetType = UNSET
    """Of a ZooKeeper server: standalone, leader or follower; empty: it does not say."""


class LabStatus(Struct, frozen=True, kw_only=True):
    """A lab, as it is now."""

    name: str
    topology: Topology
    machines: tuple[LabMachine, ...]


class Traffic(Struct, frozen=True, kw_only=True):
    """What the customer's Redis answered an instance."""

    set: str
    get: str


class Requests(Struct, frozen=True, kw_only=True):
    """What the prober sent, one request every millisecond or as often as the machine can."""

    sent: int
    received: int
    lost: int


class ApplicationSeen(Struct, frozen=True, kw_only=True):
    """What an application noticed that talks to Redis all the time."""

    answers: int
    connections: int
    """That it opened."""
    resets: int
    timeouts: int
    longest_wait_ms: float
    """From one answer to the next."""


class Failover(Struct, frozen=True, kw_only=True):
    """The master lost its power."""

    powered_off: str
    new_master: str
    blackout_ms: float
    """The longest time without an answer; 0: none was longer than 10 ms."""
    first_answer_after_ms: float
    """From the power-off to the first answer after the longest gap."""
    requests: Requests
    prober_stall_ms: float
    """The longest time for which the prober itself stood still: blackouts as short as that may be its own."""
    application: ApplicationSeen


class Repair(Struct, frozen=True, kw_only=True):
    """The old master came back."""

    powered_on: str
    blackout_ms: float
    """As of the failover, meanwhile."""
    master: str


class LabDemo(Struct, frozen=True, kw_only=True):
    """What happened in the tour for newcomers."""

    topology: Topology
    machines: Mapping[str, str]
    """Machine -> its first address; empty: it has none."""
    up_s: float
    """How long the lab took to come up."""
    traffic: Traffic
    status: Mapping[str, Mapping[str, Any] | None]
    """before, after_power_off, after_power_on -> what `proxypool status -o json` said, a PoolStatus; None: nothing."""
    failover: Failover
    repair: Repair
    duration_s: float
