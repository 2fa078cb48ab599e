"""What a member hears of a keepalived that dies, and what becomes of the HaVip that it left."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from proxypool.core.keepalived import file_name
from proxypool.core.role import Event, MemberState, Vrrp, VrrpChanged, step
from proxypool.daemons.member import Member
from proxypool.daemons.messages import KeepalivedSeen
from proxypool.daemons.vrrp_side import VrrpSide
from tests.unit import builders as make

RUNNING = KeepalivedSeen(42, is_connected=True)
DEAD, STOPPED = KeepalivedSeen(), KeepalivedSeen(42, is_connected=True, is_stopped=True)


@dataclass
class FakeMember:
    """As much of a member as the VRRP side looks at."""

    pair: Any = field(default_factory=make.pair)
    has_havip: bool = False
    state: MemberState = field(default_factory=lambda: MemberState("a"))
    heard: list[Event] = field(default_factory=list)
    is_touched: bool = False
    is_programmed: bool = True
    mismatch_since: float | None = None
    label: str = "s1/p1"

    def handle(self, event: Event, now: float) -> None:
        self.heard.append(event)
        self.state, _ = step(self.state, event, now)


@pytest.fixture
def member() -> FakeMember:
    return FakeMember()


@pytest.fixture(params=[DEAD, STOPPED], ids=["dead", "stopped"])
def gone(request: pytest.FixtureRequest) -> KeepalivedSeen:
    """A keepalived that does nothing more."""
    return cast("KeepalivedSeen", request.param)


@pytest.fixture
def side(member: FakeMember) -> VrrpSide:
    """One that knows that keepalived runs, with our file; the member is master."""
    nothing = cast("Any", None)
    found = VrrpSide(nothing, {"s1": cast("Member", member)}, nothing, nothing, nothing, lambda *_: None)
    found.installed = frozenset({file_name("s1", member.pair.id)})
    found.seen(RUNNING, 0.0)
    member.has_havip = True
    member.handle(VrrpChanged(Vrrp.MASTER), 0.0)
    member.heard.clear()
    return found


def test_what_a_dead_keepalived_left_goes_on_serving(side: VrrpSide, member: FakeMember, gone: KeepalivedSeen) -> None:
    """Until the other member is heard as master; who asks is `is_orphaned`."""
    side.seen(gone, 1.0)
    assert side.is_orphaned(cast("Member", member))
    assert (member.heard, member.state.vrrp) == ([], Vrrp.MASTER)


def test_a_backup_without_keepalived_is_at_fault_at_once(
    side: VrrpSide, member: FakeMember, gone: KeepalivedSeen
) -> None:
    member.has_havip = False
    side.seen(gone, 1.0)
    assert not side.is_orphaned(cast("Member", member))
    assert member.heard == [VrrpChanged(Vrrp.STOP)]


def test_a_havip_that_vanishes_after_the_end_of_keepalived_ends_the_role(
    side: VrrpSide, member: FakeMember, gone: KeepalivedSeen
) -> None:
    """keepalived took it away as the last thing it did, and the news came after that of its end."""
    side.seen(gone, 1.0)
    side.address_moved(member.pair.havip, 1.0, 1.0, is_here=False)
    assert member.heard == [VrrpChanged(Vrrp.STOP)]
    assert not side.is_orphaned(cast("Member", member))


def test_the_same_seen_by_a_look_at_all_addresses(side: VrrpSide, member: FakeMember, gone: KeepalivedSeen) -> None:
    side.seen(gone, 1.0)
    side.addresses_seen(frozenset(), 1.0)
    assert VrrpChanged(Vrrp.STOP) in member.heard


def test_a_keepalived_that_goes_on_is_believed_again(side: VrrpSide, member: FakeMember, gone: KeepalivedSeen) -> None:
    """It was stopped, fenced, and continued: it holds nothing, so it is backup."""
    side.seen(gone, 1.0)
    side.address_moved(member.pair.havip, 1.0, 1.0, is_here=False)
    side.is_known = False
    side.seen(RUNNING, 2.0)
    assert member.heard[-1] == VrrpChanged(Vrrp.BACKUP)
