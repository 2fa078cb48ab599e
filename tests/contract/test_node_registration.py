"""How a node registers: once, again when it is time, and never under another machine's name."""

from __future__ import annotations

import json
from ipaddress import IPv4Address

import pytest

from proxypool.core.config import MetricsConfig, NodeConfig
from proxypool.core.model import Snapshot
from proxypool.daemons.node_registration import CHECK_S, RETRY_S, NodeRegistration
from tests.contract.conftest import Connect
from tests.contract.zk import PoolClient

HERE, ELSEWHERE = IPv4Address("192.168.4.11"), IPv4Address("192.168.4.12")
NODE = NodeConfig(underlay="eth0", labels={"zone": "a"})


def registration(client: PoolClient, underlay: IPv4Address = HERE, listen: str | None = None) -> NodeRegistration:
    return NodeRegistration(client.session, client.presence, "node-a", underlay, MetricsConfig(listen=listen))


@pytest.fixture
def first(operator: PoolClient) -> NodeRegistration:
    return registration(operator, listen="0.0.0.0:9477")


def test_the_document_says_where_metrics_are_and_what_the_labels_are(
    operator: PoolClient, first: NodeRegistration
) -> None:
    assert first.refresh(NODE, 100.0)
    spec = json.loads(operator.get("nodes/node-a"))
    assert (spec["underlay"], spec["metrics"], spec["labels"]) == (str(HERE), f"{HERE}:9477", {"zone": "a"})
    assert first.is_registered
    assert operator.exists("nodes/node-a/alive")


def test_it_is_registered_for_the_first_time_once_and_comes_back_when_it_is_time(
    operator: PoolClient, first: NodeRegistration
) -> None:
    assert first.refresh(NODE, 100.0)
    assert not first.refresh(NODE, 100.0 + RETRY_S), "it was registered before"
    operator.delete("nodes/node-a/alive")
    operator.delete("nodes/node-a")
    first.refresh(NODE, 100.0 + CHECK_S / 2)
    assert not operator.exists("nodes/node-a")
    first.refresh(NODE, 100.0 + RETRY_S + CHECK_S)
    assert operator.exists("nodes/node-a")


def test_another_label_is_written_as_soon_as_it_is_hastened(operator: PoolClient, first: NodeRegistration) -> None:
    first.refresh(NODE, 100.0)
    first.refresh(NODE, 101.0)
    first.hasten()
    first.refresh(NodeConfig(underlay="eth0", labels={"zone": "b"}), 101.0)
    assert json.loads(operator.get("nodes/node-a"))["labels"] == {"zone": "b"}


def test_a_name_that_another_machine_has_is_a_problem_until_it_is_free(
    connect: Connect, operator: PoolClient, first: NodeRegistration
) -> None:
    first.refresh(NODE, 100.0)
    other = connect()
    second = registration(other, ELSEWHERE)
    assert not second.refresh(NODE, 100.0)
    assert not second.is_registered
    assert second.problem is not None
    second.publish((), Snapshot(), 100.0)
    operator.end(close_session=True)
    assert second.refresh(NODE, 100.0 + RETRY_S)
    assert second.problem is None
