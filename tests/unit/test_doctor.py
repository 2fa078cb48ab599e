"""What is said of a machine, by what was found out about it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from proxypool.core.checks import Level
from proxypool.core.doctor.codes import CAPABILITIES, FEATURES, PROGRAMS, Code, Severity
from proxypool.core.doctor.facts import (
    ClockFacts,
    DaemonRole,
    Facts,
    FileFacts,
    KernelFacts,
    Program,
    QuotaFacts,
    Tri,
    UnderlayFacts,
    ZooKeeperFacts,
)
from proxypool.core.doctor.machine import version_of
from proxypool.core.doctor.report import Diagnosis, judge

ZOOKEEPER = ZooKeeperFacts(
    servers={"zk1:2181": ""}, connected_s=0.01, round_trip_s=0.001, tunnel="gre", has_egress=True, skew_s=0.1
)


def well(role: DaemonRole = DaemonRole.NODE, **other: Any) -> Facts:
    """A machine of which there is nothing to say, but for what is given."""
    facts = Facts(
        role=role,
        config_path="/etc/proxypool/proxypool.toml",
        is_config_there=True,
        has_section=True,
        tunnel="gre",
        kernel=KernelFacts(release="6.1", features={feature.name: Tri.THERE for feature in FEATURES}),
        sysctls={
            "net/netfilter/nf_conntrack_max": "262144",
            "net/ipv4/ip_forward": "1",
            "user/max_net_namespaces": "1000",
        },
        programs={need.program: Program(path=f"/sbin/{need.program}", version="v9.9.9") for need in PROGRAMS},
        keepalived_running=True,
        keepalived_includes=True,
        capabilities=frozenset(CAPABILITIES[role]),
        whose_capabilities="the daemon, pid 7,",
        daemon_pid=7,
        is_daemon_known=True,
        underlay=UnderlayFacts(name="eth0", is_there=True, is_up=True, mtu=1500, address="10.0.0.1", known=("eth0",)),
        clock=ClockFacts(is_synchronised=True, error_s=0.01),
        zookeeper=ZOOKEEPER,
        files=(FileFacts(path="/etc/proxypool/proxypool.toml", purpose="config", mode=0o644, owner=0),),
    )
    return msgspec.structs.replace(facts, **other)


def findings(facts: Facts) -> list[tuple[str, str, str]]:
    """Code, subject and severity."""
    return [(one.code, one.subject, one.severity.value) for one in judge(facts).findings]


@pytest.mark.parametrize("role", DaemonRole)
def test_of_a_machine_that_is_well_nothing_is_said(role: DaemonRole) -> None:
    assert judge(well(role)) == Diagnosis(level=Level.OK, findings=(), facts=well(role))


def test_what_was_not_looked_at_is_said_and_judged_neither_way() -> None:
    """Facts that are not there are no findings of their own."""
    bare = Facts(role=DaemonRole.NODE, unseen={"clock": "no answer within 5 s"})
    (one,) = judge(bare).findings
    assert (one.code, one.subject, one.severity) == ("PD001", "clock", Severity.NOTE)
    assert "no answer within 5 s" in one.message
    assert judge(bare).level is Level.OK


def zookeeper(**other: Any) -> ZooKeeperFacts:
    return msgspec.structs.replace(ZOOKEEPER, **other)


def kernel(**features: Tri) -> KernelFacts:
    return KernelFacts(release="6.1", features={feature.name: Tri.THERE for feature in FEATURES} | features)


def programs(**other: Program) -> dict[str, Program]:
    return {**(well().programs or {}), **other}


def file(purpose: str, mode: int | None, owner: int = 0) -> tuple[FileFacts, ...]:
    return (FileFacts(path="/f", purpose=purpose, mode=mode, owner=owner),)


NODE_CASES: list[tuple[dict[str, Any], tuple[str, str, str]]] = [
    ({"is_config_there": False, "has_section": None}, ("PD002", "/etc/proxypool/proxypool.toml", "critical")),
    ({"config_problem": "line 3: no", "has_section": None}, ("PD003", "/etc/proxypool/proxypool.toml", "critical")),
    ({"has_section": False}, ("PD004", "/etc/proxypool/proxypool.toml", "critical")),
    ({"daemon_pid": None}, ("PD008", "proxypool-node", "degraded")),
    ({"programs": programs(keepalived=Program())}, ("PD010", "keepalived", "critical")),
    ({"programs": programs(conntrackd=Program())}, ("PD010", "conntrackd", "degraded")),
    ({"programs": programs(ipset=Program())}, ("PD010", "ipset", "note")),
    (
        {"programs": programs(conntrackd=Program()), "zookeeper": zookeeper(has_egress=False)},
        ("PD010", "conntrackd", "note"),
    ),
    (
        {"programs": programs(keepalived=Program(path="/k", version="Keepalived v2.1.5"))},
        ("PD011", "keepalived", "critical"),
    ),
    ({"programs": programs(keepalived=Program(path="/k", version=""))}, ("PD001", "keepalived", "note")),
    ({"keepalived_includes": False}, ("PD012", "/etc/keepalived/keepalived.conf", "critical")),
    ({"keepalived_running": False}, ("PD013", "keepalived", "critical")),
    ({"kernel": kernel(ip_set=Tri.MISSING)}, ("PD020", "ip_set", "critical")),
    ({"kernel": kernel(gre=Tri.MISSING)}, ("PD020", "gre", "critical")),
    ({"kernel": kernel(gre=Tri.MISSING), "tunnel": ""}, ("PD020", "gre", "note")),
    ({"kernel": kernel(bpf=Tri.MISSING)}, ("PD020", "bpf", "note")),
    ({"kernel": kernel(nf_nat=Tri.UNKNOWN)}, ("PD001", "nf_nat", "note")),
    ({"sysctls": {"net/netfilter/nf_conntrack_max": "4096"}}, ("PD021", "net.netfilter.nf_conntrack_max", "degraded")),
    ({"capabilities": frozenset({"NET_ADMIN", "NET_RAW", "SYS_NICE"})}, ("PD022", "CAP_SYS_ADMIN", "critical")),
    ({"capabilities": frozenset({"NET_ADMIN", "NET_RAW", "SYS_ADMIN"})}, ("PD022", "CAP_SYS_NICE", "degraded")),
    ({"underlay": UnderlayFacts(name="eth7", is_there=False, known=("eth0",))}, ("PD030", "eth7", "critical")),
    (
        {"underlay": UnderlayFacts(name="eth0", is_there=True, mtu=1500, address="10.0.0.1")},
        ("PD031", "eth0", "critical"),
    ),
    ({"underlay": UnderlayFacts(name="eth0", is_there=True, is_up=True, mtu=1500)}, ("PD031", "eth0", "critical")),
    (
        {"underlay": UnderlayFacts(name="eth0", is_there=True, is_up=True, mtu=1300, address="10.0.0.1")},
        ("PD032", "eth0", "degraded"),
    ),
    ({"clock": ClockFacts(is_synchronised=False, error_s=16.0)}, ("PD040", "clock", "degraded")),
    ({"clock": ClockFacts(is_synchronised=True, error_s=3.0)}, ("PD040", "clock", "degraded")),
    ({"zookeeper": zookeeper(skew_s=-7.5)}, ("PD041", "clock", "degraded")),
    ({"zookeeper": ZooKeeperFacts(problem="no server")}, ("PD050", "zookeeper", "critical")),
    ({"zookeeper": zookeeper(servers={"a:1": "", "b:1": "refused"})}, ("PD051", "b:1", "degraded")),
    ({"zookeeper": zookeeper(round_trip_s=0.4)}, ("PD052", "zookeeper", "degraded")),
    ({"zookeeper": zookeeper(pool_problem="there is no pool p")}, ("PD053", "pool", "critical")),
    ({"zookeeper": zookeeper(has_access_lists=False)}, ("PD054", "pool", "note")),
    (
        {"zookeeper": zookeeper(has_access_lists=True, open_nodes=("/proxypool/p/a",), open_count=3)},
        ("PD055", "pool", "degraded"),
    ),
    ({"files": file("key", 0o640)}, ("PD006", "/f", "critical")),
    ({"files": file("secret", 0o644)}, ("PD006", "/f", "critical")),
    ({"files": file("session", 0o640)}, ("PD006", "/f", "critical")),
    ({"files": file("config", 0o664)}, ("PD006", "/f", "degraded")),
    ({"files": file("config", 0o646)}, ("PD006", "/f", "critical")),
    ({"files": file("config", 0o644, 1000)}, ("PD006", "/f", "degraded")),
    ({"files": file("secret", None)}, ("PD007", "/f", "critical")),
]


@pytest.mark.parametrize(("what", "expected"), NODE_CASES)
def test_what_is_wrong_with_a_node(what: dict[str, Any], expected: tuple[str, str, str]) -> None:
    """One finding, and the level of the whole follows it; notes make it no worse."""
    found = judge(well(**what))
    assert findings(well(**what)) == [expected]
    assert found.level == {"note": Level.OK, "degraded": Level.DEGRADED, "critical": Level.CRITICAL}[expected[2]]
    (one,) = found.findings
    assert one.message.strip(".") == one.message
    assert one.fix
    assert "\n" not in one.message + one.fix


def test_every_kind_of_finding_is_tested() -> None:
    others = {"PD005", "PD060", "PD061"}
    assert {code for _, (code, _, _) in NODE_CASES} | others == {code.value[0] for code in Code}


def test_codes_and_names_are_unique() -> None:
    codes, names = zip(*((code.value[0], code.value[1]) for code in Code), strict=True)
    assert len(set(codes)) == len(codes)
    assert len(set(names)) == len(names)


def test_a_file_that_need_not_be_there_may_be_missing() -> None:
    assert findings(well(files=file("session", None))) == []


def test_the_rights_of_a_command_are_not_those_of_the_daemon() -> None:
    """Without a daemon, whoever asks may lack what it has."""
    facts = well(
        DaemonRole.HOST,
        capabilities=frozenset(),
        whose_capabilities="this command",
        daemon_pid=None,
        is_daemon_known=False,
    )
    assert findings(facts) == [("PD001", "CAP_NET_ADMIN", "note"), ("PD001", "CAP_NET_RAW", "note")]


def test_a_machine_without_any_kind_of_tunnel_is_none() -> None:
    facts = well(tunnel="", kernel=kernel(gre=Tri.MISSING, vxlan=Tri.MISSING))
    assert findings(facts) == [("PD020", "gre", "critical"), ("PD020", "vxlan", "critical")]


def test_of_the_other_kind_of_tunnel_nothing_is_said() -> None:
    assert findings(well(kernel=kernel(vxlan=Tri.MISSING))) == []


def test_a_controller_needs_no_kernel_and_no_programs() -> None:
    bare = well(DaemonRole.CONTROLLER, kernel=kernel(ip_set=Tri.MISSING), programs={}, capabilities=frozenset())
    assert findings(bare) == []


def test_a_provider_that_gives_cards_on_one_node_only() -> None:
    """A pair is of two."""
    quota = (
        QuotaFacts(subnet="s1", cards={"a": 1, "b": None}),
        QuotaFacts(subnet="s2", cards={"a": 3, "b": 0}),
        QuotaFacts(subnet="s3", problem="not authorised"),
    )
    found = findings(well(DaemonRole.CONTROLLER, quota=quota, provider_problem="no such provider"))
    assert found == [("PD005", "provider", "critical"), ("PD060", "s3", "degraded"), ("PD061", "s2", "degraded")]


def test_the_worst_comes_first() -> None:
    facts = well(programs=programs(ipset=Program()), clock=None, keepalived_running=False, daemon_pid=None)
    assert [severity for _, _, severity in findings(facts)] == ["critical", "degraded", "note"]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Keepalived v2.2.7 (01/16,2022)", (2, 2, 7)),
        ("Connection tracking userspace daemon v1.4.7. Licensed under GPLv2.", (1, 4, 7)),
        ("nsenter from util-linux 2.38.1", (2, 38, 1)),
        ("no number", ()),
    ],
)
def test_versions_are_read_from_what_programs_say(text: str, version: tuple[int, ...]) -> None:
    assert version_of(text) == version
