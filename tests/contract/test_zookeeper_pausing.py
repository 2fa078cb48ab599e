"""Pausing, settings and choosing of pairs, and the proof of candidates, against a real ZooKeeper."""

from __future__ import annotations

import json

import pytest

from proxypool.adapters.zookeeper import Elections
from proxypool.core.model import FailoverMode
from proxypool.core.pausing import PairPaused
from proxypool.core.requests import PairSettings
from tests.contract.test_zookeeper_cli import Cli, cli
from tests.contract.test_zookeeper_presence import two
from tests.contract.zk import PoolClient, pool_request, wait_until

__all__ = ["cli", "two"]
PROBE = ("--probe", "172.16.1.4")


def test_pause_and_resume(cli: Cli, operator: PoolClient) -> None:
    """Twice is once; the first moment stays; a dry run changes nothing; `pool apply` leaves it alone."""
    assert "would pause pair s1/p1" in cli.ok("pair", "pause", "s1", "p1", "--dry-run")
    assert operator.store.read_snapshot().pairs["s1"]["p1"].paused_since is None
    assert cli.ok("pair", "pause", "s1", "p1") == "pair s1/p1 is paused\n"
    since = operator.store.read_snapshot().pairs["s1"]["p1"].paused_since
    assert since is not None
    assert cli.ok("pair", "pause", "s1", "p1").startswith("pair s1/p1 is paused already, by ")
    assert "has been paused for" in cli.ok("pair", "pause", "s1", "p1", "--dry-run")
    operator.store.apply(pool_request())
    assert operator.store.read_snapshot().pairs["s1"]["p1"].paused_since == since
    assert "PP019 paused s1/p1" in cli("status").out
    assert "paused" in cli.ok("pair", "show", "s1", "p1")
    assert "would resume" in cli.ok("pair", "resume", "s1", "p1", "--dry-run")
    assert cli.ok("pair", "resume", "s1", "p1") == "pair s1/p1 is resumed\n"
    assert cli.ok("pair", "resume", "s1", "p1") == "pair s1/p1 is not paused\n"
    assert cli("pair", "pause", "s1", "p9").code == 1


def test_why_a_pair_is_paused_is_shown_and_kept(cli: Cli, operator: PoolClient) -> None:
    """In status and the history, with who did it; another reason replaces it, none leaves it."""
    assert cli.ok("pair", "pause", "s1", "p1", "--reason", "new kernel") == "pair s1/p1 is paused: new kernel\n"
    spec = operator.store.read_snapshot().pairs["s1"]["p1"]
    assert (spec.pause_reason, spec.paused_by.count("@")) == ("new kernel", 1)
    assert f", by {spec.paused_by}: new kernel: a member that cannot serve" in cli("status").out
    assert f", by {spec.paused_by}: new kernel" in cli.ok("pair", "show", "s1", "p1")
    cli.ok("pair", "pause", "s1", "p1")
    assert "the reason is new" in cli.ok("pair", "pause", "s1", "p1", "--reason", "new disk")
    operator.store.apply(pool_request())
    assert operator.store.read_snapshot().pairs["s1"]["p1"].pause_reason == "new disk"
    cli.ok("pair", "resume", "s1", "p1", "--reason", "done")
    cli.ok("pair", "resume", "s1", "p1")
    spec = operator.store.read_snapshot().pairs["s1"]["p1"]
    assert (spec.paused_since, spec.paused_by, spec.pause_reason) == (None, "", "")
    records = json.loads(cli.ok("history", "s1/p1", "-o", "json"))["items"]
    assert [(item["kind"], item["note"]) for item in records] == [("pause", "new kernel"), ("resume", "done")]
    assert all(item["who"].count("@") == 1 and item["reason"] == "maintenance" for item in records)
    assert json.loads(cli.ok("scale", "history", "-o", "json"))["items"] == [], "it is no change of size"


