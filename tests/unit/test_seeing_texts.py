"""What people read: what to run next, tables that fit a terminal, the tree of the topology."""

from __future__ import annotations

import re

import msgspec
import pytest
from typer.main import get_command

from proxypool.cli.health_texts import brief_health, check_lines, health_line
from proxypool.cli.lazy import LazyCommand
from proxypool.cli.main import app
from proxypool.cli.output import table, wrap
from proxypool.cli.topology_texts import PLAIN, tree_text
from proxypool.cli.views import status_text
from proxypool.core.assembly import assemble
from proxypool.core.checks import Check, Code
from proxypool.core.status import PoolStatus, all_checks
from proxypool.core.topology import topology
from tests.unit.builders import candidates, host, pair, snapshot
from tests.unit.test_status import BACKUP, MASTER, NOW, member, view

replace = msgspec.structs.replace
SUBJECTS = {
    "node-problem": "nodes/n1",
    "host-problem": "hosts/h1",
    "malformed-document": "/proxypool/p/subnets/s9",
    "no-controller": "controller",
}
DEAD = assemble(view(living=(), elected=()), NOW)


# ---- what to run next ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", Code, ids=lambda code: code.value[0])
def test_every_check_says_what_to_run_next(code: Code) -> None:
    """A command that there is: of proxypool, or of the system; with everything filled in."""
    check = Check.of(code, SUBJECTS.get(code.value[1], "s1/p1/n1"), "x")
    program, *words = check.command.split()
    assert program in {"proxypool", "systemctl", "journalctl"}
    assert not re.search(r"[{}]|  ", check.command + check.on)
    assert (program != "proxypool") is bool(check.on), "a command of the system says on which machine"
    if program == "proxypool":
        context = get_command(app).make_context("proxypool", words, resilient_parsing=True)
        command = get_command(app)
        name, found, rest = command.resolve_command(context, words)  # type: ignore[attr-defined]
        assert not isinstance(found, LazyCommand)
        assert name == words[0]
        if hasattr(found, "commands"):
            assert rest[0] in found.commands


@pytest.mark.parametrize(
    ("code", "subject", "command", "on"),
    [
        (Code.NO_MASTER, "s1/p1", "proxypool explain s1/p1", ""),
        (Code.MEMBER_UNFIT, "s1/p1/n2", "proxypool explain s1/p1", ""),
        (Code.NODE_NOT_ALIVE, "s1/p1/n2", "systemctl status proxypool-node", "n2"),
        (Code.NODE_PROBLEM, "nodes/n1", "proxypool explain n1", ""),
        (Code.HOST_PROBLEM, "hosts/h1", "proxypool explain hosts/h1", ""),
        (Code.PAUSED, "s1/p1", "proxypool pair resume s1 p1", ""),
        (Code.PAUSED, "nodes/p1", "proxypool pair resume nodes p1", ""),
        (Code.NO_PAIR, "s1", "proxypool explain s1", ""),
        (Code.AT_MAX_PAIRS, "s1", "proxypool scale set s1 --max N", ""),
    ],
)
def test_a_command_names_what_the_check_is_about(code: Code, subject: str, command: str, on: str) -> None:
    """A subnet may even be called `nodes`."""
    check = Check.of(code, subject, "x")
    assert (check.command, check.on) == (command, on)


def test_the_health_line_has_codes_and_the_next_command() -> None:
    """The worst first; nothing more if all is well."""
    line, then, runbook = health_line(DEAD, colour=False).splitlines()
    assert line.startswith("pool p: critical (PP001, PP012, PP008) - 1 subnet, 1 pair, 0/")
    assert then == "next: proxypool explain s1/p1"
    assert runbook == "runbook: proxypool explain PP001"
    assert health_line(assemble(view(MASTER, BACKUP), NOW), colour=False).splitlines() == [
        "pool p: ok - 1 subnet, 1 pair, 2/2 nodes, 1/1 hosts, tunnel gre"
    ]
    assert health_line(DEAD, colour=True).startswith("pool p: \x1b[1;31mcritical\x1b[0m (PP001")


def test_what_is_critical_comes_first() -> None:
    """Although a pool's own checks are listed before those of its pairs."""
    documents = replace(
        snapshot(pairs=[pair()], hosts=[host()], elections={"s1/p1": candidates()}), malformed={"/x": "not JSON"}
    )
    status = assemble(view(living=(), documents=documents), NOW)
    assert next(all_checks(status)).code == "PP009"
    assert health_line(status, colour=False).startswith("pool p: critical (PP001, PP009")
    assert brief_health(status) == "critical: PP001 no-master s1/p1, and 4 more"
    lines = status_text(status, wide=False, colour=False).splitlines()
    assert lines[4].startswith("critical PP001 no-master s1/p1: ")
    assert lines[5] == "    next: proxypool explain s1/p1"


def test_a_check_stays_in_one_line_unless_a_terminal_is_narrow() -> None:
    """A pipe can be searched; a terminal wraps at words, and never a command."""
    (check, *_) = DEAD.subnets[0].pairs[0].checks
    whole = check_lines([check]).splitlines()
    assert len(whole) == 2
    narrow = check_lines([check], width=60).splitlines()
    assert len(narrow) > 2
    assert max(map(len, narrow)) <= 60
    assert all(line.startswith("    ") for line in narrow[1:])
    assert "PP001 no-master s1/p1" in narrow[0]


# ---- fitting ---------------------------------------------------------------------------------------------------------

HEADER, ROWS = ("NAME", "SIZE", "REMARK"), [("a", "12", "x" * 30), ("b", "", "y")]


