"""What can be done to a machine, and undone. Each fault returns when it began to act: CLOCK_MONOTONIC, in s.

power       the whole machine
programs    one of its programs: killed, stopped, slowed down; its clock
cables      the underlay's cable, the ENIs
packets     some of the packets on the underlay: lost or late, one way or both
resources   what a machine runs out of: room on the disk, in the connection table; rules flushed by others
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from proxypool.lab.building import Builder
from proxypool.lab.errors import LabError
from proxypool.lab.fault_kinds import HEALS, OF_SUBNET, Fault, Options
from proxypool.lab.faults import cables, packets, power, programs, resources
from proxypool.lab.machine import Machine

__all__ = ["HEALS", "Fault", "Options", "inject", "troubled"]


def inject(builder: Builder, machine: Machine, fault: Fault, options: Options | None = None) -> float:
    """Do it. `LabError` when the machine has nothing the fault could act on."""
    options = options or Options()
    if options.subnet and fault not in OF_SUBNET:
        raise LabError(f"--subnet says which ENI or namespace; {fault} is of the whole machine")
    return _ACTS[fault](builder, machine, options)


def troubled(builder: Builder) -> set[str]:
    """Machines with lasting faults of packets, programs or disks; cut cables and dead services show elsewhere."""
    return packets.filtered(builder) | programs.hindered(builder) | resources.exhausted(builder)


_ACTS: Mapping[Fault, Callable[[Builder, Machine, Options], float]] = {
    Fault.POWER_OFF: power.off,
    Fault.POWER_ON: power.on,
    Fault.PAUSE: power.pause,
    Fault.RESUME: programs.continue_all,
    Fault.KILL_DAEMON: programs.kill("daemon"),
    Fault.KILL_KEEPALIVED: programs.kill("keepalived"),
    Fault.KILL_CONNTRACKD: programs.kill("conntrackd"),
    Fault.KILL_ZOOKEEPER: programs.kill("zookeeper"),
    Fault.STOP_DAEMON: programs.stop("daemon"),
    Fault.STOP_KEEPALIVED: programs.stop("keepalived"),
    Fault.STOP_CONNTRACKD: programs.stop("conntrackd"),
    Fault.STOP_ZOOKEEPER: programs.stop("zookeeper"),
    Fault.SLOW_ZOOKEEPER: programs.slow_zookeeper,
    Fault.CONTINUE_ALL: programs.continue_all,
    Fault.START_SERVICES: programs.start,
    Fault.STORM_KEEPALIVED: programs.storm,
    Fault.JUMP_CLOCK: programs.jump_clock,
    Fault.SET_CLOCK: programs.set_clock,
    Fault.CUT_UNDERLAY: cables.cut_underlay,
    Fault.CUT_UNDERLAY_IN: packets.lose(packets.ANYTHING, (packets.IN,)),
    Fault.CUT_UNDERLAY_OUT: packets.lose(packets.ANYTHING, (packets.OUT,)),
    Fault.CUT_VRRP: packets.lose(packets.VRRP, (packets.IN, packets.OUT)),
    Fault.CUT_VRRP_IN: packets.lose(packets.VRRP, (packets.IN,)),
    Fault.CUT_VRRP_OUT: packets.lose(packets.VRRP, (packets.OUT,)),
    Fault.CUT_ZOOKEEPER: packets.lose(packets.ZOOKEEPER, (packets.IN, packets.OUT)),
    Fault.LOSE_VRRP: packets.lose_some(packets.VRRP),
    Fault.LOSE_UNDERLAY: packets.lose_some(packets.ANYTHING),
    Fault.DELAY_VRRP: packets.delay_vrrp,
    Fault.DELAY_UNDERLAY: packets.delay_underlay,
    Fault.HEAL_UNDERLAY: cables.heal_underlay,
    Fault.CUT_ENI: cables.cut_eni,
    Fault.DELETE_ENI: cables.delete_eni,
    Fault.HEAL_ENI: cables.heal_eni,
    Fault.FLUSH_IPTABLES: resources.flush_iptables,
    Fault.FILL_CONNTRACK: resources.fill_conntrack,
    Fault.EMPTY_CONNTRACK: resources.empty_conntrack,
    Fault.FILL_DISK: resources.fill_disk,
    Fault.FREE_DISK: resources.free_disk,
}
