"""What daemons show of themselves: candidates, status, names, tunnel addresses."""

from __future__ import annotations

import json
import threading
import time
from ipaddress import IPv4Address, IPv4Network
from itertools import pairwise

import pytest
from kazoo.client import KazooClient

from proxypool.adapters.zookeeper import (
    Elections,
    NameInUse,
    NotEligible,
    NotFound,
    PoolMissing,
    member_status_suffix,
    node_alive_suffix,
)
from proxypool.core.documents import encode
from proxypool.core.errors import InvalidInput
from proxypool.core.model import Alive, HostSpec, MemberStatus, NodeSpec
from tests.contract.conftest import Connect
from tests.contract.zk import PoolClient, pair_request, pool_request, wait_until

ALIVE_A = Alive(underlay=IPv4Address("192.168.1.1"), since=1000.0)
ALIVE_B = Alive(underlay=IPv4Address("192.168.1.2"), since=2000.0)
STATUS_A = member_status_suffix("s1", "p1", "node-a")


def node_spec(name: str, alive: Alive) -> NodeSpec:
    return NodeSpec(id=name, underlay=alive.underlay)


def status(node: str, *, role: str = "backup", **fields: object) -> bytes:
    is_master = role == "master"
    values = {"vrrp": role, "gate": is_master, "has_havip": is_master, "at": time.time(), **fields}
    return encode(MemberStatus(node=node, role=role, **values))  # type: ignore[arg-type]  # fields of the document


@pytest.fixture
def two(connect: Connect, operator: PoolClient) -> tuple[PoolClient, PoolClient]:
    """Both members of s1/p1, registered and standing; node-a is elected."""
    both = connect(), connect()
    for client, name, alive in zip(both, ("node-a", "node-b"), (ALIVE_A, ALIVE_B), strict=True):
        client.registry.register_node(node_spec(name, alive), alive)
        client.presence.contend("s1", "p1", name)
        wait_until(lambda name=name: name in operator.nodes_of(), f"{name} stands")  # type: ignore[misc]
    return both


def test_the_first_candidate_is_elected_and_the_second_follows(
    operator: PoolClient, two: tuple[PoolClient, PoolClient]
) -> None:
    """Epochs grow along the queue; a withdrawal elects the next at once."""
    assert operator.nodes_of() == ["node-a", "node-b"]
    first, second = operator.mirror.snapshot.elections["s1/p1"]
    assert first.epoch < second.epoch
    assert first.session == two[0].session.session_id
    two[0].presence.withdraw("s1", "p1", "node-a")
    wait_until(lambda: operator.nodes_of() == ["node-b"], "node-b is elected")


def test_a_dead_process_leaves_the_election_when_its_session_ends(connect: Connect, operator: PoolClient) -> None:
    """No word is said, the server notices."""
    client = connect(timeout_s=1.0)
    client.presence.contend("s1", "p1", "node-a")
    client.presence.want(STATUS_A, status("node-a"))
    wait_until(lambda: operator.nodes_of() == ["node-a"], "stands")
    wait_until(lambda: operator.exists(STATUS_A), "published")
    client.end(close_session=False)
    wait_until(lambda: operator.nodes_of() == [], "gone")
    wait_until(lambda: not operator.exists(STATUS_A), "gone")


def test_switchover_elects_the_other_and_the_old_one_stands_again(
    operator: PoolClient, two: tuple[PoolClient, PoolClient]
) -> None:
    """Deleted from the head, back at the end within milliseconds; and the same the other way."""
    elections = Elections(operator.session)
    done = elections.switchover(operator.store.read_snapshot(), "s1", "p1", None)
    assert (done.old, done.new) == ("node-a", "node-b")
    wait_until(lambda: operator.nodes_of() == ["node-b", "node-a"], "both stand, in the other order", 2)
    back = elections.switchover(operator.store.read_snapshot(), "s1", "p1", "node-a")
    assert back.is_needed
    wait_until(lambda: operator.nodes_of() == ["node-a", "node-b"], "as before", 2)
    assert not elections.switchover(operator.store.read_snapshot(), "s1", "p1", "node-a").is_needed


