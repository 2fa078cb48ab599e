"""Draining on a running pool: what is left is counted where it passes, and the wait ends when it is gone."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.topology import PAIR, RESPONDER_PORT
from tests.lab.observe import (
    PATIENCE,
    connect,
    master_of,
    metrics,
    other_of,
    status,
    wait_subnet_settled,
    wait_until,
)

pytestmark = [pytest.mark.root]

ACCEPT = "--accept-risk=stop-new-connections"


@pytest.fixture
def subnet(lab: Lab) -> Iterator[SubnetPlan]:
    """One whose pair takes new connections before and after."""
    plan = lab.topology.subnet_plans[0]
    yield plan
    lab.proxypool("pair", "undrain", plan.id, PAIR, timeout=60 * PATIENCE)


@contextlib.contextmanager
def clients(lab: Lab, subnet: SubnetPlan, count: int) -> Iterator[list[socket.socket]]:
    """Connections from an instance to the customer's database, which answers."""
    with contextlib.ExitStack() as stack:
        links = [stack.enter_context(connect(lab, "pod1", (subnet.database_ip, RESPONDER_PORT))) for _ in range(count)]
        for link in links:
            link.sendall(b"hello")
            assert link.recv(16) == b"hello"
        yield links


def drain(lab: Lab, subnet: SubnetPlan, *options: str, code: int = 0) -> str:
    """`proxypool pair drain`, and what it says."""
    words = ("pair", "drain", subnet.id, PAIR, ACCEPT, *options)
    done = lab.proxypool(*words, check=False, timeout=120 * PATIENCE)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout + done.stderr


def pair_report(lab: Lab, subnet: SubnetPlan) -> dict[str, Any]:
    """The pair in `status -o json`."""
    where = next(one for one in status(lab)["subnets"] if one["id"] == subnet.id)
    report: dict[str, Any] = where["pairs"][0]
    return report


def left(lab: Lab, subnet: SubnetPlan) -> int | None:
    """`connections_left` of the pair."""
    found: int | None = pair_report(lab, subnet)["connections_left"]
    return found


def series(lab: Lab, node: str, name: str, subnet: SubnetPlan) -> float | None:
    """A metric of the pair on a node."""
    return metrics(lab, node).get(f'{name}{{pair="{PAIR}",subnet="{subnet.id}"}}')


def test_the_only_pair_drains_when_its_clients_have_gone(lab: Lab, subnet: SubnetPlan) -> None:
    """Refused without the risk's name; counted while it drains; connections go on until they end by themselves."""
    refused = lab.proxypool("pair", "drain", subnet.id, PAIR, check=False, timeout=60 * PATIENCE)
    assert refused.returncode == 7
    assert ACCEPT in refused.stderr
    master = master_of(lab, subnet)
    other = other_of(subnet, master)
    assert series(lab, master, "proxypool_pair_draining", subnet) == 0
    assert series(lab, master, "proxypool_pair_connections", subnet) is None
    with clients(lab, subnet, 5) as links:
        drain(lab, subnet)
        wait_until(lambda: (left(lab, subnet) or 0) >= 5, 5.0, "connections to be counted")
        shown = pair_report(lab, subnet)
        assert shown["state"] == "draining"
        assert shown["level"] == "ok"
        assert shown["draining_since"] == pytest.approx(time.time(), abs=30 * PATIENCE)
        assert "PP017" in json.dumps(status(lab))
        assert series(lab, master, "proxypool_pair_draining", subnet) == 1
        assert (series(lab, master, "proxypool_pair_connections", subnet) or 0) >= 5
        assert series(lab, other, "proxypool_pair_draining", subnet) == 1
        assert series(lab, other, "proxypool_pair_connections", subnet) is None
        for link in links:
            link.sendall(b"still there")
            assert link.recv(16) == b"still there"
    text = drain(lab, subnet, "--wait", "--timeout", "110")
    assert "is draining already, for" in text
    assert "is drained: no connection is left after" in text
    wait_until(lambda: left(lab, subnet) == 0, 5.0, "nothing to be left")


def test_a_client_that_stays_makes_the_wait_time_out(lab: Lab, subnet: SubnetPlan) -> None:
    """Exit code 5; the pair stays draining, the connection alive."""
    with clients(lab, subnet, 1) as links:
        text = drain(lab, subnet, "--wait", "--timeout", "2", code=5)
        assert "stays draining" in text
        assert "proxypool pair undrain" in text
        assert pair_report(lab, subnet)["state"] == "draining"
        links[0].sendall(b"alive")
        assert links[0].recv(16) == b"alive"


def test_after_a_switchover_the_new_master_counts(lab: Lab, subnet: SubnetPlan) -> None:
    """The old one's number goes; in between nobody knows, and that is not zero."""
    old = master_of(lab, subnet)
    drain(lab, subnet)
    wait_until(lambda: series(lab, old, "proxypool_pair_connections", subnet) is not None, 5.0, "counted on the master")
    lab.proxypool("pair", "switchover", subnet.id, PAIR, "--wait", timeout=60 * PATIENCE)
    new = other_of(subnet, old)
    wait_until(
        lambda: series(lab, new, "proxypool_pair_connections", subnet) is not None, 5.0, "counted on the new one"
    )
    wait_until(lambda: series(lab, old, "proxypool_pair_connections", subnet) is None, 5.0, "forgotten by the old one")
    wait_subnet_settled(lab, subnet, 20.0)


def test_an_undrained_pair_is_not_counted_any_more(lab: Lab, subnet: SubnetPlan) -> None:
    """Neither in metrics nor in what is published."""
    master = master_of(lab, subnet)
    drain(lab, subnet)
    wait_until(lambda: series(lab, master, "proxypool_pair_connections", subnet) is not None, 5.0, "counted")
    lab.proxypool("pair", "undrain", subnet.id, PAIR, timeout=60 * PATIENCE)
    wait_until(lambda: series(lab, master, "proxypool_pair_connections", subnet) is None, 5.0, "not counted")
    wait_until(
        lambda: all(one["connections"] is None for one in pair_report(lab, subnet)["members"]), 5.0, "not published"
    )
    assert pair_report(lab, subnet)["state"] == "active"
