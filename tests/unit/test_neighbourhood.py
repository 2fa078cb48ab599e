"""What a node hears of others on the underlay, and whom it tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, cast

import pytest

from proxypool.core.model import HostSpec, NodeSpec, Snapshot
from proxypool.core.role import Event, HeartbeatHeard, UnderlaySeen
from proxypool.daemons.member import Member
from proxypool.daemons.messages import PeerHeard
from proxypool.daemons.neighbourhood import HOSTS_ASKED, NODES_ASKED, Neighbourhood
from tests.unit import builders as make

PEER = IPv4Address("192.168.1.12")
STRANGER = IPv4Address("192.168.1.99")
NOBODY: frozenset[tuple[IPv4Address, int]] = frozenset()


@dataclass
class State:
    is_aside: bool = False
    claimed_at: float | None = None


@dataclass
class FakeMember:
    """As much of a member as is looked at here: of pair s1/p1, on n1, whose other member is on n2."""

    pair: Any = field(default_factory=make.pair)
    state: State = field(default_factory=State)
    heard: list[Event] = field(default_factory=list)

    def handle(self, event: Event, now: float) -> None:
        self.heard.append(event)


@dataclass
class FakeVrrp:
    orphaned: bool = False
    fenced: list[object] = field(default_factory=list)

    def is_orphaned(self, member: object) -> bool:
        return self.orphaned

    def fence(self, member: object, now: float) -> None:
        self.fenced.append(member)


@dataclass
class FakeClaims:
    havips: frozenset[IPv4Address] = frozenset()

    def follow(self, havips: frozenset[IPv4Address]) -> None:
        self.havips = havips


@dataclass
class FakeWatch:
    claims: FakeClaims = field(default_factory=FakeClaims)
    neighbours: tuple[IPv4Address, ...] = ()
    is_listening: bool = False

    def listen_for_peers(self, is_wanted: bool) -> None:  # noqa: FBT001 - as the watch has it
        self.is_listening = is_wanted


@dataclass
class World:
    member: FakeMember = field(default_factory=FakeMember)
    vrrp: FakeVrrp = field(default_factory=FakeVrrp)
    watch: FakeWatch = field(default_factory=FakeWatch)

    def __post_init__(self) -> None:
        members = {"s1": cast("Member", self.member)}
        self.all = Neighbourhood("n1", members, cast("Any", self.watch), cast("Any", self.vrrp))

    def hear(self, *, peer: IPv4Address = PEER, is_master: bool) -> list[Event]:
        masters = frozenset({(peer, self.member.pair.vrid)}) if is_master else NOBODY
        self.all.peers_heard(PeerHeard(frozenset({peer}), masters), POOL, 1.0)
        return self.member.heard


def node(name: str, address: str) -> NodeSpec:
    return NodeSpec(id=name, underlay=IPv4Address(address))


POOL = Snapshot(nodes={"n1": node("n1", "192.168.1.11"), "n2": node("n2", str(PEER)), "n3": node("n3", str(STRANGER))})


@pytest.fixture
def world() -> World:
    return World()


def test_silence_is_told_to_every_member_and_kept_for_those_to_come(world: World) -> None:
    world.all.heard(1.0, is_silent=True)
    assert (world.member.heard, world.all.is_silent) == ([UnderlaySeen(True)], True)
    world.all.heard(2.0, is_silent=False)
    assert (world.member.heard[-1], world.all.is_silent) == (UnderlaySeen(False), False)


def test_those_who_would_answer_are_the_other_members_and_some_hosts(world: World) -> None:
    hosts = {
        f"h{at}": HostSpec(id=f"h{at}", underlay=make_address(at), tunnel_address=make_address(at)) for at in range(9)
    }
    world.all.follow(Snapshot(nodes=POOL.nodes, hosts=hosts))
    assert world.watch.neighbours == (PEER, *(make_address(at) for at in range(HOSTS_ASKED)))
    assert len(world.watch.neighbours) <= NODES_ASKED + HOSTS_ASKED


def test_claims_of_our_pairs_havips_are_listened_to(world: World) -> None:
    world.all.follow(POOL)
    assert world.watch.claims.havips == {world.member.pair.havip}


def make_address(at: int) -> IPv4Address:
    return IPv4Address("192.168.2.0") + at


@pytest.mark.parametrize("is_master", [True, False])
def test_a_member_that_stands_aside_waits_for_any_advertisement_of_the_other(world: World, *, is_master: bool) -> None:
    world.member.state.is_aside = True
    assert world.hear(is_master=is_master) == [HeartbeatHeard()]


def test_a_member_that_took_over_by_itself_waits_for_a_master_only(world: World) -> None:
    world.member.state.claimed_at = 0.5
    assert world.hear(is_master=False) == []
    assert world.hear(is_master=True) == [HeartbeatHeard()]


def test_a_node_that_is_no_member_of_the_pair_is_nobody(world: World) -> None:
    world.member.state.is_aside, world.vrrp.orphaned = True, True
    assert world.hear(peer=STRANGER, is_master=True) == []
    assert world.vrrp.fenced == []


def test_a_havip_that_a_dead_keepalived_left_goes_when_the_other_is_master(world: World) -> None:
    world.vrrp.orphaned = True
    world.hear(is_master=False)
    assert world.vrrp.fenced == []
    world.hear(is_master=True)
    assert world.vrrp.fenced == [world.member]


@pytest.mark.parametrize("waits_for", ["nothing", "any", "a master", "the end of what it holds"])
def test_it_listens_only_while_somebody_waits(world: World, waits_for: str) -> None:
    world.member.state = State(waits_for == "any", 0.5 if waits_for == "a master" else None)
    world.vrrp.orphaned = waits_for == "the end of what it holds"
    world.all.listen()
    assert world.watch.is_listening is (waits_for != "nothing")
