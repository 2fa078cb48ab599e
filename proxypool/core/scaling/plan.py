"""Which actions begin now. Pure.

What is most urgent first, so many at a time in the pool, and replacements at a limited pace. Pairs are added beside
whatever else is done to their subnet, all that are missing together; drains, together too, or a replacement begin only
where nothing is under way that still is about a pair: what only gives cards and addresses back, to a provider that may
not take them for hours, is in nobody's way. Nothing begins in a subnet that is paused or whose mode is off; what has
begun is finished all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from proxypool.core.breaker import Breaker
from proxypool.core.model import MemberSpec, PairSpec, PairState, SubnetSpec
from proxypool.core.scaling.documents import Action, ActionKind, Step, by_subnet, coming
from proxypool.core.scaling.model import Cause, Decision, ScalingMode
from proxypool.core.scaling.naming import action_id, pair_name

GIVING_BACK = (Step.UNDO, Step.RELEASE)
"""Steps of an action whose pair serves no longer, or never did."""
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
    """At the same time. A drain that waits for connections to end keeps no pair from coming, only other drains."""
    provider: str = "spare"
    """Whose name new pairs bear."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What begins, and why other things do not."""

    begin: tuple[Action, ...]
    blocked: Mapping[str, str]
    """Subnet -> why an action that it needs cannot begin."""
    waits: Mapping[str, str]
    """Subnet -> why one does not begin yet, but will by itself."""
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
    actions: Collection[Action],
    nodes: Nodes,
    limits: Limits,
    breaker: Breaker,
    clock: tuple[float, float],
) -> Plan:
    """Actions to begin. `actions`: those under way. `clock`: wall time and monotonic time."""
    now, monotonic = clock
    under_way = by_subnet(actions)
    blocked: dict[str, str] = {}
    waits: dict[str, str] = {}
    wishes: list[tuple[Urgency, int, str, _Wish, Subject]] = []
    for subject in subjects:
        name = subject.spec.id
        mine = under_way.get(name, ())
        chosen, why_not = _chosen(subject, mine, nodes)
        if why_not:
            blocked[name] = why_not
        # Every subnet gets its first pair before any gets its second.
        wishes += [(wish.urgency, at, name, wish, subject) for at, wish in enumerate(chosen, coming(mine))]
    begin: list[Action] = []
    working = sum(action.step is not Step.WAIT for action in actions)
    for _, _, name, wish, subject in sorted(wishes, key=lambda item: item[:3]):
        busy = len(actions) if wish.kind is ActionKind.DRAIN else working
        if busy + len(begin) >= limits.max_actions:
            waits[name] = f"{limits.max_actions} actions are under way in the pool: its turn comes after them"
            continue
        if wish.kind is ActionKind.REPLACE:
            breaker, is_allowed = breaker.take(monotonic)
            if not is_allowed:
                waits[name] = "replacements begin one after the other: its turn comes soon"
                continue
        rivals = [*under_way.get(name, ()), *(action for action in begin if action.subnet == name)]
        begin.append(_action(wish, subject, rivals, limits.provider, now))
    return Plan(tuple(begin), blocked, waits, breaker)


def _chosen(subject: Subject, under_way: Sequence[Action], nodes: Nodes) -> tuple[Sequence[_Wish], str]:
    """What may begin in a subnet together, most urgent first; and why the most urgent of the rest cannot."""
    chosen: list[_Wish] = []
    why_not = ""
    is_busy = any(action.step not in GIVING_BACK for action in under_way)
    for wish in _wishes(subject, under_way, nodes):
        if isinstance(wish, str):
            why_not = why_not or wish
        elif wish.kind in subject.waits:
            why_not = why_not or subject.waits[wish.kind]
        elif wish.kind is ActionKind.ADD or not (is_busy or _is_named(wish, under_way) or _is_other(wish, chosen)):
            chosen.append(wish)
    return chosen, why_not


def _is_other(wish: _Wish, chosen: Sequence[_Wish]) -> bool:
    """Whether something else is done to the subnet: only drains begin together."""
    return bool(chosen) and (wish.kind, chosen[-1].kind) != (ActionKind.DRAIN, ActionKind.DRAIN)


