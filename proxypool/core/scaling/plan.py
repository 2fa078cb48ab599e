"""Which actions begin now. Pure.

At most one for each subnet, so many at a time in the pool, and replacements at a limited pace; what is most urgent
first. Nothing begins in a subnet that is paused or whose mode is off; what has begun is finished all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from proxypool.core.breaker import Breaker
from proxypool.core.model import MemberSpec, PairSpec, PairState, SubnetSpec
from proxypool.core.scaling.documents import Action, ActionKind, Step
from proxypool.core.scaling.model import Cause, Decision, ScalingMode
from proxypool.core.scaling.naming import action_id, pair_name

REPLACEMENTS_AT_ONCE = 4
ONE_REPLACEMENT_EVERY_S = 10.0


class Reason(StrEnum):
    """Why an action begins, besides a `Cause` of the policy."""

    DEAD_NODE = "dead-node"
    NODE_DRAIN = "node-drain"
    LEFT_OVER = "left-over"
    """A provider's pair that is preparing or draining, and no action stands behind it: one was put off, or an operator
    drained it.
    """


class Urgency(IntEnum):
    """What goes first when not all may begin."""

    UNSERVED = 0
    """There is no active pair, or none with a living member."""
    TOO_FEW = 1
    PANIC = 2
    LOAD = 3
    REPLACEMENT = 4
    DRAIN = 5


@dataclass(frozen=True, slots=True)
class Subject:
    """A subnet that has a `scaling` section."""

    spec: SubnetSpec
    pairs: Mapping[str, PairSpec] = field(default_factory=dict)
    decision: Decision | None = None
    """Of the policy; None: nothing is known."""
    load: Mapping[str, float] = field(default_factory=dict)
    """In pairs, by signal, as far as it is known."""
    waits: Mapping[ActionKind, str] = field(default_factory=dict)
    """Why an action of a kind is not begun again yet: the last one failed."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """What is wrong with nodes that pairs are on."""

    dead: frozenset[str] = frozenset()
    draining: frozenset[str] = frozenset()
    doubt: str = ""
    """Why members of dead nodes are not replaced now."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the whole pool."""

    max_actions: int = 8
    provider: str = "spare"
    """Whose name new pairs bear."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What begins, and why other things do not."""

    begin: tuple[Action, ...]
    blocked: Mapping[str, str]
    """Subnet -> why an action that it needs does not begin."""
    breaker: Breaker


@dataclass(frozen=True, slots=True)
class _Wish:
    urgency: Urgency
    kind: ActionKind
    reason: str
    pair: PairSpec | None = None
    """Which one goes; of what is left over, which one comes."""


def new_breaker() -> Breaker:
    """For replacements."""
    return Breaker(REPLACEMENTS_AT_ONCE, ONE_REPLACEMENT_EVERY_S, float(REPLACEMENTS_AT_ONCE))


def plan(
    subjects: Iterable[Subject],
    busy: Collection[str],
    nodes: Nodes,
    limits: Limits,
    breaker: Breaker,
    clock: tuple[float, float],
) -> Plan:
    """Actions to begin. `busy`: subnets that have one. `clock`: wall time and monotonic time."""
    now, monotonic = clock
    wishes: list[tuple[Urgency, str, _Wish, Subject]] = []
    blocked: dict[str, str] = {}
    for subject in subjects:
        name = subject.spec.id
        if name in busy:
            continue
        for wish in _wishes(subject, nodes):
            if isinstance(wish, str):
                blocked.setdefault(name, wish)
            elif wish.kind in subject.waits:
                blocked.setdefault(name, subject.waits[wish.kind])
            else:
                wishes.append((wish.urgency, name, wish, subject))
                break
    begin: list[Action] = []
    for _, name, wish, subject in sorted(wishes, key=lambda item: item[:2]):
        if len(busy) + len(begin) >= limits.max_actions:
            blocked[name] = f"{limits.max_actions} actions are under way in the pool: its turn comes after them"
            continue
        if wish.kind is ActionKind.REPLACE:
            breaker, is_allowed = breaker.take(monotonic)
            if not is_allowed:
                blocked[name] = "replacements begin one after the other: its turn comes soon"
                continue
        begin.append(_action(wish, subject, limits.provider, now))
    return Plan(tuple(begin), blocked, breaker)


