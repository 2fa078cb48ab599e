"""What is said about draining: progress, dry runs, endings."""

from __future__ import annotations

import io

import pytest

from proxypool.cli import progress
from proxypool.cli.drain_texts import (
    addition_steps,
    drain_steps,
    drain_text,
    dry_run_text,
    interrupted_text,
    progress_text,
    removal_steps,
    timed_out_text,
)
from proxypool.cli.progress import CLEAR_LINE, EVERY_S, ProgressLine
from proxypool.core.assembly import assemble
from proxypool.core.draining import Left, Pace, Unknown
from proxypool.core.model import MemberStatus, PairSpec, PairState
from proxypool.core.pool_view import PoolView
from proxypool.core.status import PairReport, SubnetReport
from tests.unit.builders import host, pair, snapshot

NOW = 10_000.0
DRAINING = PairState.DRAINING


def reported(*pairs: PairSpec, hosts: int = 2, connections: int | None = None) -> tuple[SubnetReport, PairReport]:
    """s1 and its first pair, with a master that tracks 120 connections."""
    status = MemberStatus(
        node="n1",
        role="master",
        vrrp="master",
        gate=True,
        has_havip=True,
        at=NOW,
        conntrack=120,
        connections=connections,
    )
    documents = snapshot(pairs=pairs, hosts=[host(f"h{number}") for number in range(1, hosts + 1)])
    view = PoolView(pool="p", snapshot=documents, statuses={f"s1/{pairs[0].id}": {"n1": status}})
    (subnet,) = assemble(view, NOW).subnets
    return subnet, subnet.pairs[0]


def pace(*seen: tuple[float, int]) -> Pace:
    made = Pace()
    for at, count in seen:
        made.observe(at, count)
    return made


@pytest.mark.parametrize(
    ("left", "seen", "text"),
    [
        (Left(118), (), "s1/p1: 118 connections left; waiting 9m12s more"),
        (Left(1), (), "s1/p1: 1 connection left; waiting 9m12s more"),
        (
            Left(118),
            ((0.0, 168), (10.0, 118)),
            "s1/p1: 118 connections left, 5.0/s end, about 23s to go; waiting 9m12s more",
        ),
        (Left(118), ((0.0, 100), (10.0, 118)), "s1/p1: 118 connections left, 1.8/s more; waiting 9m12s more"),
        (Left(9), ((0.0, 9), (10.0, 9)), "s1/p1: 9 connections left; waiting 9m12s more"),
        (
            Left(None, Unknown.NO_MASTER),
            (),
            "s1/p1: connections left not known yet (no member is master); waiting 9m12s more",
        ),
        (Left(None), (), "s1/p1: connections left not known yet; waiting 9m12s more"),
    ],
)
def test_the_progress_line(left: Left, seen: tuple[tuple[float, int], ...], text: str) -> None:
    """What is left, how fast it goes, and how long it is waited for."""
    assert progress_text("s1/p1", left, pace(*seen), 552.9) == text


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        """It is."""
        return True


def test_on_a_terminal_the_line_is_redrawn_and_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that wraps could not be redrawn; at the end nothing is left of it."""
    monkeypatch.setenv("COLUMNS", "11")
    out = Terminal()
    line = ProgressLine(out)
    line.show("0123456789abc", 0.0)
    line.show("01", 0.1)
    line.end()
    line.end()
    assert out.getvalue() == f"{CLEAR_LINE}0123456789{CLEAR_LINE}01{CLEAR_LINE}"


def test_in_a_pipe_a_line_is_written_every_few_seconds() -> None:
    """Not the same one again, and no control characters."""
    out = io.StringIO()
    line = ProgressLine(out)
    for number, at in enumerate((0.0, 0.3, EVERY_S + 0.1, EVERY_S + 0.2)):
        line.show(f"line {number}", at)
    line.end()
    assert out.getvalue() == "line 0\nline 2\n"
    assert progress.EVERY_S >= 2.0


def test_what_a_drain_says() -> None:
    """Where new connections go; for how long it has drained when it was done before."""
    first, second = pair("p1", state=DRAINING, since=NOW - 182), pair("p2")
    assert drain_text(first, [first, second], NOW, is_changed=True) == (
        "pair s1/p1 is draining: new connections go to p2; those it has go on"
    )
    assert "nowhere to go until another pair is active" in drain_text(first, [first], NOW, is_changed=True)
    assert drain_text(first, [first], NOW, is_changed=False) == "pair s1/p1 is draining already, for 3m2s"


def test_the_endings_say_what_can_be_done() -> None:
    """Wait on, undo, or break what is left."""
    late = timed_out_text("s1", "p1", Left(3), 2.0)
    assert late.startswith("pair s1/p1 still has 3 connections after 2 s and stays draining: wait on with ")
    for command in ("drain s1 p1 --wait", "undrain s1 p1", "remove s1 p1 --accept-risk=drop-connections"):
        assert f"proxypool pair {command}" in late
    assert "an unknown number of connections" in timed_out_text("s1", "p1", Left(None), 2.0)
    stopped = interrupted_text("s1", "p1")
    assert "stays draining" in stopped
    assert "proxypool pair undrain s1 p1" in stopped


def test_a_dry_run_of_a_drain() -> None:
    """In order, with who is affected."""
    text = dry_run_text("drain", "s1/p1", drain_steps(*reported(pair("p1"), pair("p2")), 600.0))
    assert text.splitlines() == [
        "would drain pair s1/p1; nothing is changed now:",
        "  1. new connections go to p2; affected: 2 hosts, h1, h2",
        "  2. its connections go on: 120 tracked by n1 now, ended ones among them",
        "  3. wait until none is left, 10m at most",
    ]
    alone = list(drain_steps(*reported(pair("p1"), hosts=0), None))
    assert alone[0].startswith("new connections have nowhere to go")
    assert alone[0].endswith("affected: no host, as none uses the subnet")
    assert len(alone) == 2
    again = list(drain_steps(*reported(pair("p1", state=DRAINING, since=1.0), connections=7), None))
    assert again == ["it is draining already: that stays as it is", "its connections go on: 7 connections now"]


def test_a_dry_run_of_a_removal() -> None:
    """What breaks is said, unless it drains first."""
    where, what = reported(pair("p1"), pair("p2"), hosts=7)
    assert list(removal_steps(where, what, is_drained_first=False)) == [
        "n1 and n2 leave the pair; HaVip 192.168.4.100 goes",
        (
            "its connections break: 120 tracked by n1 now, ended ones among them; "
            "affected: 7 hosts, h1, h2, h3, h4, h5 and 2 more"
        ),
    ]
    assert len(list(removal_steps(where, what, is_drained_first=True))) == 1


def test_a_dry_run_of_an_addition() -> None:
    """The share that it will get, among those that are active."""
    where, _ = reported(pair("p1", weight=2), pair("p2", state=DRAINING, since=1.0))
    steps = list(addition_steps(where, pair("p3", weight=6)))
    assert "it gets 75 % of the new connections to s1; affected: 2 hosts, h1, h2" in steps
    assert steps[-1] == "no connection that exists moves"
