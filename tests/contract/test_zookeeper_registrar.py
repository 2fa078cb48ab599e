"""A host that joins and leaves subnets: whose word counts."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import pytest

from proxypool.adapters.zookeeper import PoolSession, member_status_suffix
from proxypool.adapters.zookeeper.layout import subnet_host_suffix
from proxypool.adapters.zookeeper.subnet_hosts import join_subnet
from proxypool.core.documents import encode
from proxypool.core.model import MemberStatus
from proxypool.core.requests import PoolRequest
from proxypool.daemons import registrar
from proxypool.daemons.registrar import Registrar
from tests.contract.conftest import Connect
from tests.contract.zk import PoolClient, pair_request, subnet_request, wait_until

HOST = "host1"
OURS = {"s1": frozenset({HOST})}
NOBODYS = {"s1": frozenset[str]()}
WANTED = {"s1": ("p1",)}


class Host:
    """A registrar, and the node that it waits for."""

    def __init__(self, client: PoolClient) -> None:
        self.client = client
        self.told: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.registrar = Registrar(client.session, HOST, self.told.put)

    def node_says(self, hosts_seen: int, subnet: str = "s1") -> None:
        """That it has programmed the hosts up to a zxid."""
        status = MemberStatus(
            node="node-a", role="master", vrrp="master", gate=True, has_havip=True, at=1.0, hosts_seen=hosts_seen
        )
        self.client.presence.want(member_status_suffix(subnet, "p1", "node-a"), encode(status))
        wait_until(lambda: self.client.presence.is_settled, "the node's word")

    def is_listed(self) -> bool:
        """In ZooKeeper."""
        return self.client.exists(subnet_host_suffix("s1", HOST))


@pytest.fixture
def host(operator: PoolClient, connect: Connect) -> Iterator[Host]:
    """In no list, and not wanted in any."""
    host = Host(connect())
    assert not host.is_listed()
    host.node_says(0)
    wait_until(lambda: operator.exists(member_status_suffix("s1", "p1", "node-a")), "the node's status")
    host.registrar.start()
    yield host
    host.registrar.stop()


def test_its_own_entry_is_no_word_of_the_nodes(host: Host) -> None:
    """The pool is read again as soon as the entry is there, before the nodes have programmed anything."""
    host.registrar.want(WANTED, NOBODYS)
    wait_until(host.is_listed, "the host in the list")
    host.registrar.want(WANTED, OURS)
    assert host.registrar.joined == set()
    host.node_says(1 << 60)
    assert host.told.get(timeout=10) == "s1"
    assert host.registrar.joined == {"s1"}


def test_what_a_predecessor_joined_is_joined(host: Host) -> None:
    """The nodes have known it for long."""
    host.client.make(subnet_host_suffix("s1", HOST))
    host.registrar.want(WANTED, OURS)
    assert host.registrar.joined == {"s1"}


def test_an_old_list_does_not_undo_that_it_left(host: Host) -> None:
    """Wanted again before the pool was read again: it has to join anew, and to wait for the nodes."""
    host.client.make(subnet_host_suffix("s1", HOST))
    host.registrar.want({}, OURS)
    wait_until(lambda: not host.is_listed(), "the host to leave")
    host.registrar.want(WANTED, OURS)
    assert host.registrar.joined == set()
    wait_until(host.is_listed, "the host in the list again")
    host.node_says(1 << 60)
    assert host.told.get(timeout=10) == "s1"
    assert host.registrar.joined == {"s1"}


def test_an_entry_that_somebody_removed_is_made_anew(host: Host) -> None:
    """And the nodes are waited for."""
    host.client.make(subnet_host_suffix("s1", HOST))
    host.registrar.want(WANTED, OURS)
    host.client.delete(subnet_host_suffix("s1", HOST))
    host.registrar.want(WANTED, NOBODYS)
    assert host.registrar.joined == set()
    wait_until(host.is_listed, "the host in the list again")


def test_a_subnet_without_a_living_pair_is_joined_at_once(host: Host) -> None:
    """There is nobody to wait for."""
    host.registrar.want({"s1": ()}, NOBODYS)
    assert host.told.get(timeout=10) == "s1"
    assert host.is_listed()


def test_nodes_that_say_nothing_are_not_waited_for_for_ever(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registrar, "SEEN_WITHIN_S", 0.2)
    host.registrar.want(WANTED, NOBODYS)
    assert host.told.get(timeout=10) == "s1"


def test_a_subnet_that_is_not_there_is_joined_when_it_comes(host: Host, operator: PoolClient) -> None:
    """The pool was read before somebody removed it. Its nodes, too, are waited for when it is there again."""
    host.registrar.want({"s9": ("p1",)}, {})
    wait_until(lambda: host.registrar.problem is not None, "it says so")
    assert "the pool has no subnet s9" in (host.registrar.problem or "")
    assert host.registrar.joined == set()
    operator.store.apply(PoolRequest(subnets=(subnet_request(9),)))
    operator.store.pairs.add("s9", pair_request(9))
    wait_until(lambda: operator.exists(subnet_host_suffix("s9", HOST)), "the host in its list")
    wait_until(lambda: host.registrar.problem is None, "nothing is wrong any more")
    assert host.registrar.joined == set()
    assert host.told.empty()
    host.node_says(1 << 60, subnet="s9")
    assert host.told.get(timeout=10) == "s9"
    assert host.registrar.joined == {"s9"}


def test_one_that_is_not_there_is_no_problem_when_nobody_wants_it(host: Host) -> None:
    host.registrar.want({"s9": ("p1",)}, {})
    wait_until(lambda: host.registrar.problem is not None, "it says so")
    host.registrar.want({}, {})
    wait_until(lambda: host.registrar.problem is None, "nothing is wrong any more")


def test_one_that_is_not_there_keeps_the_host_from_no_other(host: Host) -> None:
    host.registrar.want({"s0": (), **WANTED, "s9": ()}, NOBODYS)
    wait_until(host.is_listed, "the host in the list")
    host.node_says(1 << 60)
    assert host.told.get(timeout=10) == "s1"
    assert host.registrar.joined == {"s1"}


def test_a_join_under_way_when_the_subnet_stops_being_wanted_is_undone(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is no word of the nodes when it is wanted again."""
    under_way, may_go_on = threading.Event(), threading.Event()

    def slowly(session: PoolSession, name: str, subnet: str) -> int | None:
        zxid = join_subnet(session, name, subnet)
        under_way.set()
        assert may_go_on.wait(10)
        return zxid

    monkeypatch.setattr(registrar, "join_subnet", slowly)
    host.registrar.want(WANTED, NOBODYS)
    assert under_way.wait(10)
    host.registrar.want({}, NOBODYS)
    may_go_on.set()
    wait_until(lambda: not host.is_listed(), "the host to leave")
    assert host.told.empty()
    host.registrar.want(WANTED, OURS)
    assert host.registrar.joined == set()
    wait_until(host.is_listed, "the host in the list again")
    host.node_says(1 << 60)
    assert host.told.get(timeout=10) == "s1"


def test_a_subnet_that_is_removed_and_comes_again_between_two_looks_is_joined_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither look shows the host in the list: the first was before it joined, the other is after that."""
    monkeypatch.setattr(registrar, "PROVE_S", 0.2)
    host.registrar.want(WANTED, NOBODYS)
    host.node_says(1 << 60)
    assert host.told.get(timeout=10) == "s1"
    host.node_says(0)
    host.client.delete(subnet_host_suffix("s1", HOST))
    host.registrar.want(WANTED, NOBODYS)
    wait_until(host.is_listed, "the host in the list of the new one")
    wait_until(lambda: host.registrar.joined == set(), "its nodes are waited for")
    host.node_says(1 << 60)
    assert host.told.get(timeout=10) == "s1"
    host.registrar.want(WANTED, OURS)
    assert host.registrar.joined == {"s1"}
