"""From documents to scenes: what a node's and a host's kernel must look like."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from proxypool.core.addressing import mac_of, sync_device_of, tunnel_device_of
from proxypool.core.firewall import NODES_SET, PEERS_SET
from proxypool.core.host_firewall import ATTACHED_SET, DEAD_REALM, HAVIPS_SET, LOOPBACK, PLATFORM_SET
from proxypool.core.host_scene import MAIN_TABLE, havips_of, path_legs, platform_of
from proxypool.core.model import PairState, PoolSpec, Snapshot
from proxypool.core.node_scene import SubnetScenes, root_scene, subnet_scene
from proxypool.core.scene import (
    GUARD_TABLE,
    PATH_TABLES,
    WORST_METRIC,
    Address,
    AddressSet,
    Eni,
    ForwardingEntry,
    MarkedSet,
    Neighbour,
    PolicyRule,
    ProxyNeighbour,
    Route,
    RouteKind,
    RuleAction,
    Scene,
    SourceGuard,
    Sysctl,
    Table,
    Tunnel,
)
from proxypool.core.shares import wanted_shares
from proxypool.core.steering import Book, Group, advance
from tests.unit import builders as make

HAVIP = IPv4Address("192.168.4.100")
TUNNEL = tunnel_device_of("s1")
NOWHERE = {(LOOPBACK, DEAD_REALM, 0), (None, 0, WORST_METRIC)}
"""Device, realm and metric of the routes that refuse a CIDR."""
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

    def test_what_leaves_the_card_has_the_members_or_the_egress_address(self) -> None:
        """Whatever becomes of NAT. A kernel that cannot look at it has none."""
        own, egress = IPv4Address("172.16.101.11"), IPv4Address("172.16.101.20")
        pair = make.pair(egress=str(egress))
        with_egress = subnet_scene(make.node_facts(), make.snapshot(pairs=[pair]), pair)
        assert objects_of(self.scene(), SourceGuard) == [SourceGuard("eni0", frozenset({own}))]
        assert objects_of(with_egress, SourceGuard) == [SourceGuard("eni0", frozenset({own, egress}))]
        facts = replace(make.node_facts(), guards_sources=False)
        assert objects_of(subnet_scene(facts, make.snapshot(pairs=[pair]), pair), SourceGuard) == []

    def test_an_egress_address_is_answered_for_and_on_no_device(self) -> None:
        """The kernel answers only for an address whose route leads to another device, and without a delay if told so."""
        egress = IPv4Address("172.16.101.20")
        # Without the other member, and so without what else comes with an egress address: the link to it.
        pool = make.snapshot(pairs=[make.pair(egress=str(egress))], nodes=[make.node("n1", "192.168.4.1")])
        plain, scene = (
            make.snapshot(pairs=[make.pair()]),
            subnet_scene(make.node_facts(), pool, make.pair(egress=str(egress))),
        )
        assert objects_of(scene, ProxyNeighbour) == [ProxyNeighbour("eni0", egress)]
        assert routes(scene)["172.16.101.20/32", 0].device == TUNNEL
        assert egress not in {item.interface.ip for item in objects_of(scene, Address) if isinstance(item, Address)}
        assert sysctls(scene)["ipv4/neigh/eni0/proxy_delay"] == "0"
        without = subnet_scene(make.node_facts(), plain, make.pair())
        assert objects_of(without, ProxyNeighbour) == []
        assert scene.objects.keys() - without.objects.keys() == {
            ("proxy", "eni0", "172.16.101.20"),
            ("route", "254", "172.16.101.20/32", "0"),
            ("sysctl", "ipv4/neigh/eni0/proxy_delay"),
            ("sysctl", "ipv4/ip_nonlocal_bind"),
        }

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


class TestLinkBetweenMembers:
    def scene(self, name: str = "n1", spec: PoolSpec = make.GRE, egress: str | None = "172.16.101.10") -> Scene:
        pair = make.pair(egress=egress)
        return subnet_scene(make.node_facts(name), make.snapshot(spec=spec, pairs=[pair]), pair)

    def link(self, scene: Scene) -> Tunnel:
        (found,) = [item for item in objects_of(scene, Tunnel) if item.device == sync_device_of("s1")]  # type: ignore[attr-defined]
        assert isinstance(found, Tunnel)
        return found

    def test_a_pair_without_an_egress_address_has_none(self) -> None:
        """Nothing can be carried over: the other member's address is not this one's."""
        assert [item.device for item in objects_of(self.scene(egress=None), Tunnel)] == [TUNNEL]  # type: ignore[attr-defined]

    def test_it_leads_from_underlay_to_underlay(self) -> None:
        scene = self.scene()
        assert self.link(scene).local == make.node_facts().underlay
        peer = Neighbour(sync_device_of("s1"), IPv4Address("169.254.77.2"), "192.168.4.2")
        assert peer in objects_of(scene, Neighbour)
        assert Address(sync_device_of("s1"), IPv4Interface("169.254.77.1/30")) in objects_of(scene, Address)

    def test_the_other_end_is_its_mirror_image(self) -> None:
        mine, theirs = (objects_of(self.scene(name), Address) for name in ("n1", "n2"))
        ends = {str(item.interface) for item in (*mine, *theirs) if item.device == sync_device_of("s1")}  # type: ignore[attr-defined]
        assert ends == {"169.254.77.1/30", "169.254.77.2/30"}

    def test_gre_keys_are_above_those_of_all_subnets(self) -> None:
        assert self.link(self.scene()).tunnel_key == (1 << 24) + 1

    def test_vxlan_has_a_port_of_its_own(self) -> None:
        """A host could send to any other port: the kernel looks at a packet's number only, not at its sender."""
        link = self.link(self.scene(spec=make.VXLAN))
        assert (link.tunnel_key, link.port) == (1, 4790)

    def test_windows_are_not_judged_and_every_end_is_told(self) -> None:
        found = sysctls(self.scene())
        assert found["netfilter/nf_conntrack_tcp_be_liberal"] == "1"
        assert found["netfilter/nf_conntrack_events"] == "1"
        assert "netfilter/nf_conntrack_tcp_be_liberal" not in sysctls(self.scene(egress=None))

    def test_it_waits_for_the_other_member_to_register(self) -> None:
        pair = make.pair(egress="172.16.101.10")
        pool = make.snapshot(pairs=[pair], nodes=[make.node("n1", "192.168.4.1")])
        scenes = SubnetScenes(make.node_facts())
        assert [item.device for item in objects_of(scenes.next(pool, pair), Tunnel)] == [TUNNEL]  # type: ignore[attr-defined]
        assert scenes.link is None
        whole = make.snapshot(pairs=[pair])
        assert self.link(scenes.next(whole, pair)).local == make.node_facts().underlay


