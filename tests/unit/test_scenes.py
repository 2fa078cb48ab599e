"""From documents to scenes: what a node's and a host's kernel must look like."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from proxypool.core.addressing import mac_of, tunnel_device_of
from proxypool.core.firewall import PEERS_SET
from proxypool.core.host_scene import HostFacts, Refused, choose_subnets, host_scene
from proxypool.core.model import PairState, PoolSpec, Snapshot, SubnetSpec
from proxypool.core.node_scene import root_scene, subnet_scene
from proxypool.core.scene import (
    GUARD_TABLE,
    WORST_METRIC,
    Address,
    AddressSet,
    Eni,
    ForwardingEntry,
    Neighbour,
    PolicyRule,
    Route,
    RouteKind,
    Scene,
    Sysctl,
    Table,
    Tunnel,
)
from tests.unit import builders as make

HAVIP = IPv4Address("192.168.4.100")
TUNNEL = tunnel_device_of("s1")
HOSTS = (make.host("h1", "192.168.80.1", "100.64.0.1"), make.host("h2", "192.168.80.2", "100.64.0.2"))


def objects_of(scene: Scene, kind: type) -> list[object]:
    return [item for item in scene.objects.values() if isinstance(item, kind)]


def routes(scene: Scene, table: int = 254) -> dict[tuple[str, int], Route]:
    return {
        (str(item.destination), item.metric): item
        for item in scene.objects.values()
        if isinstance(item, Route) and item.table == table
    }


def sysctls(scene: Scene) -> dict[str, str]:
    return {item.path: item.value for item in scene.objects.values() if isinstance(item, Sysctl)}


class TestSubnetOnNode:
    def scene(self, name: str = "n1", spec: PoolSpec = make.GRE) -> Scene:
        pair = make.pair()
        pool = make.snapshot(spec=spec, pairs=[pair], hosts=HOSTS)
        return subnet_scene(make.node_facts(name), pool, pair)

    def test_it_is_a_namespace_of_its_own(self) -> None:
        assert self.scene().namespace == "pp-s1"
        assert self.scene().exists

    def test_it_has_the_members_card_and_address(self) -> None:
        assert objects_of(self.scene(), Eni) == [Eni("eni0", "eth1")]
        assert objects_of(self.scene(), Address) == [Address("eni0", IPv4Interface("172.16.101.11/24"))]
        assert objects_of(self.scene("n2"), Address) == [Address("eni0", IPv4Interface("172.16.101.12/24"))]

    @pytest.mark.parametrize("spec", [make.GRE, make.VXLAN])
    def test_the_tunnels_end_is_the_havip_on_both_members(self, spec: PoolSpec) -> None:
        """So a member without the HaVip receives nothing, and a failover changes nothing on the hosts."""
        mine, theirs = (objects_of(self.scene(name, spec), Tunnel) for name in ("n1", "n2"))
        assert mine == theirs
        (tunnel,) = mine
        assert isinstance(tunnel, Tunnel)
        assert tunnel.local == HAVIP

    def test_hosts_are_reached_one_by_one_and_strangers_not_at_all(self) -> None:
        """A packet to an unmapped address of the range would be sent to the kernel itself."""
        found = routes(self.scene())
        for host in HOSTS:
            assert found[f"{host.tunnel_address}/32", 0].device == TUNNEL
        below = found["100.64.0.0/10", WORST_METRIC]
        assert below.kind is RouteKind.BLACKHOLE

    def test_gre_maps_a_hosts_tunnel_address_to_its_underlay(self) -> None:
        assert Neighbour(TUNNEL, HOSTS[0].tunnel_address, "192.168.80.1") in self.scene().objects.values()
        assert objects_of(self.scene(), ForwardingEntry) == []

    def test_vxlan_maps_it_to_a_mac_and_the_mac_to_the_underlay(self) -> None:
        objects = self.scene(spec=make.VXLAN).objects.values()
        mac = mac_of(HOSTS[0].tunnel_address)
        assert Neighbour(TUNNEL, HOSTS[0].tunnel_address, mac) in objects
        assert ForwardingEntry(TUNNEL, mac, HOSTS[0].underlay) in objects

    def test_only_hosts_that_use_the_subnet_are_reached(self) -> None:
        pair = make.pair()
        pool = replace_hosts(make.snapshot(pairs=[pair], hosts=HOSTS), frozenset({"h1", "not-registered"}))
        found = routes(subnet_scene(make.node_facts(), pool, pair))
        assert ("100.64.0.1/32", 0) in found
        assert ("100.64.0.2/32", 0) not in found

    def test_cidrs_beyond_the_cards_network_go_by_the_gateway(self) -> None:
        members = tuple(make.member(n, f"172.16.101.1{n[1]}/24", gateway="172.16.101.1") for n in ("n1", "n2"))
        pair = make.pair(members=members)
        pool = make.snapshot(subnets=[make.subnet("s1", "172.16.101.0/24", "10.8.0.0/16")], pairs=[pair])
        found = routes(subnet_scene(make.node_facts(), pool, pair))
        assert found["10.8.0.0/16", 0] == Route(
            IPv4Network("10.8.0.0/16"), device="eni0", gateway=IPv4Address("172.16.101.1")
        )
        assert ("172.16.101.0/24", 0) not in found, "the kernel's connected route"

    def test_connections_are_not_picked_up_mid_stream(self) -> None:
        assert sysctls(self.scene())["netfilter/nf_conntrack_tcp_loose"] == "0"

    def test_the_gate_is_not_part_of_a_scene(self) -> None:
        """It follows the VRRP state, not the reconcile loop: a repair must never open a backup's gate."""
        assert not any("ip_forward" in path or path.endswith("/forwarding") for path in sysctls(self.scene()))

    def test_a_node_that_is_no_member_is_a_defect(self) -> None:
        with pytest.raises(KeyError):
            self.scene("n9")