def test_switchover_says_why_a_member_cannot_take_over(
    connect: Connect, operator: PoolClient, two: tuple[PoolClient, PoolClient]
) -> None:
    """Not alive, alive but silent, unfit; unknown names are suggested."""
    elections, snapshot = Elections(operator.session), operator.store.read_snapshot()
    two[1].presence.withdraw("s1", "p1", "node-b")
    two[1].presence.want(member_status_suffix("s1", "p1", "node-b"), status("node-b", health=("eth1 is down",)))
    wait_until(lambda: operator.nodes_of() == ["node-a"], "node-b has left")
    wait_until(lambda: two[1].presence.is_settled, "settled")
    with pytest.raises(NotEligible, match="node-b cannot take over: eth1 is down"):
        elections.switchover(snapshot, "s1", "p1", "node-b")
    two[1].presence.drop(member_status_suffix("s1", "p1", "node-b"))
    wait_until(lambda: two[1].presence.is_settled, "settled")
    with pytest.raises(NotEligible, match="does not serve this pair yet"):
        elections.switchover(snapshot, "s1", "p1", None)
    two[1].end(close_session=True)
    with pytest.raises(NotEligible, match="not running"):
        elections.switchover(snapshot, "s1", "p1", None)
    with pytest.raises(NotFound, match="did you mean node-b"):
        elections.switchover(snapshot, "s1", "p1", "node-bb")
    with pytest.raises(NotFound, match="did you mean p1"):
        elections.switchover(snapshot, "s1", "p11", None)
    with pytest.raises(NotFound, match="did you mean s1"):
        elections.switchover(snapshot, "s11", "p1", None)


def test_waiting_for_the_master_looks_at_what_is_observed(
    operator: PoolClient, two: tuple[PoolClient, PoolClient]
) -> None:
    """Master with gate and HaVip, and no other gate open."""
    elections = Elections(operator.session)
    other = member_status_suffix("s1", "p1", "node-b")
    two[0].presence.want(STATUS_A, status("node-a", role="master"))
    two[1].presence.want(other, status("node-b", role="master"))
    wait_until(lambda: operator.exists(other) and operator.exists(STATUS_A), "published")
    assert elections.wait_for_master("s1", "p1", "node-b", 0.1) is None, "two gates are open"
    timer = threading.Timer(0.1, two[0].presence.want, (STATUS_A, status("node-a")))
    timer.start()
    served = elections.wait_for_master("s1", "p1", None, 5)
    timer.join()
    assert served is not None
    assert served.node == "node-b"


def test_only_the_last_of_many_values_must_be_written(operator: PoolClient, two: tuple[PoolClient, PoolClient]) -> None:
    """Values come faster than ZooKeeper takes them."""
    for number in range(300):
        two[0].presence.want(STATUS_A, status("node-a", epoch=number))
    wait_until(lambda: two[0].presence.is_settled, "settled")
    assert json.loads(operator.get(STATUS_A))["epoch"] == 299
    two[0].presence.drop(STATUS_A)
    wait_until(lambda: not operator.exists(STATUS_A), "dropped")


def test_what_somebody_deletes_comes_back(operator: PoolClient, two: tuple[PoolClient, PoolClient]) -> None:
    """A candidate, a proof of life, a status."""
    alive = node_alive_suffix("node-a")
    two[0].presence.want(alive, encode(ALIVE_A))
    wait_until(lambda: two[0].presence.is_settled, "settled")
    operator.delete(alive)
    wait_until(lambda: operator.exists(alive), "alive again", 2)
    two[0].presence.want(STATUS_A, status("node-a", epoch=1))
    wait_until(lambda: operator.exists(STATUS_A), "published")
    operator.delete(STATUS_A)
    wait_until(lambda: operator.exists(STATUS_A), "published again", 2)


def test_a_removed_pair_does_not_come_back_as_a_shell(operator: PoolClient, two: tuple[PoolClient, PoolClient]) -> None:
    """A daemon that has not noticed yet goes on publishing."""
    two[0].presence.want(STATUS_A, status("node-a"))
    wait_until(lambda: operator.exists(STATUS_A), "published")
    operator.store.pairs.remove("s1", "p1")
    two[0].presence.want(STATUS_A, status("node-a", epoch=7))
    wait_until(lambda: "s1" not in operator.mirror.snapshot.pairs, "gone")
    assert operator.store.read_snapshot().pairs == {}
    operator.store.pairs.add("s1", pair_request())
    wait_until(lambda: sorted(operator.nodes_of()) == ["node-a", "node-b"], "a new pair is joined by those that wait")
    wait_until(lambda: operator.exists(STATUS_A), "published again")
    two[0].presence.forget("s1", "p1", "node-a")
    operator.store.pairs.remove("s1", "p1")
    operator.store.pairs.add("s1", pair_request())
    wait_until(lambda: operator.nodes_of() == ["node-b"], "the one that forgot stays away")


