"""What is not known because its document cannot be read is not taken for removed."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

from msgspec.structs import replace

from proxypool.adapters.gate import remove_locks
from proxypool.adapters.zookeeper.layout import Layout
from proxypool.adapters.zookeeper.snapshots import unread_of
from proxypool.core.keepalived import GLOBAL_FILE, file_name, render, subnet_of_file, unknown_files
from proxypool.core.model import Snapshot
from proxypool.core.remembering import with_remembered
from proxypool.daemons.open_cidrs import OpenCidrs
from tests.unit import builders as make

WHOLE = make.snapshot(pairs=[make.pair()])
FILE = file_name("s1", "p1")


def test_which_subnets_and_nodes_are_not_known_follows_from_the_paths() -> None:
    layout = Layout("a")
    suffixes = (
        *("subnets/s1", "subnets/s2/pairs/p1", "subnets/s3/pairs/p1/status/n1", "subnets/s4/spares"),
        *("nodes/n1", "nodes/n2/alive", "spec", "controller/actions/s5_p1"),
    )
    found = unread_of(layout, {layout.path(one): "why" for one in suffixes}, ())
    assert sorted(found.subnets) == ["s1", "s2"]
    assert sorted(found.nodes) == ["n1"]


def test_files_of_a_subnet_that_cannot_be_read_are_kept() -> None:
    unread = replace(WHOLE, subnets={}, pairs={}, unread_subnets=frozenset({"s1"}))
    assert FILE not in render(make.keepalived_facts(), unread)
    installed = (GLOBAL_FILE, FILE, file_name("s2", "p1"))
    assert unknown_files("n1", unread, installed) == {FILE}
    assert unknown_files("n1", replace(unread, unread_subnets=frozenset()), installed) == frozenset()


def test_the_file_of_a_pair_whose_other_node_cannot_be_read_is_kept() -> None:
    """Its text needs the other one's address, so none can be made."""
    unread = replace(WHOLE, nodes={"n1": WHOLE.nodes["n1"]}, unread_nodes=frozenset({"n2"}))
    assert FILE not in render(make.keepalived_facts(), unread)
    assert unknown_files("n1", unread, ()) == {FILE}
    assert unknown_files("n1", replace(unread, unread_nodes=frozenset()), ()) == frozenset()


def test_a_file_says_of_which_subnet_it_is() -> None:
    assert subnet_of_file(file_name("a-b.c", "p-1")) == "a-b.c"
    assert subnet_of_file(GLOBAL_FILE) == ""


def test_a_host_goes_on_with_what_it_knew_of_a_subnet() -> None:
    before = replace(WHOLE, subnet_hosts={"s1": frozenset({"h1"})})
    unread = Snapshot(spec=WHOLE.spec, nodes=WHOLE.nodes, unread_subnets=frozenset({"s1"}))
    found = with_remembered(unread, before)
    assert (found.subnets, found.pairs, found.subnet_hosts) == (before.subnets, before.pairs, before.subnet_hosts)
    assert with_remembered(unread, None) is unread


def test_what_is_known_now_counts_more_than_what_was_known_before() -> None:
    now = replace(WHOLE, unread_subnets=frozenset({"s1"}))
    old = replace(WHOLE, subnets={"s1": make.subnet("s1", "172.16.9.0/24")}, pairs={})
    assert with_remembered(now, old).subnets == now.subnets
    gone = replace(now, subnets={}, pairs={}, unread_subnets=frozenset({"s7"}))
    assert with_remembered(gone, WHOLE).subnets == {}, "a subnet that was removed is no subnet that cannot be read"


def test_other_open_cidrs_leave_those_of_the_file_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("nonMasqueradeCIDRs:\n- 10.9.0.0/16\n")
    cidrs = OpenCidrs((IPv4Network("10.1.0.0/16"),), str(file))
    cidrs.refresh()
    cidrs.configure((IPv4Network("10.2.0.0/16"),))
    of_file = {IPv4Network("10.9.0.0/16"), IPv4Network("169.254.0.0/16")}
    assert set(cidrs.value) == {IPv4Network("10.2.0.0/16"), *of_file}
    cidrs.configure(())
    assert set(cidrs.value) == of_file


def test_locks_of_subnets_that_are_gone_are_removed_and_others_stay(tmp_path: Path) -> None:
    for name in ("s1", "s2"):
        (tmp_path / name).touch()
    remove_locks(str(tmp_path), {"s1"})
    remove_locks(str(tmp_path / "not there"), set())
    assert [file.name for file in tmp_path.iterdir()] == ["s1"]