class TestNodesOwnNamespace:
    def test_registered_hosts_may_send_tunnel_packets(self) -> None:
        scene = root_scene(make.node_facts(), make.GRE, make.snapshot(hosts=HOSTS))
        assert scene.namespace is None
        assert AddressSet(PEERS_SET, frozenset(host.underlay for host in HOSTS)) in objects_of(scene, AddressSet)

    def test_registered_nodes_may_send_the_state_of_connections(self) -> None:
        scene = root_scene(make.node_facts(), make.GRE, make.snapshot(hosts=HOSTS))
        nodes = frozenset({IPv4Address("192.168.4.1"), IPv4Address("192.168.4.2")})
        assert AddressSet(NODES_SET, nodes) in objects_of(scene, AddressSet)

    def test_only_the_raw_table_is_touched(self) -> None:
        scene = root_scene(make.node_facts(), make.GRE, make.snapshot())
        assert [item.key for item in scene.objects.values()] == [
            ("set", PEERS_SET),
            ("set", NODES_SET),
            ("table", "raw"),
        ]


class TestHost:
    GROUP = ("s1",)

    def scene(
        self, pool: Snapshot, *groups: Group, spec: PoolSpec = make.GRE, dead: tuple[IPv4Address, ...] = ()
    ) -> Scene:
        """Of a host with these groups in use; without any, of one with s1."""
        return make.host_scene_of(pool, groups or (self.GROUP,), spec=spec, dead=dead)

    def path_routes(self, scene: Scene) -> dict[tuple[str, int], Route]:
        """Of the only path."""
        (table,) = {route.table for route in objects_of(scene, Route) if route.table > PATH_TABLES}  # type: ignore[attr-defined]
        return routes(scene, table)

    def test_a_subnet_is_a_tunnel_with_the_hosts_own_address(self) -> None:
        scene = self.scene(make.snapshot(pairs=[make.pair()]))
        (tunnel,) = objects_of(scene, Tunnel)
        assert isinstance(tunnel, Tunnel)
        assert (tunnel.local, tunnel.mtu) == (make.host_facts().underlay, 1472)
        assert Address(TUNNEL, IPv4Interface("100.64.0.1/32")) in scene.objects.values()

    def test_the_next_hop_is_the_havip_itself(self) -> None:
        scene = self.scene(make.snapshot(pairs=[make.pair()]))
        route = self.path_routes(scene)["172.16.101.0/24", 0]
        assert (route.gateway, route.device, route.is_onlink, route.realm) == (HAVIP, TUNNEL, True, 0)
        assert Neighbour(TUNNEL, HAVIP, str(HAVIP)) in scene.objects.values()

    def test_vxlan_knows_the_havip_by_the_mac_of_both_members(self) -> None:
        scene = self.scene(make.snapshot(pairs=[make.pair()]), spec=make.VXLAN)
        assert Neighbour(TUNNEL, HAVIP, mac_of(HAVIP)) in scene.objects.values()
        assert ForwardingEntry(TUNNEL, mac_of(HAVIP), HAVIP) in scene.objects.values()

    def test_customers_addresses_are_never_in_the_main_table(self) -> None:
        """A customer may use the addresses of the function network."""
        assert routes(self.scene(make.snapshot(pairs=[make.pair()]))) == {}

    def test_below_each_route_of_a_path_its_cidr_leads_nowhere(self) -> None:
        """A tunnel that is missing takes its routes along; what is left must not lead elsewhere."""
        found = self.path_routes(self.scene(make.snapshot(pairs=[make.pair()])))
        below = found["172.16.101.0/24", WORST_METRIC]
        assert (below.device, below.realm) == (LOOPBACK, DEAD_REALM)

    def test_without_a_pair_a_path_leads_nowhere(self) -> None:
        found = self.path_routes(self.scene(make.snapshot()))
        assert [(route.device, route.realm) for route in found.values()] == [(LOOPBACK, DEAD_REALM)]

    def test_every_pair_of_a_subnet_is_reachable_chosen_or_not(self) -> None:
        """Connections through a draining one go on."""
        pairs = [make.pair("p1", state=PairState.DRAINING), make.pair("p2", havip="192.168.4.101", vrid=2)]
        scene = self.scene(make.snapshot(pairs=pairs))
        assert self.path_routes(scene)["172.16.101.0/24", 0].gateway == IPv4Address("192.168.4.101")
        known = {item.address for item in scene.objects.values() if isinstance(item, Neighbour)}
        assert known == {HAVIP, IPv4Address("192.168.4.101")}

    def test_the_routes_of_a_dead_pair_have_the_realm_that_is_refused(self) -> None:
        scene = self.scene(make.snapshot(pairs=[make.pair()]), dead=(HAVIP,))
        assert self.path_routes(scene)["172.16.101.0/24", 0].realm == DEAD_REALM

    def test_every_customers_cidr_is_guarded_used_here_or_not(self) -> None:
        pool = make.snapshot(subnets=[make.subnet(), make.subnet("s2", "172.17.0.0/16", "10.0.0.0/8", key=2)])
        guard = routes(self.scene(pool), GUARD_TABLE)
        for cidr in ("172.16.101.0/24", "172.17.0.0/16", "10.0.0.0/8"):
            found = [route for (text, _), route in guard.items() if text == cidr]
            assert {(route.device, route.realm, route.metric) for route in found} == NOWHERE
        assert len(guard) == 2 * 3

    def test_open_cidrs_are_not_guarded(self) -> None:
        pool = make.snapshot(subnets=[make.subnet("s1", "10.0.0.0/8"), make.subnet("s2", "172.17.3.0/24", key=2)])
        opened = (IPv4Network("10.96.0.0/12"), IPv4Network("172.17.0.0/16"))
        facts = replace(make.host_facts(), open_cidrs=opened)
        guard = routes(make.host_scene_of(pool, (("s1",),), facts=facts), GUARD_TABLE)
        assert {(text, route.kind, route.device) for (text, _), route in guard.items()} == {
            ("10.0.0.0/8", RouteKind.UNICAST, "lo"),
            ("10.0.0.0/8", RouteKind.UNREACHABLE, None),
            ("10.96.0.0/12", RouteKind.THROW, None),
        }

    def test_its_tunnels_forward_and_take_marks_for_the_reverse_path(self) -> None:
        scene = self.scene(make.snapshot(pairs=[make.pair()]))
        assert sysctls(scene) == {
            f"ipv4/conf/{TUNNEL}/forwarding": "1",
            f"ipv4/conf/{TUNNEL}/src_valid_mark": "1",
        }

    def test_a_host_without_attachments_guards_and_waits(self) -> None:
        scene = make.host_scene_of(make.snapshot(pairs=[make.pair()]), ())
        assert not objects_of(scene, Tunnel)
        assert MarkedSet(ATTACHED_SET) in scene.objects.values()
        assert {item.name for item in scene.objects.values() if isinstance(item, Table)} == {
            "mangle",
            "filter",
            "nat",
            "raw",
        }
        assert routes(scene, GUARD_TABLE)

    def test_what_the_tables_tell_is_what_was_programmed(self) -> None:
        pool = make.snapshot(
            subnets=[make.subnet(), make.subnet("s2", "172.17.0.0/16", key=2)],
            pairs=[make.pair(), make.pair("p2", havip="192.168.4.101"), make.pair("q1", "s2", havip="192.168.4.102")],
        )
        groups = (("s1",), ("s1", "s2"), ("s2",))
        book = advance(Book(), wanted_shares(groups, pool.pairs, ()))
        assert path_legs(make.host_scene_of(pool, groups), pool.subnets) == book.paths