def test_a_predecessor_with_another_session_is_replaced(connect: Connect, operator: PoolClient) -> None:
    """SIGKILL without a session file: its candidate and proof of life may live on for a session timeout."""
    dead = connect(timeout_s=30.0)
    dead.registry.register_node(node_spec("node-a", ALIVE_A), ALIVE_A)
    dead.presence.contend("s1", "p1", "node-a")
    dead.presence.want(STATUS_A, status("node-a", role="master"))
    wait_until(lambda: operator.nodes_of() == ["node-a"], "stands")
    wait_until(lambda: operator.exists(STATUS_A), "published")
    dead.end(close_session=False)

    client = connect()
    assert client.registry.register_node(node_spec("node-a", ALIVE_A), ALIVE_A), "newly registered"
    client.presence.contend("s1", "p1", "node-a")
    client.presence.want(STATUS_A, status("node-a"))
    wait_until(lambda: client.presence.is_settled, "settled")
    wait_until(
        lambda: [c.session for c in operator.mirror.snapshot.elections["s1/p1"]] == [client.session.session_id],
        "only the new session stands",
    )
    assert json.loads(operator.get(STATUS_A))["role"] == "backup"


def test_two_machines_with_one_name(connect: Connect, operator: PoolClient) -> None:
    """The second is refused, told who has the name, and changes nothing; it gets the name when the first is gone."""
    first, second = connect(timeout_s=1.0), connect()
    assert first.registry.register_node(node_spec("node-a", ALIVE_A), ALIVE_A)
    assert not first.registry.register_node(node_spec("node-a", ALIVE_A), ALIVE_A), "again is fine"
    with pytest.raises(NameInUse, match=r"'node-a' is used by the machine at 192\.168\.1\.1 since 1970-"):
        second.registry.register_node(node_spec("node-a", ALIVE_B), ALIVE_B)
    assert json.loads(operator.get("nodes/node-a"))["underlay"] == "192.168.1.1"
    second.presence.want(node_alive_suffix("node-a"), encode(ALIVE_B))
    second.presence.want("subnets/s1/hosts/other", b"")
    wait_until(lambda: operator.exists("subnets/s1/hosts/other"), "what is not contested is made")
    assert json.loads(operator.get(node_alive_suffix("node-a")))["underlay"] == "192.168.1.1"
    first.end(close_session=False)
    wait_until(lambda: second.presence.is_settled, "taken over")
    assert json.loads(operator.get(node_alive_suffix("node-a")))["underlay"] == "192.168.1.2"
    assert not second.registry.register_node(node_spec("node-a", ALIVE_B), ALIVE_B), "Presence has registered it"


def test_fields_of_a_later_version_survive_a_registration(connect: Connect, operator: PoolClient) -> None:
    """NodeSpec is read, changed and written."""
    client = connect()
    client.registry.register_node(node_spec("node-a", ALIVE_A), ALIVE_A)
    operator.put("nodes/node-a", json.dumps({**json.loads(operator.get("nodes/node-a")), "rack": "r7"}).encode())
    client.registry.register_node(NodeSpec(id="node-a", underlay=ALIVE_A.underlay, version="2"), ALIVE_A)
    after = json.loads(operator.get("nodes/node-a"))
    assert (after["rack"], after["version"]) == ("r7", "2")


def test_registration_waits_for_the_pool(connect: Connect) -> None:
    """A daemon that comes before `pool init` is told what to do."""
    client = connect()
    with pytest.raises(PoolMissing, match="pool init"):
        client.registry.register_node(node_spec("node-a", ALIVE_A), ALIVE_A)
    with pytest.raises(PoolMissing, match="pool init"):
        client.registry.allocate_tunnel_address("host1", IPv4Network("100.64.0.0/10"))


