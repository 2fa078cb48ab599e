"""Our own rtnetlink messages against a real kernel, in a network namespace of the test's own: what is written is what is
read, by our parser and by pyroute2's.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from proxypool.adapters import netlink
from proxypool.adapters.netlink.decode import Memory, attributes
from proxypool.adapters.netlink.encode import (
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    IFLA_MTU,
    LINK_BODY,
    Batched,
    encode_tunnel,
)
from proxypool.adapters.netlink.events import EventSocket
from proxypool.core.errors import PermanentError, TransientError
from proxypool.core.scene import (
    WORST_METRIC,
    Address,
    AnyObject,
    Eni,
    ForwardingEntry,
    Key,
    Neighbour,
    PolicyRule,
    ProxyNeighbour,
    Route,
    RouteKind,
    RuleAction,
    Scene,
    Tunnel,
)
from tests.contract import pyroute2_view

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")

CLONE_NEWNET = 0x40000000
TUNNEL, OTHER, CARD = "ppt1", "ppt2", "eni0"
_libc = ctypes.CDLL(None, use_errno=True)
ADDRESSES = (
    Address(CARD, IPv4Interface("172.16.1.11/24")),
    Address(CARD, IPv4Interface("172.16.1.12/24")),
    Address(TUNNEL, IPv4Interface("100.64.0.1/32")),
)
ROUTES = (
    Route(IPv4Network("10.8.0.0/16"), device=CARD, gateway=IPv4Address("172.16.1.1")),
    Route(IPv4Network("10.8.0.0/16"), RouteKind.UNREACHABLE, metric=WORST_METRIC),
    Route(IPv4Network("100.64.0.0/10"), RouteKind.BLACKHOLE, metric=WORST_METRIC),
    Route(IPv4Network("100.64.0.2/32"), device=TUNNEL),
    Route(IPv4Network("0.0.0.0/0"), RouteKind.UNREACHABLE, table=7700),
    Route(IPv4Network("10.9.0.0/16"), RouteKind.UNREACHABLE, table=7_700_001, metric=WORST_METRIC),
    Route(
        IPv4Network("10.9.0.0/16"),
        device=TUNNEL,
        gateway=IPv4Address("192.168.4.100"),
        is_onlink=True,
        table=7_700_001,
        realm=7,
    ),
    Route(IPv4Network("20.0.3.0/32"), device=TUNNEL),
)
NEIGHBOURS = (
    Neighbour(TUNNEL, IPv4Address("100.64.0.2"), "02:50:64:40:00:02"),
    Neighbour(TUNNEL, IPv4Address("20.0.3.0"), "02:50:14:00:03:00"),
    Neighbour(OTHER, IPv4Address("100.64.0.2"), "02:50:64:40:00:02"),
    ForwardingEntry(TUNNEL, "02:50:64:40:00:02", IPv4Address("192.168.80.2")),
    ForwardingEntry(TUNNEL, "02:50:14:00:03:00", IPv4Address("20.0.3.0")),
    ForwardingEntry(OTHER, "02:50:64:40:00:02", IPv4Address("192.168.80.2")),
)
"""With addresses that look like the header of an attribute (20.0.3.0)."""
RULES = (
    PolicyRule(7700, target=7700, source=IPv4Network("10.244.1.0/24")),
    PolicyRule(7701, target=7_700_001, mark=0x10000, mask=0x7FFF0000),
    PolicyRule(7702, RuleAction.GOTO, target=7710, mark=0, mask=0x7FFF0000),
    PolicyRule(7703, target=254, suppress_prefix_length=0),
    PolicyRule(7710, RuleAction.NOP),
)
PROXIES = (
    ProxyNeighbour(CARD, IPv4Address("172.16.1.201")),
    ProxyNeighbour(CARD, IPv4Address("20.0.3.0")),
)
EVERYTHING: tuple[AnyObject, ...] = (*ADDRESSES, *ROUTES, *NEIGHBOURS, *RULES, *PROXIES)
TUNNELS = (
    Tunnel(TUNNEL, "vxlan", IPv4Address("127.0.0.1"), 7, 1450, mac="02:50:00:00:00:01", port=4789),
    Tunnel(OTHER, "vxlan", IPv4Address("127.0.0.1"), 8, 1450, mac="02:50:00:00:00:02", port=4789),
)
FOREIGN = """
ip link add name docker0 type bridge
ip route add 10.99.0.0/16 dev eni0
ip route add unreachable 10.98.0.0/16 metric 9
ip rule add priority 100 fwmark 0x1 lookup 100
ip neigh add 172.16.1.50 lladdr 02:00:00:00:00:50 dev eni0 nud permanent
ip neigh add proxy 172.16.1.202 dev eni0
ip neigh add proxy 172.16.1.203 dev docker0
ip neigh add 100.64.0.50 lladdr 02:00:00:00:00:50 dev ppt1 nud reachable
ip addr add 172.17.0.1/16 dev docker0
"""


@pytest.fixture(autouse=True)
def namespace() -> Iterator[None]:
    """The test's thread is in an empty namespace with two tunnels, and a card under our name."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        assert _libc.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        run("ip link set lo up")
        run("ip link add eni0 type bridge")
        run("ip link set eni0 alias proxypool:eth1 up")
        for tunnel in TUNNELS:
            netlink.apply_object(tunnel, None, netlink.Home())
        yield
    finally:
        assert _libc.setns(home, CLONE_NEWNET) == 0
        os.close(home)


