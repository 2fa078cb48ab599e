"""From any pool to scenes and files: what must hold whatever the documents say."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from proxypool.core.addressing import namespace_of, sync_device_of, tunnel_device_of
from proxypool.core.attachments import Rules
from proxypool.core.detection import PROFILES, Profile
from proxypool.core.keepalived import KeepalivedFacts, render
from proxypool.core.model import PairSpec, Snapshot, SubnetSpec
from proxypool.core.node_scene import NodeFacts, root_scene, subnet_scene
from proxypool.core.scene import Address, Chain, Eni, Rule, Scene, SourceGuard, Table, Tunnel
from proxypool.core.sync_link import SYNC_NETWORK
from proxypool.core.validation import validate_pair, validate_subnet
from tests.property.effort import effort
from tests.property.pools import FACTS, HOST_FACTS, NODES, groups_of, pools
from tests.unit.builders import host_scene_of


@st.composite
def shuffled(draw: st.DrawFn, pool: Snapshot) -> Snapshot:
    """The same documents, heard of in another order."""
    return Snapshot(
        spec=pool.spec,
        subnets=dict(draw(st.permutations(list(pool.subnets.items())))),
        pairs={
            subnet: dict(draw(st.permutations(list(pairs.items()))))
            for subnet, pairs in draw(st.permutations(list(pool.pairs.items())))
        },
        nodes=dict(draw(st.permutations(list(pool.nodes.items())))),
        hosts=dict(draw(st.permutations(list(pool.hosts.items())))),
        subnet_hosts=dict(draw(st.permutations(list(pool.subnet_hosts.items())))),
    )


def facts_of(node: str) -> NodeFacts:
    return NodeFacts(node, IPv4Address(f"192.168.4.{node[1]}"), 1500, FACTS.coordinators)


def scenes_of(pool: Snapshot) -> list[Scene]:
    """Every scene of every node, and of one host."""
    assert pool.spec is not None
    scenes = []
    for node in NODES:
        facts = facts_of(node.id)
        scenes += [subnet_scene(facts, pool, pair) for pair in pool.pairs_on(node.id)]
        scenes.append(root_scene(facts, pool.spec, pool))
    scenes.append(host_scene_of(pool, groups_of(pool), facts=HOST_FACTS, spec=pool.spec))
    return scenes


def files_of(pool: Snapshot, node: str) -> dict[str, str]:
    facts = facts_of(node)
    return render(KeepalivedFacts(node, "eth0", facts.underlay, "/run/proxypool", PROFILES[Profile.BALANCED]), pool)


def all_pairs(pool: Snapshot) -> list[PairSpec]:
    return [pair for pairs in pool.pairs.values() for pair in pairs.values()]


@given(pools())
@effort(40)
def test_drawn_pools_are_such_as_the_commands_accept(pool: Snapshot) -> None:
    """Otherwise the other properties would hold of nothing real."""
    assert pool.spec is not None
    for subnet in pool.subnets.values():
        validate_subnet(subnet, pool.spec, pool.subnets.values())
    for pair in all_pairs(pool):
        validate_pair(pair, pool)


@given(pools().flatmap(lambda pool: st.tuples(st.just(pool), shuffled(pool))))
@effort(60)
def test_the_order_of_documents_does_not_matter(both: tuple[Snapshot, Snapshot]) -> None:
    one, other = both
    assert scenes_of(one) == scenes_of(other)
    for node in NODES:
        assert files_of(one, node.id) == files_of(other, node.id)


@given(pools())
@effort(60)
def test_no_two_subnets_share_a_namespace_or_a_device(pool: Snapshot) -> None:
    for node in NODES:
        scenes = [subnet_scene(facts_of(node.id), pool, pair) for pair in pool.pairs_on(node.id)]
        assert [scene.namespace for scene in scenes] == [namespace_of(pair.subnet) for pair in pool.pairs_on(node.id)]
        assert len({scene.namespace for scene in scenes}) == len(scenes)
        devices = [item.device for scene in scenes for item in scene.objects.values() if isinstance(item, Tunnel)]
        assert len(set(devices)) == len(devices), "tunnels are made in the machine's own namespace, under their names"
        links = [item for scene in scenes for item in scene.objects.values() if isinstance(item, Tunnel)]
        assert len({(link.tunnel_key, link.port) for link in links}) == len(links), "told apart by number and port"


@given(pools())
@effort(60)
def test_the_tunnels_local_address_is_the_havip_and_members_differ_in_their_cards_only(pool: Snapshot) -> None:
    """So a failover moves nothing but the HaVip and the gate."""
    for pair in all_pairs(pool):
        mine, theirs = (subnet_scene(facts_of(member.node), pool, pair) for member in pair.members)
        for scene in (mine, theirs):
            tunnel = scene.objects["tunnel", tunnel_device_of(pair.subnet)]
            assert isinstance(tunnel, Tunnel)
            assert tunnel.local == pair.havip
        assert common(mine, pair) == common(theirs, pair)


def common(scene: Scene, pair: PairSpec) -> dict[tuple[str, ...], object]:
    """What both members have alike: all but the card and the link between them."""
    link = sync_device_of(pair.subnet)
    found: dict[tuple[str, ...], object] = {
        key: item
        for key, item in scene.objects.items()
        if not isinstance(item, Eni | SourceGuard | Address | Table) and link not in "/".join(key)
    }
    tables = [item for item in scene.objects.values() if isinstance(item, Table)]
    return found | {(table.name, chain.name): of_all(chain, link) for table in tables for chain in table.chains}


def of_all(chain: Chain, link: str) -> list[object]:
    """The rules of a chain but for those about the link."""
    about_link = (SYNC_NETWORK, *(IPv4Network(address) for address in SYNC_NETWORK.hosts()))
    return [
        rule
        for rule in chain.rules
        if isinstance(rule, Rule) and rule.in_device != link and rule.destination not in about_link
    ]


@given(pools())
@effort(60)
def test_every_pair_has_a_file_and_a_track_file_of_its_own(pool: Snapshot) -> None:
    for node in NODES:
        files = files_of(pool, node.id)
        assert len(files) == 1 + len(pool.pairs_on(node.id))
        tracked = [line for text in files.values() for line in text.splitlines() if line.startswith("    file ")]
        assert len(set(tracked)) == len(pool.pairs_on(node.id))


@given(pools())
@effort(60)
def test_a_host_that_attaches_all_serves_no_two_subnets_that_overlap(pool: Snapshot) -> None:
    chosen, refused = Rules(HOST_FACTS.instance_cidrs, pool.subnets).everything()
    assert {*chosen, *refused} == set(pool.subnets)
    for index, one in enumerate(chosen):
        for other in chosen[index + 1 :]:
            pairs = ((left, right) for left in pool.subnets[one].cidrs for right in pool.subnets[other].cidrs)
            assert not any(left.overlaps(right) for left, right in pairs)


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(24, 32)), min_size=1, max_size=8))
@effort(200)
def test_a_host_that_attaches_all_chooses_as_if_each_were_compared_with_each(places: list[tuple[int, int]]) -> None:
    """CIDRs of neighbouring networks and of the networks around them."""
    subnets = {}
    for number, (place, length) in enumerate(places):
        cidr = IPv4Network((int(IPv4Address("172.16.0.0")) + place * 16, length), strict=False)
        subnets[f"s{number}"] = SubnetSpec(id=f"s{number}", cidrs=(cidr,), key=number + 1)
    chosen, told = list[str](), dict[str, str]()
    for name, spec in subnets.items():
        clash = next((other for other in chosen if spec.cidrs[0].overlaps(subnets[other].cidrs[0])), None)
        if clash is None:
            chosen.append(name)
        else:
            told[name] = f"its CIDRs overlap those of {clash}, which all instances of this host reach"
    assert Rules(HOST_FACTS.instance_cidrs, subnets).everything() == (tuple(chosen), told)
