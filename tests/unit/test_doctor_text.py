"""How `proxypool doctor` is read by people."""

from __future__ import annotations

from proxypool.cli.doctor import diagnosis_text
from proxypool.core.doctor.facts import DaemonRole, Tri
from proxypool.core.doctor.report import judge
from tests.unit.test_doctor import file, kernel, well


def test_of_a_machine_that_is_well_it_says_what_was_looked_at() -> None:
    text = diagnosis_text(judge(well()), wide=False, colour=False)
    first, _, last = text.splitlines()
    assert first == "this node: ok"
    assert last.startswith("looked at: configuration /etc/proxypool/proxypool.toml; kernel 6.1 with namespaces, gre, ")
    assert "ZooKeeper answers in 1.0 ms, clocks +0.10 s apart" in last


def test_each_finding_is_followed_by_its_fix() -> None:
    text = diagnosis_text(judge(well(keepalived_running=False, files=file("secret", 0o644))), wide=False, colour=False)
    assert text.splitlines()[:6] == [
        "this node: critical - 2 critical",
        "",
        "critical PD006 file-permissions /f: the mode of /f is 0644: everybody can read the secret in it, or change it",
        "    chmod 600 /f",
        "",
        "critical PD013 keepalived-not-running keepalived: keepalived does not run, so this node takes no HaVip",
    ]


def test_what_root_alone_can_see_is_one_paragraph() -> None:
    """A fix is told once for findings of one kind."""
    facts = well(DaemonRole.HOST, kernel=kernel(ip_set=Tri.UNKNOWN, nf_nat=Tri.UNKNOWN))
    lines = diagnosis_text(judge(facts), wide=False, colour=False).splitlines()
    assert lines.count("    sudo proxypool doctor --role host") == 1
    assert [line.split()[3] for line in lines if line.startswith("note")] == ["ip_set:", "nf_nat:"]


def test_colours_are_for_terminals() -> None:
    found = judge(well(keepalived_running=False))
    assert "\x1b[" in diagnosis_text(found, wide=False, colour=True)
    assert "\x1b[" not in diagnosis_text(found, wide=True, colour=False)