def replace_hosts(pool: Snapshot, names: frozenset[str]) -> Snapshot:
    return Snapshot(
        spec=pool.spec,
        subnets=pool.subnets,
        pairs=pool.pairs,
        nodes=pool.nodes,
        hosts=pool.hosts,
        subnet_hosts={"s1": names},
    )


class TestNodesOwnNamespace:
    def test_registered_hosts_may_send_tunnel_packets(self) -> None:
        scene = root_scene(make.node_facts(), make.GRE, make.snapshot(hosts=HOSTS))
        assert scene.namespace is None
        assert objects_of(scene, AddressSet) == [AddressSet(PEERS_SET, frozenset(host.underlay for host in HOSTS))]

    def test_only_the_raw_table_is_touched(self) -> None:
        scene = root_scene(make.node_facts(), make.GRE, make.snapshot())
        assert [item.key for item in scene.objects.values()] == [("set", PEERS_SET), ("table", "raw")]


class TestHost:
    FACTS = HostFacts(
        "h1",
        IPv4Address("192.168.80.1"),
        1500,
        IPv4Address("100.64.0.1"),
        (IPv4Network("10.244.1.0/24"),),
        ("*",),
    )

    def scene(self, pool: Snapshot, *subnets: SubnetSpec, spec: PoolSpec = make.GRE) -> Scene:
        return host_scene(self.FACTS, spec, pool, subnets)

    def test_a_subnet_is_a_tunnel_with_the_hosts_own_address(self) -> None:
        scene = self.scene(make.snapshot(pairs=[make.pair()]), make.subnet())
        (tunnel,) = objects_of(scene, Tunnel)
        assert isinstance(tunnel, Tunnel)
        assert (tunnel.local, tunnel.mtu) == (self.FACTS.underlay, 1472)
        assert Address(TUNNEL, IPv4Interface("100.64.0.1/32")) in scene.objects.values()

    def test_the_next_hop_is_the_havip_itself(self) -> None:
        scene = self.scene(make.snapshot(pairs=[make.pair()]), make.subnet())
        route = routes(scene, GUARD_TABLE)["172.16.101.0/24", 0]
        assert (route.gateway, route.device, route.is_onlink) == (HAVIP, TUNNEL, True)
        assert Neighbour(TUNNEL, HAVIP, str(HAVIP)) in scene.objects.values()

    def test_vxlan_knows_the_havip_by_the_mac_of_both_members(self) -> None:
        scene = self.scene(make.snapshot(pairs=[make.pair()]), make.subnet(), spec=make.VXLAN)
        assert Neighbour(TUNNEL, HAVIP, mac_of(HAVIP)) in scene.objects.values()
        assert ForwardingEntry(TUNNEL, mac_of(HAVIP), HAVIP) in scene.objects.values()

    def test_customers_addresses_are_never_in_the_main_table(self) -> None:
        """A customer may use the addresses of the function network."""
        scene = self.scene(make.snapshot(pairs=[make.pair()]), make.subnet())
        assert routes(scene) == {}
        assert objects_of(scene, PolicyRule) == [
            PolicyRule(7700, target=GUARD_TABLE, source=IPv4Network("10.244.1.0/24"))
        ]

    def test_without_a_pair_packets_are_answered_and_never_follow_the_default_route(self) -> None:
        scene = self.scene(make.snapshot(), make.subnet())
        (route,) = routes(scene, GUARD_TABLE).values()
        assert (route.kind, route.metric) == (RouteKind.UNREACHABLE, WORST_METRIC)

    def test_an_active_pair_is_preferred_to_a_draining_one(self) -> None:
        pairs = [make.pair("p1", state=PairState.DRAINING), make.pair("p2", havip="192.168.4.101", vrid=2)]
        scene = self.scene(make.snapshot(pairs=pairs), make.subnet())
        assert routes(scene, GUARD_TABLE)["172.16.101.0/24", 0].gateway == IPv4Address("192.168.4.101")
        known = {item.address for item in scene.objects.values() if isinstance(item, Neighbour)}
        assert known == {HAVIP, IPv4Address("192.168.4.101")}, "connections through the draining one go on"

    def test_a_draining_pair_serves_when_it_is_the_only_one(self) -> None:
        scene = self.scene(make.snapshot(pairs=[make.pair(state=PairState.DRAINING)]), make.subnet())
        assert routes(scene, GUARD_TABLE)["172.16.101.0/24", 0].gateway == HAVIP

    def test_only_its_own_tunnels_forward(self) -> None:
        scene = self.scene(make.snapshot(pairs=[make.pair()]), make.subnet())
        assert sysctls(scene) == {f"ipv4/conf/{TUNNEL}/forwarding": "1"}

    def test_a_host_without_subnets_wants_its_tables_empty(self) -> None:
        """They are in the scene so that the rules of a subnet that went away are found and removed."""
        scene = self.scene(make.snapshot())
        assert {item.name: item.chains for item in scene.objects.values() if isinstance(item, Table)} == {
            "nat": (),
            "filter": (),
        }
        assert len(scene.objects) == 2


