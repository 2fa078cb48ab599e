"""A subnet's whole namespace in a real kernel, from nothing and back, through the driver of the dataplane."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from proxypool.adapters import netlink
from proxypool.adapters.netlink import links
from proxypool.core.addressing import ENI_DEVICE, namespace_of, tunnel_device_of
from proxypool.core.errors import PermanentError, ProxypoolError, TransientError
from proxypool.core.model import PoolSpec, TunnelKind
from proxypool.core.node_scene import subnet_scene
from proxypool.core.planner import Put, plan
from proxypool.core.scene import Eni, Scene, Sysctl, Tunnel
from proxypool.daemons.executor import KernelDriver, batches
from tests.contract.netns import own_namespace, run
from tests.unit import builders as make

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")

NAME = f"node{os.getpid()}"
NAMESPACE = namespace_of(NAME)
TUNNEL = tunnel_device_of(NAME)
HAVIP = "127.0.0.1"
MAC = "02:50:00:00:00:0a"
PATIENCE_S = 10.0


@dataclass
class Node:
    """The test's namespace as a machine, with a customer's card."""

    home: netlink.Home
    driver: KernelDriver

    def apply(self, desired: Scene) -> list[str]:
        """One round; messages of what was refused."""
        refused: list[str] = []
        for batch in batches(plan(desired, self.driver.observe(desired))):
            outcomes = self.driver.execute(desired.namespace, batch)
            assert len(outcomes) == len(batch)
            refused += [str(error) for error in outcomes if error is not None]
        return refused

    def rest(self, desired: Scene) -> tuple[object, ...]:
        """What is still to be done."""
        return plan(desired, self.driver.observe(desired))


@pytest.fixture
def node() -> Iterator[Node]:
    """Nothing is left of the namespaces that it makes."""
    with own_namespace():
        run("ip", "link", "add", "eth1", "address", MAC, "type", "veth", "peer", "name", "switch1")
        run("ip", "link", "set", "switch1", "up")
        home = netlink.Home()
        try:
            yield Node(home, KernelDriver(home))
        finally:
            netlink.remove_namespace(NAMESPACE)
            os.close(home.fd)


def scene(*, spec: PoolSpec = make.VXLAN, egress: str | None = None, eni: str = "eth1", key: int = 7) -> Scene:
    subnet = make.subnet(NAME, "172.16.101.0/24", "10.8.0.0/16", key=key)
    members = (make.member("n1", "172.16.101.11/24", eni, "172.16.101.1"), make.N2)
    pair = make.pair(subnet=NAME, members=members, havip=HAVIP, egress=egress)
    hosts = (make.host("h1", "192.168.80.1", "100.64.0.1"), make.host("h2", "192.168.80.2", "100.64.0.2"))
    snapshot = make.snapshot(spec=spec, subnets=(subnet,), pairs=(pair,), hosts=hosts)
    return subnet_scene(make.node_facts(), snapshot, pair)


def inside(*command: str) -> str:
    return run("nsenter", f"--net={netlink.namespace_path(NAMESPACE)}", *command)


@pytest.fixture(params=["made in place", "made at home and moved"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a tunnel into its namespace; which one, its kind says."""
    if request.param != "made in place":
        monkeypatch.setattr(links, "_IS_MADE_IN_PLACE", frozenset())


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("egress", [None, "172.16.101.20"])
def test_a_namespace_is_whole_after_one_round(node: Node, egress: str | None) -> None:
    desired = scene(egress=egress)
    assert node.apply(desired) == []
    assert node.rest(desired) == ()
    card, tunnel = inside("ip", "-d", "link", "show", ENI_DEVICE), inside("ip", "-d", "link", "show", TUNNEL)
    assert f"link/ether {MAC}" in card
    assert "alias proxypool:eth1" in card
    assert "UP" in card
    assert "nolearning" in tunnel
    assert "UP" in tunnel
    # Its outer packets use the machine's network: it is linked to a namespace that is not its own.
    assert re.search(r"link-netnsid \d", tunnel)
    assert run("ip", "-o", "link").count("ppt") == 0, "left at home"


@pytest.mark.parametrize("egress", [None, "172.16.101.20"])
def test_a_namespace_with_gre_is_whole_after_one_round(node: Node, egress: str | None) -> None:
    """GRE sends through the namespace that it was made in: had it been made in place, nothing would get out."""
    try:
        netlink.probe_tunnel(TunnelKind.GRE)
    except ProxypoolError:
        pytest.skip("this kernel has no GRE")
    desired = scene(spec=make.GRE, egress=egress)
    assert node.apply(desired) == []
    assert node.rest(desired) == ()
    tunnel = inside("ip", "-d", "link", "show", TUNNEL)
    assert "UP" in tunnel
    assert re.search(r"link-netnsid \d", tunnel)
    assert run("ip", "-o", "link").count("ppt") == 0, "left at home"
    assert node.apply(scene(spec=make.GRE, egress=egress, key=8)) == []
    assert node.rest(scene(spec=make.GRE, egress=egress, key=8)) == ()


@pytest.mark.usefixtures("way")
def test_a_tunnel_that_a_crash_left_at_home_is_no_hindrance(node: Node) -> None:
    desired = scene()
    left_over = next(item for item in desired.objects.values() if isinstance(item, Tunnel))
    netlink.apply_object(left_over, None, node.home)
    assert node.apply(desired) == []
    assert node.rest(desired) == ()
    assert run("ip", "-o", "link").count("ppt") == 0


