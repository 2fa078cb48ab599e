"""Validation of the documents: every refusal, and that it says what to do."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from proxypool.core.errors import InvalidInput
from proxypool.core.model import PairSpec, PoolSpec, Snapshot, SubnetSpec
from proxypool.core.validation import require_name, validate_pair, validate_pool, validate_subnet
from tests.unit import builders as make

POOL = PoolSpec()


class TestNames:
    @pytest.mark.parametrize("name", ["a", "1", "s1", "a.b-c", "a" * 40])
    def test_are_accepted_as_path_components_and_labels(self, name: str) -> None:
        require_name("subnet", name)

    @pytest.mark.parametrize("name", ["", "-a", "a-", ".a", "A", "a_b", "a/b", "a b", "a\n", "é", "a" * 41])
    def test_are_refused_with_the_rule(self, name: str) -> None:
        with pytest.raises(InvalidInput, match=r"subnet name .* is not valid: 1-40 characters, lower-case"):
            require_name("subnet", name)


class TestPool:
    def test_a_range_apart_from_every_customer_is_accepted(self) -> None:
        validate_pool(POOL, [make.subnet()])
        validate_pool(PoolSpec(tunnel_range=IPv4Network("100.64.0.0/30")), [])

    @pytest.mark.parametrize("prefix", [31, 32])
    def test_a_range_without_usable_addresses_is_refused(self, prefix: int) -> None:
        with pytest.raises(InvalidInput, match=f"100.64.0.0/{prefix} is too small: use /30 or larger"):
            validate_pool(PoolSpec(tunnel_range=IPv4Network(f"100.64.0.0/{prefix}")), [])

    def test_a_range_that_a_customer_uses_is_refused(self) -> None:
        with pytest.raises(
            InvalidInput,
            match=r"CIDR 100\.65\.0\.0/16 of subnet s1 overlaps the pool's tunnel range 100\.64\.0\.0/10: "
            r"choose another range with `proxypool pool init --tunnel-range`",
        ):
            validate_pool(POOL, [make.subnet("s1", "100.65.0.0/16")])


def refusal_of_subnet(new: SubnetSpec, *others: SubnetSpec) -> str:
    with pytest.raises(InvalidInput) as caught:
        validate_subnet(new, POOL, others)
    return str(caught.value)


class TestSubnet:
    def test_a_good_one_is_accepted_and_may_be_written_again(self) -> None:
        validate_subnet(make.subnet(), POOL, [make.subnet()])

    def test_customers_may_use_the_same_addresses(self) -> None:
        validate_subnet(make.subnet("s2", key=2, tenant="t2"), POOL, [make.subnet("s1", key=1, tenant="t1")])

    def test_a_tenant_must_have_a_good_name(self) -> None:
        assert "tenant name 'T 1'" in refusal_of_subnet(make.subnet(tenant="T 1"))

    def test_one_without_cidr_is_refused(self) -> None:
        empty = SubnetSpec(id="s1", cidrs=(), key=1)
        assert refusal_of_subnet(empty) == "subnet s1 has no CIDR: give at least one with --cidr"

    def test_one_inside_the_tunnel_range_is_refused(self) -> None:
        assert "choose another range" in refusal_of_subnet(make.subnet("s1", "100.64.3.0/24"))

    @pytest.mark.parametrize("cidr", ["224.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16"])
    def test_addresses_that_no_customer_can_have_are_refused(self, cidr: str) -> None:
        assert refusal_of_subnet(make.subnet("s1", cidr)) == f"CIDR {cidr} of subnet s1 cannot be a customer's subnet"

    def test_everything_is_refused(self) -> None:
        """0.0.0.0/0 holds the tunnel range, whatever that is."""
        assert "overlaps the pool's tunnel range" in refusal_of_subnet(make.subnet("s1", "0.0.0.0/0"))

    def test_its_own_cidrs_must_not_overlap(self) -> None:
        message = refusal_of_subnet(make.subnet("s1", "10.0.0.0/8", "10.1.0.0/16"))
        assert message == "CIDRs 10.0.0.0/8 and 10.1.0.0/16 of subnet s1 overlap: give one of them"

    def test_a_key_in_use_is_refused_even_for_another_tenant(self) -> None:
        message = refusal_of_subnet(make.subnet("s2", key=1, tenant="t2"), make.subnet("s1", key=1, tenant="t1"))
        assert message == "tunnel key 1 is used by subnet s1: choose another or leave --key out"

    def test_the_same_tenants_subnets_must_not_overlap(self) -> None:
        message = refusal_of_subnet(make.subnet("s2", "172.16.0.0/16", key=2), make.subnet("s1", key=1))
        assert message == (
            "CIDR 172.16.0.0/16 overlaps 172.16.101.0/24 of subnet s1, which belongs to the same tenant 'default': "
            "use another CIDR, or another --tenant if it is another customer"
        )


def refusal_of_pair(new: PairSpec, pool: Snapshot) -> str:
    with pytest.raises(InvalidInput) as caught:
        validate_pair(new, pool)
    return str(caught.value)


class TestPair:
    def test_a_good_one_is_accepted_and_may_be_written_again(self) -> None:
        validate_pair(make.pair(), make.snapshot())
        validate_pair(make.pair(), make.snapshot(pairs=[make.pair()]))

    def test_its_nodes_need_not_be_registered_yet(self) -> None:
        validate_pair(make.pair(), make.snapshot(nodes=[]))

    def test_its_name_must_be_good(self) -> None:
        assert "pair name 'P_1' is not valid" in refusal_of_pair(make.pair("P_1"), make.snapshot())

    def test_a_members_node_must_have_a_good_name(self) -> None:
        bad = make.pair(members=(make.member("N 1", "172.16.101.11/24"), make.N2))
        assert "node name 'N 1' is not valid" in refusal_of_pair(bad, make.snapshot())

    def test_its_subnet_must_be_there_first(self) -> None:
        message = refusal_of_pair(make.pair(subnet="s9"), make.snapshot())
        assert message == "there is no subnet s9: add it first with `proxypool subnet add s9`"

    @pytest.mark.parametrize("members", [(), (make.N1,), (make.N1, make.N1), (make.N1, make.N2, make.N1)])
    def test_it_needs_two_different_nodes(self, members: tuple[object, ...]) -> None:
        message = refusal_of_pair(make.pair(members=members), make.snapshot())  # type: ignore[arg-type]
        assert message.startswith("pair p1 needs two members on two different nodes, not [")

    def test_a_havip_that_is_a_nodes_own_address_is_refused(self) -> None:
        message = refusal_of_pair(make.pair(havip="192.168.4.2"), make.snapshot())
        assert message == "HaVip 192.168.4.2 is the underlay address of node n2: choose a free address"

    def test_a_havip_that_is_a_hosts_own_address_is_refused(self) -> None:
        message = refusal_of_pair(make.pair(havip="192.168.80.1"), make.snapshot(hosts=[make.host()]))
        assert message == "HaVip 192.168.80.1 is the underlay address of host h1: choose a free address"

    @pytest.mark.parametrize("address", ["172.16.101.0/24", "172.16.101.255/24"])
    def test_a_member_needs_a_host_address(self, address: str) -> None:
        bad = make.pair(members=(make.member("n1", address), make.N2))
        assert refusal_of_pair(bad, make.snapshot()) == f"address {address} of node n1 is not a host address"

    def test_a_gateway_must_be_on_the_enis_network(self) -> None:
        bad = make.pair(members=(make.member("n1", "172.16.101.11/24", gateway="172.16.102.1"), make.N2))
        message = refusal_of_pair(bad, make.snapshot())
        assert message == "gateway 172.16.102.1 of node n1 is outside 172.16.101.0/24"

    def test_a_cidr_beyond_the_enis_network_needs_a_gateway(self) -> None:
        pool = make.snapshot(subnets=[make.subnet("s1", "172.16.0.0/16")])
        assert refusal_of_pair(make.pair(), pool) == (
            "CIDR 172.16.0.0/16 of subnet s1 is not on the ENI's own network 172.16.101.0/24: "
            "give the member n1 a gateway=ADDRESS"
        )
        members = tuple(make.member(n, f"172.16.101.1{n[1]}/24", gateway="172.16.101.1") for n in ("n1", "n2"))
        validate_pair(make.pair(members=members), pool)

    def test_an_egress_address_must_be_on_the_enis_network(self) -> None:
        message = refusal_of_pair(make.pair(egress="172.16.9.9"), make.snapshot())
        assert message == "egress address 172.16.9.9 is outside the ENI's network 172.16.101.0/24"
        validate_pair(make.pair(egress="172.16.101.20"), make.snapshot())

    @pytest.mark.parametrize(
        ("egress", "why"),
        [
            ("172.16.101.12", "is the address of node n2's ENI: choose a free one"),
            ("172.16.101.1", "is the gateway of node n1: choose a free one"),
            ("172.16.101.0", "is not a host address of 172.16.101.0/24"),
            ("172.16.101.255", "is not a host address of 172.16.101.0/24"),
        ],
    )
    def test_an_egress_address_is_nobody_elses(self, egress: str, why: str) -> None:
        members = tuple(make.member(n, f"172.16.101.1{n[1]}/24", gateway="172.16.101.1") for n in ("n1", "n2"))
        message = refusal_of_pair(make.pair(members=members, egress=egress), make.snapshot())
        assert message == f"egress address {egress} {why}"

    def test_with_an_egress_address_both_enis_are_on_one_network(self) -> None:
        members = (make.member("n1", "172.16.101.11/24"), make.member("n2", "172.16.101.12/25"))
        pool = make.snapshot(subnets=[make.subnet("s1", "172.16.101.0/25")])
        validate_pair(make.pair(members=members), pool)
        assert refusal_of_pair(make.pair(members=members, egress="172.16.101.20"), pool) == (
            "pair p1 has an egress address, so both ENIs must be on one network, not on 172.16.101.0/24 and 172.16.101.0/25"
        )

    def test_pairs_of_one_tenant_share_no_egress_address(self) -> None:
        """Another tenant's network is another one, whatever its addresses."""
        others = (make.member("n8", "172.16.101.18/24"), make.member("n9", "172.16.101.19/24"))
        other = make.pair("p9", members=others, havip="192.168.4.109", egress="172.16.101.20")
        pool = make.snapshot(pairs=[other])
        assert refusal_of_pair(make.pair(vrid=2, egress="172.16.101.20"), pool) == (
            "egress address 172.16.101.20 is in use by pair s1/p9: choose a free address"
        )
        assert refusal_of_pair(make.pair(vrid=2, egress="172.16.101.18"), pool) == (
            "172.16.101.18 is the egress address of pair s1/p1 and the address of an ENI of pair s1/p9: "
            "choose a free address"
        )
        members = (make.member("n1", "172.16.101.20/24"), make.N2)
        assert "is the egress address of pair s1/p9" in refusal_of_pair(make.pair(vrid=2, members=members), pool)
        subnets = [make.subnet("s1"), make.subnet("s2", key=2, tenant="another")]
        theirs = make.pair("p9", "s2", members=others, havip="192.168.4.109", egress="172.16.101.20")
        validate_pair(make.pair(vrid=2, egress="172.16.101.20"), make.snapshot(subnets=subnets, pairs=[theirs]))

    def test_each_member_has_an_address_of_its_own(self) -> None:
        twins = (make.member("n1", "172.16.101.11/24"), make.member("n2", "172.16.101.11/24"))
        message = refusal_of_pair(make.pair(members=twins), make.snapshot())
        assert message == "n1 and n2 have the same address 172.16.101.11: each ENI has its own"

    def test_the_pairs_of_a_subnet_have_addresses_of_their_own(self) -> None:
        others = (make.member("n8", "172.16.101.18/24"), make.member("n9", "172.16.101.11/24"))
        other = make.pair("p9", members=others, havip="192.168.4.109")
        message = refusal_of_pair(make.pair(vrid=2), make.snapshot(pairs=[other]))
        assert message == "address 172.16.101.11 of node n1 is in use by pair s1/p9"

    def test_a_havip_is_no_tunnel_address(self) -> None:
        """Hosts get theirs from that range: one of them would be the HaVip's some day."""
        message = refusal_of_pair(make.pair(havip="100.64.0.9"), make.snapshot())
        assert message == (
            "HaVip 100.64.0.9 is in the range of the hosts' tunnel addresses, 100.64.0.0/10: "
            "choose a free address of the function network"
        )

    def test_a_havip_belongs_to_one_pair_of_the_pool(self) -> None:
        """Whatever nodes the other pair is on: the HaVip is an address of the one function network."""
        other = make.pair("p9", members=(make.member("n8", "172.16.101.18/24"), make.member("n9", "172.16.101.19/24")))
        message = refusal_of_pair(make.pair(vrid=2), make.snapshot(pairs=[other]))
        assert message == "HaVip 192.168.4.100 is in use by pair s1/p9: choose a free address"

    def test_a_node_serves_a_subnet_in_one_pair_only(self) -> None:
        """A subnet has one namespace on a node, with one ENI and one HaVip."""
        pool = make.snapshot(pairs=[make.pair()])
        message = refusal_of_pair(make.pair("p2", havip="192.168.4.101", vrid=2), pool)
        assert message == "node n1 already serves subnet s1 in pair s1/p1: choose another node"

    def test_a_nodes_eni_serves_one_pair(self) -> None:
        """A card is in one namespace; a MAC address is the same in any case."""
        mine = (make.member("n1", "172.16.101.11/24", eni="AA:BB:CC:DD:EE:01"), make.N2)
        other = make.pair(members=(make.member("n1", "172.16.101.11/24", eni="aa:bb:cc:dd:ee:01"), make.N2))
        pool = make.snapshot(subnets=[make.subnet(), make.subnet("s2", key=2, tenant="t2")], pairs=[other])
        message = refusal_of_pair(make.pair("p1", "s2", members=mine, havip="192.168.4.101", vrid=2), pool)
        assert message == "ENI AA:BB:CC:DD:EE:01 of node n1 is in use by pair s1/p1: choose another"

    def test_a_vrid_is_used_once_on_a_node(self) -> None:
        mine = (make.member("n1", "172.16.101.11/24", eni="eth7"), make.member("n3", "172.16.101.13/24"))
        pool = make.snapshot(
            subnets=[make.subnet(), make.subnet("s2", key=2, tenant="t2")],
            pairs=[make.pair(vrid=1)],
        )
        message = refusal_of_pair(make.pair("p1", "s2", members=mine, havip="192.168.4.101", vrid=1), pool)
        assert message == "VRRP id 1 is in use on node n1 by pair s1/p1: leave --vrid out"
        apart = (make.member("n3", "172.16.101.13/24"), make.member("n4", "172.16.101.14/24"))
        validate_pair(make.pair("p1", "s2", members=apart, havip="192.168.4.101", vrid=1), pool)