class TestChoiceOfSubnets:
    INSTANCES = (IPv4Network("10.244.1.0/24"),)
    S1 = make.subnet("s1")
    S2 = make.subnet("s2", "172.16.102.0/24", key=2)
    TWIN = make.subnet("s3", "172.16.0.0/16", key=3, tenant="t3")

    def choose(self, configured: list[str], *subnets: SubnetSpec) -> tuple[list[str], tuple[Refused, ...]]:
        chosen, refused = choose_subnets(configured, self.INSTANCES, make.snapshot(subnets=subnets))
        return [subnet.id for subnet in chosen], refused

    def test_a_star_is_every_subnet_in_a_stable_order(self) -> None:
        assert self.choose(["*"], self.S2, self.S1) == (["s1", "s2"], ())

    def test_otherwise_only_those_named(self) -> None:
        assert self.choose(["s2"], self.S1, self.S2) == (["s2"], ())

    def test_of_two_that_overlap_the_first_is_served_and_the_other_refused(self) -> None:
        chosen, refused = self.choose(["*"], self.TWIN, self.S1)
        assert chosen == ["s1"]
        assert refused == (Refused("s3", "its CIDRs overlap those of s1, which this host serves too"),)

    def test_a_subnet_on_the_instances_own_addresses_is_refused(self) -> None:
        chosen, refused = self.choose(["*"], make.subnet("s1", "10.244.0.0/16"))
        assert chosen == []
        assert refused == (Refused("s1", "its CIDRs overlap the instances' own addresses"),)

    def test_a_refused_subnet_does_not_keep_others_out(self) -> None:
        on_instances = make.subnet("s0", "10.244.0.0/16", key=9)
        assert self.choose(["*"], on_instances, self.S1)[0] == ["s1"]

    def test_a_configured_subnet_that_does_not_exist_is_named(self) -> None:
        assert self.choose(["s1", "s9"], self.S1) == (["s1"], (Refused("s9", "the pool has no such subnet"),))


def test_a_tunnel_becomes_only_what_the_kernel_can_change() -> None:
    tunnel = Tunnel("ppt1", "gre", HAVIP, tunnel_key=1, mtu=1472)
    assert tunnel.can_become(replace(tunnel, mtu=1400, is_up=False))
    assert not tunnel.can_become(replace(tunnel, tunnel_key=2))
    assert not tunnel.can_become(replace(tunnel, local=IPv4Address("192.168.4.101")))
