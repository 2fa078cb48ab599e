"""How long what may last: the bounds that docs/faults.md promises, and that the checker holds the product to. In s."""

from __future__ import annotations

from proxypool.lab.fault_kinds import Fault

TWO_GATES_S = 1.5
"""Two open gates where the members hear each other: until a program's death or stop is noticed, and its HaVip removed."""
MESSAGE_S = 0.25
DETECTION_S = 0.5
"""Until both are master in the first place, and until the one that yields has done so."""
RECONNECT_S = 6.0
"""After ZooKeeper was out of reach: until its client has connected again, contends, and has heard of the others."""
READY_AFTER_POWER_ON_S = 12.0
READY_AFTER_HEALING_S = 4.0
"""Until a member that was hindered counts as a healthy one."""
LOSSY_GAP_S = 1.5
"""The longest gap while packets are lost or late."""
OUTAGE_S = 1.0
"""The longest gap after an event that is not named below."""
SHORT_GAP_S = 0.3
"""A gap that needs no reason: a planned change, and a computer that runs a lab stalls now and then."""
EDGE_S = 0.05
"""The exactness of all times."""
ANNOUNCEMENT_S = 2.5
"""A master announces itself every 2 s, for hosts that believe another one who was master too."""
OUTAGES_S: dict[Fault, float] = {
    Fault.KILL_KEEPALIVED: 1.5,
    Fault.STOP_KEEPALIVED: 1.5,
    Fault.PAUSE: 1.5,
    # Two that were both master: hosts believe the one that yields until the other announces itself, every 2 s.
    Fault.HEAL_UNDERLAY: ANNOUNCEMENT_S,
    Fault.RESUME: ANNOUNCEMENT_S,
    Fault.CONTINUE_ALL: ANNOUNCEMENT_S,
    # VRRP still hears the master: health has to find it.
    Fault.CUT_UNDERLAY_IN: 5.0,
    Fault.CUT_ENI: 3.0,
    Fault.DELETE_ENI: 3.0,
    Fault.FILL_CONNTRACK: 5.0,
    # The rules are looked at once a second and then written again.
    Fault.FLUSH_IPTABLES: 3.0,
    # Nothing waits for these.
    Fault.KILL_CONNTRACKD: SHORT_GAP_S,
    Fault.STOP_CONNTRACKD: SHORT_GAP_S,
    Fault.JUMP_CLOCK: SHORT_GAP_S,
    Fault.SET_CLOCK: SHORT_GAP_S,
    Fault.LOSE_UNDERLAY: LOSSY_GAP_S,
    Fault.DELAY_UNDERLAY: LOSSY_GAP_S,
}
SAID_WRONG_S = 4.0
"""How long a daemon that runs may say what is not so: it looks every second, and hears of changes at once."""
UNDISTURBED_S = 10.0
"""A connection that ends although nothing happened to its pair for so long was broken by the product."""


def tie_break_s(session_timeout_s: float, server_tick_s: float) -> float:
    """Two masters that do not hear each other."""
    return session_timeout_s + server_tick_s + MESSAGE_S + DETECTION_S
