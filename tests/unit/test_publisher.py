"""What a node's members publish, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import msgspec
import pytest

from proxypool.adapters.havip_loan import HavipLoan
from proxypool.adapters.zookeeper import Presence
from proxypool.core.node_scene import SubnetScenes
from proxypool.core.role import Timers
from proxypool.daemons.member import Member
from proxypool.daemons.publisher import HOSTS_INTERVAL_S, Publisher
from proxypool.telemetry.failovers import FailoverClock
from tests.unit.builders import node_facts, pair

SUBNET = "s1"


class Written:
    """A presence that keeps what is wanted of it."""

    def __init__(self) -> None:
        self.documents: list[bytes] = []

    def want(self, _: str, data: bytes) -> None:
        self.documents.append(data)

    @property
    def hosts_seen(self) -> list[int]:
        return [msgspec.json.decode(each)["hosts_seen"] for each in self.documents]


@pytest.fixture
def written() -> Written:
    return Written()


@pytest.fixture
def publisher(written: Written) -> Publisher:
    return Publisher("n1", cast("Presence", written))


@pytest.fixture
def members(tmp_path: Path) -> Mapping[str, Member]:
    member = Member(
        node="n1",
        pair=pair(),
        timers=Timers.for_session(4.0, 2.0),
        run_dir=tmp_path,
        set_contending=lambda _pair, _contend: None,
        clock=cast("FailoverClock", None),
        wall=lambda: 0.0,
        loan=HavipLoan("lo"),
        monotonic=lambda: 0.0,
        scenes=SubnetScenes(node_facts()),
    )
    return {SUBNET: member}


def see(members: Mapping[str, Member], zxid: int) -> None:
    members[SUBNET].acknowledgement.seen = zxid
    members[SUBNET].is_touched = True


def test_hosts_that_are_programmed_are_published_at_once(
    publisher: Publisher, written: Written, members: Mapping[str, Member]
) -> None:
    publisher.publish_changes(members, 10.0)
    see(members, 7)
    publisher.publish_changes(members, 10.0 + HOSTS_INTERVAL_S)
    assert written.hosts_seen == [0, 7]
    assert publisher.next_deadline is None


def test_of_many_that_join_together_the_last_is_published_a_little_later(
    publisher: Publisher, written: Written, members: Mapping[str, Member]
) -> None:
    """At most twenty writes a second, and the last word is never lost."""
    publisher.publish_changes(members, 10.0)
    for number in range(1, 100):
        see(members, number)
        publisher.publish_changes(members, 11.0 + number / 1000)
    assert written.hosts_seen[:2] == [0, 1]
    assert len(written.hosts_seen) <= 2 + 0.1 / HOSTS_INTERVAL_S
    due = publisher.next_deadline
    assert due is not None
    assert due <= 11.1 + HOSTS_INTERVAL_S
    publisher.publish_changes(members, due)
    assert written.hosts_seen[-1] == 99
    assert publisher.next_deadline is None


def test_what_matters_more_does_not_wait_and_takes_the_hosts_along(
    publisher: Publisher, written: Written, members: Mapping[str, Member]
) -> None:
    publisher.publish_changes(members, 10.0)
    see(members, 5)
    members[SUBNET].has_havip = True
    publisher.publish_changes(members, 10.001)
    assert written.hosts_seen == [0, 5]