def test_settings_of_a_pair_that_serves(cli: Cli, operator: PoolClient) -> None:
    """Those that are not given stay."""
    assert cli.ok("pair", "set", "s1", "p1", *PROBE, "--mode", "strict") == (
        "pair s1/p1: mode strict, probe 172.16.1.4\n"
    )
    assert cli.ok("pair", "set", "s1", "p1", "--weight", "3") == "pair s1/p1: weight 3\n"
    spec = operator.store.read_snapshot().pairs["s1"]["p1"]
    assert (spec.mode, str(spec.probe), spec.weight) == (FailoverMode.STRICT, "172.16.1.4", 3)
    operator.store.apply(pool_request())
    assert operator.store.read_snapshot().pairs["s1"]["p1"] == spec
    assert cli.ok("pair", "set", "s1", "p1", "--probe", "none") == "pair s1/p1: probe none\n"
    assert operator.store.read_snapshot().pairs["s1"]["p1"].probe is None
    nowhere = cli("pair", "set", "s1", "p1", "--probe", "10.9.9.9")
    assert (nowhere.code, nowhere.err.count("no route leads there")) == (1, 1)
    assert "nothing to change" in cli("pair", "set", "s1", "p1").err


def test_a_paused_pair_is_not_switched_over(operator: PoolClient, two: tuple[PoolClient, PoolClient]) -> None:
    """The error says what to do first."""
    operator.store.pairs.pause("s1", "p1", 1000.0)
    with pytest.raises(PairPaused, match="proxypool pair resume s1 p1"):
        Elections(operator.session).switchover(operator.store.read_snapshot(), "s1", "p1", None)
    assert operator.nodes_of() == ["node-a", "node-b"]


def test_a_choice_is_seen_together_with_its_outcome(operator: PoolClient, two: tuple[PoolClient, PoolClient]) -> None:
    """Nobody sees node-b elected and not chosen; one that became elected by itself is not chosen."""
    seen = []

    def look() -> bool:
        candidates = operator.mirror.snapshot.elections["s1/p1"]
        seen.append([(one.node, one.is_chosen) for one in candidates])
        return len(candidates) == 2 and candidates[0].node == "node-b"

    Elections(operator.session).switchover(operator.store.read_snapshot(), "s1", "p1", None)
    wait_until(look, "node-b is elected")
    assert [("node-b", True), ("node-a", False)] in seen
    assert not any(found[0] == ("node-b", False) for found in seen if found)


def test_a_choice_of_the_elected_one_that_does_not_serve_is_told(
    operator: PoolClient, two: tuple[PoolClient, PoolClient]
) -> None:
    """It hears a living master, and may claim now."""
    done = Elections(operator.session).switchover(operator.store.read_snapshot(), "s1", "p1", "node-a")
    assert not done.is_needed
    wait_until(lambda: operator.mirror.snapshot.elections["s1/p1"][0].is_chosen, "the choice is seen")
    assert operator.nodes_of() == ["node-a", "node-b"]


def test_strict_leaves_it_to_the_elected_one_to_go(operator: PoolClient, two: tuple[PoolClient, PoolClient]) -> None:
    """Its gate must be closed before its candidate is gone."""
    operator.store.apply(pool_request())
    spec = operator.store.read_snapshot().pairs["s1"]["p1"]
    operator.store.pairs.set("s1", "p1", PairSettings(mode=FailoverMode.STRICT))
    assert spec.mode is FailoverMode.FAST
    Elections(operator.session).switchover(operator.store.read_snapshot(), "s1", "p1", "node-b")
    wait_until(lambda: operator.mirror.snapshot.elections["s1/p1"][1].is_chosen, "the choice is seen")
    assert operator.nodes_of() == ["node-a", "node-b"]


def test_a_candidate_is_proven_while_it_is_there(operator: PoolClient, two: tuple[PoolClient, PoolClient]) -> None:
    """Also when others of the same call are not."""
    first, _ = two
    wait_until(lambda: first.presence.is_settled, "settled")
    both = {("s1", "p1"), ("s1", "p7")}
    session, proven = first.presence.prove_candidates(both, "node-a")
    assert (session, proven) == (first.session.session_id, frozenset({("s1", "p1")}))
    assert first.presence.prove_candidates(both, "node-b")[1] == frozenset()
    first.presence.withdraw("s1", "p1", "node-a")
    wait_until(lambda: operator.nodes_of() == ["node-b"], "node-a has left")
    assert first.presence.prove_candidates(both, "node-a")[1] == frozenset()
