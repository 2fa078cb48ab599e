"""Hosts of a subnet in a real ZooKeeper: joining, the list's zxid, and the members' word that they have seen it."""

from __future__ import annotations

import threading
import time
from ipaddress import IPv4Address, IPv4Interface

import pytest

from proxypool.adapters.zookeeper import PoolMirror
from proxypool.adapters.zookeeper.subnet_hosts import join_subnet, leave_subnet, wait_until_seen
from proxypool.core.documents import encode
from proxypool.core.model import MemberSpec, MemberStatus, Snapshot
from proxypool.core.requests import PairRequest
from tests.contract.conftest import Connect
from tests.contract.zk import PoolClient, pair_request, subnet_request, wait_until

QUICK_S, PATIENT_S = 0.3, 10.0


def say(member: PoolClient, node: str, hosts_seen: int, pair: str = "p1") -> None:
    """Publish a status as a node daemon does."""
    status = MemberStatus(node=node, role="backup", vrrp="backup", gate=False, has_havip=False, hosts_seen=hosts_seen)
    member.presence.want(f"subnets/s1/pairs/{pair}/status/{node}", encode(status))
    wait_until(lambda: member.presence.is_settled, f"the status of {node}")


def czxid(client: PoolClient, host: str) -> int:
    path = client.session.layout.path(f"subnets/s1/hosts/{host}")
    return int(client.session.wait(client.session.client.exists_async(path)).czxid)


def test_joining_says_since_when_and_again_says_the_same(operator: PoolClient) -> None:
    first = join_subnet(operator.session, "h1", "s1")
    assert first == czxid(operator, "h1")
    assert join_subnet(operator.session, "h1", "s1") == first
    second = join_subnet(operator.session, "h2", "s1")
    assert first is not None
    assert second is not None
    assert second > first
    assert join_subnet(operator.session, "h1", "nowhere") is None


def test_who_leaves_and_comes_back_is_there_since_then(operator: PoolClient) -> None:
    first = join_subnet(operator.session, "h1", "s1")
    leave_subnet(operator.session, "h1", "s1")
    again = join_subnet(operator.session, "h1", "s1")
    assert first is not None
    assert again is not None
    assert again > first


def test_the_mirror_knows_the_zxid_of_the_list_that_it_has(connect: Connect, operator: PoolClient) -> None:
    """So that a list with a host in it never has a smaller zxid than the host's own."""
    watcher = connect()
    for host in ("h1", "h2", "h3"):
        zxid = join_subnet(operator.session, host, "s1")
        wait_until(lambda host=host: host in watcher.mirror.snapshot.subnet_hosts.get("s1", ()), host)  # type: ignore[misc]
        assert watcher.mirror.snapshot.hosts_zxid["s1"] == zxid
    leave_subnet(operator.session, "h1", "s1")
    wait_until(lambda: "h1" not in watcher.mirror.snapshot.subnet_hosts["s1"], "h1 left")
    assert watcher.mirror.snapshot.hosts_zxid["s1"] > (zxid or 0)
    for snapshot in watcher.snapshots:
        for host in snapshot.subnet_hosts.get("s1", ()):
            if host != "h1":
                assert snapshot.hosts_zxid["s1"] >= czxid(operator, host)


def test_what_did_not_change_is_the_same_object_in_the_next_snapshot(connect: Connect, operator: PoolClient) -> None:
    """Among ten thousand hosts nobody has to look for the one that is new."""
    watcher = connect()
    operator.make("hosts/h1", b'{"v":1,"id":"h1","underlay":"192.168.80.1","tunnel_address":"100.64.0.1"}')
    wait_until(lambda: "h1" in watcher.mirror.snapshot.hosts, "h1")
    before = watcher.mirror.snapshot
    join_subnet(operator.session, "h1", "s1")
    wait_until(lambda: watcher.mirror.snapshot is not before, "the next one")
    after = watcher.mirror.snapshot
    assert after.subnet_hosts["s1"] == {"h1"}
    assert after.hosts is before.hosts
    assert after.nodes is before.nodes
    assert after.subnets is before.subnets
    operator.put("hosts/h1", b'{"v":1,"id":"h1","underlay":"192.168.80.9","tunnel_address":"100.64.0.1"}')
    wait_until(lambda: str(watcher.mirror.snapshot.hosts["h1"].underlay) == "192.168.80.9", "another document")
    assert watcher.mirror.snapshot.subnet_hosts["s1"] is after.subnet_hosts["s1"]


def test_a_hosts_mirror_knows_its_own_place_in_the_lists_and_no_other_host(
    connect: Connect, operator: PoolClient
) -> None:
    """What ten thousand agents would all have to read again whenever one of them joins a subnet."""
    client = connect()
    snapshots: list[Snapshot] = []
    mirror = PoolMirror(client.session, snapshots.append, host="h1")
    mirror.start()
    try:
        wait_until(mirror.loaded.is_set, "loaded")
        count = len(snapshots)
        operator.make("hosts/h2", b'{"v":1,"id":"h2","underlay":"192.168.80.2","tunnel_address":"100.64.0.2"}')
        join_subnet(operator.session, "h2", "s1")
        for _ in range(2):
            join_subnet(operator.session, "h1", "s1")
            wait_until(lambda: mirror.snapshot.subnet_hosts["s1"] == {"h1"}, "it is in the list")
            leave_subnet(operator.session, "h1", "s1")
            wait_until(lambda: mirror.snapshot.subnet_hosts["s1"] == frozenset(), "it is out of it")
        assert len(snapshots) == count + 4
        assert not mirror.snapshot.hosts
        operator.store.add_subnet(subnet_request(2))
        join_subnet(operator.session, "h1", "s2")
        wait_until(lambda: mirror.snapshot.subnet_hosts.get("s2") == frozenset(("h1",)), "in another one's")
    finally:
        mirror.stop()