def run(command: str) -> str:
    return subprocess.run(command.split(), check=True, capture_output=True, text=True).stdout


def put(*items: AnyObject) -> list[str]:
    """Messages of what was refused."""
    return apply(items, is_put=True)


def remove(*items: AnyObject) -> list[str]:
    return apply(items, is_put=False)


def apply(items: Sequence[AnyObject], *, is_put: bool) -> list[str]:
    changes: list[tuple[Batched, bool]] = []
    for item in items:
        assert isinstance(item, netlink.BATCHED)
        changes.append((item, is_put))
    return [str(error) for error in netlink.apply_batch(changes) if error is not None]


def seen(desired: Scene, memory: Memory | None = None) -> dict[Key, AnyObject]:
    with netlink.View("the test", memory) as view:
        return view.objects(desired)


def of(*items: AnyObject) -> dict[Key, AnyObject]:
    return {item.key: item for item in items}


@pytest.mark.parametrize("name", [None, "pp-s1"])
def test_what_is_read_is_what_pyroute2_reads(name: str | None) -> None:
    """Objects of all kinds, ours and others', from the machine's point of view and from a subnet's namespace."""
    assert put(*EVERYTHING) == []
    for command in FOREIGN.strip().splitlines():
        run(command)
    desired = Scene.of(name, (Eni(CARD, "eth1"),))
    memory = Memory()
    assert seen(desired, memory) == pyroute2_view.view(desired)
    assert remove(ROUTES[0], NEIGHBOURS[0], RULES[0], PROXIES[0]) == []
    run("ip link set ppt2 down")
    assert seen(desired, memory) == pyroute2_view.view(desired)


def test_what_is_written_is_what_is_read() -> None:
    assert put(*EVERYTHING) == []
    expected = of(*EVERYTHING, *TUNNELS)
    found = seen(Scene.of(None, EVERYTHING))
    assert found == {key: item for key, item in expected.items() if getattr(item, "device", None) != CARD} | of(
        *(item for item in ROUTES if item.device == CARD)
    )
    found = seen(Scene.of("pp-s1", (*EVERYTHING, Eni(CARD, "eth1"))))
    assert found == {key: item for key, item in expected.items() if key[0] != "rule"} | of(Eni(CARD, "eth1"))


def test_writing_twice_is_the_same_as_once_and_so_is_removing() -> None:
    assert put(*EVERYTHING, *EVERYTHING) == []
    before = seen(Scene.of(None, ()))
    assert put(*EVERYTHING) == []
    assert seen(Scene.of(None, ())) == before
    backwards = tuple(reversed(EVERYTHING))
    assert remove(*backwards, *backwards) == []
    assert set(seen(Scene.of(None, ()))) == {tunnel.key for tunnel in TUNNELS}


