"""The rules as values: who may send what where, and what becomes of the rest."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import ClassVar

import pytest

from proxypool.core.blocking import Blocked, chain_of_blocked, why_blocked
from proxypool.core.firewall import NODES_SET, PEERS_SET, SyncEnds, node_guard, subnet_tables
from proxypool.core.host_firewall import HostRules, host_tables
from proxypool.core.model import TunnelKind
from proxypool.core.scene import Chain, Match, Rule, Table, UnknownRule
from proxypool.core.steering import MarkLayout
from tests.unit import builders as make

TUNNELS = IPv4Network("100.64.0.0/10")
SUBNET = make.subnet("s1", "172.16.102.0/24", "172.16.101.0/24")
TABLES = {table.name: table for table in subnet_tables(SUBNET, "ppt1", TUNNELS)}
EGRESS = IPv4Address("172.16.101.20")
EGRESS_TABLES = {table.name: table for table in subnet_tables(SUBNET, "ppt1", TUNNELS, EGRESS)}
NOTRACK = ("notrack", "")
DROPPING = {chain_of_blocked(why) for why in Blocked}
UNDERLAY, HAVIP = IPv4Address("192.168.4.1"), IPv4Address("192.168.4.100")


def chain(table: Table, hook: str) -> Chain:
    return next(one for one in table.chains if one.hook == hook)


def rules(table: Table, hook: str) -> list[Rule]:
    found = chain(table, hook).rules
    assert not any(isinstance(rule, UnknownRule) for rule in found)
    return [rule for rule in found if isinstance(rule, Rule)]


def verdict_of(guard: list[Rule], protocol: str, port: int | None, destination: IPv4Address, sets: set[str]) -> str:
    """What the guard does with a packet of a sender whose address is in these sets."""
    is_tracked = "tracked"
    for rule in guard:
        options = dict(option for match in rule.matches for option in match.options)
        stranger_to = options.get("!match-set", "").removesuffix(" src")
        if (
            rule.protocol != protocol
            or (rule.destination is not None and destination not in rule.destination)
            or ("dport" in options and options["dport"] != str(port))
            or stranger_to in sets
        ):
            continue
        if rule.target in DROPPING or rule.target == "RETURN":
            return rule.target.removeprefix("PP-NO-") if rule.target in DROPPING else is_tracked
        is_tracked = "untracked"
    return is_tracked


def states(rule: Rule) -> str:
    return next((dict(match.options)["ctstate"] for match in rule.matches if match.name == "conntrack"), "")


HOST = HostRules(
    (IPv4Network("10.244.2.0/24"), IPv4Network("10.244.1.0/24")),
    IPv4Address("100.64.0.1"),
    MarkLayout(16),
    {(1, 1): 0, (2, 0, 1): 3},
    new_connections_per_s=1000,
)


def all_tables() -> list[Table]:
    return [
        *TABLES.values(),
        *EGRESS_TABLES.values(),
        node_guard(TunnelKind.GRE, 4789, [(IPv4Address("192.168.4.50"), 2181)], UNDERLAY),
        *host_tables(HOST),
    ]


class TestOwnership:
    @pytest.mark.parametrize("table", all_tables(), ids=lambda table: table.name)
    def test_every_chain_is_ours_by_name_and_entered_once(self, table: Table) -> None:
        assert table.chains
        for one in table.chains:
            assert one.name == f"PP-{one.hook}" or (one.hook is None and one.name.startswith("PP-"))
            assert one.jumps == 1

    @pytest.mark.parametrize("table", all_tables(), ids=lambda table: table.name)
    def test_a_chain_without_a_hook_is_led_to_by_a_rule(self, table: Table) -> None:
        targets = {rule.target for one in table.chains for rule in one.rules if isinstance(rule, Rule)}
        assert {one.name for one in table.chains if one.hook is None} <= targets

    @pytest.mark.parametrize("table", all_tables(), ids=lambda table: table.name)
    def test_nothing_is_dropped_but_by_a_chain_that_says_why(self, table: Table) -> None:
        """So its counter counts it; and such a chain does nothing else."""
        for one in table.chains:
            targets = [rule.target for rule in one.rules if isinstance(rule, Rule)]
            assert ("DROP" in targets) is (one.name in DROPPING)
            if one.name in DROPPING:
                assert targets == ["DROP"]
                assert why_blocked(one.name) is not None

    def test_policies_are_set_in_our_namespaces_only(self) -> None:
        """The machine's own policy is its owner's."""
        assert [one.policy for one in TABLES["filter"].chains if one.hook] == ["DROP", "DROP"]
        for table in all_tables()[2 * len(TABLES) :]:
            assert [one.policy for one in table.chains] == [None] * len(table.chains)


class TestSubnetsNamespace:
    def test_hosts_reach_the_subnets_cidrs_and_nothing_else(self) -> None:
        opened = [rule for rule in rules(TABLES["filter"], "FORWARD") if "NEW" in states(rule)]
        assert {rule.destination for rule in opened} == set(SUBNET.cidrs)
        for rule in opened:
            assert (rule.in_device, rule.out_device, rule.source) == ("ppt1", "eni0", TUNNELS)

    def test_the_customers_side_gets_only_replies_through(self) -> None:
        back = [rule for rule in rules(TABLES["filter"], "FORWARD") if rule.in_device == "eni0"]
        assert [(rule.target, rule.out_device, states(rule)) for rule in back] == [
            ("ACCEPT", "ppt1", "RELATED,ESTABLISHED"),
            ("PP-NO-CUSTOMER", None, ""),
        ]

    def test_packets_of_connections_meet_two_rules_on_the_way_back_and_one_more_for_each_cidr_on_the_way_out(
        self,
    ) -> None:
        """What blocks comes behind: it costs nothing where everything is allowed."""
        forward = rules(TABLES["filter"], "FORWARD")
        assert [rule.target for rule in forward[: 2 + len(SUBNET.cidrs)]] == ["TCPMSS"] + ["ACCEPT"] * (
            1 + len(SUBNET.cidrs)
        )

    def test_no_redirect_passes_as_related_to_a_connection_of_the_namespaces_own(self) -> None:
        found = rules(TABLES["filter"], "INPUT")
        targets = [rule.target for rule in found]
        related = next(
            n for n, rule in enumerate(found) if rule.target == "ACCEPT" and states(rule).startswith("RELATED")
        )
        redirect = targets.index("PP-NO-REDIRECT")
        assert redirect < related
        assert (found[redirect].protocol, found[redirect].matches) == ("icmp", (Match("icmp", (("icmp-type", "5"),)),))

    def test_a_segment_with_a_forged_source_makes_no_reset_leave_by_the_eni(self) -> None:
        """Its source would be what the segment was sent to: an address of the customer's."""
        (reset,) = [rule for rule in rules(TABLES["filter"], "FORWARD") if rule.target == "REJECT"]
        assert (reset.source, reset.is_source_negated) == (TUNNELS, False)

    def test_a_lost_tcp_connection_is_reset_on_either_side(self) -> None:
        """Nobody hangs after a failover: with `tcp_loose=0` a mid-stream packet is INVALID."""
        resets = {
            (hook, rule.in_device)
            for hook in ("FORWARD", "INPUT")
            for rule in rules(TABLES["filter"], hook)
            if rule.target == "REJECT"
        }
        assert resets == {("FORWARD", "ppt1"), ("INPUT", "eni0")}
        for hook, _ in resets:
            for rule in rules(TABLES["filter"], hook):
                if rule.target == "REJECT":
                    assert (rule.protocol, states(rule)) == ("tcp", "INVALID")
                    assert rule.target_options == (("reject-with", "tcp-reset"),)

    def test_a_forged_source_makes_no_reset_go_to_a_host(self) -> None:
        (reset,) = [rule for rule in rules(TABLES["filter"], "INPUT") if rule.target == "REJECT"]
        assert (reset.source, reset.is_source_negated) == (TUNNELS, True)

    def test_the_namespace_itself_accepts_no_new_connection(self) -> None:
        accepted = [rule for rule in rules(TABLES["filter"], "INPUT") if rule.target == "ACCEPT"]
        assert [states(rule) for rule in accepted] == ["RELATED,ESTABLISHED"]
        assert chain(TABLES["filter"], "INPUT").policy == "DROP"

    def test_hosts_leave_the_eni_with_its_own_address_and_a_random_port(self) -> None:
        (masquerade,) = rules(TABLES["nat"], "POSTROUTING")
        assert (masquerade.target, masquerade.source, masquerade.out_device) == ("MASQUERADE", TUNNELS, "eni0")
        assert masquerade.target_options == (("random-fully", ""),)

    def test_with_an_egress_address_they_leave_with_that_one_and_a_random_port(self) -> None:
        (nat,) = rules(EGRESS_TABLES["nat"], "POSTROUTING")
        assert (nat.target, nat.source, nat.out_device) == ("SNAT", TUNNELS, "eni0")
        assert nat.target_options == (("to-source", "172.16.101.20"), ("random-fully", ""))

    def test_a_lost_connection_to_the_egress_address_is_reset_and_to_nothing_else(self) -> None:
        """It is no local address, so it is forwarded; a RST for another would leave with a source that is not ours."""
        (added,) = set(rules(EGRESS_TABLES["filter"], "FORWARD")) - set(rules(TABLES["filter"], "FORWARD"))
        assert (added.target, added.protocol, states(added)) == ("REJECT", "tcp", "INVALID")
        assert added.target_options == (("reject-with", "tcp-reset"),)
        assert (added.in_device, added.out_device) == ("eni0", "ppt1")
        assert (added.destination, added.source, added.is_source_negated) == (IPv4Network(EGRESS), TUNNELS, True)
        assert rules(EGRESS_TABLES["filter"], "INPUT") == rules(TABLES["filter"], "INPUT")

    def test_the_mss_is_clamped_in_both_directions(self) -> None:
        clamp = rules(TABLES["filter"], "FORWARD")[0]
        assert clamp.target == "TCPMSS", "first: a rule that accepts would end the visit"
        assert (clamp.in_device, clamp.out_device) == (None, None)

    def test_the_order_of_a_subnets_cidrs_makes_no_difference(self) -> None:
        """A different order would be a difference to repair, for ever."""
        turned = make.subnet("s1", "172.16.101.0/24", "172.16.102.0/24")
        assert subnet_tables(turned, "ppt1", TUNNELS) == subnet_tables(SUBNET, "ppt1", TUNNELS)