def test_a_nodes_mirror_follows_the_hosts_of_subnets_that_it_serves(connect: Connect, operator: PoolClient) -> None:
    """From when it is made a member to when it is one no longer, and nothing old is taken for new after that."""
    client = connect()
    mirror = PoolMirror(client.session, lambda _: None, node="node-a")
    mirror.start()
    try:
        join_subnet(operator.session, "h1", "s1")
        wait_until(lambda: mirror.snapshot.subnet_hosts.get("s1") == frozenset(("h1",)), "a subnet that it serves")
        operator.store.add_subnet(subnet_request(2))
        join_subnet(operator.session, "h1", "s2")
        wait_until(lambda: "s2" in mirror.snapshot.subnets, "one that it does not serve")
        assert mirror.snapshot.subnet_hosts["s2"] == frozenset()
        for number in range(2):
            operator.store.pairs.add("s2", pair_request(2))
            wait_until(lambda: "h1" in mirror.snapshot.subnet_hosts["s2"], "a member now")
            assert mirror.snapshot.hosts_zxid["s2"] > 0
            join_subnet(operator.session, f"h{number + 2}", "s2")
            wait_until(lambda: len(mirror.snapshot.subnet_hosts["s2"]) == 2 + number, "and one more")  # noqa: B023
            operator.delete("subnets/s2/pairs/p1/election")
            operator.delete("subnets/s2/pairs/p1/status")
            operator.delete("subnets/s2/pairs/p1")
            wait_until(lambda: "s2" not in mirror.snapshot.pairs, "no member any more")
            assert mirror.snapshot.subnet_hosts["s2"] == frozenset()
    finally:
        mirror.stop()


def test_both_members_must_have_seen_it(connect: Connect, operator: PoolClient) -> None:
    a, b = connect(), connect()
    say(a, "node-a", 0)
    say(b, "node-b", 0)
    zxid = join_subnet(operator.session, "h1", "s1") or 0
    outcome: list[bool] = []
    waiting = threading.Thread(
        target=lambda: outcome.append(wait_until_seen(operator.session, "s1", ("p1",), zxid, PATIENT_S))
    )
    waiting.start()
    say(a, "node-a", zxid)
    time.sleep(QUICK_S)
    assert not outcome
    say(b, "node-b", zxid + 5)
    waiting.join(PATIENT_S)
    assert outcome == [True]


def test_a_member_that_is_away_is_not_waited_for_but_one_must_be_there(connect: Connect, operator: PoolClient) -> None:
    zxid = join_subnet(operator.session, "h1", "s1") or 0
    assert not wait_until_seen(operator.session, "s1", ("p1",), zxid, QUICK_S)
    say(connect(), "node-a", zxid)
    assert wait_until_seen(operator.session, "s1", ("p1",), zxid, PATIENT_S)


def test_a_member_that_dies_meanwhile_is_waited_for_no_longer(connect: Connect, operator: PoolClient) -> None:
    a, b = connect(), connect()
    zxid = join_subnet(operator.session, "h1", "s1") or 0
    say(a, "node-a", zxid)
    say(b, "node-b", 0)
    timer = threading.Timer(QUICK_S, lambda: b.end(close_session=True))
    timer.start()
    assert wait_until_seen(operator.session, "s1", ("p1",), zxid, PATIENT_S)
    timer.join()


def test_every_pair_is_waited_for(connect: Connect, operator: PoolClient) -> None:
    members = tuple(
        MemberSpec(node=node, eni="eni1", address=IPv4Interface(f"172.16.1.{at}/24"))
        for at, node in ((21, "node-c"), (22, "node-d"))
    )
    operator.store.pairs.add("s1", PairRequest(id="p2", havip=IPv4Address("192.168.4.200"), members=members))
    zxid = join_subnet(operator.session, "h1", "s1") or 0
    say(connect(), "node-a", zxid)
    assert wait_until_seen(operator.session, "s1", ("p1",), zxid, PATIENT_S)
    assert not wait_until_seen(operator.session, "s1", ("p1", "p2"), zxid, QUICK_S)
    say(connect(), "node-c", zxid, "p2")
    assert wait_until_seen(operator.session, "s1", ("p1", "p2"), zxid, PATIENT_S)


@pytest.mark.parametrize("garbage", [b"", b"{", b'{"node":"x"}'])
def test_a_status_that_cannot_be_read_says_nothing(connect: Connect, operator: PoolClient, garbage: bytes) -> None:
    zxid = join_subnet(operator.session, "h1", "s1") or 0
    say(connect(), "node-a", zxid)
    operator.make("subnets/s1/pairs/p1/status/x", garbage)
    assert wait_until_seen(operator.session, "s1", ("p1",), zxid, PATIENT_S)