def _wishes(subject: Subject, nodes: Nodes) -> Iterator[_Wish | str]:
    """What a subnet needs, most urgent first; or, as a sentence, why something is not done."""
    scaling = subject.spec.scaling
    if scaling is None or scaling.mode is ScalingMode.OFF:
        return
    if scaling.paused_since is not None:
        yield f"paused: end it with `proxypool scale resume {subject.spec.id}`"
        return
    active = [pair for _, pair in sorted(subject.pairs.items()) if pair.state is PairState.ACTIVE]
    coming = [pair for pair in subject.pairs.values() if pair.state is PairState.PREPARING and pair.provider]
    if coming:
        yield _Wish(Urgency.LOAD, ActionKind.ADD, Reason.LEFT_OVER, coming[0])
    if len(active) < scaling.min_pairs:
        yield _Wish(Urgency.TOO_FEW if active else Urgency.UNSERVED, ActionKind.ADD, Cause.MIN_PAIRS)
    decision = subject.decision if scaling.mode is ScalingMode.ENFORCE else None
    leaving = _leaving(active, nodes)
    if leaving is not None and leaving.urgency is Urgency.UNSERVED:
        yield leaving
    if decision is not None and decision.wanted > len(active):
        yield _Wish(Urgency.PANIC if decision.is_panic else Urgency.LOAD, ActionKind.ADD, decision.cause)
    if leaving is not None:
        yield leaving
    if nodes.doubt and any(_on(pair, nodes.dead) for pair in active):
        yield nodes.doubt
    wanted = len(active) if decision is None else max(1, scaling.min_pairs, decision.wanted)
    fewer = _shrink(active, subject.pairs, wanted, decision.cause if decision else "", nodes)
    if fewer is not None:
        yield fewer


def _on(pair: PairSpec, nodes: Collection[str]) -> int:
    return sum(member.node in nodes for member in pair.members)


def _leaving(active: Iterable[PairSpec], nodes: Nodes) -> _Wish | None:
    """The pair that is worst off for its nodes."""
    dead = frozenset[str]() if nodes.doubt else nodes.dead
    ill = [pair for pair in active if _on(pair, dead | nodes.draining)]
    if not ill:
        return None
    worst = max(ill, key=lambda pair: (_on(pair, dead), _on(pair, nodes.draining)))
    reason = Reason.DEAD_NODE if _on(worst, dead) else Reason.NODE_DRAIN
    is_unserved = all(_on(pair, dead) == len(pair.members) for pair in active)
    urgency = Urgency.UNSERVED if is_unserved else Urgency.REPLACEMENT
    return _Wish(urgency, ActionKind.REPLACE, reason, worst)


def _shrink(
    active: list[PairSpec], pairs: Mapping[str, PairSpec], wanted: int, cause: str, nodes: Nodes
) -> _Wish | None:
    """One drain at a time; what the controller made goes before what an operator made."""
    draining = [pair for _, pair in sorted(pairs.items()) if pair.state is PairState.DRAINING]
    left_over = next((pair for pair in draining if pair.provider), None)
    if left_over is not None:
        return _Wish(Urgency.DRAIN, ActionKind.DRAIN, Reason.LEFT_OVER, left_over)
    if draining or len(active) <= wanted:
        return None
    victim = max(active, key=lambda pair: (_on(pair, nodes.dead), bool(pair.provider), -pair.weight, pair.id))
    return _Wish(Urgency.DRAIN, ActionKind.DRAIN, cause, victim)


def _action(wish: _Wish, subject: Subject, provider: str, now: float) -> Action:
    active = sum(pair.state is PairState.ACTIVE for pair in subject.pairs.values())
    comes_anew = wish.kind is not ActionKind.DRAIN and wish.reason != Reason.LEFT_OVER
    members: tuple[MemberSpec, ...] = ()
    if wish.kind is ActionKind.ADD and wish.pair is not None:
        members, provider = wish.pair.members, wish.pair.provider
    step = Step.PLACE if comes_anew else Step.DRAIN if wish.kind is ActionKind.DRAIN else Step.READY
    return Action(
        id=action_id(now, subject.spec.id),
        kind=wish.kind,
        subnet=subject.spec.id,
        pair=pair_name(now, subject.pairs) if comes_anew or wish.pair is None else wish.pair.id,
        step=step,
        reason=str(wish.reason),
        began=now,
        step_since=now,
        signals=dict(subject.load),
        pairs_before=active,
        nodes=tuple(member.node for member in members),
        members=members,
        havip=wish.pair.havip if wish.pair is not None and members else None,
        egress_address=wish.pair.egress_address if wish.pair is not None and members else None,
        leaving=wish.pair.id if wish.kind is ActionKind.REPLACE and wish.pair is not None else "",
        provider=provider,
    )
