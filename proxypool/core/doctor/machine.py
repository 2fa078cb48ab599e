"""Judges kernel, programs, capabilities, underlay and clock. Pure. What could not be looked at says nothing here."""

from __future__ import annotations

import re
from collections.abc import Iterator

from proxypool.core.doctor.codes import (
    CAPABILITIES,
    FEATURES,
    NODE,
    PROGRAMS,
    SYSCTLS,
    Code,
    Feature,
    Finding,
    Need,
    Severity,
)
from proxypool.core.doctor.facts import DaemonRole, Facts, Program, Tri
from proxypool.core.model import TunnelKind
from proxypool.core.tunnels import OVERHEAD_BYTES

MIN_INNER_MTU = 1280
"""Less than this, IPv6 says, no link should carry; some services' probes and handshakes do not pass."""
USUAL_MTU = 1500
MAX_CLOCK_ERROR_S = 1.0
MAX_SKEW_S = 2.0
"""Times of records and statuses are compared between machines: members count as silent after 15 s."""
_NUMBERS = re.compile(r"\d+(?:\.\d+)+")


def version_of(text: str) -> tuple[int, ...]:
    """The first dotted number of what a program says; empty: there is none."""
    found = _NUMBERS.search(text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def judge_machine(facts: Facts) -> Iterator[Finding]:
    """All of this module."""
    yield from judge_kernel(facts)
    yield from judge_sysctls(facts)
    yield from judge_programs(facts)
    yield from judge_keepalived(facts)
    yield from judge_capabilities(facts)
    yield from judge_underlay(facts)
    yield from judge_clock(facts)


def judge_kernel(facts: Facts) -> Iterator[Finding]:
    """Features that the role needs. Where the pool's kind of tunnel is not known, one of the two must be there."""
    if facts.kernel is None:
        return
    wanted = [feature for feature in FEATURES if facts.role in feature.roles]
    states = {feature.name: facts.kernel.features.get(feature.name, Tri.UNKNOWN) for feature in wanted}
    kinds = [feature.name for feature in wanted if feature.tunnel]
    for feature in wanted:
        remark = facts.kernel.remarks.get(feature.name, "")
        if states[feature.name] is Tri.MISSING:
            if feature.tunnel and facts.tunnel != feature.tunnel:
                yield from _other_tunnel(facts, feature, any(states[kind] is not Tri.MISSING for kind in kinds))
                continue
            yield Finding.of(
                Code.KERNEL_FEATURE,
                feature.name,
                f"the kernel has no {feature.name}, and {feature.what}{f' ({remark})' if remark else ''}",
                _load(feature, facts.kernel.release),
                feature.severity,
            )
        elif states[feature.name] is Tri.UNKNOWN and (not feature.tunnel or facts.tunnel in ("", feature.tunnel)):
            yield Finding.of(
                Code.NOT_LOOKED_AT,
                feature.name,
                f"whether the kernel has {feature.name} could not be found out{f': {remark}' if remark else ''}",
                _as_root(facts),
            )


def _other_tunnel(facts: Facts, feature: Feature, has_other: bool) -> Iterator[Finding]:  # noqa: FBT001 - private
    """One that the pool does not use, or of which nobody knows whether it does."""
    if facts.tunnel:
        return
    other = "vxlan" if feature.tunnel == "gre" else "gre"
    yield Finding.of(
        Code.KERNEL_FEATURE,
        feature.name,
        f"the kernel makes no {feature.tunnel} tunnels; a pool of kind {feature.tunnel} cannot use this machine",
        f"{_load(feature, facts.kernel.release if facts.kernel else '')}, or: proxypool pool init --tunnel {other}",
        Severity.NOTE if has_other else Severity.CRITICAL,
    )


def _load(feature: Feature, release: str) -> str:
    if feature.name == "namespaces":
        return "run it with CAP_SYS_ADMIN, on a kernel with CONFIG_NET_NS"
    if not feature.modules:
        return f"a kernel with {feature.name.upper()}"
    return f"modprobe {feature.modules[0]}  # if there is none: apt-get install linux-modules-extra-{release}".rstrip(
        "-"
    )


def _as_root(facts: Facts) -> str:
    return f"sudo proxypool doctor --role {facts.role.value}"


def judge_sysctls(facts: Facts) -> Iterator[Finding]:
    """Values of the machine's own namespace. An entry that the kernel has not is a feature's business."""
    for need in SYSCTLS:
        value = (facts.sysctls or {}).get(need.path)
        if facts.role not in need.roles or value is None or not value.isdigit() or int(value) >= need.at_least:
            continue
        name = need.path.replace("/", ".")
        yield Finding.of(
            Code.SYSCTL,
            name,
            f"{name} is {value}, less than {need.at_least}: {need.what}",
            f"echo {name}={need.at_least} >> /etc/sysctl.d/61-proxypool.conf && sysctl --system",
            need.severity,
        )


def judge_programs(facts: Facts) -> Iterator[Finding]:
    """Programs that the role needs: there, and new enough."""
    if facts.programs is None:
        return
    has_egress = facts.zookeeper.has_egress if facts.zookeeper is not None else None
    for need in PROGRAMS:
        if facts.role not in need.roles:
            continue
        # Nobody has to install what no pair of theirs uses.
        severity = Severity.NOTE if need.only_with_egress and not has_egress else need.severity
        yield from _judge_program(need, facts.programs.get(need.program, Program()), severity)


def _judge_program(need: Need, found: Program, severity: Severity) -> Iterator[Finding]:
    install = f"apt-get install {need.package}"
    version = version_of(found.version)
    if not found.path:
        yield Finding.of(
            Code.PROGRAM_MISSING, need.program, f"{need.program} is not installed: {need.what}", install, severity
        )
    elif need.at_least and not version:
        yield Finding.of(
            Code.NOT_LOOKED_AT,
            need.program,
            f"{found.path} does not say which version it is: {_dotted(need.at_least)} or newer is needed",
            f"{need.program} --version",
        )
    elif version < need.at_least:
        yield Finding.of(
            Code.PROGRAM_TOO_OLD,
            need.program,
            f"{need.program} {_dotted(version)} is too old: {_dotted(need.at_least)} is needed, as {need.what}",
            install,
            severity,
        )


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def judge_keepalived(facts: Facts) -> Iterator[Finding]:
    """Whether it runs and reads our files."""
    if facts.role is not NODE:
        return
    has_program = facts.programs is None or bool(facts.programs.get("keepalived", Program()).path)
    line = f"include {facts.keepalived_dir}/conf.d/*.conf"
    if facts.keepalived_includes is False:
        main = f"{facts.keepalived_dir}/keepalived.conf"
        yield Finding.of(Code.KEEPALIVED_INCLUDE, main, f"{main} does not read our files", f"echo '{line}' >> {main}")
    if facts.keepalived_running is False and has_program:
        yield Finding.of(
            Code.KEEPALIVED_NOT_RUNNING,
            "keepalived",
            "keepalived does not run, so this node takes no HaVip",
            "systemctl enable --now keepalived",
        )


def judge_capabilities(facts: Facts) -> Iterator[Finding]:
    """What the daemon may do; where none runs, what this command may."""
    if facts.capabilities is None:
        return
    for name, (what, severity) in CAPABILITIES[facts.role].items():
        if name in facts.capabilities:
            continue
        is_ours = facts.daemon_pid is None
        yield Finding.of(
            # Of a command that somebody runs without root it says nothing about the daemon.
            Code.NOT_LOOKED_AT if is_ours else Code.CAPABILITY,
            f"CAP_{name}",
            f"{facts.whose_capabilities} lacks CAP_{name}: {what}",
            _as_root(facts) if is_ours else _give(facts.role, name),
            Severity.NOTE if is_ours else severity,
        )


def _give(role: DaemonRole, name: str) -> str:
    return f"systemctl edit proxypool-{role.value}  # CapabilityBoundingSet= must have CAP_{name}"


def judge_underlay(facts: Facts) -> Iterator[Finding]:
    """The card of the function network."""
    card = facts.underlay
    if card is None:
        return
    if not card.is_there:
        known = f"; there are {', '.join(card.known)}" if card.known else ""
        yield Finding.of(
            Code.UNDERLAY_MISSING,
            card.name,
            f"there is no network card {card.name}{known}",
            f"set underlay in [{facts.role.value}] of {facts.config_path}",
        )
        return
    if not card.is_up or not card.address:
        what = "is down" if not card.is_up else "has no IPv4 address"
        yield Finding.of(Code.UNDERLAY_DOWN, card.name, f"{card.name} {what}", f"ip link set {card.name} up")
    kind = TunnelKind.VXLAN if facts.tunnel == TunnelKind.VXLAN else TunnelKind.GRE
    inner = card.mtu - OVERHEAD_BYTES[kind]
    if inner < MIN_INNER_MTU or card.mtu < USUAL_MTU:
        yield Finding.of(
            Code.UNDERLAY_MTU,
            card.name,
            f"the MTU of {card.name} is {card.mtu}: {inner} bytes are left within a tunnel of kind {kind.value}",
            f"ip link set {card.name} mtu {USUAL_MTU}  # if the network carries it: ping -M do -s {USUAL_MTU - 28} …",
            Severity.DEGRADED if inner < MIN_INNER_MTU else Severity.NOTE,
        )


def judge_clock(facts: Facts) -> Iterator[Finding]:
    """Records, leases and statuses carry wall times of several machines."""
    clock = facts.clock
    if clock is not None and (not clock.is_synchronised or clock.error_s > MAX_CLOCK_ERROR_S):
        how = "is not synchronised" if not clock.is_synchronised else f"may be wrong by {clock.error_s:.1f} s"
        yield Finding.of(
            Code.CLOCK_NOT_SYNCHRONISED,
            "clock",
            f"the clock {how}: times in status and history are compared between machines",
            "systemctl enable --now systemd-timesyncd  # or chrony; then: timedatectl",
        )
    skew_s = facts.zookeeper.skew_s if facts.zookeeper is not None else None
    if skew_s is not None and abs(skew_s) > MAX_SKEW_S:
        yield Finding.of(
            Code.CLOCK_SKEW,
            "clock",
            f"the clock is {abs(skew_s):.1f} s {'ahead of' if skew_s > 0 else 'behind'} ZooKeeper's",
            "timedatectl  # here and on the ZooKeeper servers",
        )
