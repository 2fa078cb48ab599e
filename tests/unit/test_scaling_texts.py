"""What `scale status`, `scale plan`, `explain` and the node commands print, at 80 columns."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from proxypool.cli.cordon_texts import cordon_text, drain_steps, drained_text, progress_text, timed_out_text
from proxypool.cli.explain_texts import explanation
from proxypool.cli.scaling_texts import (
    CAUSES,
    HOLDS,
    action_sentences,
    action_text,
    controller_line,
    plan_text,
    status_text,
    what_follows,
)
from proxypool.core.model import SubnetSpec
from proxypool.core.scaling.documents import Action, ActionKind, Step
from proxypool.core.scaling.model import Cause, Hold, ScalingMode, ScalingSpec
from proxypool.core.scaling.orders import stays_on
from proxypool.core.scaling.overview import ControllerState, ScaleStatus, SubnetScale
from tests.unit.builders import member, pair, snapshot, subnet

NOW = 10_000.0
CONTROLLER = ControllerState(
    running=2, leader="ctl-1:771", reported_at=NOW - 2, age_s=2.0, round_s=0.31, provider="spare"
)
GONE = replace(CONTROLLER, running=0, age_s=400.0)
ADDING = Action(
    id="1-s1",
    kind=ActionKind.ADD,
    subnet="s1",
    pair="p3",
    step=Step.READY,
    reason="load",
    began=NOW - 20,
    step_since=NOW - 12,
    nodes=("node-a", "node-c"),
)
GROWING = SubnetScale(
    id="s1",
    mode="enforce",
    min_pairs=1,
    max_pairs=8,
    paused_since=None,
    active=2,
    coming=1,
    draining=0,
    wanted=3,
    asked=3,
    cause="load",
    signal="conntrack",
    load={"conntrack": 1.62, "bytes": 0.4, "ports": None},
    actions=(ADDING,),
)
HELD = SubnetScale(
    id="s2",
    mode="observe",
    min_pairs=2,
    max_pairs=4,
    paused_since=None,
    active=3,
    coming=0,
    draining=0,
    wanted=2,
    asked=2,
    cause="load",
    signal="bytes",
    held=("stable-window",),
    load={"bytes": 0.4},
)
PAUSED = replace(
    HELD,
    id="s3",
    mode="enforce",
    min_pairs=1,
    max_pairs=2,
    paused_since=NOW - 300,
    active=2,
    draining=1,
    asked=3,
    cause="max-pairs",
    held=(),
    load={"bytes": 1.4},
)
BLOCKED = replace(
    PAUSED,
    id="s5",
    paused_since=None,
    min_pairs=3,
    max_pairs=4,
    draining=0,
    wanted=3,
    asked=2,
    cause="min-pairs",
    load={"bytes": 0.4},
    blocked="no node with room in another zone than node-a's",
)
UNMANAGED = SubnetScale(
    id="s4", mode=None, min_pairs=None, max_pairs=None, paused_since=None, active=1, coming=0, draining=0
)
ALL = ScaleStatus(pool="p", at=NOW, controller=CONTROLLER, subnets=(GROWING, HELD, PAUSED, UNMANAGED, BLOCKED))

STATUS = """\
controller ctl-1:771, 1 standing by, provider spare, round 310 ms

SUBNET  MODE     PAIRS  WANT  MIN-MAX  BUSIEST         CAUSE      HELD BY
s1      enforce  2/1/0  3     1-8      conntrack 1.62  load       -
s2      observe  3/0/0  2     2-4      bytes 0.40      load       stable-window
s3      paused   2/0/1  2     1-2      bytes 1.40      max-pairs  -
s4      -        1/0/0  -     -        -               -          -
s5      enforce  2/0/0  3     3-4      bytes 0.40      min-pairs  -

s1: add p3 on node-a and node-c: ready for 12s
s5: blocked: no node with room in another zone than node-a's"""

PLAN = """\
s1: go on with add p3 on node-a and node-c: ready for 12s; it was begun because
  that is what its load asks for
s2: would drain 1 pair: mode observe only says so; that is what its load asks
  for; bytes at 0.40 pairs; it asked for more within the stable window
s3: nothing: the load asks for more than is allowed; bytes at 1.40 pairs
s4: nothing: its pairs are the operator's own business
s5: would add 1 pair: it cannot: no node with room in another zone than
  node-a's; that is the least it may have; bytes at 0.40 pairs"""