@pytest.mark.usefixtures("way")
def test_a_tunnel_whose_key_is_taken_is_refused_alone_and_leaves_nothing_behind(node: Node) -> None:
    run("ip", "link", "add", "other", "type", "vxlan", "id", "7", "local", HAVIP, "dstport", "4789", "nolearning")
    refused = node.apply(scene())
    assert refused[0] == f"set tunnel {TUNNEL}: File exists"
    assert all(TUNNEL in text for text in refused), refused
    assert "UP" in inside("ip", "link", "show", ENI_DEVICE)
    assert run("ip", "-o", "link").count("ppt") == 0
    run("ip", "link", "del", "other")
    assert node.apply(scene()) == []
    assert node.rest(scene()) == ()


@pytest.mark.usefixtures("way")
def test_a_tunnel_follows_its_wish(node: Node) -> None:
    assert node.apply(scene()) == []
    inside("ip", "link", "set", TUNNEL, "down", "mtu", "1300")
    assert node.apply(scene()) == []
    assert node.rest(scene()) == ()
    assert node.apply(scene(key=8)) == []
    # Its forwarding entries went with the old one and were put in the same round.
    assert node.rest(scene(key=8)) == ()


@pytest.mark.parametrize("match", [MAC, MAC.upper()])
def test_a_card_is_found_by_its_mac(node: Node, match: str) -> None:
    desired = scene(eni=match)
    assert node.apply(desired) == []
    assert "alias proxypool:eth1" in inside("ip", "link", "show", ENI_DEVICE)
    assert node.rest(desired) == ()


def test_a_card_that_comes_home_keeps_its_name(node: Node) -> None:
    """And one that was in use is taken as well, down and up again."""
    run("ip", "link", "set", "eth1", "up")
    assert node.apply(scene()) == []
    assert node.apply(Scene.absent(NAMESPACE)) == []
    assert f"link/ether {MAC}" in run("ip", "link", "show", "eth1")
    # The kernel takes the old namespace down in its own time, and with it the tunnel that has the key.
    deadline = time.monotonic() + PATIENCE_S
    while refused := node.apply(scene()):
        assert refused[0] == f"set tunnel {TUNNEL}: File exists"
        assert time.monotonic() < deadline, refused
        time.sleep(0.05)
    assert node.rest(scene()) == ()


def test_a_card_that_lost_its_name_is_found_by_its_mark(node: Node) -> None:
    """As after a crash in the middle, or a namespace that was removed under it."""
    run("ip", "link", "set", "eth1", "alias", "proxypool:eth1", "name", ENI_DEVICE)
    assert node.apply(scene()) == []
    assert "alias proxypool:eth1" in inside("ip", "link", "show", ENI_DEVICE)


def test_a_card_that_is_not_there_is_named(node: Node) -> None:
    for match in ("eth9", "02:50:00:00:00:99", "no:mac"):
        problem = f"ENI {match} is not on this machine: attach it, or correct the pair's member"
        assert problem in node.apply(scene(eni=match))


def test_a_card_of_the_machines_own_is_not_taken(node: Node) -> None:
    """One with the default route, or in a bridge. One with another route is a customer's."""
    with_default, in_bridge = Eni(ENI_DEVICE, "eth1"), Eni(ENI_DEVICE, "eth2")
    run("ip", "link", "add", "br0", "type", "bridge")
    run("ip", "link", "add", "eth2", "master", "br0", "type", "veth", "peer", "name", "switch2")
    run("ip", "addr", "add", "172.16.101.9/24", "dev", "eth1")
    run("ip", "link", "set", "eth1", "up")
    run("ip", "route", "add", "default", "via", "172.16.101.1", "dev", "eth1")
    netlink.create_namespace(node.home, NAMESPACE)
    for card in (with_default, in_bridge):
        (error,) = node.driver.execute(NAMESPACE, [Put(card)])
        assert isinstance(error, PermanentError)
        assert "is not a customer's card: it belongs to a bridge or has the default route" in str(error)
    run("ip", "route", "replace", "10.0.0.0/8", "via", "172.16.101.1", "dev", "eth1")
    run("ip", "route", "del", "default")
    assert node.driver.execute(NAMESPACE, [Put(with_default)]) == [None]


def test_of_values_that_share_a_visit_each_is_done_or_refused_on_its_own(node: Node) -> None:
    netlink.create_namespace(node.home, NAMESPACE)
    wanted = [
        Sysctl("ipv4/conf/all/rp_filter", "2"),
        Sysctl("ipv4/conf/nobody/rp_filter", "1"),
        Sysctl("ipv4/conf/default/rp_filter", "many"),
        Sysctl("ipv4/conf/default/arp_ignore", "1"),
    ]
    (batch,) = batches(map(Put, wanted))
    outcomes = node.driver.execute(NAMESPACE, batch)
    assert [isinstance(error, TransientError) for error in outcomes] == [False, True, True, False]
    assert str(outcomes[1]) == "set sysctl ipv4/conf/nobody/rp_filter: No such file or directory"
    assert str(outcomes[2]) == "set sysctl ipv4/conf/default/rp_filter: Invalid argument"
    assert inside("sysctl", "-n", "net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.arp_ignore") == "2\n1\n"


def test_what_cannot_be_entered_fails_for_each(node: Node) -> None:
    values = [Put(Sysctl("ipv4/conf/all/rp_filter", "2")), Put(Sysctl("ipv4/conf/all/arp_ignore", "1"))]
    outcomes = node.driver.execute(NAMESPACE, values)
    assert [str(error) for error in outcomes] == [f"enter namespace {NAMESPACE}: No such file or directory"] * 2
