"""How a pair comes and goes: the state machine of one action. Pure.

Theory of operation. `step` looks at where an action stands and at the pool, and says one thing to do: a write, which is
committed together with the action's document as it is afterwards, or a call to the provider, whose answer is given to a
later `step`. A step is called again and again until there is nothing to do, also by another controller after a crash:
what a lost answer said is asked again, as every call is idempotent. So:

- before a call that makes something, the document names what is about to be made; what it names is released at the end;
- a pair is removed only while no host may choose it, and its cards and addresses go only after it.

    add       place → acquire → write → ready → open → done
    replace   place → acquire → write → ready → open → drain (the pair that leaves) → wait → remove → release → done
    drain     drain → wait → remove → release → done
              place ⇢ done; acquire, write, ready ⇢ undo → done, or ⇢ again → place (other nodes); wait ⇢ done (it is
              needed after all)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from proxypool.core.model import PairSpec, PairState
from proxypool.core.scaling.documents import Action, ActionKind, Step
from proxypool.core.scaling.model import Cause
from proxypool.core.scaling.naming import pair_name
from proxypool.core.scaling.placement import NoPlace, place
from proxypool.core.scaling.retry import ErrorKind, delay_s, passes
from proxypool.core.scaling.turns import (
    AcquireAddresses,
    AcquireCard,
    AskOffers,
    Failed,
    GotAddresses,
    GotCard,
    Offered,
    PutPair,
    ReleaseAddresses,
    ReleaseCard,
    Released,
    RemovePair,
    Seen,
    SetState,
    Turn,
)

MAX_REFUSED = 6
"""Nodes that are given up before the whole action is."""


def step(action: Action, seen: Seen, now: float) -> Turn:
    """The next thing to do. `now`: wall time. An action in the step `done` is over, and its document is to be removed.

    The same action without a write or a call: it waits.
    """
    if isinstance(seen.answer, Failed):
        return _failed(action, seen.answer, seen, now)
    if seen.answer is None and now < action.retry_at:
        return Turn(action)
    return _STEPS[action.step](action, seen, now)


def _enter(action: Action, to: Step, now: float, **changes: object) -> Action:
    fresh: dict[str, object] = {"step": to, "step_since": now, "attempts": 0, "retry_at": 0.0, "error": ""}
    return replace(action, **(fresh | changes))


def _give_up(action: Action, why: str, now: float) -> Action:
    """An end without success; what was made so far is given back."""
    has_made = action.step in (Step.ACQUIRE, Step.WRITE, Step.READY)
    return _enter(action, Step.UNDO if has_made else Step.DONE, now, error=why)


def _elsewhere(action: Action, nodes: tuple[str, ...], why: str, now: float) -> Action:
    refused = tuple(dict.fromkeys((*action.refused, *nodes)))
    if len(refused) > MAX_REFUSED:
        return _give_up(action, why, now)
    return _enter(action, Step.AGAIN, now, refused=refused, error=why)


def _failed(action: Action, failure: Failed, seen: Seen, now: float) -> Turn:
    limit_s = {Step.PLACE: seen.deadlines.place_s, Step.ACQUIRE: seen.deadlines.acquire_s}.get(action.step)
    is_late = limit_s is not None and now - action.step_since >= limit_s
    if action.step in (Step.PLACE, Step.ACQUIRE, Step.WRITE) and (is_late or not passes(failure.kind)):
        if failure.node and failure.kind is ErrorKind.QUOTA:
            return Turn(_elsewhere(action, (failure.node,), failure.why, now))
        return Turn(_give_up(action, failure.why, now))
    # What can only be tried again is: nothing may stay behind.
    attempts = action.attempts + 1
    pause_s = delay_s(failure.kind, attempts, retry_after_s=failure.retry_after_s, key=action.id)
    return Turn(replace(action, attempts=attempts, retry_at=now + pause_s, error=failure.why))


# ---- a pair comes ----------------------------------------------------------------------------------------------------


def _place(action: Action, seen: Seen, now: float) -> Turn:
    if not isinstance(seen.answer, Offered):
        return Turn(action, call=AskOffers())
    serving = {member.node for pair in seen.pairs.values() for member in pair.members}
    chosen = {node for other in seen.others for node in other.nodes}
    barred = (
        dict.fromkeys(chosen, "with another pair of the subnet on its way")
        | dict.fromkeys(serving, "serving the subnet already")
        | dict.fromkeys(action.refused, "that failed before")
    )
    found = place(action.subnet, seen.nodes, seen.answer.offers, barred=barred, spread=seen.spread)
    if isinstance(found, NoPlace):
        return Turn(_give_up(action, found.why, now))
    return Turn(_enter(action, Step.ACQUIRE, now, nodes=found))


def _acquire(action: Action, seen: Seen, now: float) -> Turn:
    match seen.answer:
        case GotAddresses(havip, egress):
            return Turn(replace(action, havip=havip, egress_address=egress, attempts=0, retry_at=0.0, error=""))
        case GotCard(member):
            members = (*(one for one in action.members if one.node != member.node), member)
            return Turn(replace(action, members=members, attempts=0, retry_at=0.0, error=""))
    if action.havip is None:
        return Turn(action, call=AcquireAddresses(action.nodes))
    have = {member.node for member in action.members}
    missing = next((node for node in action.nodes if node not in have), None)
    if missing is not None:
        return Turn(action, call=AcquireCard(missing))
    return Turn(_enter(action, Step.WRITE, now))


def _write(action: Action, seen: Seen, now: float) -> Turn:
    after = _enter(action, Step.READY, now)
    return Turn(after) if action.pair in seen.pairs else Turn(after, write=PutPair())


def _ready(action: Action, seen: Seen, now: float) -> Turn:
    pair = seen.pairs.get(action.pair)
    if pair is None:
        return Turn(_give_up(action, "its pair was removed by somebody else", now))
    if pair.state is not PairState.PREPARING:
        return Turn(_enter(action, Step.DONE, now, error=f"somebody else made the pair {pair.state}"))
    if seen.readiness.is_ready:
        return Turn(_enter(action, Step.OPEN, now))
    if now - action.step_since >= seen.deadlines.ready_s:
        why = f"not ready within {seen.deadlines.ready_s:g} s: {'; '.join(seen.readiness.missing)}"
        return Turn(_elsewhere(action, seen.readiness.unfit or action.nodes, why, now))
    return Turn(action)


def _open(action: Action, seen: Seen, now: float) -> Turn:
    pair = seen.pairs.get(action.pair)
    if pair is None or pair.state is PairState.DRAINING:
        # Its nodes' cards are still there, and go as after an add that failed.
        return Turn(_enter(action, Step.UNDO, now, error="its pair was drained or removed by somebody else"))
    write = SetState(action.pair, PairState.ACTIVE) if pair.state is PairState.PREPARING else None
    action = replace(action, opened=action.pair)
    if not action.leaving:
        return Turn(_enter(action, Step.DONE, now), write=write)
    return Turn(_enter(action, Step.DRAIN, now, leaving="", **_about(action, action.leaving)), write=write)


def _about(action: Action, pair: str) -> dict[str, object]:
    """It is about another pair from now on, of which it has nothing yet."""
    empty = {"nodes": (), "members": (), "havip": None, "egress_address": None}
    return {"pair": pair, "first": action.first or action.pair, **empty}


# ---- a pair goes -----------------------------------------------------------------------------------------------------


def _drain(action: Action, seen: Seen, now: float) -> Turn:
    pair = seen.pairs.get(action.pair)
    if pair is None:
        return Turn(_enter(action, Step.DONE, now, error="its pair was removed by somebody else"))
    others = sum(other.state is PairState.ACTIVE for name, other in seen.pairs.items() if name != action.pair)
    floor = min(seen.min_pairs, action.pairs_before) if action.kind is ActionKind.REPLACE else seen.min_pairs
    floor = max(1, floor)
    if pair.state is PairState.ACTIVE and others < floor:
        return Turn(_enter(action, Step.DONE, now, error=f"only {others} other pairs are active, {floor} are needed"))
    after = _enter(action, Step.WAIT, now, provider=pair.provider, **_had_by(pair))
    if pair.state is PairState.DRAINING:
        return Turn(after)
    return Turn(after, write=SetState(action.pair, PairState.DRAINING, floor))


def _had_by(pair: PairSpec) -> dict[str, object]:
    """What is to be released when the pair is gone. Nothing of a pair that an operator made."""
    if not pair.provider:
        return {}
    return {
        "nodes": tuple(member.node for member in pair.members),
        "members": pair.members,
        "havip": pair.havip,
        "egress_address": pair.egress_address,
    }


def _wait(action: Action, seen: Seen, now: float) -> Turn:
    pair = seen.pairs.get(action.pair)
    if pair is None:
        return Turn(_enter(action, Step.RELEASE, now))
    if pair.state is not PairState.DRAINING:
        return Turn(_enter(action, Step.DONE, now, error=f"somebody else made the pair {pair.state}"))
    is_of_the_load = action.kind is ActionKind.DRAIN and action.reason in set(Cause)
    if is_of_the_load and (seen.is_short or seen.is_in_the_way):
        why = "it was needed again while it drained"
        return Turn(_enter(action, Step.DONE, now, error=why), write=SetState(action.pair, PairState.ACTIVE))
    if seen.is_in_the_way:
        # The pair stays draining, until there is time for it.
        return Turn(_enter(action, Step.DONE, now, error="put off while it drained: a replacement is more urgent"))
    began = pair.draining_since if pair.draining_since is not None else action.step_since
    # Until then the other member keeps an unreachable one from claiming a HaVip that may soon be somebody else's.
    is_empty = seen.left.count == 0 and not any(member.node in seen.unreachable for member in pair.members)
    if is_empty or now - began >= seen.deadlines.drain_s:
        return Turn(_enter(action, Step.REMOVE, now))
    return Turn(action)


def _remove(action: Action, seen: Seen, now: float) -> Turn:
    pair = seen.pairs.get(action.pair)
    after = _enter(action, Step.RELEASE, now)
    if pair is None:
        return Turn(after)
    if pair.state is not PairState.DRAINING:
        return Turn(_enter(action, Step.DONE, now, error=f"somebody else made the pair {pair.state}"))
    return Turn(after, write=RemovePair(action.pair, PairState.DRAINING))


def _release(action: Action, seen: Seen, now: float) -> Turn:
    return _give_back(action, seen, now, lambda: _enter(action, Step.DONE, now))


def _undo(action: Action, seen: Seen, now: float) -> Turn:
    return _take_away(action, seen, now, lambda: _enter(action, Step.DONE, now, error=_why(action)))


def _again(action: Action, seen: Seen, now: float) -> Turn:
    """With another name: to the provider the same pair again would be the one that is just going."""

    def anew() -> Action:
        taken = action.names.union(seen.pairs, *(other.names for other in seen.others))
        return _enter(action, Step.PLACE, now, **_about(action, pair_name(now, taken)))

    return _take_away(action, seen, now, anew)


def _why(action: Action) -> str:
    return action.error or "it was given up"


def _take_away(action: Action, seen: Seen, now: float, after: Callable[[], Action]) -> Turn:
    pair = seen.pairs.get(action.pair)
    if pair is None:
        return _give_back(action, seen, now, after)
    if pair.state is PairState.PREPARING and pair.provider:
        gone = replace(action, step_since=now)
        return Turn(gone, write=RemovePair(action.pair, PairState.PREPARING))
    # Hosts may use it: it is an operator's business from now on.
    return Turn(_enter(action, Step.DONE, now, error=f"somebody else made the pair {pair.state}"))


def _give_back(action: Action, seen: Seen, now: float, after: Callable[[], Action]) -> Turn:
    if isinstance(seen.answer, Released):
        if not seen.answer.node:
            return Turn(after())
        left = tuple(node for node in action.nodes if node != seen.answer.node)
        return Turn(replace(action, nodes=left, attempts=0, retry_at=0.0))
    if not action.provider:
        return Turn(after())
    if now - action.step_since < seen.deadlines.settle_s:
        return Turn(action)
    return Turn(action, call=ReleaseCard(action.nodes[0]) if action.nodes else ReleaseAddresses())


def _done(action: Action, _seen: Seen, _now: float) -> Turn:
    return Turn(action)


_STEPS: Mapping[Step, Callable[[Action, Seen, float], Turn]] = {
    Step.PLACE: _place,
    Step.ACQUIRE: _acquire,
    Step.WRITE: _write,
    Step.READY: _ready,
    Step.OPEN: _open,
    Step.DRAIN: _drain,
    Step.WAIT: _wait,
    Step.REMOVE: _remove,
    Step.RELEASE: _release,
    Step.AGAIN: _again,
    Step.UNDO: _undo,
    Step.DONE: _done,
}