def test_an_object_that_changed_is_replaced() -> None:
    assert put(*EVERYTHING) == []
    route, neighbour = replace(ROUTES[6], realm=8), replace(NEIGHBOURS[0], link_address="02:50:00:00:00:09")
    entry = ForwardingEntry(TUNNEL, "02:50:64:40:00:02", IPv4Address("192.168.80.9"))
    assert put(route, neighbour, entry) == []
    found = seen(Scene.of(None, ()))
    assert [found[item.key] for item in (route, neighbour, entry)] == [route, neighbour, entry]


def test_a_tunnel_is_made_whole_in_one_step() -> None:
    """Its notifications are not taken for somebody's either."""
    tunnel = Tunnel("ppt4", "vxlan", IPv4Address("127.0.0.1"), 9, 1400, mac="02:50:00:00:00:04", port=4789)
    netlink.apply_object(tunnel, None, netlink.Home())
    assert seen(Scene.of(None, ()))[tunnel.key] == tunnel
    assert "nolearning" in run("ip -d link show ppt4")
    netlink.apply_object(replace(tunnel, mtu=1300), None, netlink.Home())
    assert seen(Scene.of(None, ()))[tunnel.key] == replace(tunnel, mtu=1300)


def test_a_tunnel_whose_place_is_taken_is_refused_with_its_name() -> None:
    twin = replace(TUNNELS[0], device="ppt4")
    with pytest.raises(TransientError, match="set tunnel ppt4: File exists"):
        netlink.apply_object(twin, None, netlink.Home())


AS_PYROUTE2 = {
    Tunnel("ppt1", "gre", IPv4Address("10.0.0.1"), 7, 1472): (
        "000000000000000000000000000000000900030070707431000000004000120008000100677265003400020008000600"
        "0a00000108000400000000070800050000000007060002002000000006000300200000000500080040000000"
    ),
    Tunnel("ppt1", "vxlan", IPv4Address("10.0.0.1"), 7, 1450, mac="02:50:00:00:00:01", port=4789): (
        "00000000000000000000000000000000090003007070743100000000"
        "0a00010002500000000100003c0012000a00010076786c616e0000002c0002000800010007000000080004000a000001"
        "06000f0012b5000005000700000000000500050040000000"
    ),
}
"""What pyroute2 0.9.7 sends for such a tunnel, but for the MTU; also of a kind that this kernel may not have."""


@pytest.mark.parametrize("tunnel", AS_PYROUTE2, ids=lambda tunnel: str(tunnel.kind))
def test_a_new_tunnel_is_described_as_pyroute2_describes_it(tunnel: Tunnel) -> None:
    assert told(encode_tunnel(tunnel, is_up=True).body) == told(bytes.fromhex(AS_PYROUTE2[tunnel]))


def told(body: bytes) -> dict[str, bytes]:
    """All attributes of a link's message but the MTU."""
    found = attributes(body, LINK_BODY.size)
    info = attributes(found.pop(IFLA_LINKINFO), 0)
    parts = {"link": found, "data": attributes(info[IFLA_INFO_DATA], 0)}
    told = {f"{name} {kind}": value for name, part in parts.items() for kind, value in part.items()}
    told.pop(f"link {IFLA_MTU}", None)
    return told | {"kind": info[IFLA_INFO_KIND].rstrip(b"\0")}


def test_foreign_objects_are_left_alone() -> None:
    """A route, and a rule, of others that look like ours but for the protocol number."""
    run("ip route add unreachable 10.97.0.0/16 metric 5")
    run("ip rule add priority 7700 from 10.244.1.0/24 lookup 7700")
    assert remove(Route(IPv4Network("10.97.0.0/16"), RouteKind.UNREACHABLE, metric=5), RULES[0]) == []
    assert "10.97.0.0/16" in run("ip route show")
    assert "from 10.244.1.0/24 lookup 7700" in run("ip rule show")


