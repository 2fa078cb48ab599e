"""When a master says whose the HaVip is, after another machine has said something else."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, cast

import pytest

from proxypool.core.role import (
    Caution,
    CoordinatorChanged,
    ElectionSeen,
    HealthSeen,
    MemberState,
    UnderlaySeen,
    Vrrp,
    VrrpChanged,
    step,
)
from proxypool.core.role import Coordinator as Zk
from proxypool.core.role import Event as RoleEvent
from proxypool.daemons.defence import SAY_AFTER_S, Defence
from proxypool.daemons.member import Member
from tests.unit import builders as make

STRANGER = IPv4Address("192.168.9.9")
FIRST, SECOND, THIRD = SAY_AFTER_S


def after(*events: RoleEvent) -> MemberState:
    """Of a member on n1."""
    state = MemberState("n1")
    for event in events:
        state, _ = step(state, event, 0.0)
    return state


def elected(*nodes: str, epoch: int = 100) -> ElectionSeen:
    return ElectionSeen(make.candidates(*nodes, first_epoch=epoch))


CONNECTED = CoordinatorChanged(Zk.CONNECTED)
FIT = HealthSeen(frozenset(), Caution.NONE)
MASTER = (CONNECTED, FIT, elected("n1", "n2"), VrrpChanged(Vrrp.MASTER))


@dataclass
class FakeMember:
    """As much of a member as is looked at here: of pair s1/p1."""

    state: MemberState
    pair: Any = field(default_factory=make.pair)
    label: str = "s1/p1"
    defended_at: list[float] = field(default_factory=list)

    def defended(self, now: float) -> None:
        self.defended_at.append(now)


@dataclass
class World:
    state: MemberState = field(default_factory=lambda: after(*MASTER))
    said: list[IPv4Address] = field(default_factory=list)
    count: int = 0
    is_down: bool = False
    is_advertising: bool = True

    def __post_init__(self) -> None:
        self.member = FakeMember(self.state)
        self.members = {"s1": cast("Member", self.member)}
        self.defence = Defence(self.members, lambda: self.is_advertising, self._announce, self._count)

    def _announce(self, address: IPv4Address) -> None:
        if self.is_down:
            raise OSError(100, "Network is down")
        self.said.append(address)

    def _count(self) -> None:
        self.count += 1

    @property
    def havip(self) -> IPv4Address:
        return cast("IPv4Address", self.member.pair.havip)

    def claim(self, now: float, address: IPv4Address | None = None) -> None:
        self.defence.contested(frozenset({address or self.havip}), now)


def test_said_after_a_moment_and_twice_more_for_lost_frames() -> None:
    world = World()
    world.claim(10.0)
    world.defence.look(10.0)
    assert (world.said, world.defence.next_deadline) == ([], 10.0 + FIRST)
    at = 10.0
    for number, pause in enumerate(SAY_AFTER_S, 1):
        at += pause
        world.defence.look(at)
        assert world.said == [world.havip] * number
    assert world.defence.next_deadline is None
    assert world.count == 1, "one defence"


def test_what_servers_were_told_is_put_right_once() -> None:
    world = World()
    world.claim(10.0)
    for at in (10.0 + FIRST, 12.0, 14.0):
        world.defence.look(at)
    assert world.member.defended_at == [10.0 + FIRST]


def test_a_master_that_gives_up_meanwhile_says_nothing() -> None:
    """It heard the claim before it heard the advertisement of who claims it."""
    world = World()
    world.claim(10.0)
    world.member.state = after(*MASTER, VrrpChanged(Vrrp.BACKUP))
    world.defence.look(10.0 + FIRST)
    assert (world.said, world.defence.next_deadline, world.count) == ([], None, 0)


def test_for_a_keepalived_that_is_dead_or_stopped_nothing_is_said() -> None:
    """The claim is right then, and what the kernel still holds is about to be taken away."""
    world = World()
    world.claim(10.0)
    world.is_advertising = False
    world.defence.look(10.0 + FIRST)
    world.is_advertising = True
    world.defence.look(12.0)
    assert (world.said, world.count) == ([], 0)


def test_a_pair_that_is_no_longer_here_is_not_spoken_of() -> None:
    world = World()
    world.claim(10.0)
    world.members.clear()
    world.defence.look(11.0)
    assert (world.said, world.defence.next_deadline) == ([], None)


def test_two_that_claim_the_same_do_not_keep_each_other_busy() -> None:
    """Claims during a defence begin no other one."""
    world = World()
    for claim in range(100):
        world.claim(10.0 + claim / 100)
        world.defence.look(10.0 + claim / 100)
    assert len(world.said) == 2
    assert world.count == 1


def test_of_addresses_that_are_not_its_own_nothing_is_said() -> None:
    world = World()
    world.claim(10.0, STRANGER)
    assert world.defence.next_deadline is None


def test_an_underlay_that_is_down_ends_nothing() -> None:
    world = World(is_down=True)
    world.claim(10.0)
    world.defence.look(10.0 + FIRST)
    world.is_down = False
    world.defence.look(11.0)
    assert world.said == [world.havip]


@pytest.mark.parametrize(
    ("events", "is_so"),
    [
        (MASTER, True),
        ((*MASTER, CoordinatorChanged(Zk.LOST)), True),
        ((CONNECTED, FIT, elected("n1", "n2"), VrrpChanged(Vrrp.BACKUP)), False),
        ((CONNECTED, FIT, elected("n2", "n1"), VrrpChanged(Vrrp.MASTER)), False),
        ((*MASTER, elected("n2", "n1", epoch=200)), False),
        ((*MASTER, UnderlaySeen(True)), False),
        ((CONNECTED, FIT, VrrpChanged(Vrrp.MASTER)), False),
    ],
    ids=["master", "without ZooKeeper", "backup", "not elected", "no longer", "deaf", "nobody elected"],
)
def test_whose_it_is(events: tuple[RoleEvent, ...], *, is_so: bool) -> None:
    """The elected master's, also while ZooKeeper is away."""
    assert after(*events).is_rightful is is_so
