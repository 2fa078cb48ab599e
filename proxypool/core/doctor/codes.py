"""Every kind of finding, and what each role needs. Codes are for scripts: they never change their meaning."""

from __future__ import annotations

from enum import Enum, StrEnum

from msgspec import Struct

from proxypool.core.doctor.facts import DaemonRole

NODE, HOST, CONTROLLER = DaemonRole.NODE, DaemonRole.HOST, DaemonRole.CONTROLLER


class Severity(StrEnum):
    """How bad. `note`: something to know. `degraded`: it works, but not all of it, or not in every case. `critical`:
    the role cannot do its work, or not safely.
    """

    NOTE = "note"
    DEGRADED = "degraded"
    CRITICAL = "critical"


class Code(Enum):
    """Code, name and the severity that it usually has."""

    NOT_LOOKED_AT = ("PD001", "not-looked-at", Severity.NOTE)
    CONFIG_MISSING = ("PD002", "config-missing", Severity.CRITICAL)
    CONFIG_INVALID = ("PD003", "config-invalid", Severity.CRITICAL)
    SECTION_MISSING = ("PD004", "section-missing", Severity.CRITICAL)
    PROVIDER_INVALID = ("PD005", "provider-invalid", Severity.CRITICAL)
    FILE_PERMISSIONS = ("PD006", "file-permissions", Severity.CRITICAL)
    FILE_MISSING = ("PD007", "file-missing", Severity.CRITICAL)
    DAEMON_NOT_RUNNING = ("PD008", "daemon-not-running", Severity.DEGRADED)
    PROGRAM_MISSING = ("PD010", "program-missing", Severity.CRITICAL)
    PROGRAM_TOO_OLD = ("PD011", "program-too-old", Severity.CRITICAL)
    KEEPALIVED_INCLUDE = ("PD012", "keepalived-include", Severity.CRITICAL)
    KEEPALIVED_NOT_RUNNING = ("PD013", "keepalived-not-running", Severity.CRITICAL)
    KERNEL_FEATURE = ("PD020", "kernel-feature", Severity.CRITICAL)
    SYSCTL = ("PD021", "sysctl", Severity.DEGRADED)
    CAPABILITY = ("PD022", "capability", Severity.CRITICAL)
    UNDERLAY_MISSING = ("PD030", "underlay-missing", Severity.CRITICAL)
    UNDERLAY_DOWN = ("PD031", "underlay-down", Severity.CRITICAL)
    UNDERLAY_MTU = ("PD032", "underlay-mtu", Severity.DEGRADED)
    CLOCK_NOT_SYNCHRONISED = ("PD040", "clock-not-synchronised", Severity.DEGRADED)
    CLOCK_SKEW = ("PD041", "clock-skew", Severity.DEGRADED)
    ZOOKEEPER_UNREACHABLE = ("PD050", "zookeeper-unreachable", Severity.CRITICAL)
    ZOOKEEPER_SERVER = ("PD051", "zookeeper-server", Severity.DEGRADED)
    ZOOKEEPER_SLOW = ("PD052", "zookeeper-slow", Severity.DEGRADED)
    POOL_UNREADABLE = ("PD053", "pool-unreadable", Severity.CRITICAL)
    POOL_OPEN = ("PD054", "pool-open", Severity.NOTE)
    ACCESS_LISTS = ("PD055", "access-lists", Severity.DEGRADED)
    PROVIDER_FAILS = ("PD060", "provider-fails", Severity.DEGRADED)
    NO_QUOTA = ("PD061", "no-quota", Severity.DEGRADED)


class Finding(Struct, frozen=True, kw_only=True):
    """Something to know about a machine."""

    code: str
    name: str
    severity: Severity
    subject: str
    """What it is about: a program, a file, a sysctl, a probe."""
    message: str
    fix: str
    """A command to type, or what to change where no command can do it."""

    @staticmethod
    def of(kind: Code, subject: str, message: str, fix: str, severity: Severity | None = None) -> Finding:
        """A finding of this kind."""
        code, name, usual = kind.value
        return Finding(code=code, name=name, severity=severity or usual, subject=subject, message=message, fix=fix)


class Feature(Struct, frozen=True, kw_only=True):
    """Something that the kernel must have."""

    name: str
    modules: tuple[str, ...]
    """Any of them, where it is not built in."""
    roles: frozenset[DaemonRole]
    what: str
    """What does not work without."""
    severity: Severity = Severity.CRITICAL
    tunnel: str = ""
    """Needed only where the pool uses this kind of tunnel."""


