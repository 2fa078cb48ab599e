"""The kinds of faults, and their options. Pure, and imports nothing: the command line needs it for `--help`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """What can be done to a machine, and undone. What each stands for is said in docs/faults.md."""

    POWER_OFF = "power-off"
    POWER_ON = "power-on"
    PAUSE = "pause"
    RESUME = "resume"
    KILL_DAEMON = "kill-daemon"
    KILL_KEEPALIVED = "kill-keepalived"
    KILL_CONNTRACKD = "kill-conntrackd"
    KILL_ZOOKEEPER = "kill-zookeeper"
    STOP_DAEMON = "stop-daemon"
    STOP_KEEPALIVED = "stop-keepalived"
    STOP_CONNTRACKD = "stop-conntrackd"
    STOP_ZOOKEEPER = "stop-zookeeper"
    SLOW_ZOOKEEPER = "slow-zookeeper"
    CONTINUE_ALL = "continue-all"
    START_SERVICES = "start-services"
    STORM_KEEPALIVED = "storm-keepalived"
    CUT_UNDERLAY = "cut-underlay"
    CUT_UNDERLAY_IN = "cut-underlay-in"
    CUT_UNDERLAY_OUT = "cut-underlay-out"
    CUT_VRRP = "cut-vrrp"
    CUT_VRRP_IN = "cut-vrrp-in"
    CUT_VRRP_OUT = "cut-vrrp-out"
    CUT_ZOOKEEPER = "cut-zookeeper"
    LOSE_VRRP = "lose-vrrp"
    LOSE_UNDERLAY = "lose-underlay"
    DELAY_VRRP = "delay-vrrp"
    DELAY_UNDERLAY = "delay-underlay"
    HEAL_UNDERLAY = "heal-underlay"
    CUT_ENI = "cut-eni"
    DELETE_ENI = "delete-eni"
    HEAL_ENI = "heal-eni"
    FLUSH_IPTABLES = "flush-iptables"
    FILL_CONNTRACK = "fill-conntrack"
    EMPTY_CONNTRACK = "empty-conntrack"
    FILL_DISK = "fill-disk"
    FREE_DISK = "free-disk"
    JUMP_CLOCK = "jump-clock"
    SET_CLOCK = "set-clock"


HEALS: dict[Fault, Fault] = {
    Fault.POWER_OFF: Fault.POWER_ON,
    Fault.PAUSE: Fault.RESUME,
    Fault.KILL_DAEMON: Fault.START_SERVICES,
    Fault.KILL_KEEPALIVED: Fault.START_SERVICES,
    Fault.KILL_ZOOKEEPER: Fault.START_SERVICES,
    Fault.STOP_DAEMON: Fault.CONTINUE_ALL,
    Fault.STOP_KEEPALIVED: Fault.CONTINUE_ALL,
    Fault.STOP_CONNTRACKD: Fault.CONTINUE_ALL,
    Fault.STOP_ZOOKEEPER: Fault.CONTINUE_ALL,
    Fault.SLOW_ZOOKEEPER: Fault.CONTINUE_ALL,
    Fault.CUT_UNDERLAY: Fault.HEAL_UNDERLAY,
    Fault.CUT_UNDERLAY_IN: Fault.HEAL_UNDERLAY,
    Fault.CUT_UNDERLAY_OUT: Fault.HEAL_UNDERLAY,
    Fault.CUT_VRRP: Fault.HEAL_UNDERLAY,
    Fault.CUT_VRRP_IN: Fault.HEAL_UNDERLAY,
    Fault.CUT_VRRP_OUT: Fault.HEAL_UNDERLAY,
    Fault.CUT_ZOOKEEPER: Fault.HEAL_UNDERLAY,
    Fault.LOSE_VRRP: Fault.HEAL_UNDERLAY,
    Fault.LOSE_UNDERLAY: Fault.HEAL_UNDERLAY,
    Fault.DELAY_VRRP: Fault.HEAL_UNDERLAY,
    Fault.DELAY_UNDERLAY: Fault.HEAL_UNDERLAY,
    Fault.CUT_ENI: Fault.HEAL_ENI,
    Fault.DELETE_ENI: Fault.HEAL_ENI,
    Fault.FILL_CONNTRACK: Fault.EMPTY_CONNTRACK,
    Fault.FILL_DISK: Fault.FREE_DISK,
    Fault.JUMP_CLOCK: Fault.SET_CLOCK,
}
"""Fault -> what ends it. What is not in it needs no healing, or the product heals it; `power-on` ends them all."""

OF_ENI = frozenset({Fault.CUT_ENI, Fault.DELETE_ENI, Fault.HEAL_ENI})
OF_SUBNET = OF_ENI | {Fault.FILL_CONNTRACK, Fault.EMPTY_CONNTRACK, Fault.FLUSH_IPTABLES}
"""Faults that can be of one subnet only."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a fault is done; each kind takes what it needs."""

    subnet: str | None = None
    """Which ENI, or which subnet's namespace; default: all of the machine, and its own namespace too."""
    percent: float = 20.0
    """Of packets that are lost."""
    delay_ms: float = 60.0
    jitter_ms: float = 40.0
    """Up to so much later than `delay_ms`, each packet for itself: so they overtake each other."""
    seconds: float = 3600.0
    """The clock jumps by so much; negative: back."""
