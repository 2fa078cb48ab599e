"""Whom Prometheus is told to scrape."""

from __future__ import annotations

from ipaddress import IPv4Address

import msgspec
import pytest

from proxypool.core.discovery import has_reachable_metrics, targets, unreachable
from proxypool.core.model import HostSpec, NodeSpec


def node(name: str, metrics: str, underlay: str = "192.168.4.1") -> NodeSpec:
    return NodeSpec(id=name, underlay=IPv4Address(underlay), metrics=metrics)


def host(name: str, metrics: str) -> HostSpec:
    return HostSpec(
        id=name, underlay=IPv4Address("192.168.80.8"), tunnel_address=IPv4Address("100.64.0.2"), metrics=metrics
    )


def test_every_daemon_is_a_group_of_its_own() -> None:
    """By role and name, so that two answers for one pool are the same text; JSON as http_sd wants it."""
    found = targets(
        "lab",
        [node("n2", "192.168.4.2:9477"), node("n1", "192.168.4.1:9477")],
        [host("h1", "192.168.80.8:9478")],
        {"c1": "127.0.0.1:9479"},
    )
    assert [(group["targets"], group["labels"]["role"], group["labels"]["node"]) for group in found] == [
        (["192.168.4.1:9477"], "node", "n1"),
        (["192.168.4.2:9477"], "node", "n2"),
        (["192.168.80.8:9478"], "host", "h1"),
        (["127.0.0.1:9479"], "controller", "c1"),
    ]
    assert {group["labels"]["pool"] for group in found} == {"lab"}
    assert msgspec.json.decode(msgspec.json.encode(found)) == found


@pytest.mark.parametrize(
    "metrics", ["", "127.0.0.1:9477", "localhost:9477", "0.0.0.0:9477", "192.168.4.1", "192.168.4.1:0"]
)
def test_who_cannot_be_reached_is_left_out_and_named(metrics: str) -> None:
    """On a loopback address Prometheus would ask itself, and take the answer for the node's."""
    spec = node("n1", metrics)
    assert targets("lab", [spec], [], {}) == []
    assert unreachable([spec, node("n2", "192.168.4.2:9477")]) == ["n1"]


def test_a_pool_on_the_loopback_interface_is_reached_there() -> None:
    """Its nodes' underlay says so."""
    assert has_reachable_metrics(node("n1", "127.0.0.1:9477", underlay="127.0.0.1"))


def test_a_name_is_left_to_prometheus_to_look_up() -> None:
    """It has a resolver; we need none."""
    assert targets("lab", [node("n1", "n1.example.org:9477")], [], {})[0]["targets"] == ["n1.example.org:9477"]


@pytest.mark.parametrize("address", ["", "0.0.0.0:9479", "c1"])
def test_a_controller_without_an_address_is_left_out(address: str) -> None:
    """There is nothing to ask."""
    assert targets("lab", [], [], {"c1": address}) == []
