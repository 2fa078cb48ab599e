"""A real ZooKeeper for the contract tests."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.contract.zk import PoolClient, ZooKeeperServer, is_available, pool_request

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperServer]:
    """One server for all tests that do it no harm; each has a pool of its own."""
    yield from _serve(ZooKeeperServer(tmp_path_factory.mktemp("zookeeper")))


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperServer]:
    """A server to be stopped, paused and killed."""
    yield from _serve(ZooKeeperServer(tmp_path_factory.mktemp("zookeeper")))


def _serve(server: ZooKeeperServer) -> Iterator[ZooKeeperServer]:
    if not is_available():
        pytest.skip("needs ZooKeeper and Java: apt-get install zookeeper")
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def pool() -> str:
    """The name of a pool that no other test uses."""
    return f"test-{next(_NUMBERS)}"


Connect = Callable[..., PoolClient]


@pytest.fixture
def clients() -> Iterator[list[PoolClient]]:
    """All clients of a test: they are ended with it."""
    made: list[PoolClient] = []
    yield made
    for client in made:
        client.end(close_session=True)


@pytest.fixture
def connect(shared_server: ZooKeeperServer, pool: str, clients: list[PoolClient]) -> Connect:
    """Start another client of the shared server."""

    def make(**options: object) -> PoolClient:
        client = PoolClient(shared_server, pool, **options)  # type: ignore[arg-type]  # passed on
        clients.append(client)
        return client.start()

    return make


@pytest.fixture
def operator(connect: Connect) -> PoolClient:
    """A client with an initialised pool: subnet s1 with pair p1 of node-a and node-b."""
    client = connect()
    client.store.apply(pool_request())
    return client