def test_tunnel_addresses_are_given_once(connect: Connect, operator: PoolClient) -> None:
    """Twenty hosts at once from a range of thirty: all different, and each keeps its own."""
    pool = IPv4Network("100.64.0.0/27")
    clients = [connect() for _ in range(4)]
    given: dict[str, IPv4Address] = {}

    def allocate(client: PoolClient, names: list[str]) -> None:
        for name in names:
            given[name] = client.registry.allocate_tunnel_address(name, pool)

    names = [f"host{number}" for number in range(20)]
    threads = [threading.Thread(target=allocate, args=(client, names[at::4])) for at, client in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(given.values())) == len(names)
    assert all(address in pool for address in given.values())
    assert {name: operator.registry.allocate_tunnel_address(name, pool) for name in names} == given


def test_a_tunnel_address_outside_a_new_range_is_given_back(operator: PoolClient) -> None:
    """The pool's range was changed."""
    old = operator.registry.allocate_tunnel_address("host1", IPv4Network("100.64.0.0/24"))
    new = operator.registry.allocate_tunnel_address("host1", IPv4Network("100.65.0.0/24"))
    assert new in IPv4Network("100.65.0.0/24")
    assert not operator.exists(f"tunnel-addresses/{old}")


def test_a_full_range_is_said_to_be_full(operator: PoolClient) -> None:
    """A /30 has two addresses."""
    pool = IPv4Network("100.64.0.0/30")
    for name in ("host1", "host2"):
        operator.registry.allocate_tunnel_address(name, pool)
    with pytest.raises(InvalidInput, match="is full"):
        operator.registry.allocate_tunnel_address("host3", pool)


def test_hosts_register_as_nodes_do(connect: Connect, operator: PoolClient) -> None:
    """With their tunnel address."""
    client, other = connect(), connect()
    spec = HostSpec(id="host1", underlay=ALIVE_A.underlay, tunnel_address=IPv4Address("100.64.0.1"))
    client.registry.register_host(spec, ALIVE_A)
    wait_until(lambda: operator.mirror.snapshot.hosts.get("host1") == spec, "seen")
    with pytest.raises(NameInUse, match="host"):
        other.registry.register_host(spec, ALIVE_B)


def test_a_hundred_members_come_back_after_an_expired_session(connect: Connect, operator: PoolClient) -> None:
    """All candidates and statuses are made anew in the new session, in order of nothing but the queue."""
    operator.store.apply(pool_request(100))
    client = connect(timeout_s=1.0)
    for number in range(1, 101):
        client.presence.contend(f"s{number}", "p1", "node-a")
        client.presence.want(member_status_suffix(f"s{number}", "p1", "node-a"), status("node-a"))
    wait_until(lambda: all(operator.elected(f"s{n}/p1") == "node-a" for n in range(1, 101)), "all elected")
    before = client.session.session_id
    expire(operator, client)
    wait_until(lambda: client.session.session_id not in (None, before), "a new session")
    wait_until(lambda: client.presence.is_settled, "settled")
    wait_until(
        lambda: all(
            [c.session for c in operator.mirror.snapshot.elections[f"s{n}/p1"]] == [client.session.session_id]
            for n in range(1, 101)
        ),
        "all elected again",
    )
    assert len(operator.store.read_view().statuses["s100/p1"]) == 1


def expire(operator: PoolClient, client: PoolClient) -> None:
    """End a client's session behind its back: closing it from a second connection is what expiry looks like."""
    credentials = client.session._credentials
    other = KazooClient(hosts=",".join(operator.session._hosts), client_id=credentials)
    other.start()
    other.stop()
    other.close()


def test_epochs_only_grow(operator: PoolClient, two: tuple[PoolClient, PoolClient]) -> None:
    """Over many switchovers: the fencing token of the elected member never goes back."""
    elections = Elections(operator.session)
    epochs = []
    for _ in range(6):
        done = elections.switchover(operator.store.read_snapshot(), "s1", "p1", None)
        wait_until(lambda done=done: operator.elected() == done.new, "elected")  # type: ignore[misc]
        wait_until(lambda: len(operator.nodes_of()) == 2, "both stand")
        epochs.append(operator.mirror.snapshot.elections["s1/p1"][0].epoch)
    assert all(before < after for before, after in pairwise(epochs))
