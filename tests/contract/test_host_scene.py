"""A host's whole scene in a real kernel: what was programmed is what is observed, and its numbers are read back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

import pytest

from proxypool.adapters import iptables
from proxypool.adapters.iptables import tables
from proxypool.adapters.netlink import Home
from proxypool.core.host_firewall import HostRules, host_tables
from proxypool.core.host_scene import guard_of, havips_of, host_scene, path_legs, platform_of, steering_of
from proxypool.core.model import PairState, TunnelKind
from proxypool.core.scene import Scene
from proxypool.core.shares import wanted_shares
from proxypool.core.steering import Book, MarkLayout, Weights, adopt, advance
from proxypool.daemons.dataplane import HOST_SCOPE, Dataplane, Reconciled
from proxypool.daemons.executor import KernelDriver
from tests.contract.netns import own_namespace, run
from tests.unit import builders as make

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")

POOL = make.snapshot(
    subnets=[make.subnet(), make.subnet("s2", "172.17.0.0/16", "10.0.0.0/8", key=2), make.subnet("s3", "172.18.0.0/16", key=3)],
    pairs=[
        make.pair(),
        make.pair("p2", havip="192.168.4.101", vrid=2),
        make.pair("p3", havip="192.168.4.102", vrid=3, state=PairState.DRAINING),
        make.pair("q1", "s2", havip="192.168.4.103", vrid=4),
    ],
)  # fmt: skip
GROUPS = (("s1",), ("s1", "s2"), ("s2",), ("s3",))
"""Of two pairs, of both subnets, of one pair, of none."""
ALL_WEIGHTS: tuple[Weights, ...] = ((1, 1), (1, 1, 1), (2, 1, 1), (0, 1, 3), (16, 16, 16, 16, 15))
"""In turn, by weight, and, where the round is long, by chance."""


@pytest.fixture(autouse=True)
def namespace() -> Iterator[None]:
    """The test's thread is in an empty namespace; nothing is remembered of other tests."""
    tables._proven.clear()
    with own_namespace():
        yield
    tables._proven.clear()


def book() -> Book:
    return advance(Book(), wanted_shares(GROUPS, POOL.pairs, ()))


def scene(dead: tuple[IPv4Address, ...] = ()) -> Scene:
    customers = [cidr for each in POOL.subnets.values() for cidr in each.cidrs]
    facts, steering = make.host_facts(), steering_of(book(), GROUPS, POOL, dead)
    return host_scene(
        facts, make.VXLAN, steering, guard_of((), customers), platform_of(facts, havips_of(POOL.pairs), POOL.nodes)
    )


def rules_with(*weights: Weights, masquerades: bool = False, shift: int = 16) -> HostRules:
    return HostRules(
        (IPv4Network("10.244.1.0/24"), IPv4Network("10.245.0.0/16")),
        IPv4Address("100.64.0.1"),
        MarkLayout(shift),
        {each: number for number, each in enumerate(weights)},
        (IPv4Network("10.96.0.0/12"),),
        turn=7,
        masquerades=masquerades,
        tunnel=TunnelKind.VXLAN if masquerades else TunnelKind.GRE,
        new_connections_per_s=1000,
    )


def make_sets() -> None:
    """Those that rules name."""
    run("ipset", "create", "pp-attached", "hash:net", "skbinfo")
    for name in ("pp-havips", "pp-platform"):
        run("ipset", "create", name, "hash:ip")


@pytest.mark.parametrize("shift", [0, 16, 17])
@pytest.mark.parametrize("masquerades", [False, True])
def test_each_table_is_observed_as_it_was_applied(masquerades: bool, shift: int) -> None:  # noqa: FBT001
    """With every way of sharing in use: no rule comes back other than it went."""
    make_sets()
    for table in host_tables(rules_with(*ALL_WEIGHTS, masquerades=masquerades, shift=shift)):
        iptables.apply_table(table)
        tables._proven.clear()
        assert iptables.observe_table(table) == table


def test_a_way_of_sharing_that_comes_or_goes_is_all_that_changes() -> None:
    make_sets()
    few, many = host_tables(rules_with((1, 1)))[0], host_tables(rules_with(*ALL_WEIGHTS))[0]
    for table in (few, many, few):
        iptables.apply_table(table)
        tables._proven.clear()
        assert iptables.observe_table(table) == table
    assert "PP-CHOICE-1" not in run("iptables-legacy", "-t", "mangle", "-S")


@pytest.fixture
def results() -> list[Reconciled]:
    return []


@pytest.fixture
def dataplane(results: list[Reconciled]) -> Dataplane:
    """On the test's own thread."""
    home = Home()
    return Dataplane(results.append, home, KernelDriver(home))


def test_a_host_is_programmed_in_one_round_and_nothing_is_left_to_do(
    dataplane: Dataplane, results: list[Reconciled]
) -> None:
    """The set, tables, tunnels, routes to loopback, rules: all as wanted, for a successor as well."""
    wanted = scene()
    dataplane.want(HOST_SCOPE, wanted, 1)
    assert dataplane.work()
    assert results[-1].problems == ()
    assert results[-1].operations > 30
    successor = KernelDriver(Home())
    tables._proven.clear()
    assert dict(successor.observe(wanted).objects) == dict(wanted.objects)


def test_the_numbers_of_paths_are_read_back(dataplane: Dataplane, results: list[Reconciled]) -> None:
    """From the routing tables alone, also of a pair that is dead; what no pair can reach has no number to keep."""
    before = book()
    dead = (IPv4Address("192.168.4.101"),)
    dataplane.want(HOST_SCOPE, scene(dead), 1)
    assert dataplane.work()
    assert results[-1].problems == ()
    found = KernelDriver(Home()).observe(Scene(None))
    legs = path_legs(found, POOL.subnets)
    assert legs == {number: path for number, path in before.paths.items() if path}
    adopted = adopt(legs)
    for group in GROUPS[:-1]:
        assert adopted.groups[group] == before.groups[group]
