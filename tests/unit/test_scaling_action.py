"""The steps of an action, one after the other, as transcripts. What random faults do to it: tests/property."""

from __future__ import annotations

from dataclasses import replace as replace_seen
from ipaddress import IPv4Address
from typing import Any

from msgspec.structs import replace

from proxypool.core.draining import Left
from proxypool.core.model import MemberStatus, PairSpec, PairState
from proxypool.core.scaling.action import step
from proxypool.core.scaling.documents import Action, ActionKind, Step
from proxypool.core.scaling.placement import CardOffer, NodeRoom
from proxypool.core.scaling.readiness import Readiness, is_silent, readiness
from proxypool.core.scaling.retry import ErrorKind
from proxypool.core.scaling.turns import (
    AcquireAddresses,
    AcquireCard,
    Answer,
    AskOffers,
    Deadlines,
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
from tests.unit.builders import N1, N2, pair

NOW = 1000.0
READY = Readiness(())
ROOMS = (NodeRoom("n1"), NodeRoom("n2"), NodeRoom("n3"))
OFFERS = Offered({name: CardOffer(None) for name in ("n1", "n2", "n3")})
HAVIP = IPv4Address("192.168.4.100")


def action(at: Step, kind: ActionKind = ActionKind.ADD, **fields: object) -> Action:
    """An action of subnet s1 about the pair p1."""
    values = {"id": "1-s1", "reason": "load", "began": NOW, "step_since": NOW, "provider": "fake"} | fields
    return Action(kind=kind, subnet="s1", pair="p1", step=at, **values)  # type: ignore[arg-type]


ACQUIRED: dict[str, Any] = {"nodes": ("n1", "n2"), "members": (N1, N2), "havip": HAVIP}


def ours(state: PairState, **fields: object) -> PairSpec:
    return replace(pair(state=state), provider="fake", **fields)


def seen(*pairs: PairSpec, answer: Answer | None = None, **fields: object) -> Seen:
    return Seen({one.id: one for one in pairs}, nodes=ROOMS, answer=answer, **fields)  # type: ignore[arg-type]


OTHER = pair("p2", havip="192.168.4.101")


def test_a_pair_is_placed_acquired_written_and_opened() -> None:
    """One call or write at a time; the state changes only after both members are ready."""
    turn = step(action(Step.PLACE), seen(), NOW)
    assert turn.call == AskOffers()
    turn = step(turn.action, seen(answer=OFFERS), NOW)
    assert turn.action.step is Step.ACQUIRE
    first, second = turn.action.nodes
    turn = step(turn.action, seen(), NOW)
    assert turn.call == AcquireAddresses((first, second))
    turn = step(turn.action, seen(answer=GotAddresses(HAVIP)), NOW)
    turn = step(turn.action, seen(), NOW)
    assert turn.call == AcquireCard(first)
    turn = step(turn.action, seen(answer=GotCard(replace(N1, node=first))), NOW)
    turn = step(turn.action, seen(), NOW)
    assert turn.call == AcquireCard(second)
    turn = step(turn.action, seen(answer=GotCard(replace(N2, node=second))), NOW)
    turn = step(turn.action, seen(), NOW)
    assert (turn.action.step, turn.write) == (Step.WRITE, None)
    turn = step(turn.action, seen(), NOW)
    assert (turn.action.step, turn.write) == (Step.READY, PutPair())
    coming = ours(PairState.PREPARING)
    assert step(turn.action, seen(coming), NOW) == Turn(turn.action)
    turn = step(turn.action, seen(coming, readiness=READY), NOW)
    assert (turn.action.step, turn.write) == (Step.OPEN, None)
    turn = step(turn.action, seen(coming), NOW)
    assert (turn.action.step, turn.action.error) == (Step.DONE, "")
    assert turn.write == SetState("p1", PairState.ACTIVE)


def test_what_passes_is_tried_again_later() -> None:
    """Not before the pause is over, and with the same call."""
    start = action(Step.ACQUIRE, nodes=("n1", "n2"))
    turn = step(start, seen(answer=Failed("busy", ErrorKind.THROTTLED, retry_after_s=7.0)), NOW)
    assert (turn.action.step, turn.action.attempts, turn.action.error) == (Step.ACQUIRE, 1, "busy")
    assert step(turn.action, seen(), NOW + 6.9).call is None
    assert step(turn.action, seen(), NOW + 10.0).call == AcquireAddresses(("n1", "n2"))


def test_what_does_not_pass_undoes_all_that_was_made() -> None:
    """Also what is not known to have been made: releasing it twice is no harm."""
    start = action(Step.ACQUIRE, nodes=("n1", "n2"), members=(N1,), havip=HAVIP)
    turn = step(start, seen(answer=Failed("no such key", ErrorKind.AUTH, node="n2")), NOW)
    assert (turn.action.step, turn.action.error) == (Step.UNDO, "no such key")
    later = NOW + 10.0
    for node in ("n1", "n2"):
        turn = step(turn.action, seen(), later)
        assert turn.call == ReleaseCard(node)
        turn = step(turn.action, seen(answer=Released(node)), later)
    turn = step(turn.action, seen(), later)
    assert turn.call == ReleaseAddresses()
    turn = step(turn.action, seen(answer=Released()), later)
    assert (turn.action.step, turn.action.error) == (Step.DONE, "no such key")


def test_a_node_without_a_free_card_is_not_asked_again() -> None:
    """All is given back and other nodes are chosen, for a pair of another name."""
    start = action(Step.ACQUIRE, nodes=("n1", "n2"), havip=HAVIP)
    turn = step(start, seen(answer=Failed("8 of 8 cards", ErrorKind.QUOTA, node="n2")), NOW)
    assert (turn.action.step, turn.action.refused) == (Step.AGAIN, ("n2",))
    turn = step(replace(turn.action, nodes=()), seen(answer=Released()), NOW)
    assert (turn.action.step, turn.action.havip) == (Step.PLACE, None)
    assert turn.action.pair != "p1"
    turn = step(turn.action, seen(answer=OFFERS), NOW)
    assert set(turn.action.nodes) == {"n1", "n3"}


def test_a_pair_that_does_not_come_up_is_made_elsewhere() -> None:
    """The node that keeps it from coming up is left out; the pair is removed before its cards go."""
    start = action(Step.READY, **ACQUIRED)
    ill = Readiness(("n2 does not report",), ("n2",))
    late = NOW + Deadlines().ready_s
    turn = step(start, seen(ours(PairState.PREPARING), readiness=ill), late)
    assert (turn.action.step, turn.action.refused) == (Step.AGAIN, ("n2",))
    turn = step(turn.action, seen(ours(PairState.PREPARING)), late)
    assert turn.write == RemovePair("p1", PairState.PREPARING)
    assert step(turn.action, seen(), late + 1.0).call is None
    assert step(turn.action, seen(), late + 6.0).call == ReleaseCard("n1")


def test_a_failed_add_that_an_operator_opened_is_left_to_hosts() -> None:
    """They may use it by now: nothing is taken away."""
    turn = step(action(Step.UNDO, **ACQUIRED), seen(ours(PairState.ACTIVE)), NOW + 60.0)
    assert (turn.action.step, turn.write, turn.call) == (Step.DONE, None, None)


def test_a_drained_pair_is_removed_when_it_is_empty_and_then_released() -> None:
    """An unknown number is not zero."""
    start = action(Step.DRAIN, ActionKind.DRAIN, provider="")
    turn = step(start, seen(ours(PairState.ACTIVE), OTHER), NOW)
    assert turn.write == SetState("p1", PairState.DRAINING, 1)
    assert (turn.action.step, turn.action.nodes, turn.action.provider) == (Step.WAIT, ("n1", "n2"), "fake")
    draining = ours(PairState.DRAINING, draining_since=NOW)
    assert step(turn.action, seen(draining, OTHER, left=Left(None)), NOW + 60.0) == Turn(turn.action)
    turn = step(turn.action, seen(draining, OTHER, left=Left(0)), NOW + 60.0)
    assert turn.action.step is Step.REMOVE
    turn = step(turn.action, seen(draining, OTHER), NOW + 60.0)
    assert (turn.action.step, turn.write) == (Step.RELEASE, RemovePair("p1", PairState.DRAINING))
    assert step(turn.action, seen(OTHER), NOW + 70.0).call == ReleaseCard("n1")


def test_a_drain_ends_at_its_deadline() -> None:
    """Connections that are left then are lost."""
    start = action(Step.WAIT, ActionKind.DRAIN, **ACQUIRED)
    draining = ours(PairState.DRAINING, draining_since=NOW)
    turn = step(start, seen(draining, OTHER, left=Left(5)), NOW + Deadlines().drain_s)
    assert turn.action.step is Step.REMOVE


def test_a_member_that_cannot_be_reached_keeps_its_pair_until_the_deadline() -> None:
    """It may be alive and cut off: only the other member's advertisements keep it from the HaVip."""
    start = action(Step.WAIT, ActionKind.REPLACE, opened="p9", **ACQUIRED)
    found = seen(ours(PairState.DRAINING, draining_since=NOW), OTHER, left=Left(0), unreachable=frozenset({"n2"}))
    assert step(start, found, NOW + 60.0) == Turn(start)
    assert step(start, found, NOW + Deadlines().drain_s).action.step is Step.REMOVE
    assert step(start, replace_seen(found, unreachable=frozenset({"n9"})), NOW + 60.0).action.step is Step.REMOVE


def test_a_draining_pair_is_opened_again_when_the_load_asks_for_it() -> None:
    """There is nothing quicker."""
    start = action(Step.WAIT, ActionKind.DRAIN, **ACQUIRED)
    turn = step(start, seen(ours(PairState.DRAINING), OTHER, is_short=True), NOW)
    assert (turn.action.step, turn.write) == (Step.DONE, SetState("p1", PairState.ACTIVE))


def test_a_pair_of_a_dead_node_is_not_opened_again() -> None:
    """The action steps aside for another replacement; pairs that the load asks for come beside it."""
    start = replace(action(Step.WAIT, ActionKind.REPLACE, opened="p9", **ACQUIRED), reason="dead-node")
    assert step(start, seen(ours(PairState.DRAINING), OTHER, is_short=True, left=Left(5)), NOW) == Turn(start)
    turn = step(start, seen(ours(PairState.DRAINING), OTHER, is_in_the_way=True), NOW)
    assert (turn.action.step, turn.write) == (Step.DONE, None)


def test_a_node_is_in_one_pair_of_a_subnet() -> None:
    """Also of those that others have only chosen."""
    rooms = tuple(NodeRoom(f"n{number}") for number in range(1, 7))
    offers = Offered({room.name: CardOffer(None) for room in rooms})
    other = replace(action(Step.ACQUIRE, nodes=("n3", "n4")), pair="p9")
    turn = step(action(Step.PLACE), Seen({"p2": OTHER}, nodes=rooms, others=(other,), answer=offers), NOW)
    assert set(turn.action.nodes) == {"n5", "n6"}
    turn = step(action(Step.PLACE), Seen({"p2": OTHER}, nodes=rooms[:5], others=(other,), answer=offers), NOW)
    assert "2 serving the subnet already, 2 with another pair of the subnet on its way" in turn.action.error


def test_an_action_keeps_its_place_when_its_pair_gets_another_name() -> None:
    """And the name is nobody else's."""
    start = action(Step.AGAIN, provider="", refused=("n2",))
    first = step(start, seen(), NOW).action
    assert (start.key, first.key) == (("s1", "p1"), ("s1", "p1"))
    rival = step(replace(start, pair="p8"), seen(others=(first,)), NOW).action
    assert len({"p1", "p8", first.pair, rival.pair}) == 4
    assert step(replace(first, step=Step.AGAIN), seen(), NOW).action.key == ("s1", "p1")
    replacing = action(Step.OPEN, ActionKind.REPLACE, leaving="p2", **ACQUIRED)
    assert step(replacing, seen(ours(PairState.PREPARING), OTHER), NOW).action.key == ("s1", "p1")


def test_the_last_active_pair_is_not_drained() -> None:
    """Nor one of those that there must be."""
    start = action(Step.DRAIN, ActionKind.DRAIN)
    for others, least in (((), 1), ((OTHER,), 2)):
        turn = step(start, seen(ours(PairState.ACTIVE), *others, min_pairs=least), NOW)
        assert (turn.action.step, turn.write) == (Step.DONE, None)
        assert "are needed" in turn.action.error


def test_a_replacement_is_open_before_the_old_pair_drains() -> None:
    """Of the old one's document comes what is released in the end; an operator's pair gives nothing back."""
    start = action(Step.OPEN, ActionKind.REPLACE, leaving="p2", pairs_before=1, **ACQUIRED)
    turn = step(start, seen(ours(PairState.PREPARING), OTHER), NOW)
    assert turn.write == SetState("p1", PairState.ACTIVE)
    assert (turn.action.step, turn.action.pair, turn.action.opened) == (Step.DRAIN, "p2", "p1")
    turn = step(turn.action, seen(ours(PairState.ACTIVE), OTHER), NOW)
    assert turn.write == SetState("p2", PairState.DRAINING, 1)
    assert (turn.action.provider, turn.action.nodes, turn.action.havip) == ("", (), None)


def status(node: str, role: str, **fields: object) -> MemberStatus:
    is_master = role == "master"
    values = {"vrrp": role, "gate": is_master, "has_havip": is_master, "hosts_seen": 7, "probe": "ok"} | fields
    return MemberStatus(node=node, role=role, **values)  # type: ignore[arg-type]


def test_a_pair_is_ready_when_both_members_are() -> None:
    """One master with gate and HaVip, one backup, probed, and with all hosts."""
    good = {"n1": status("n1", "master"), "n2": status("n2", "backup")}
    assert readiness(pair(), good, 7).is_ready
    for what, found in {
        "n2 does not report": {"n1": good["n1"]},
        "n2 cannot serve: eni": good | {"n2": status("n2", "backup", health=("eni",))},
        "n2 has no answer to its probe (silent)": good | {"n2": status("n2", "backup", probe="silent")},
        "n1 has not programmed all hosts": good | {"n1": status("n1", "master", hosts_seen=6)},
        "n1 is master without an open gate and the HaVip": good | {"n1": status("n1", "master", gate=False)},
        "one member must be master and the other backup, not backup and backup": {
            "n1": status("n1", "backup"),
            "n2": good["n2"],
        },
    }.items():
        assert readiness(pair(), found, 7).missing == (what,)


def test_a_customer_who_answers_no_probe_may_have_pairs_all_the_same() -> None:
    """If a pair serves that was never answered; else it may be the new card that is wrong."""
    good = {"n1": status("n1", "master", probe="unanswered"), "n2": status("n2", "backup", probe="unanswered")}
    assert is_silent(good)
    assert not is_silent({"n1": status("n1", "master"), "n2": good["n2"]})
    assert not readiness(pair(), good, 7).is_ready
    assert readiness(pair(), good, 7, is_silence_usual=True).is_ready