WHY_GROWING = """\
Subnet s1 has 2 active pairs, 1 being prepared. It may have 1 to 8; the mode is
enforce: the controller adds and drains pairs as the load asks for. It should
have 3 pairs.

Why: that is what its load asks for. The busiest signal is conntrack: what all
pairs carry would fill 1.62 of them. The load alone asks for 3 pairs, one of
them the reserve for a pair that is lost.

SIGNAL     LOAD IN PAIRS
conntrack  1.62 (asks for most)
bytes      0.40
ports      not known: no reason to shrink

Pair p3 is being added on node-a and node-c for 20s, because that is what its
load asks for. It stands at step ready for 12s: its members come up: both must
be fit, one of them master, all hosts known to them."""

WHY_HELD = """\
Subnet s2 has 3 active pairs. It may have 2 to 4; the mode is observe: the
controller keeps the minimum, replaces what is dead, and else only says what it
would do. It should have 2 pairs.

Why: that is what its load asks for. The busiest signal is bytes: what all pairs
carry would fill 0.40 of them. The load alone asks for 2 pairs, one of them the
reserve for a pair that is lost.

SIGNAL  LOAD IN PAIRS
bytes   0.40 (asks for most)

What holds it: it asked for more within the stable window.

1 pair would be drained, but mode observe only says so: to have it done,
`proxypool scale set s2 --mode enforce`."""


def test_the_table_fits_80_columns() -> None:
    """What is under way, and why nothing can be, stands below it."""
    text = status_text(ALL, wide=False, colour=False)
    assert text == STATUS
    assert max(map(len, text.splitlines())) <= 80


def test_the_wide_table_has_all_loads() -> None:
    """Also those that are not known."""
    wide = status_text(ALL, wide=True, colour=False)
    assert "bytes=0.40,conntrack=1.62,ports=?" in wide
    assert wide.splitlines()[5].endswith("  5m")


def test_colours_mark_what_to_look_at() -> None:
    """A pause, the limit, what is blocked."""
    coloured = status_text(ALL, wide=False, colour=True)
    for word in ("paused", "max-pairs", "s5: blocked: no node with room in another zone than node-a's"):
        assert f"\x1b[33m{word}\x1b[0m" in coloured
    assert "\x1b[33ms1: add" not in coloured


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (
            ControllerState(running=0),
            "no controller runs: no pair comes or goes; start one with `proxypool run controller`",
        ),
        (
            GONE,
            "no controller runs: no pair comes or goes; what follows is 6m40s old; start one with `proxypool run controller`",
        ),
        (ControllerState(running=2), "2 controllers, none has reported yet: see their logs"),
        (
            replace(CONTROLLER, age_s=400.0),
            "the last report of ctl-1:771 is 6m40s old: it hangs or cannot write; see its log",
        ),
        (replace(CONTROLLER, running=1, round_s=None), "controller ctl-1:771, provider spare"),
        (
            replace(CONTROLLER, age_s=62.0),
            "controller ctl-1:771, 1 standing by, provider spare, round 310 ms, 1m2s ago",
        ),
    ],
)
def test_the_first_line_says_whether_what_follows_can_be_relied_on(state: ControllerState, line: str) -> None:
    """No controller, no report, or an old one comes first."""
    assert controller_line(state) == line


def test_problems_of_the_controller_are_shown() -> None:
    """Below its line."""
    status = replace(ALL, controller=replace(CONTROLLER, problems=("the provider's quota is used up",)))
    assert status_text(status, wide=False, colour=False).splitlines()[2] == "ctl-1:771: the provider's quota is used up"


def test_the_plan() -> None:
    """What would be done and why; with an old report that is said first."""
    assert plan_text(ALL) == PLAN
    assert plan_text(replace(ALL, controller=GONE)) == f"{controller_line(GONE)}\n{PLAN}"
    assert plan_text(replace(ALL, subnets=())).startswith("no subnet is managed: give one a size")


def test_the_plan_of_a_subnet_that_nobody_has_looked_at() -> None:
    """As it was only just given a size, or scaling is off."""
    new = replace(GROWING, actions=(), wanted=None, asked=None, cause=None, signal=None, load={})
    off = replace(new, id="s2", mode="off")
    assert plan_text(replace(ALL, subnets=(new, off))).splitlines() == [
        "s1: nothing: the controller's report says nothing of it",
        "s2: nothing: scaling is off",
    ]


@pytest.mark.parametrize(("subnet", "text"), [(GROWING, WHY_GROWING), (HELD, WHY_HELD)])
def test_explain_says_it_in_words(subnet: SubnetScale, text: str) -> None:
    """Size, reason, signals, what holds it, what comes next; 80 columns."""
    assert explanation(subnet, CONTROLLER, NOW) == text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("state", "first"),
    [
        (GONE, "No controller runs, so no pair comes or goes:"),
        (ControllerState(running=1), "No controller has reported yet"),
        (replace(CONTROLLER, age_s=91.0), "The last report of ctl-1:771 is 1m31s old:"),
    ],
)
def test_explain_says_first_that_it_may_be_old(state: ControllerState, first: str) -> None:
    """Before anything that the report says."""
    assert explanation(GROWING, state, NOW).startswith(first)


