"""Observing and committing a table in a real kernel, in a network namespace of the test's own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from proxypool.adapters import iptables
from proxypool.adapters.iptables import tables
from proxypool.core.firewall import NODES_SET, PEERS_SET, SyncEnds, node_guard, subnet_tables
from proxypool.core.model import TunnelKind
from proxypool.core.scene import CHAIN_PREFIX, Chain, Match, Rule, Table, UnknownRule
from tests.contract.netns import enter_new_namespace, own_namespace, run
from tests.unit import builders as make

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")

OURS = f"{CHAIN_PREFIX}INPUT"
ACCEPT = Rule("ACCEPT", matches=(Match("conntrack", (("ctstate", "RELATED,ESTABLISHED"),)),))
REJECT = Rule("REJECT", (("reject-with", "tcp-reset"),), source=IPv4Network("10.1.0.0/16"), protocol="tcp")
WANTED = Table("filter", (Chain(OURS, "INPUT", (ACCEPT, REJECT), policy="DROP"),))


@pytest.fixture(autouse=True)
def namespace() -> Iterator[None]:
    """The test's thread is in an empty namespace; nothing is remembered of other tests."""
    tables._proven.clear()
    with own_namespace():
        yield
    tables._proven.clear()


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tables that python-iptables had to read."""
    names: list[str] = []
    parse = tables._parse_table

    def spy(desired: Table) -> Table:
        names.append(desired.name)
        return parse(desired)

    monkeypatch.setattr(tables, "_parse_table", spy)
    return names


def iptables_legacy(*words: str) -> str:
    return run("iptables-legacy", "-w", *words)


def test_nothing_of_ours_is_observed_as_nothing() -> None:
    assert iptables.observe_table(WANTED) == Table("filter", ())


def test_what_was_applied_is_observed_as_wanted() -> None:
    iptables.apply_table(WANTED)
    assert iptables.observe_table(WANTED) == WANTED
    assert f"-A INPUT -m comment --comment proxypool -j {OURS}" in iptables_legacy("-S")


def test_the_link_between_members_is_observed_as_wanted() -> None:
    ends = SyncEnds("ppts1", IPv4Address("169.254.77.1"), IPv4Address("169.254.77.2"), IPv4Network("169.254.77.0/30"))
    tunnels, egress = IPv4Network("100.64.0.0/10"), IPv4Address("172.16.101.20")
    for table in subnet_tables(make.subnet(), "ppt1", tunnels, egress, ends):
        iptables.apply_table(table)
        assert iptables.observe_table(table) == table
    link = "-A PP-INPUT -s 169.254.77.2/32 -d 169.254.77.1/32 -i ppts1 -p udp -m udp --dport 3780 -j ACCEPT"
    assert link in iptables_legacy("-S")


@pytest.mark.parametrize("kind", list(TunnelKind))
def test_a_nodes_guard_is_observed_as_wanted(kind: TunnelKind) -> None:
    for name in (PEERS_SET, NODES_SET):
        run("ipset", "create", name, "hash:ip")
    table = node_guard(kind, 4789, [(IPv4Address("192.168.4.50"), 2181)], IPv4Address("192.168.4.1"))
    iptables.apply_table(table)
    assert iptables.observe_table(table) == table


@pytest.mark.parametrize("egress", [None, IPv4Address("172.16.101.20")])
def test_a_subnets_tables_are_observed_as_wanted(egress: IPv4Address | None) -> None:
    for table in subnet_tables(make.subnet(), "ppt1", IPv4Network("100.64.0.0/10"), egress):
        iptables.apply_table(table)
        assert iptables.observe_table(table) == table
    saved = iptables_legacy("-t", "nat", "-S")
    assert ("-j SNAT --to-source 172.16.101.20 --random-fully" in saved) is (egress is not None)


def test_a_device_may_be_any_with_a_prefix() -> None:
    rule = Rule("ACCEPT", out_device="ppt+")
    table = Table("filter", (Chain(f"{CHAIN_PREFIX}FORWARD", "FORWARD", (rule,)),))
    iptables.apply_table(table)
    assert "-A PP-FORWARD -o ppt+ -j ACCEPT" in iptables_legacy("-S")
    assert iptables.observe_table(table) == table


def test_an_unchanged_table_is_parsed_once(parsed: list[str]) -> None:
    iptables.apply_table(WANTED)
    assert [iptables.observe_table(WANTED) for _ in range(3)] == [WANTED] * 3
    assert parsed == ["filter"]


def test_counters_are_no_change(parsed: list[str]) -> None:
    iptables.apply_table(WANTED)
    iptables.observe_table(WANTED)
    subprocess.run(["ping", "-c", "1", "-W", "0.2", "127.0.0.1"], check=False, capture_output=True)
    assert any("[1:" in line for line in run("iptables-legacy-save", "-c").splitlines()), "nothing was counted"
    assert iptables.observe_table(WANTED) == WANTED
    assert parsed == ["filter"]


@pytest.mark.parametrize(
    "change",
    [
        ("-F", OURS),
        ("-D", OURS, "1"),
        ("-I", OURS, "-j", "ACCEPT"),
        ("-R", OURS, "2", "-s", "10.2.0.0/16", "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"),
        ("-P", "INPUT", "ACCEPT"),
        ("-D", "INPUT", "1"),
        ("-I", "INPUT", "-j", "ACCEPT"),
    ],
    ids=" ".join,
)
def test_a_change_of_a_table_that_was_right_is_seen(change: tuple[str, ...]) -> None:
    iptables.apply_table(WANTED)
    assert iptables.observe_table(WANTED) == WANTED
    iptables_legacy(*change)
    assert iptables.observe_table(WANTED) != WANTED


def test_the_rules_of_others_are_no_change_and_stay() -> None:
    iptables_legacy("-A", "INPUT", "-s", "192.0.2.7", "-j", "DROP")
    iptables.apply_table(WANTED)
    iptables_legacy("-A", "INPUT", "-s", "192.0.2.8", "-j", "DROP")
    assert iptables.observe_table(WANTED) == WANTED
    iptables.apply_table(WANTED)
    iptables.remove_table("filter")
    left = iptables_legacy("-S")
    assert "-s 192.0.2.7/32 -j DROP" in left
    assert "-s 192.0.2.8/32 -j DROP" in left
    assert CHAIN_PREFIX not in left


def test_what_is_right_in_one_namespace_says_nothing_of_another() -> None:
    iptables.apply_table(WANTED)
    assert iptables.observe_table(WANTED) == WANTED
    enter_new_namespace()
    assert iptables.observe_table(WANTED) == Table("filter", ())


def test_another_wish_for_the_same_bytes_is_compared_anew() -> None:
    iptables.apply_table(WANTED)
    assert iptables.observe_table(WANTED) == WANTED
    other = replace(WANTED, chains=(replace(WANTED.chains[0], rules=(ACCEPT,)),))
    found = iptables.observe_table(other)
    assert found != other
    assert isinstance(found.chains[0].rules[1], UnknownRule)


def test_no_more_is_remembered_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_PROVEN", 2)
    for number in range(4):
        rule = replace(REJECT, source=IPv4Network(f"10.{number}.0.0/16"))
        table = replace(WANTED, chains=(replace(WANTED.chains[0], rules=(rule,)),))
        iptables.apply_table(table)
        assert iptables.observe_table(table) == table
    assert len(tables._proven) == 2
    assert table in tables._proven