def test_each_that_is_refused_says_which_it_is_and_the_others_are_done() -> None:
    """More of them than fit into one batch."""
    good = [Route(IPv4Network((0x0A000000 + 256 * n, 24)), RouteKind.BLACKHOLE) for n in range(600)]
    bad = Route(IPv4Network("10.255.0.0/16"), device=CARD, gateway=IPv4Address("9.9.9.9"))
    nowhere = Neighbour("ppt9", IPv4Address("100.64.0.9"), "02:50:64:40:00:09")
    batch: list[Batched] = [*good[:300], bad, nowhere, *good[300:]]
    outcomes = netlink.apply_batch([(item, True) for item in batch])
    refused = {place: error for place, error in enumerate(outcomes) if error is not None}
    assert sorted(refused) == [300, 301]
    assert "set route 254 10.255.0.0/16 0: Network is unreachable" in str(refused[300])
    assert str(refused[301]) == "set neighbour ppt9 100.64.0.9: device ppt9 is not there"
    assert all(isinstance(error, TransientError) for error in refused.values())
    assert seen(Scene.of(None, ())).keys() >= {item.key for item in good}


def test_six_hundred_refusals_are_all_heard_of() -> None:
    """The answers of a whole batch must fit into the socket's buffer."""
    bad = [Route(IPv4Network((0x0A000000 + n, 32)), device=CARD, gateway=IPv4Address("9.9.9.9")) for n in range(600)]
    assert len(put(*bad)) == len(bad)


def test_what_can_never_be_is_told_from_what_cannot_be_now() -> None:
    (never,) = netlink.apply_batch([(PolicyRule(7701, RuleAction.GOTO, target=7700), True)])
    assert isinstance(never, PermanentError)
    (now,) = netlink.apply_batch([(ROUTES[0], True)])
    assert isinstance(now, TransientError)


def test_what_hung_on_a_device_that_is_gone_is_removed() -> None:
    run("ip link del ppt2")
    assert remove(*(item for item in NEIGHBOURS if item.device == OTHER)) == []


def test_one_that_is_as_wanted_is_the_wanted_one_itself() -> None:
    """Whoever compares ten thousand of them has it easy then; also when the messages are known from before."""
    assert put(*EVERYTHING) == []
    desired, memory = Scene.of(None, EVERYTHING), Memory()
    for _ in range(2):
        found = seen(desired, memory)
        assert all(found[item.key] is item for item in (*NEIGHBOURS, *RULES, *ROUTES))


def test_an_index_that_another_device_got_is_not_taken_for_the_old_one() -> None:
    assert put(*EVERYTHING) == []
    memory = Memory()
    seen(Scene.of(None, ()), memory)
    run("ip link set ppt1 name ppt3")
    found = seen(Scene.of(None, ()), memory)
    assert found == pyroute2_view.view(Scene.of(None, ()))
    assert ("neighbour", "ppt3", "100.64.0.2") in found
    assert ("neighbour", TUNNEL, "100.64.0.2") not in found


def test_notifications_of_our_own_changes_are_not_taken_for_somebodys() -> None:
    events = EventSocket(("link", "neigh", "ipv4_ifaddr", "ipv4_route", "ipv4_rule"))
    events.follow_neighbours(TUNNEL)
    try:
        assert put(*EVERYTHING) == []
        assert not events.drain()
        assert remove(*reversed((*ROUTES, *NEIGHBOURS, *RULES))) == []
        assert not events.drain()
        run("ip neigh add 100.64.0.9 lladdr 02:00:00:00:00:50 dev ppt1 nud permanent")
        assert events.drain()
        assert put(NEIGHBOURS[0], NEIGHBOURS[3]) == []
        run("bridge fdb replace 02:50:64:40:00:02 dev ppt1 dst 192.168.80.66")
        assert events.drain()
        run("bridge fdb del 02:50:64:40:00:02 dev ppt1")
        assert events.drain()
    finally:
        events.close()


def test_the_addresses_of_an_interface_are_those_that_are_on_it() -> None:
    """With prefixes of any length, and a peer's address is not one of them."""
    assert put(*ADDRESSES) == []
    run("ip addr add 172.16.1.100/32 dev eni0")
    run("ip addr add 172.16.1.13 peer 172.16.1.14/32 dev eni0")
    expected = {IPv4Address(f"172.16.1.{last}") for last in (11, 12, 13, 100)}
    assert netlink.local_addresses(CARD) == expected
    netlink.remove_local_address(CARD, IPv4Address("172.16.1.100"))
    assert netlink.local_addresses(CARD) == expected - {IPv4Address("172.16.1.100")}
    assert netlink.local_addresses("nobody") == frozenset()
