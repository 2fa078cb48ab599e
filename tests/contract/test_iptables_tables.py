"""Observing and committing a table in a real kernel, in a network namespace of the test's own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from proxypool.adapters import iptables
from proxypool.adapters.iptables import stamps, tables
from proxypool.adapters.iptables.rules import to_iptc
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
    forget()
    with own_namespace():
        yield
    forget()


def forget() -> None:
    tables._proven.clear()
    tables._bases.clear()
    stamps.clear()


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


# ---- tables of one shape ---------------------------------------------------------------------------------------------


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Rule]:
    """Rules that python-iptables had to build for a table."""
    rules: list[Rule] = []
    build = to_iptc

    def spy(rule: Rule) -> object:
        rules.append(rule)
        return build(rule)

    monkeypatch.setattr(tables, "to_iptc", spy)
    return rules


def tables_of(number: int, *, egress: bool = False, cidrs: int = 1) -> tuple[Table, ...]:
    """Of one of many subnets."""
    networks = (f"172.16.{number}.0/24", "10.0.0.0/8", "10.0.0.0/13", "10.9.8.7/32", "0.0.0.0/0")[:cidrs]
    subnet = make.subnet(f"s{number}", *networks)
    own, peer = IPv4Address(f"100.127.{number}.1"), IPv4Address(f"100.127.{number}.2")
    ends = SyncEnds(f"pps{number}", own, peer, IPv4Network(f"100.127.{number}.0/30")) if egress else None
    address = IPv4Address(f"172.16.{number}.20") if egress else None
    return subnet_tables(subnet, f"ppt{number}", IPv4Network("100.64.0.0/10"), address, ends)


def apply_and_see(wanted: tuple[Table, ...]) -> str:
    for table in wanted:
        iptables.apply_table(table)
        assert iptables.observe_table(table) == table
    return iptables_legacy("-S") + iptables_legacy("-t", "nat", "-S")


@pytest.mark.parametrize("cidrs", [1, 2, 5])
@pytest.mark.parametrize("egress", [False, True])
def test_the_tables_of_many_subnets_are_built_once_and_each_is_its_own(
    built: list[Rule], parsed: list[str], *, egress: bool, cidrs: int
) -> None:
    """As the tools see them, and as python-iptables reads them, they are what it makes itself."""
    apply_and_see(tables_of(1, egress=egress, cidrs=cidrs))
    built.clear()
    parsed.clear()
    for number in (22, 133):
        wanted = tables_of(number, egress=egress, cidrs=cidrs)
        enter_new_namespace()
        stamped = apply_and_see(wanted)
        # The address in a SNAT rule is the target's business.
        assert {rule.target for rule in built} <= {"SNAT"}
        assert set(parsed) == ({"nat"} if egress else set())
        for table in wanted:
            assert tables._parse_table(table) == table
        forget()
        enter_new_namespace()
        assert apply_and_see(wanted) == stamped
        built.clear()
        parsed.clear()


def test_a_device_with_any_end_is_put_in_as_python_iptables_does_it(built: list[Rule]) -> None:
    def wanted(*devices: str) -> Table:
        rules = tuple(Rule("ACCEPT", in_device=device, out_device=device, is_out_negated=True) for device in devices)
        return Table("filter", (Chain(f"{CHAIN_PREFIX}FORWARD", "FORWARD", rules),))

    names = [("eth0", "ppt+"), ("p+", "fifteen-letters"), ("fifteen-letter+", "x")]
    apply_and_see((wanted("lo", "lo"),))
    built.clear()
    for pair in names:
        enter_new_namespace()
        apply_and_see((wanted(*pair),))
        assert tables._parse_table(wanted(*pair)) == wanted(*pair)
    assert built == []


def test_a_table_of_another_shape_is_not_put_in(built: list[Rule]) -> None:
    """A rule more, another target, another match, a value more or less: each is built on its own."""
    apply_and_see((WANTED,))
    chain = WANTED.chains[0]
    for rules in (
        (ACCEPT,),
        (ACCEPT, REJECT, REJECT),
        (REJECT, ACCEPT),
        (ACCEPT, replace(REJECT, source=None)),
        (ACCEPT, replace(REJECT, in_device="lo")),
        (ACCEPT, replace(REJECT, is_source_negated=True)),
        (ACCEPT, replace(REJECT, target_options=())),
        (replace(ACCEPT, matches=()), REJECT),
    ):
        built.clear()
        enter_new_namespace()
        table = replace(WANTED, chains=(replace(chain, rules=rules),))
        apply_and_see((table,))
        assert built == list(rules)


def test_a_table_with_rules_of_others_is_not_replaced(built: list[Rule]) -> None:
    apply_and_see((WANTED,))
    enter_new_namespace()
    iptables_legacy("-A", "OUTPUT", "-s", "192.0.2.7", "-j", "DROP")
    built.clear()
    assert "-s 192.0.2.7/32 -j DROP" in apply_and_see((WANTED,))
    assert built == [ACCEPT, REJECT]


def test_a_table_with_another_policy_is_not_replaced(built: list[Rule]) -> None:
    """What was made from a table with other policies would bring them along."""
    apply_and_see((WANTED,))
    enter_new_namespace()
    iptables_legacy("-P", "OUTPUT", "DROP")
    built.clear()
    assert "-P OUTPUT DROP" in apply_and_see((WANTED,))
    assert built == [ACCEPT, REJECT]


def test_a_change_of_a_table_that_was_put_in_is_seen() -> None:
    first, second = tables_of(1)[0], tables_of(2)[0]
    apply_and_see((first,))
    enter_new_namespace()
    apply_and_see((second,))
    assert iptables.observe_table(first) != first
    iptables_legacy("-D", f"{CHAIN_PREFIX}FORWARD", "2")
    assert iptables.observe_table(second) != second


def test_no_more_shapes_are_remembered_than_the_limit(monkeypatch: pytest.MonkeyPatch, built: list[Rule]) -> None:
    """The ones that were used last stay."""
    monkeypatch.setattr(stamps, "MAX_STAMPS", 2)
    for cidrs in (1, 2, 1, 3, 1):
        built.clear()
        apply_and_see(tables_of(cidrs, cidrs=cidrs)[:1])
        enter_new_namespace()
    assert built == []
    assert len(stamps._stamps) == 2


def test_a_table_that_names_a_set_is_built_anew(built: list[Rule]) -> None:
    """Its bytes hold the set's number, which is another one in another namespace."""
    rule = Rule("ACCEPT", matches=(Match("set", (("match-set", "pp-wanted src"),)),))
    table = Table("filter", (Chain(OURS, "INPUT", (rule,)),))
    for others in (0, 2):
        built.clear()
        enter_new_namespace()
        for number in range(others):
            run("ipset", "create", f"other{number}", "hash:ip")
        run("ipset", "create", "pp-wanted", "hash:ip")
        assert "--match-set pp-wanted src" in apply_and_see((table,))
        assert built == [rule]