@pytest.mark.parametrize(
    ("subnet", "last"),
    [
        (UNMANAGED, "To have it do so: `proxypool scale set s4 --min N`."),
        (BLOCKED, "1 pair would be added, but that is not possible: no node with room in another zone than node-a's."),
        (PAUSED, "nothing new begins until `proxypool scale resume s3`."),
        (replace(PAUSED, wanted=3), "for 5m: end that with `proxypool scale resume s3`."),
        (replace(HELD, mode="off"), "Next: nothing, as scaling is off."),
        (replace(HELD, mode="enforce", held=()), "1 pair will be drained, and removed when no connection is left."),
        (replace(GROWING, actions=()), "Next: nothing, it has what it should have."),
        (replace(GROWING, actions=(), active=0, coming=0, cause="min-pairs", wanted=1), "Next: 1 pair will be added."),
        (replace(GROWING, actions=(), wanted=None), "the controller's report says nothing of it."),
    ],
)
def test_explain_ends_with_what_comes_next(subnet: SubnetScale, last: str) -> None:
    """Or with what keeps it from coming, and how to end that."""
    assert " ".join(explanation(subnet, CONTROLLER, NOW).split()).endswith(last)


def test_every_word_of_the_report_has_a_sentence() -> None:
    """A new cause, hold or step of the policy must not be shown as a bare word."""
    assert set(CAUSES) >= set(Cause)
    assert set(HOLDS) == set(Hold)
    for step in Step:
        assert any(f"at step {step.value} for" in text for text in action_sentences(replace(ADDING, step=step), NOW))


def test_a_word_that_a_later_controller_wrote_is_shown_as_it_is() -> None:
    """Causes, holds and signals are text in the report."""
    later = replace(HELD, cause="moon-phase", held=("tide",), signal="gravity", load={"gravity": 0.9})
    text = explanation(later, CONTROLLER, NOW)
    assert "Why: moon-phase." in text
    assert "What holds it: tide." in text
    assert "gravity 0.90  moon-phase  tide" in status_text(replace(ALL, subnets=(later,)), wide=False, colour=False)


def test_an_action_that_fails_says_so() -> None:
    """In one line, and in sentences."""
    failing = replace(ADDING, step=Step.ACQUIRE, attempts=3, error="quota exceeded", nodes=())
    assert action_text(failing, NOW) == "add p3: acquire for 12s; attempt 3: quota exceeded"
    assert list(action_sentences(failing, NOW))[-1] == "The last error, after 3 attempts: quota exceeded."
    replacing = replace(ADDING, kind=ActionKind.REPLACE, leaving="p1", reason="dead-node")
    assert action_text(replacing, NOW) == "replace p3 for p1 on node-a and node-c: ready for 12s"
    assert next(action_sentences(replacing, NOW)) == (
        "Pair p3 is being made in place of p1 on node-a and node-c for 20s, because a node of one of its pairs is dead."
    )
    leaving = replace(replacing, pair="p1", leaving="", opened="p3", step=Step.WAIT)
    assert action_text(leaving, NOW) == "replace p1, p3 is open: wait for 12s"
    assert next(action_sentences(leaving, NOW)).startswith("Pair p3 has taken the place of p1, which is being drained")


def test_several_actions_of_a_subnet_are_told_one_by_one() -> None:
    """And what cannot begin beside them, or waits for its turn."""
    draining = replace(ADDING, kind=ActionKind.DRAIN, pair="p1", step=Step.WAIT, reason="left-over")
    busy = replace(GROWING, actions=(draining, ADDING), blocked="no node with room")
    lines = status_text(replace(ALL, subnets=(busy,)), wide=False, colour=False).splitlines()[-3:]
    assert lines == [
        "s1: drain p1: wait for 12s",
        "s1: add p3 on node-a and node-c: ready for 12s",
        "s1: blocked: no node with room",
    ]
    assert " ".join(plan_text(replace(ALL, subnets=(busy,))).split()) == (
        "s1: go on with drain p1: wait for 12s; add p3 on node-a and node-c: ready for 12s; they were begun because a "
        "pair was left half made, or half gone and that is what its load asks for; what else is needed cannot begin: no node with room"
    )
    text = " ".join(explanation(busy, CONTROLLER, NOW).split())
    assert "Pair p1 is being drained" in text
    assert "Pair p3 is being added" in text
    assert text.endswith("What else is needed cannot begin: no node with room.")
    turn = replace(busy, blocked="", waits="its turn comes")
    assert status_text(replace(ALL, subnets=(turn,)), wide=False, colour=False).endswith("s1: waits: its turn comes")
    for found in (plan_text(replace(ALL, subnets=(turn,))), explanation(turn, CONTROLLER, NOW)):
        assert "hat else is needed waits: its turn comes" in " ".join(found.split())