def evaluate(scene: Scene, source: str, mark: int) -> list[int]:
    """Tables that a packet is looked up in, one after the other, as the kernel goes through the rules."""
    rules = sorted(
        (item for item in scene.objects.values() if isinstance(item, PolicyRule)),
        key=lambda rule: (rule.priority, not rule.mask),
    )
    tables, at = [], 0
    while at < len(rules):
        rule = rules[at]
        at += 1
        if rule.source is not None and IPv4Address(source) not in rule.source:
            continue
        if mark & rule.mask != rule.mark:
            continue
        if rule.action is RuleAction.GOTO:
            at = next(place for place, other in enumerate(rules) if other.priority == rule.target)
        elif rule.action is RuleAction.LOOKUP:
            tables.append(rule.target)
    return tables


class TestPlatform:
    POOL = make.snapshot(
        pairs=[make.pair()], nodes=[make.node("n1", "192.168.4.1"), make.node("n2", "192.168.4.2")], hosts=HOSTS
    )
    COORDINATOR = IPv4Address("192.168.4.50")

    def sets(self, *opened: str, gone: str | None = None) -> tuple[set[str], set[str]]:
        """Who may send tunnel packets, and what no instance may reach."""
        facts = replace(make.host_facts(), coordinators=(self.COORDINATOR,), open_cidrs=tuple(map(IPv4Network, opened)))
        havips = havips_of(self.POOL.pairs) | ({IPv4Address(gone)} if gone else set())
        part = platform_of(facts, havips, self.POOL.nodes)
        found = [part["set", name] for name in (HAVIPS_SET, PLATFORM_SET)]
        assert all(isinstance(item, AddressSet) for item in found)
        senders, closed = ({str(one) for one in item.members} for item in found if isinstance(item, AddressSet))
        return senders, closed

    def test_instances_reach_no_node_no_havip_and_no_zookeeper(self) -> None:
        """Hosts are not in it: what an instance may have to do with its own host is the platform's business."""
        assert self.sets() == ({str(HAVIP)}, {"192.168.4.1", "192.168.4.2", str(HAVIP), "192.168.4.50"})

    def test_open_cidrs_are_open(self) -> None:
        """And nobody may send tunnel packets because of it."""
        senders, closed = self.sets("192.168.4.0/26")
        assert senders == {str(HAVIP)}
        assert closed == {str(HAVIP)}

    def test_a_pair_that_is_gone_may_answer_until_its_paths_are(self) -> None:
        """Else who waits for its last answer would send nothing, and not hear that it is gone."""
        assert self.sets(gone="192.168.4.109")[0] == {str(HAVIP), "192.168.4.109"}