class TestLinkBetweenMembers:
    ENDS = SyncEnds("ppts1", IPv4Address("169.254.77.1"), IPv4Address("169.254.77.2"), IPv4Network("169.254.77.0/30"))
    TABLES: ClassVar[dict[str, Table]] = {
        table.name: table for table in subnet_tables(SUBNET, "ppt1", TUNNELS, IPv4Address("172.16.101.10"), ENDS)
    }

    def test_only_the_other_member_sends_state_and_only_over_the_link(self) -> None:
        """A customer's machine may forge the other member's address: an established connection would let it in."""
        accept, from_link, to_link, _, established, *_ = rules(self.TABLES["filter"], "INPUT")
        assert (accept.target, accept.in_device, accept.protocol) == ("ACCEPT", "ppts1", "udp")
        assert (accept.source, accept.destination) == (IPv4Network("169.254.77.2/32"), IPv4Network("169.254.77.1/32"))
        assert accept.matches == (Match("udp", (("dport", "3780"),)),)
        assert from_link == Rule("PP-NO-LINK", in_device="ppts1")
        assert to_link == Rule("PP-NO-LINK", destination=IPv4Network("169.254.77.0/30"))
        assert states(established) == "RELATED,ESTABLISHED"

    def test_nothing_is_forwarded_over_the_link(self) -> None:
        forward = rules(self.TABLES["filter"], "FORWARD")
        assert all("ppts1" not in {rule.in_device, rule.out_device} for rule in forward)
        for rule in forward:
            if rule.target == "ACCEPT":
                assert None not in {rule.in_device, rule.out_device}, "the policy drops what no rule names"

    def test_without_it_nothing_changes(self) -> None:
        egress = IPv4Address("172.16.101.10")
        without = subnet_tables(SUBNET, "ppt1", TUNNELS, egress)
        assert [table for table in without if table.name != "filter"] == [
            table for table in self.TABLES.values() if table.name != "filter"
        ]