_BOTH = frozenset({NODE, HOST})
FEATURES = (
    Feature(name="namespaces", modules=(), roles=frozenset({NODE}), what="every subnet has a network namespace"),
    Feature(name="gre", modules=("ip_gre",), roles=_BOTH, what="tunnels of kind gre", tunnel="gre"),
    Feature(name="vxlan", modules=("vxlan",), roles=_BOTH, what="tunnels of kind vxlan", tunnel="vxlan"),
    Feature(name="ip_set", modules=("ip_set",), roles=_BOTH, what="rules name their peers in ipsets"),
    Feature(name="ip_tables", modules=("ip_tables",), roles=_BOTH, what="rules are in the legacy tables"),
    Feature(name="nf_nat", modules=("nf_nat", "iptable_nat"), roles=_BOTH, what="sources are rewritten"),
    Feature(name="nf_conntrack", modules=("nf_conntrack",), roles=_BOTH, what="connections are tracked"),
    Feature(name="notrack", modules=("xt_CT",), roles=_BOTH, what="the tunnels' own packets are not tracked"),
    Feature(
        name="bpf",
        modules=(),
        roles=frozenset({NODE}),
        what="failovers are recorded without their detection time",
        severity=Severity.NOTE,
    ),
)


class Need(Struct, frozen=True, kw_only=True):
    """A program that a role needs."""

    program: str
    package: str
    roles: frozenset[DaemonRole]
    what: str
    at_least: tuple[int, ...] = ()
    severity: Severity = Severity.CRITICAL
    only_with_egress: bool = False


PROGRAMS = (
    Need(
        program="keepalived",
        package="keepalived",
        roles=frozenset({NODE}),
        what="it holds the HaVips",
        at_least=(2, 2, 3),
    ),
    Need(program="iptables-legacy", package="iptables", roles=_BOTH, what="its extensions describe our rules"),
    Need(
        program="ipset",
        package="ipset",
        roles=_BOTH,
        what="people look into our sets with it",
        severity=Severity.NOTE,
    ),
    Need(
        program="conntrack",
        package="conntrack",
        roles=_BOTH,
        what="people look at connections with it",
        severity=Severity.NOTE,
    ),
    Need(
        program="ip", package="iproute2", roles=_BOTH, what="people look at namespaces with it", severity=Severity.NOTE
    ),
    Need(program="nsenter", package="util-linux", roles=frozenset({NODE}), what="keepalived opens the gate with it"),
    Need(program="flock", package="util-linux", roles=frozenset({NODE}), what="keepalived opens the gate with it"),
    Need(
        program="conntrackd",
        package="conntrackd",
        roles=frozenset({NODE}),
        what="connections of pairs with an egress address survive a failover by it",
        at_least=(1, 4),
        severity=Severity.DEGRADED,
        only_with_egress=True,
    ),
    Need(
        program="arping",
        package="iputils-arping",
        roles=frozenset({NODE}),
        what="a new master whose daemon is dead announces egress addresses with it",
        severity=Severity.DEGRADED,
        only_with_egress=True,
    ),
)


class SysctlNeed(Struct, frozen=True, kw_only=True):
    """A value that a role wants in the machine's own namespace."""

    path: str
    """Below /proc/sys."""
    at_least: int
    roles: frozenset[DaemonRole]
    what: str
    """What is not so good with less."""
    severity: Severity = Severity.DEGRADED


SYSCTLS = (
    SysctlNeed(
        path="net/netfilter/nf_conntrack_max",
        at_least=65536,
        roles=_BOTH,
        what="each namespace tracks so many connections at most, and drops new ones beyond",
    ),
    SysctlNeed(
        path="net/ipv4/ip_forward",
        at_least=1,
        roles=frozenset({HOST}),
        what="packets of instances are forwarded only where their device says so itself",
    ),
    SysctlNeed(
        path="user/max_net_namespaces",
        at_least=256,
        roles=frozenset({NODE}),
        what="every subnet has a network namespace",
    ),
)

CAPABILITIES: dict[DaemonRole, dict[str, tuple[str, Severity]]] = {
    NODE: {
        "NET_ADMIN": ("it programs links, routes and rules", Severity.CRITICAL),
        "NET_RAW": ("it listens to VRRP and asks gateways", Severity.CRITICAL),
        "SYS_ADMIN": ("it makes network namespaces", Severity.CRITICAL),
        "SYS_NICE": ("it gives keepalived real-time scheduling", Severity.DEGRADED),
    },
    HOST: {
        "NET_ADMIN": ("it programs links, routes and rules", Severity.CRITICAL),
        "NET_RAW": ("it asks HaVips for an echo, and writes rules", Severity.CRITICAL),
    },
    CONTROLLER: {},
}
"""Role -> capability -> what it is for, and how bad it is without."""
