"""Transcripts of role machines: every line is an event at a member, and after `=>` what the machine wants done.

    0.0 n1: vrrp backup => gate closed; init to backup

Words: `zookeeper connected`, `vrrp master`, `health fit`, `health eni`, `elects n1 n2 @100` (epoch of the first),
`elects nobody`, `elects n2+ n1 @100` (an operator chose n2), `allowed` (by the breaker), `paused`, `resumed`, `strict`,
`lease 100 until 3.2` (of session 100), `health fit damped`, `gate open`, `track 239`, `underlay silent`, `underlay heard`,
`heard` (the other's advertisement), `tick`, and `restart` of the daemon.
"""

from __future__ import annotations

from msgspec.structs import replace

from proxypool.core.role import (
    PRIORITY_ASIDE,
    PRIORITY_CLAIM,
    PRIORITY_DAMPED,
    PRIORITY_ELECTED,
    PRIORITY_NORMAL,
    PRIORITY_STARTING,
    PRIORITY_UNFIT,
    Caution,
    ClaimAllowed,
    Coordinator,
    CoordinatorChanged,
    Effect,
    Elected,
    ElectionSeen,
    Event,
    GateSeen,
    HealthSeen,
    HeartbeatHeard,
    LeaseSeen,
    MemberState,
    OrdersSeen,
    PrioritySeen,
    RoleChanged,
    SetContending,
    SetGate,
    SetPriority,
    Tick,
    Timers,
    UnderlaySeen,
    Vrrp,
    VrrpChanged,
    step,
)
from tests.unit import builders as make

TIMERS = Timers(tie_break_s=4.0, lease_s=3.0)
PRIORITIES = {
    PRIORITY_CLAIM: "claim",
    PRIORITY_DAMPED: "damped",
    PRIORITY_ELECTED: "elected",
    PRIORITY_NORMAL: "normal",
    PRIORITY_STARTING: "starting",
    PRIORITY_UNFIT: "unfit",
    PRIORITY_ASIDE: "aside",
}


def replay(transcript: str) -> str:
    """The same transcript with what the machines say now; empty lines and comments stay."""
    states: dict[str, MemberState] = {}
    lines = []
    for line in transcript.splitlines():
        given = line.partition("=>")[0].strip()
        if not given or given.startswith("#"):
            lines.append(line)
            continue
        when, name, words = given.split(maxsplit=2)
        node, now = name.rstrip(":"), float(when)
        if words == "restart":
            states[node] = MemberState(node, TIMERS)
            lines.append(f"{when} {name} {words}")
            continue
        before = states.get(node, MemberState(node, TIMERS))
        states[node], effects = step(before, event_of(words), now)
        said = "; ".join(say(effect) for effect in effects)
        lines.append(f"{when} {name} {words} => {said}" if said else f"{when} {name} {words}")
    return "\n".join(lines)


def event_of(words: str) -> Event:  # noqa: C901, PLR0911, PLR0912 - one for each word
    """The event that a line describes."""
    match words.split():
        case ["vrrp", state]:
            return VrrpChanged(Vrrp(state))
        case ["zookeeper", state]:
            return CoordinatorChanged(Coordinator(state))
        case ["underlay", word]:
            return UnderlaySeen(word == "silent")
        case ["health", "fit", *caution]:
            return HealthSeen(frozenset(), Caution(*caution) if caution else Caution.NONE)
        case ["health", *reasons]:
            return HealthSeen(frozenset(reasons))
        case ["elects", "nobody"]:
            return ElectionSeen(())
        case ["elects", *nodes, epoch]:
            found = make.candidates(*(node.rstrip("+") for node in nodes), first_epoch=int(epoch.removeprefix("@")))
            chosen = [node.endswith("+") for node in nodes]
            return ElectionSeen(
                tuple(replace(one, is_chosen=is_chosen) for one, is_chosen in zip(found, chosen, strict=True))
            )
        case ["gate", state]:
            return GateSeen(state == "open")
        case ["track", "missing"]:
            return PrioritySeen(None)
        case ["track", value]:
            return PrioritySeen(int(value))
        case ["heard"]:
            return HeartbeatHeard()
        case ["allowed"]:
            return ClaimAllowed()
        case ["paused" | "resumed" | "strict" as word]:
            return OrdersSeen(is_paused=word == "paused", is_strict=word == "strict")
        case ["lease", session, "until", moment]:
            return LeaseSeen(int(session), float(moment))
        case ["tick"]:
            return Tick()
        case _:
            raise ValueError(words)


def say(effect: Effect) -> str:
    """An effect in words."""
    match effect:
        case SetGate(is_open):
            return "gate open" if is_open else "gate closed"
        case SetPriority(value):
            return f"priority {PRIORITIES[value]}"
        case SetContending(contend):
            return "contend" if contend else "withdraw"
        case RoleChanged(old, new):
            return f"{old} to {new}"
        case Elected(node, epoch):
            return f"elected {node or 'nobody'} @{epoch}"