class TestNodesGuard:
    COORDINATOR = (IPv4Address("192.168.4.50"), 2181)

    @pytest.mark.parametrize(
        ("kind", "port", "destination", "sender", "verdict"),
        [
            (TunnelKind.VXLAN, 4789, HAVIP, "host", "untracked"),
            (TunnelKind.VXLAN, 4789, HAVIP, "node", "STRANGER"),
            (TunnelKind.VXLAN, 4789, HAVIP, "stranger", "STRANGER"),
            (TunnelKind.VXLAN, 4790, UNDERLAY, "node", "untracked"),
            (TunnelKind.VXLAN, 4790, UNDERLAY, "host", "SYNC"),
            (TunnelKind.VXLAN, 4790, HAVIP, "host", "SYNC"),
            (TunnelKind.VXLAN, 4790, UNDERLAY, "stranger", "SYNC"),
            (TunnelKind.VXLAN, 53, UNDERLAY, "stranger", "tracked"),
            (TunnelKind.GRE, None, HAVIP, "host", "untracked"),
            (TunnelKind.GRE, None, HAVIP, "node", "STRANGER"),
            (TunnelKind.GRE, None, HAVIP, "stranger", "STRANGER"),
            (TunnelKind.GRE, None, UNDERLAY, "node", "untracked"),
            (TunnelKind.GRE, None, UNDERLAY, "host", "SYNC"),
            (TunnelKind.GRE, None, UNDERLAY, "stranger", "SYNC"),
        ],
    )
    def test_hosts_reach_tunnels_of_subnets_and_nodes_those_between_members(
        self, kind: TunnelKind, port: int | None, destination: IPv4Address, sender: str, verdict: str
    ) -> None:
        """A tunnel device takes packets of any outer source; VXLAN's also those for any address of the machine."""
        sets = {"host": {PEERS_SET}, "node": {NODES_SET}, "stranger": set[str]()}[sender]
        guard = rules(node_guard(kind, 4789, [self.COORDINATOR], UNDERLAY), "PREROUTING")
        assert verdict_of(guard, "gre" if port is None else "udp", port, destination, sets) == verdict

    @pytest.mark.parametrize(
        ("destination", "sender", "verdict"),
        [
            (UNDERLAY, "node", "untracked"),
            (UNDERLAY, "host", "VRRP"),
            (UNDERLAY, "stranger", "VRRP"),
            (IPv4Address("224.0.0.18"), "stranger", "untracked"),
        ],
    )
    def test_advertisements_for_this_node_come_from_nodes_only(
        self, destination: IPv4Address, sender: str, verdict: str
    ) -> None:
        """VRRPv3 has no authentication. What others do by multicast on this machine is theirs."""
        sets = {"host": {PEERS_SET}, "node": {NODES_SET}, "stranger": set[str]()}[sender]
        guard = rules(node_guard(TunnelKind.VXLAN, 4789, [self.COORDINATOR], UNDERLAY), "PREROUTING")
        assert verdict_of(guard, "112", None, destination, sets) == verdict

    def test_vxlan_is_known_by_the_pools_port_and_the_one_beside_it(self) -> None:
        for hook in ("PREROUTING", "OUTPUT"):
            guard = rules(node_guard(TunnelKind.VXLAN, 65535, [], UNDERLAY), hook)
            ports = {option for rule in guard if rule.protocol == "udp" for option in rule.matches[0].options}
            assert ports == {("dport", "65535"), ("dport", "65534")}

    @pytest.mark.parametrize("hook", ["PREROUTING", "OUTPUT"])
    def test_tunnels_vrrp_and_zookeeper_skip_conntrack_both_ways(self, hook: str) -> None:
        """A full conntrack table must not break the control plane. 112 is VRRP."""
        table = node_guard(TunnelKind.GRE, 4789, [self.COORDINATOR], UNDERLAY)
        untracked = [rule for rule in rules(table, hook) if NOTRACK in rule.target_options]
        own = ["gre"] if hook == "PREROUTING" else []
        assert [rule.protocol for rule in untracked] == [*own, "gre", "112", "tcp"]

    def test_only_the_servers_own_address_and_port_skip_conntrack(self) -> None:
        table = node_guard(TunnelKind.GRE, 4789, [self.COORDINATOR], UNDERLAY)
        incoming, outgoing = (rules(table, hook)[-1] for hook in ("PREROUTING", "OUTPUT"))
        assert (incoming.source, incoming.matches) == (
            IPv4Network("192.168.4.50/32"),
            (Match("tcp", (("sport", "2181"),)),),
        )
        assert (outgoing.destination, outgoing.matches) == (
            IPv4Network("192.168.4.50/32"),
            (Match("tcp", (("dport", "2181"),)),),
        )

    def test_a_server_that_is_named_twice_has_one_rule(self) -> None:
        once = node_guard(TunnelKind.GRE, 4789, [self.COORDINATOR], UNDERLAY)
        assert node_guard(TunnelKind.GRE, 4789, [self.COORDINATOR, self.COORDINATOR], UNDERLAY) == once


