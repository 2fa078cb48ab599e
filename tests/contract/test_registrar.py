"""A host's place in the lists of subnets, with a real ZooKeeper: in when it is used, out when it is not, and in again."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from proxypool.core.documents import encode
from proxypool.core.model import MemberStatus
from proxypool.daemons import registrar as module
from proxypool.daemons.registrar import Registrar
from tests.contract.zk import PoolClient, wait_until

HERE = frozenset({"h1"})
NOBODY = frozenset[str]()


@pytest.fixture
def joined() -> list[str]:
    """What the registrar has reported."""
    return []


@pytest.fixture
def registrar(operator: PoolClient, joined: list[str]) -> Iterator[Registrar]:
    found = Registrar(operator.session, "h1", joined.append)
    found.start()
    yield found
    found.stop()


def listed(operator: PoolClient) -> bool:
    path = operator.session.layout.path("subnets/s1/hosts/h1")
    return operator.session.wait(operator.session.client.exists_async(path)) is not None


def say(operator: PoolClient, hosts_seen: int) -> None:
    """A member of p1 publishes its status."""
    status = MemberStatus(node="n1", role="master", vrrp="master", gate=True, has_havip=True, hosts_seen=hosts_seen)
    operator.presence.want("subnets/s1/pairs/p1/status/n1", encode(status))


def test_a_subnet_without_a_living_pair_is_joined_at_once(
    registrar: Registrar, operator: PoolClient, joined: list[str]
) -> None:
    registrar.want({"s1": ()}, {"s1": NOBODY})
    wait_until(lambda: joined == ["s1"], "the report")
    assert listed(operator)
    assert registrar.joined == {"s1"}


def test_a_join_is_done_when_the_nodes_have_said_so(
    registrar: Registrar, operator: PoolClient, joined: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when the pool's own list has us: that is only our own entry come back."""
    monkeypatch.setattr(module, "SEEN_WITHIN_S", 10.0)
    say(operator, 0)
    registrar.want({"s1": ("p1",)}, {"s1": NOBODY})
    wait_until(lambda: listed(operator), "the entry")
    registrar.want({"s1": ("p1",)}, {"s1": HERE})
    time.sleep(0.2)
    assert joined == []
    assert registrar.joined == NOBODY
    say(operator, 1 << 60)
    wait_until(lambda: joined == ["s1"], "the report")
    assert registrar.joined == {"s1"}


def test_nodes_that_say_nothing_are_not_waited_for_for_ever(
    registrar: Registrar, operator: PoolClient, joined: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEEN_WITHIN_S", 0.2)
    say(operator, 0)
    registrar.want({"s1": ("p1",)}, {"s1": NOBODY})
    wait_until(lambda: joined == ["s1"], "the report")


def test_where_a_predecessor_is_listed_we_are_known(registrar: Registrar, joined: list[str]) -> None:
    """An agent that starts anew waits for nobody."""
    registrar.want({"s1": ("p1",)}, {"s1": HERE})
    assert registrar.joined == {"s1"}
    assert joined == []


def test_a_subnet_that_is_no_longer_used_is_left(registrar: Registrar, operator: PoolClient, joined: list[str]) -> None:
    registrar.want({"s1": ()}, {"s1": NOBODY})
    wait_until(lambda: joined == ["s1"], "the report")
    registrar.want({}, {"s1": HERE})
    wait_until(lambda: not listed(operator), "the entry to go")
    registrar.want({"s1": ()}, {"s1": NOBODY})
    wait_until(lambda: listed(operator), "the entry to come back")


def test_an_entry_that_somebody_removed_is_made_again(
    registrar: Registrar, operator: PoolClient, joined: list[str]
) -> None:
    registrar.want({"s1": ()}, {"s1": NOBODY})
    wait_until(lambda: joined == ["s1"], "the report")
    registrar.want({"s1": ()}, {"s1": HERE})
    path = operator.session.layout.path("subnets/s1/hosts/h1")
    operator.session.wait(operator.session.client.delete_async(path))
    registrar.want({"s1": ()}, {"s1": NOBODY})
    wait_until(lambda: listed(operator), "the entry to come back")