def test_a_table_leaves_optional_columns_out_until_it_fits() -> None:
    """The first named goes first, and it says which; a pipe gets all."""
    assert table(HEADER, ROWS).splitlines()[0].split() == list(HEADER)
    assert table(HEADER, ROWS, width=80, optional=("REMARK",)) == table(HEADER, ROWS)
    narrow = table(HEADER, ROWS, width=20, optional=("REMARK", "SIZE")).splitlines()
    assert narrow == ["NAME  SIZE", "a     12", "b     -", "(not shown here: REMARK; -o wide shows everything)"]
    assert table(HEADER, ROWS, width=5, optional=("REMARK", "SIZE"), says_so=False) == "NAME\na\nb"
    assert table(HEADER, ROWS, width=42, optional=("REMARK",)) == table(HEADER, ROWS), "42 columns are enough"
    assert "REMARK" in table(HEADER, ROWS, width=41, optional=("REMARK",)).splitlines()[-1]


def test_a_command_is_never_broken() -> None:
    text = "some words come first, then do this: `proxypool pair undrain s1 p1`, and be done"
    lines = wrap(text, 50, "  ").splitlines()
    assert "  `proxypool pair undrain s1 p1`, and be done" in lines
    assert wrap(text, None) == text


@pytest.mark.parametrize("width", [80, 200])
def test_the_status_fits_the_terminal(width: int) -> None:
    """With everything wrong that can be; at 200 columns nothing is left out."""
    for status in (DEAD, assemble(view(MASTER, member("n2", "fault", health=("the ENI is gone",))), NOW)):
        text = status_text(status, wide=False, colour=False, width=width)
        assert max(map(len, text.splitlines())) <= width
        assert ("not shown here" in text) is (width == 80)


# ---- the tree --------------------------------------------------------------------------------------------------------


def tree(status: PoolStatus, *, wide: bool = False, width: int | None = None) -> str:
    return tree_text(topology(status), wide=wide, colour=False, width=width)


def test_the_tree_follows_the_packet() -> None:
    """Host, tunnel, pair, node with its role, ENI."""
    assert tree(assemble(view(MASTER, BACKUP), NOW)).splitlines() == [
        "pool p: ok",
        "└─ subnet s1: ok, 172.16.101.0/24, tenant default",
        "   ├─ 1 host uses it",
        "   │  └─ h1 192.168.80.1, tunnel address 100.64.0.1",
        "   └─ tunnel gre, key 1",
        "      └─ pair p1: ok, HaVip 192.168.4.100",
        "         ├─ master n1: 192.168.4.1, holds the HaVip, gate open, elected",
        "         │  └─ ENI eth1 172.16.101.11/24",
        "         └─ backup n2: 192.168.4.2, gate closed",
        "            └─ ENI eth1 172.16.101.12/24",
    ]


def test_versions_are_shown_while_there_is_more_than_one() -> None:
    """In a line of the status, and at each machine of the tree; with one version in neither."""
    one = view(MASTER, BACKUP)
    alive = {name: replace(found, version="0.1.0", since=NOW - 9) for name, found in one.nodes_alive.items()}
    same = assemble(replace(one, nodes_alive=alive), NOW)
    assert "version" not in tree(same) + status_text(same, wide=False, colour=False)
    mixed = assemble(replace(one, nodes_alive={**alive, "n2": replace(alive["n2"], version="0.2.0")}), NOW)
    assert mixed.level == same.level, "a mixture is no fault before it lasts"
    assert "versions: 0.1.0 on 1 node, 1 host; 0.2.0 on 1 node" in status_text(mixed, wide=False, colour=False)
    assert "master n1: 192.168.4.1, holds the HaVip, gate open, elected, version 0.1.0" in tree(mixed)
    assert "backup n2: 192.168.4.2, gate closed, version 0.2.0" in tree(mixed)


def test_the_master_stands_above_whatever_its_name_is() -> None:
    lines = tree(assemble(view(member("n1", "backup"), member("n2", "master"), elected=("n2", "n1")), NOW)).splitlines()
    assert [line.split()[-1] for line in lines if "ENI" in line] == ["172.16.101.12/24", "172.16.101.11/24"]


def test_the_tree_shows_what_is_wrong_where_it_is() -> None:
    text = tree(DEAD)
    assert "pair p1: critical PP001 PP012 PP008, HaVip" in text
    assert text.count("not running n") == 2


def test_of_many_hosts_the_first_are_shown() -> None:
    """All of them when it is wide."""
    names = [f"h{number:02}" for number in range(30)]
    documents = replace(
        snapshot(pairs=[pair()], elections={"s1/p1": candidates("n1", "n2")}),
        hosts={name: replace(host(), id=name) for name in names},
        subnet_hosts={"s1": frozenset(names)},
    )
    status = assemble(view(MASTER, BACKUP, documents=documents), NOW)
    assert "and 22 more: -o wide shows all" in tree(status)
    assert "h29" not in tree(status)
    assert all(name in tree(status, wide=True) for name in names)


def test_the_tree_fits_80_columns_and_needs_no_unicode() -> None:
    text = tree(assemble(view(MASTER, member("n2", "fault", health=("the ENI eth1 is not there",))), NOW), width=60)
    assert max(map(len, text.splitlines())) <= 60
    assert text.translate(PLAIN).isascii()


def test_a_pool_with_nothing_in_it_says_how_to_begin() -> None:
    empty = assemble(view(documents=replace(snapshot(), subnets={}, subnet_hosts={})), NOW)
    assert "no subnet yet: add one with `proxypool subnet add`" in tree(empty)
    assert "nodes without a pair: n1, n2" in tree(empty)
