"""The pool in memory follows the one in ZooKeeper."""

from __future__ import annotations

import json
import logging
import time

import pytest

from proxypool.adapters.zookeeper import PoolMirror
from proxypool.core.draining import Risk
from proxypool.core.model import Snapshot, TunnelKind
from tests.contract.conftest import Connect
from tests.contract.zk import PoolClient, pair_request, pool_request, subnet_request, wait_until


def test_the_mirror_sees_what_is_added_and_removed(connect: Connect, operator: PoolClient) -> None:
    """Subnets, pairs, and hosts of a subnet."""
    watcher = connect()
    wait_until(lambda: "s1" in watcher.mirror.snapshot.subnets, "what was there before")
    assert watcher.mirror.snapshot.spec is not None
    assert watcher.mirror.snapshot.spec.tunnel is TunnelKind.VXLAN
    operator.store.add_subnet(subnet_request(2))
    wait_until(lambda: "s2" in watcher.mirror.snapshot.subnets, "a new subnet")
    operator.store.pairs.add("s2", pair_request(2))
    wait_until(lambda: "p1" in watcher.mirror.snapshot.pairs.get("s2", {}), "a new pair")
    operator.make("subnets/s2/hosts/host1")
    wait_until(lambda: watcher.mirror.snapshot.subnet_hosts["s2"] == {"host1"}, "a host of the subnet")
    operator.store.pairs.remove("s2", "p1", tuple(Risk))
    wait_until(lambda: "s2" not in watcher.mirror.snapshot.pairs, "the pair is gone")
    assert "s2/p1" not in watcher.mirror.snapshot.elections
    operator.store.remove_subnet("s2")
    wait_until(lambda: "s2" not in watcher.mirror.snapshot.subnets, "the subnet is gone")


def test_every_change_ends_in_the_same_snapshot_as_reading_anew(connect: Connect, operator: PoolClient) -> None:
    """After a series of edits the mirror equals what a newcomer reads."""
    watcher = connect()
    for number in range(2, 12):
        operator.store.apply(pool_request(number))
        if number % 3 == 0:
            operator.store.pairs.remove(f"s{number - 1}", "p1")
        watcher.presence.contend(f"s{number}", "p1", "node-a")
    wait_until(lambda: watcher.presence.is_settled, "settled")
    wait_until(lambda: watcher.mirror.snapshot == operator.store.read_snapshot(), "equal")


def test_a_pair_that_is_removed_and_added_at_once_is_seen_anew(connect: Connect, operator: PoolClient) -> None:
    """The election's sequence begins at 0 again: an old candidate must not be taken for the new one of that name."""
    watcher = connect()
    watcher.presence.contend("s1", "p1", "node-a")
    wait_until(lambda: operator.elected() == "node-a", "elected")
    first = operator.mirror.snapshot.elections["s1/p1"][0].epoch
    operator.store.pairs.remove("s1", "p1")
    operator.store.pairs.add("s1", pair_request())
    wait_until(lambda: operator.elected() == "node-a", "stands in the new election")
    # In between the mirror may still show the old election, or the new one before anybody stands in it.
    wait_until(
        lambda: any(one.epoch > first for one in operator.mirror.snapshot.elections.get("s1/p1", ())),
        "with a higher epoch",
    )


