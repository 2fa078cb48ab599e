"""The role of one member of a pair: a pure state machine.

Theory of operation. Two parties speak: *VRRP* (keepalived, milliseconds, knows who holds the HaVip) and the *election*
(ZooKeeper, seconds, knows who should). The role follows VRRP, because the gate must be where the HaVip is; the priority
follows the election, and moves the HaVip within milliseconds where the two differ. So a dead master is replaced by VRRP
alone and the election confirms it later; a planned change begins with the election and VRRP follows.

`step(state, event, now)` returns the next state and the effects: what the caller must do, in this order. Time is an
argument in seconds of a monotonic clock. `TRANSITIONS` (in `table`) is the only place where a role changes.

A member that starts stands aside (`init_file` of its track file) until its daemon has found it fit and the election has
spoken: after a reboot keepalived runs before the namespace is there.

What keepalived does with the priority (see `core.keepalived`): the higher one of two members that hear each other is
master. Two that do not hear each other are both master: then the one that is not elected stands aside, if the elected
one is alive, after `Timers.tie_break_s`. It returns when it hears the other again, when the other is elected no longer,
and when ZooKeeper is lost, for then nobody can say that the other lives. Because a member stands aside for one it does
not hear, only a member that can be master may be elected: fit, and with a keepalived that runs and has no fault.

**No preemption.** A member that is elected although it hears a living master does not claim the HaVip: the master's
session ended, and nothing else. It leaves the election and stands again, at the end of the queue, so that the election
follows the master (`is_yielding`). If nobody else stands, because the master's daemon is dead or cut off, its claim
waits for `Timers.hold_s` and then for a `ClaimAllowed` of the caller, who counts how many members of the node move
(`core.breaker`). A candidate that an operator chose claims at once.

**Make before break.** A member that claims the HaVip from a living master opens its gate before it raises its priority
(`is_preparing`), and the old master closes its own when it has given the HaVip up: for some ten milliseconds both are
open, and no packet is lost.

**Caution.** A member that was unfit a moment ago (`damped`) is better than an unfit one and worse than a fit one, and
is not elected. A backup that is about to find what would make it unfit (`doubtful`) takes nothing from a master that
has found it: both are unfit alike. Neither counts for a master: nothing moves because of it.

**Deaf.** A member to which nothing comes on the underlay stands aside: no traffic reaches it, but its advertisements
may reach the other one, which would wait for ever. It returns with the first packet.

**Pause.** A paused pair's master keeps the highest priority whatever its health and the election say; VRRP replaces it
when it is dead.

**Strict.** Only the elected member may be master, and only while its lease lasts (`LeaseSeen`); see ADR 17. Everybody
else stands aside. A newly elected one waits until the lease of its predecessor is over. A member that is to yield gives
the HaVip up first, and leaves the election when its gate is closed.

A restarted daemon knows nothing. Until VRRP has spoken it moves no gate and no candidate; until the first look at the
member's health it moves no priority; and while it has no opinion yet, a track file that says "aside" means that this
member stands aside: its predecessor did, or it has just started.
"""

from proxypool.core.role.demand import (
    Decision,
    decide,
)
from proxypool.core.role.machine import (
    step,
)
from proxypool.core.role.state import (
    MESSAGE_S,
    PRIORITY_ASIDE,
    PRIORITY_CLAIM,
    PRIORITY_DAMPED,
    PRIORITY_ELECTED,
    PRIORITY_NORMAL,
    PRIORITY_STARTING,
    SILENT_S,
    MemberState,
    Timers,
)
from proxypool.core.role.table import (
    TRANSITIONS,
    Trigger,
)
from proxypool.core.role.words import (
    Caution,
    ClaimAllowed,
    CoordinatorChanged,
    Effect,
    Elected,
    ElectionSeen,
    Event,
    GateSeen,
    HealthSeen,
    HeartbeatHeard,
    LeaseSeen,
    OrdersSeen,
    PrioritySeen,
    RoleChanged,
    SetContending,
    SetGate,
    SetPriority,
    Tick,
    UnderlaySeen,
    Vrrp,
    VrrpChanged,
)
from proxypool.core.states import PRIORITY_UNFIT, Coordinator, Role

__all__ = [
    "MESSAGE_S",
    "PRIORITY_ASIDE",
    "PRIORITY_CLAIM",
    "PRIORITY_DAMPED",
    "PRIORITY_ELECTED",
    "PRIORITY_NORMAL",
    "PRIORITY_STARTING",
    "PRIORITY_UNFIT",
    "SILENT_S",
    "TRANSITIONS",
    "Caution",
    "ClaimAllowed",
    "Coordinator",
    "CoordinatorChanged",
    "Decision",
    "Effect",
    "Elected",
    "ElectionSeen",
    "Event",
    "GateSeen",
    "HealthSeen",
    "HeartbeatHeard",
    "LeaseSeen",
    "MemberState",
    "OrdersSeen",
    "PrioritySeen",
    "Role",
    "RoleChanged",
    "SetContending",
    "SetGate",
    "SetPriority",
    "Tick",
    "Timers",
    "Trigger",
    "UnderlaySeen",
    "Vrrp",
    "VrrpChanged",
    "decide",
    "step",
]