class TestRulesOfAHost:
    POOL = make.snapshot(
        subnets=[make.subnet(f"s{n}", f"172.20.{n}.0/24", key=n) for n in range(1, 60)],
        pairs=[make.pair("p1", f"s{n}", havip=f"192.168.5.{n}") for n in range(1, 60)],
    )
    GROUPS = tuple((f"s{n}",) for n in range(1, 60))

    def test_a_mark_leads_to_its_own_path_first_and_to_the_guard_last(self) -> None:
        scene = make.host_scene_of(self.POOL, self.GROUPS)
        book = advance(Book(), wanted_shares(self.GROUPS, self.POOL.pairs, ()))
        assert len(book.paths) == 59
        for number in book.paths:
            assert evaluate(scene, "10.244.1.7", number << 16 | 0x8001) == [
                PATH_TABLES + number,
                MAIN_TABLE,
                GUARD_TABLE,
            ]

    def test_without_a_mark_or_with_one_that_nobody_has_there_is_only_the_guard(self) -> None:
        scene = make.host_scene_of(self.POOL, self.GROUPS)
        for mark in (0, 0x8001, 0x3FFF << 16, 1 << 16, 0x4010 << 16):
            assert evaluate(scene, "10.244.1.7", mark) == [MAIN_TABLE, GUARD_TABLE]

    def test_whoever_is_no_instance_is_left_alone_whatever_the_mark(self) -> None:
        scene = make.host_scene_of(self.POOL, self.GROUPS)
        for number in (0, 1 << 4, 2 << 4, 0x3FFF, 0x4000):
            assert evaluate(scene, "172.20.1.4", number << 16) == []

    def test_few_rules_are_looked_at_with_hundreds_of_paths(self) -> None:
        scene = make.host_scene_of(self.POOL, self.GROUPS)
        by_priority = Counter(item.priority for item in scene.objects.values() if isinstance(item, PolicyRule))
        assert max(by_priority.values()) <= 16


def test_a_tunnel_becomes_only_what_the_kernel_can_change() -> None:
    tunnel = Tunnel("ppt1", "gre", HAVIP, tunnel_key=1, mtu=1472)
    assert tunnel.can_become(replace(tunnel, mtu=1400, is_up=False))
    assert not tunnel.can_become(replace(tunnel, tunnel_key=2))
    assert not tunnel.can_become(replace(tunnel, local=IPv4Address("192.168.4.101")))


def test_a_drain_and_a_weight_are_nothing_to_the_nodes() -> None:
    """Ten thousand hosts' parts are not made anew for them: it is the same scene."""
    scenes, hosts = SubnetScenes(make.node_facts()), [make.host()]
    first = scenes.next(make.snapshot(pairs=[make.pair()], hosts=hosts), make.pair())
    changed = make.pair(state=PairState.DRAINING, since=5.0, weight=3)
    assert scenes.next(make.snapshot(pairs=[changed], hosts=hosts), changed) is first
    moved = make.pair(havip="192.168.4.101")
    assert scenes.next(make.snapshot(pairs=[moved], hosts=hosts), moved) is not first