def test_a_malformed_document_keeps_the_last_good_one(
    connect: Connect, operator: PoolClient, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named with the reason, logged once, and forgotten when it is good again."""
    watcher = connect()
    wait_until(lambda: "s1" in watcher.mirror.snapshot.subnets, "loaded")
    good, pair = watcher.mirror.snapshot.subnets["s1"], watcher.mirror.snapshot.pairs["s1"]["p1"]
    raw = operator.get("subnets/s1")
    path = operator.session.layout.path("subnets/s1")
    with caplog.at_level(logging.WARNING, logger="proxypool.adapters.zookeeper.tree"):
        operator.put("subnets/s1", b'{"id": "s1"')
        wait_until(lambda: path in watcher.mirror.snapshot.malformed, "named")
        operator.make("subnets/s1/hosts/h1")
        wait_until(lambda: "h1" in watcher.mirror.snapshot.subnet_hosts["s1"], "the rest goes on")
    assert watcher.mirror.snapshot.subnets["s1"] == good
    assert watcher.mirror.snapshot.pairs["s1"]["p1"] == pair
    logged = [r for r in caplog.records if path in r.getMessage() and r.threadName == watcher.mirror._thread.name]
    assert len(logged) == 2, "once by each of the two mirrors of this test"
    operator.put("subnets/s1", raw)
    wait_until(lambda: not watcher.mirror.snapshot.malformed, "good again")


@pytest.mark.parametrize(
    ("suffix", "change", "reason"),
    [
        ("subnets/s1", {"id": "s2"}, "has id 's2' instead of 's1'"),
        ("subnets/s1/pairs/p1", {"members": []}, "two members"),
        ("subnets/s1/pairs/p1", {"havip": "1.2.3"}, "havip"),
        ("spec", {"tunnel": "ipip"}, "ipip"),
    ],
)
def test_a_document_that_contradicts_its_place_is_malformed(
    connect: Connect, operator: PoolClient, suffix: str, change: dict[str, object], reason: str
) -> None:
    """Copied to another path, or edited by hand."""
    path = operator.session.layout.path(suffix)
    operator.put(suffix, json.dumps({**json.loads(operator.get(suffix)), **change}).encode())
    watcher = connect()
    wait_until(lambda: path in watcher.mirror.snapshot.malformed, "named")
    assert reason in watcher.mirror.snapshot.malformed[path]
    assert "s1" in watcher.mirror.snapshot.subnets or suffix == "subnets/s1"


def test_a_layout_of_a_later_version_freezes_the_snapshot(connect: Connect, operator: PoolClient) -> None:
    """A daemon must not act on what it may misunderstand."""
    watcher = connect()
    wait_until(lambda: "s1" in watcher.mirror.snapshot.subnets, "loaded")
    path = operator.session.layout.path("version")
    operator.put("version", b"2")
    wait_until(lambda: path in watcher.mirror.snapshot.malformed, "named")
    operator.delete("subnets/s1/pairs/p1/status")
    operator.delete("subnets/s1/pairs/p1/election")
    operator.delete("subnets/s1/pairs/p1")
    operator.put("version", b"1.1")
    wait_until(lambda: "s1" not in watcher.mirror.snapshot.pairs, "followed again: minor versions only add")


def test_a_container_that_is_made_late_is_seen(connect: Connect, operator: PoolClient) -> None:
    """Somebody made the subnet by hand, its containers later."""
    watcher = connect()
    wait_until(watcher.mirror.loaded.is_set, "loaded")
    operator.make("subnets/s9", b'{"id":"s9","cidrs":["10.9.0.0/24"],"key":9}')
    wait_until(lambda: "s9" in watcher.mirror.snapshot.subnets, "the subnet")
    operator.make("subnets/s9/hosts")
    operator.make("subnets/s9/hosts/h1")
    wait_until(lambda: watcher.mirror.snapshot.subnet_hosts["s9"] == {"h1"}, "its hosts")


def test_no_change_no_call(connect: Connect, operator: PoolClient) -> None:
    """Status that members publish, and a write of the same bytes, disturb nobody."""
    watcher = connect()
    wait_until(lambda: "s1" in watcher.mirror.snapshot.subnets, "loaded")
    count = len(watcher.snapshots)
    operator.put("subnets/s1", operator.get("subnets/s1"))
    for number in range(20):
        operator.presence.want("subnets/s1/pairs/p1/status/node-a", str(number).encode())
    operator.make("subnets/s1/hosts/end")
    wait_until(lambda: "end" in watcher.mirror.snapshot.subnet_hosts["s1"], "a change that counts")
    assert len(watcher.snapshots) == count + 1


def test_with_a_node_only_its_own_elections_are_followed(connect: Connect, operator: PoolClient) -> None:
    """And an election is followed as soon as the node becomes a member."""
    operator.store.apply(pool_request(2))
    client = connect()
    mirror = PoolMirror(client.session, lambda _snapshot: None, node="node-c")
    mirror.start()
    wait_until(mirror.loaded.is_set, "loaded")
    client.presence.contend("s1", "p1", "node-a")
    wait_until(lambda: operator.elected() == "node-a", "somebody else sees it")
    assert mirror.snapshot.elections["s1/p1"] == ()
    raw = json.loads(operator.get("subnets/s1/pairs/p1"))
    raw["members"][1]["node"] = "node-c"
    operator.put("subnets/s1/pairs/p1", json.dumps(raw).encode())
    wait_until(lambda: [c.node for c in mirror.snapshot.elections["s1/p1"]] == ["node-a"], "followed now")
    mirror.stop()


def test_an_error_in_the_callback_does_not_end_the_mirror(
    connect: Connect, operator: PoolClient, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the next change is seen."""
    client = connect()

    def fail(snapshot: Snapshot) -> None:
        if "s2" not in snapshot.subnets:
            raise RuntimeError("deliberate")

    mirror = PoolMirror(client.session, fail)
    mirror.start()
    wait_until(mirror.loaded.is_set, "loaded")
    operator.store.apply(pool_request(2))
    wait_until(lambda: "s2" in mirror.snapshot.subnets, "seen")
    assert "deliberate" in caplog.text
    mirror.stop()


@pytest.mark.timed
def test_an_election_is_in_the_snapshot_within_milliseconds(connect: Connect, operator: PoolClient) -> None:
    """The median of ten, with room for a busy machine; measured: 7 ms."""
    client = connect()
    took = []
    for turn in range(10):
        node = f"node-{turn}"
        began = time.monotonic()
        client.presence.contend("s1", "p1", node)
        wait_until(lambda node=node: node in operator.nodes_of(), "seen")  # type: ignore[misc]
        took.append(time.monotonic() - began)
    assert sorted(took)[5] < 0.1


@pytest.mark.timed
def test_a_hundred_subnets_load_in_well_under_half_a_second(connect: Connect, operator: PoolClient) -> None:
    """The best of three, as the machine may be busy; measured: 0.1 s."""
    operator.store.apply(pool_request(100))
    took = []
    for _ in range(3):
        client = connect()
        began = time.monotonic()
        mirror = PoolMirror(client.session, lambda _snapshot: None)
        mirror.start()
        assert mirror.loaded.wait(10)
        took.append(time.monotonic() - began)
        assert len(mirror.snapshot.elections) == 100
        mirror.stop()
    assert min(took) < 0.5