class TestHost:
    TABLES: ClassVar[dict[str, Table]] = {table.name: table for table in host_tables(HOST)}

    def named(self, table: str, chain_name: str) -> list[Rule]:
        (found,) = (one for one in self.TABLES[table].chains if one.name == chain_name)
        return [rule for rule in found.rules if isinstance(rule, Rule)]

    def test_instances_are_rewritten_into_tunnels_only(self) -> None:
        rewrite = rules(self.TABLES["nat"], "POSTROUTING")
        assert {(rule.out_device, rule.source) for rule in rewrite} == {("ppt+", cidr) for cidr in HOST.instance_cidrs}
        for rule in rewrite:
            assert rule.target == "SNAT"
            assert rule.target_options == (("to-source", "100.64.0.1"), ("random-fully", ""))

    def test_in_place_of_an_agent_everything_else_is_masqueraded_but_open_cidrs(self) -> None:
        opened = replace(HOST, open_cidrs=(IPv4Network("10.0.0.0/8"),), masquerades=True)
        nat = next(table for table in host_tables(opened) if table.name == "nat")
        found = rules(nat, "POSTROUTING")
        assert [rule.target for rule in found] == ["SNAT", "SNAT", "RETURN", "MASQUERADE", "MASQUERADE"]
        assert found[2].destination == IPv4Network("10.0.0.0/8")
        assert all(rule.matches == (Match("addrtype", (("!dst-type", "LOCAL"),)),) for rule in found[3:])

    def test_the_order_of_ranges_makes_no_difference(self) -> None:
        assert host_tables(replace(HOST, instance_cidrs=HOST.instance_cidrs[::-1])) == host_tables(HOST)

    def test_the_mss_is_clamped_into_every_tunnel_by_one_rule(self) -> None:
        (out,) = (rule for rule in rules(self.TABLES["filter"], "FORWARD") if rule.target == "PP-OUT")
        assert (out.in_device, out.out_device) == (None, "ppt+")
        assert [rule.target for rule in self.named("filter", "PP-OUT")].count("TCPMSS") == 1

    def test_only_new_connections_of_instances_are_looked_up_and_only_once(self) -> None:
        restore, *enter = rules(self.TABLES["mangle"], "PREROUTING")
        assert restore.target == "CONNMARK"
        assert {rule.source for rule in enter} == set(HOST.instance_cidrs)
        assert {states(rule) for rule in enter} == {"NEW"}
        steer = [rule.target for rule in self.named("mangle", "PP-STEER")]
        assert steer == ["PP-NO-FLOOD", "SET", "PP-CHOICE-0", "PP-CHOICE-3"]

    @pytest.mark.parametrize(("rate", "burst"), [(1, "10"), (1000, "10000"), (50_000, "10000")])
    def test_an_instance_begins_so_many_connections_a_second(self, rate: int, burst: str) -> None:
        """By its own address, and some more at once; what is over is not tracked. The kernel's own limit is 10,000."""
        limited = {table.name: table for table in host_tables(replace(HOST, new_connections_per_s=rate))}
        (steer,) = (one for one in limited["mangle"].chains if one.name == "PP-STEER")
        flood = steer.rules[0]
        assert isinstance(flood, Rule)
        options = dict(flood.matches[0].options)
        assert (flood.target, flood.matches[0].name) == ("PP-NO-FLOOD", "hashlimit")
        assert (options["hashlimit-above"], options["hashlimit-burst"]) == (f"{rate}/sec", burst)
        assert options["hashlimit-mode"] == "srcip"

    def test_a_host_without_a_limit_counts_nothing(self) -> None:
        unlimited = {table.name: table for table in host_tables(replace(HOST, new_connections_per_s=0))}
        assert "PP-NO-FLOOD" not in {one.name for one in unlimited["mangle"].chains}

    def test_open_cidrs_are_not_looked_up(self) -> None:
        opened = replace(HOST, open_cidrs=(IPv4Network("10.0.0.0/8"),))
        mangle = next(table for table in host_tables(opened) if table.name == "mangle")
        steer = next(one for one in mangle.chains if one.name == "PP-STEER")
        opening = steer.rules[1]
        assert isinstance(opening, Rule)
        assert (opening.target, opening.destination) == ("RETURN", IPv4Network("10.0.0.0/8"))

    def test_a_distribution_gives_each_index_its_share_in_turn(self) -> None:
        picks = self.named("mangle", "PP-CHOICE-3")
        marks = [dict(rule.target_options)["set-xmark"] for rule in picks]
        assert sorted(marks) == sorted(["0x0/0x400f0000", "0x0/0x400f0000", "0x20000/0x400f0000"])
        every = [
            dict(match.options).get("every") for rule in picks for match in rule.matches if match.name == "statistic"
        ]
        assert every == ["3", "2"]

    def test_long_rounds_are_shared_by_chance(self) -> None:
        weights = (16, 16, 16, 16, 15)
        mangle = host_tables(replace(HOST, distributions={weights: 1}))[0]
        picks = next(one for one in mangle.chains if one.name == "PP-CHOICE-1").rules
        chances = [
            float(dict(match.options)["probability"])
            for rule in picks
            if isinstance(rule, Rule)
            for match in rule.matches
            if match.name == "statistic"
        ]
        left, shares = 1.0, []
        for chance in chances:
            shares.append(left * chance)
            left *= 1 - chance
        assert [*shares, left] == pytest.approx([weight / 79 for weight in weights])

    def test_a_path_is_remembered_only_by_what_leaves_through_a_tunnel_to_a_living_pair(self) -> None:
        out = self.named("filter", "PP-OUT")
        assert [rule.target for rule in out] == ["PP-DEAD", "TCPMSS", "CONNMARK"]
        assert out[0].matches == (Match("realm", (("realm", "177"),)),)
        assert [dict(rule.target_options)["reject-with"] for rule in self.named("filter", "PP-DEAD")] == [
            "tcp-reset",
            "icmp-host-unreachable",
        ]

    def test_what_the_guard_holds_back_is_told_so_by_the_filter_table(self) -> None:
        """An ICMP error alone ends no connection that is established. One that has a path comes to the rule before: it is
        here because somebody flushed the mangle table, and goes on when that is repaired.
        """
        held = rules(self.TABLES["filter"], "FORWARD")[-2]
        assert (held.target, held.out_device) == ("PP-DEAD", "lo")
        assert held.matches == (Match("realm", (("realm", "177"),)),)

    def test_a_connection_of_a_path_leaves_by_tunnels_or_not_at_all(self) -> None:
        astray = rules(self.TABLES["filter"], "FORWARD")[-3]
        assert (astray.target, astray.out_device, astray.is_out_negated) == ("REJECT", "ppt+", True)

    def test_what_instances_send_elsewhere_is_neither_a_tunnel_packet_nor_for_the_platform(self) -> None:
        """Looked at only where a packet has to do with no tunnel: customers' packets pay nothing for it."""
        way = rules(self.TABLES["filter"], "FORWARD")[-1]
        assert (way.target, way.in_device, way.is_in_negated) == ("PP-ELSE", "ppt+", True)
        assert (way.out_device, way.is_out_negated, way.source) == ("ppt+", True, None), "a source can be forged"
        own, platform = self.named("filter", "PP-ELSE")
        assert (own.target, own.protocol) == ("PP-NO-TUNNEL", "gre")
        assert (platform.target, platform.matches) == (
            "PP-NO-PLATFORM",
            (Match("set", (("match-set", "pp-platform dst"),)),),
        )

    @pytest.mark.parametrize("kind", list(TunnelKind))
    def test_a_host_takes_tunnel_packets_of_havips_only(self, kind: TunnelKind) -> None:
        tables = {table.name: table for table in host_tables(replace(HOST, tunnel=kind, vxlan_port=4800))}
        accept, stranger = rules(tables["filter"], "INPUT")
        is_gre = kind is TunnelKind.GRE
        port = () if is_gre else (Match("udp", (("dport", "4800"),)),)
        for rule, target, wanted in ((accept, "ACCEPT", "match-set"), (stranger, "PP-NO-STRANGER", "!match-set")):
            assert (rule.target, rule.protocol) == (target, "gre" if is_gre else "udp")
            assert rule.matches == (*port, Match("set", ((wanted, "pp-havips src"),)))

    @pytest.mark.parametrize("kind", list(TunnelKind))
    @pytest.mark.parametrize(
        ("raw_hook", "filter_hook", "side"), [("PREROUTING", "INPUT", "src"), ("OUTPUT", "OUTPUT", "dst")]
    )
    def test_tunnel_packets_of_havips_skip_conntrack_and_are_accepted_both_ways(
        self, kind: TunnelKind, raw_hook: str, filter_hook: str, side: str
    ) -> None:
        """What is not tracked is neither established nor new to the host's other rules, which may refuse everything
        else. Those of strangers are tracked, and dropped before anything is remembered.
        """
        tables = {table.name: table for table in host_tables(replace(HOST, tunnel=kind, vxlan_port=4800))}
        (untracked,) = rules(tables["raw"], raw_hook)
        accepted = rules(tables["filter"], filter_hook)[0]
        assert (untracked.target, untracked.target_options) == ("CT", (NOTRACK,))
        assert untracked.matches[-1] == Match("set", (("match-set", f"pp-havips {side}"),))
        assert accepted == replace(untracked, target="ACCEPT", target_options=())

    def test_nothing_else_is_accepted_that_other_rules_might_refuse(self) -> None:
        accepting = [
            (one.hook, rule.protocol, rule.matches)
            for table in self.TABLES.values()
            for one in table.chains
            for rule in one.rules
            if isinstance(rule, Rule) and rule.target == "ACCEPT"
        ]
        assert accepting == [
            (hook, "gre", (Match("set", (("match-set", f"pp-havips {side}"),)),))
            for hook, side in (("INPUT", "src"), ("OUTPUT", "dst"))
        ]