def _is_named(wish: _Wish, under_way: Iterable[Action]) -> bool:
    return wish.pair is not None and any(wish.pair.id in action.names for action in under_way)


def _wishes(subject: Subject, under_way: Sequence[Action], nodes: Nodes) -> Iterator[_Wish | str]:
    """What a subnet needs, most urgent first; or, as a sentence, why something is not done."""
    scaling = subject.spec.scaling
    if scaling is None or scaling.mode is ScalingMode.OFF:
        return
    if scaling.paused_since is not None:
        yield f"paused: end it with `proxypool scale resume {subject.spec.id}`"
        return
    active = [pair for _, pair in sorted(subject.pairs.items()) if pair.state is PairState.ACTIVE]
    left_over = _left_over(subject, under_way)
    for pair in left_over:
        yield _Wish(Urgency.LOAD, ActionKind.ADD, Reason.LEFT_OVER, pair)
    there = len(active) + len(left_over) + coming(under_way)
    for number in range(there, scaling.min_pairs):
        yield _Wish(Urgency.TOO_FEW if number else Urgency.UNSERVED, ActionKind.ADD, Cause.MIN_PAIRS)
    decision = subject.decision if scaling.mode is ScalingMode.ENFORCE else None
    leaving = _leaving(active, nodes)
    if leaving is not None and leaving.urgency is Urgency.UNSERVED:
        yield leaving
    if decision is not None:
        for _ in range(max(there, scaling.min_pairs), decision.wanted):
            yield _Wish(Urgency.PANIC if decision.is_panic else Urgency.LOAD, ActionKind.ADD, decision.cause)
    if leaving is not None:
        yield leaving
    if nodes.doubt and any(_on(pair, nodes.dead) for pair in active):
        yield nodes.doubt
    wanted = len(active) if decision is None else max(1, scaling.min_pairs, decision.wanted)
    yield from _shrink(active, subject.pairs, wanted, decision.cause if decision else "", nodes)


def _left_over(subject: Subject, under_way: Sequence[Action]) -> Sequence[PairSpec]:
    """Pairs that are being prepared, and nobody works on them."""
    named = frozenset[str]().union(*(action.names for action in under_way))
    return [
        pair
        for name, pair in sorted(subject.pairs.items())
        if pair.state is PairState.PREPARING and pair.provider and name not in named
    ]


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
) -> Iterator[_Wish]:
    """None while others drain; what the controller made goes before what an operator made."""
    draining = [pair for _, pair in sorted(pairs.items()) if pair.state is PairState.DRAINING]
    left_over = next((pair for pair in draining if pair.provider), None)
    if left_over is not None:
        yield _Wish(Urgency.DRAIN, ActionKind.DRAIN, Reason.LEFT_OVER, left_over)
    if draining:
        return
    by_use = sorted(active, key=lambda pair: (_on(pair, nodes.dead), bool(pair.provider), -pair.weight, pair.id))
    for victim in reversed(by_use[wanted:]):
        yield _Wish(Urgency.DRAIN, ActionKind.DRAIN, cause, victim)


def _action(wish: _Wish, subject: Subject, rivals: Iterable[Action], provider: str, now: float) -> Action:
    """`rivals`: the subnet's other actions, whose names are taken."""
    active = sum(pair.state is PairState.ACTIVE for pair in subject.pairs.values())
    comes_anew = wish.kind is not ActionKind.DRAIN and wish.reason != Reason.LEFT_OVER
    members: tuple[MemberSpec, ...] = ()
    if wish.kind is ActionKind.ADD and wish.pair is not None:
        members, provider = wish.pair.members, wish.pair.provider
    taken = frozenset(subject.pairs).union(*(action.names for action in rivals))
    name = pair_name(now, taken) if comes_anew or wish.pair is None else wish.pair.id
    step = Step.PLACE if comes_anew else Step.DRAIN if wish.kind is ActionKind.DRAIN else Step.READY
    return Action(
        id=action_id(now, subject.spec.id, name),
        kind=wish.kind,
        subnet=subject.spec.id,
        pair=name,
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
