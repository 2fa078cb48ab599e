"""Which controller leads, and that no other can write."""

from __future__ import annotations

from collections.abc import Callable

from proxypool.adapters.zookeeper.layout import CONTROLLERS
from proxypool.adapters.zookeeper.leadership import Leader, Leadership
from proxypool.adapters.zookeeper.reading import read_children
from proxypool.core.requests import PoolRequest
from tests.contract.conftest import Connect
from tests.contract.zk import PoolClient, ZooKeeperServer, wait_until


def stand(client: PoolClient, name: str) -> tuple[Leadership, list[Leader | None]]:
    """A controller that stands, and what it was told."""
    told: list[Leader | None] = []
    leadership = Leadership(client.session, name, told.append)
    leadership.start()
    return leadership, told


def leads(leadership: Leadership) -> Callable[[], bool]:
    return lambda: leadership.leader is not None


def test_one_leads_and_the_next_follows_when_it_resigns(operator: PoolClient, connect: Connect) -> None:
    """Epochs grow; a resignation is told at once, to both."""
    first, told = stand(connect(), "c1")
    wait_until(leads(first), "the first leads")
    second, _ = stand(connect(), "c2")
    wait_until(lambda: len(candidates(operator)) == 2, "the second stands")
    assert not leads(second)()
    before = first.leader
    assert before is not None
    first.stop()
    wait_until(leads(second), "the second leads", 2.0)
    assert second.leader is not None
    assert second.leader.epoch > before.epoch
    assert told == [before, None]
    second.stop()


def test_a_dead_leader_is_followed_when_its_session_ends(operator: PoolClient, connect: Connect) -> None:
    """Nobody says goodbye."""
    dying = connect(timeout_s=1.0)
    first, _ = stand(dying, "c1")
    wait_until(leads(first), "the first leads")
    second, _ = stand(connect(), "c2")
    dying.end(close_session=False)
    wait_until(leads(second), "the second leads", 5.0)
    second.stop()


def test_a_candidate_that_somebody_removed_stands_again_at_the_end(operator: PoolClient, connect: Connect) -> None:
    """The leader hears that it leads no longer, and the next one takes over."""
    first, told = stand(connect(), "c1")
    wait_until(leads(first), "the first leads")
    second, _ = stand(connect(), "c2")
    wait_until(lambda: len(candidates(operator)) == 2, "the second stands")
    assert first.leader is not None
    operator.delete(f"{CONTROLLERS}/{first.leader.candidate.rpartition('/')[2]}")
    wait_until(leads(second), "the second leads", 2.0)
    wait_until(lambda: len(candidates(operator)) == 2, "the first stands again")
    assert not leads(first)()
    assert told[-1] is None
    first.stop()
    second.stop()


def test_a_controller_waits_for_a_pool_that_is_not_there(connect: Connect) -> None:
    """It makes no pool; when somebody does, it leads."""
    client = connect()
    leadership, told = stand(client, "c1")
    wait_until(leadership._thread.is_alive, "it runs")
    assert not client.exists("controller")
    client.store.apply(PoolRequest())
    wait_until(leads(leadership), "it leads", 5.0)
    assert len(told) == 1
    leadership.stop()


def test_the_lead_outlasts_a_server_that_restarts(own_server: ZooKeeperServer, pool: str) -> None:
    """The session goes on, and with it the candidate."""
    client = PoolClient(own_server, pool).start()
    try:
        client.store.apply(PoolRequest())
        leadership, told = stand(client, "c1")
        wait_until(leads(leadership), "it leads")
        own_server.stop()
        own_server.start()
        client.session.connect(10)
        wait_until(lambda: client.exists("controller/election"), "the server answers")
        assert len(told) == 1
        leadership.stop()
    finally:
        client.end(close_session=True)


def candidates(client: PoolClient) -> tuple[str, ...]:
    (names,) = read_children(client.session, (client.session.layout.path(CONTROLLERS),))
    return names or ()