def test_what_the_policy_did_not_decide_is_left_out() -> None:
    """A subnet without a decision has no cause."""
    new = replace(GROWING, active=0, coming=0, cause=None, asked=None, signal=None, load={}, actions=())
    text = explanation(new, CONTROLLER, NOW)
    assert text.startswith("Subnet s1 has no active pair. ")
    assert "Why:" not in text


@pytest.mark.parametrize(
    ("scaling", "controllers", "text"),
    [
        (ScalingSpec(mode=ScalingMode.OFF), 1, "the controller leaves it alone"),
        (ScalingSpec(min_pairs=4), 1, "the controller adds 1 pair"),
        (ScalingSpec(min_pairs=5), 0, "the controller adds 2 pairs, once one runs: start one with"),
        (ScalingSpec(), 1, "the controller keeps the minimum, and says what else it would do"),
        (
            ScalingSpec(max_pairs=2, mode=ScalingMode.ENFORCE),
            1,
            "the controller drains 1 pair as soon as it knows that the load allows it",
        ),
        (ScalingSpec(mode=ScalingMode.ENFORCE), 1, "the controller follows the load"),
        (ScalingSpec(min_pairs=5, paused_since=1.0), 1, "nothing begins until `proxypool scale resume s1`"),
    ],
)
def test_setting_a_size_says_what_follows(scaling: ScalingSpec, controllers: int, text: str) -> None:
    """Pairs that come count as there."""
    assert what_follows(GROWING, scaling, controllers).startswith(text)


# ---- nodes -----------------------------------------------------------------------------------------------------------


def managed(name: str, key: int, scaling: ScalingSpec | None) -> SubnetSpec:
    return replace(subnet(name, f"10.{key}.0.0/24", key=key), scaling=scaling)


POOL = snapshot(
    subnets=[
        managed("s1", 1, ScalingSpec()),
        managed("s2", 2, None),
        managed("s3", 3, ScalingSpec(mode=ScalingMode.OFF)),
        managed("s4", 4, ScalingSpec(paused_since=1.0)),
    ],
    pairs=[
        pair("p1", f"s{key}", (member("n1", f"10.{key}.0.1/24"), member("n2", f"10.{key}.0.2/24")))
        for key in range(1, 5)
    ],
)


def test_draining_a_node_says_what_moves_and_what_stays() -> None:
    """What the controller does not manage is for the operator to move."""
    stays = stays_on("n1", POOL)
    assert [(one.pair.subnet, one.why) for one in stays] == [
        ("s1", ""),
        ("s2", "subnet s2 is not managed by the controller"),
        ("s3", "scaling of subnet s3 is off"),
        ("s4", "scaling of subnet s4 is paused"),
    ]
    steps = list(drain_steps("n1", stays))
    assert steps[1] == "for s1/p1 a new pair is made on other nodes, one of a subnet at a time"
    assert steps[3] == (
        "s2/p1 stays on n1, as subnet s2 is not managed by the controller: move it by hand with `proxypool pair add` "
        "and `proxypool pair remove s2 p1 --drain`"
    )
    assert list(drain_steps("n9", stays_on("n9", POOL))) == ["no new pair is placed on it", "nothing moves"]


def test_how_far_a_nodes_drain_is() -> None:
    """Progress, the end, and the end of patience."""
    stays = stays_on("n1", POOL)
    assert progress_text("n1", stays, (ADDING,)) == "n1: 1 pair left to move; s1: add at ready"
    assert drained_text("n1", stays[1:], 7.2) == (
        "node n1 is drained: no pair that moves is left after 7 s; s2/p1, s3/p1, s4/p1 stay, and are not the "
        "controller's to move"
    )
    assert drained_text("n1", (), 7.2) == "node n1 is drained: no pair is left after 7 s"
    assert timed_out_text("n1", None, 60.0).startswith("node n1 still has pairs that nobody could count after 60 s")
    assert timed_out_text("n1", stays, 60.0).startswith(
        "node n1 still has s1/p1 after 60 s and stays draining: wait on"
    )


@pytest.mark.parametrize(
    ("orders", "text"),
    [
        ((None, None, "ann", ""), ""),
        ((NOW - 60, None, "ann@ops", "new kernel"), "cordoned for 1m, by ann@ops: new kernel"),
        ((NOW - 60, NOW - 5, "", ""), "draining for 5s"),
    ],
)
def test_orders_in_words(orders: tuple[float | None, float | None, str, str], text: str) -> None:
    """Since when, who, why."""
    assert cordon_text(*orders, NOW) == text
