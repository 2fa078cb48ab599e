"""Judges configuration, files, the daemon, ZooKeeper and the provider. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from proxypool.core.doctor.codes import CONTROLLER, Code, Finding, Severity
from proxypool.core.doctor.facts import Facts, FileFacts, ZooKeeperFacts

SLOW_S = 0.1
"""A read that takes longer makes elections and attachments of new subnets late."""
WRITABLE_BY_OTHERS = 0o022
READABLE_BY_OTHERS = 0o044
READABLE_BY_ALL = 0o004
_MODES = {
    "config": (WRITABLE_BY_OTHERS, "644", "others can change what root's daemon does"),
    "program": (WRITABLE_BY_OTHERS, "755", "others can change what root's daemon runs"),
    "secret": (READABLE_BY_ALL | WRITABLE_BY_OTHERS, "600", "everybody can read the secret in it, or change it"),
    "key": (READABLE_BY_OTHERS | WRITABLE_BY_OTHERS, "600", "others can read the secret in it, so it is not used"),
    "session": (READABLE_BY_OTHERS | WRITABLE_BY_OTHERS, "600", "others can take over the ZooKeeper session"),
    "run": (WRITABLE_BY_OTHERS, "755", "others can change who is master"),
    "state": (WRITABLE_BY_OTHERS, "700", "others can attach instances"),
}
"""Purpose -> bits that must not be set, a mode that is right, and why."""
_MUST_BE_THERE = frozenset({"secret", "key", "program"})


def judge_pool(facts: Facts) -> Iterator[Finding]:
    """All of this module."""
    yield from judge_config(facts)
    for file in facts.files or ():
        yield from judge_file(file)
    yield from judge_daemon(facts)
    yield from judge_zookeeper(facts)
    yield from judge_provider(facts)


def judge_config(facts: Facts) -> Iterator[Finding]:
    """Whether a daemon would start with it."""
    role, path = facts.role.value, facts.config_path
    if facts.is_config_there is False:
        example = "[controller]" if facts.role is CONTROLLER else f'[{role}] and underlay = "eth0"'
        yield Finding.of(
            Code.CONFIG_MISSING,
            path,
            f"there is no configuration file {path}: a {role} needs at least {example}",
            f"install -D -m 644 /dev/null {path} && editor {path}",
        )
    elif facts.config_problem:
        yield Finding.of(Code.CONFIG_INVALID, path, facts.config_problem, f"proxypool config check {path}")
    elif facts.has_section is False:
        yield Finding.of(
            Code.SECTION_MISSING, path, f"{path} has no section [{role}]", f"printf '[{role}]\\n' >> {path}"
        )
    if facts.provider_problem:
        yield Finding.of(Code.PROVIDER_INVALID, "provider", facts.provider_problem, f"proxypool config check {path}")


def judge_file(file: FileFacts) -> Iterator[Finding]:
    """Who may read and change it. A secret or a program that is named must be there."""
    forbidden, good, why = _MODES[file.purpose]
    if file.mode is None:
        if file.purpose in _MUST_BE_THERE:
            yield Finding.of(
                Code.FILE_MISSING,
                file.path,
                f"the configuration names {file.path}, which is not there",
                f"ls -l {file.path}",
            )
        return
    if file.mode & forbidden:
        severity = (
            Severity.CRITICAL
            if file.purpose in {"secret", "key", "session"} or file.mode & 0o002
            else Severity.DEGRADED
        )
        yield Finding.of(
            Code.FILE_PERMISSIONS,
            file.path,
            f"the mode of {file.path} is {file.mode:04o}: {why}",
            f"chmod {good} {file.path}",
            severity,
        )
    if file.owner not in (None, 0) and file.purpose in {"config", "run", "program"}:
        yield Finding.of(
            Code.FILE_PERMISSIONS,
            file.path,
            f"{file.path} belongs to user {file.owner}, who can change what root's daemon does",
            f"chown root {file.path}",
            Severity.DEGRADED,
        )


def judge_daemon(facts: Facts) -> Iterator[Finding]:
    """A machine that is well and does nothing is no help to anybody."""
    if facts.is_daemon_known and facts.daemon_pid is None:
        yield Finding.of(
            Code.DAEMON_NOT_RUNNING,
            f"proxypool-{facts.role.value}",
            f"no {facts.role.value} daemon runs on this machine",
            f"systemctl enable --now proxypool-{facts.role.value}",
        )


def judge_zookeeper(facts: Facts) -> Iterator[Finding]:
    """The ensemble, and the pool in it."""
    found = facts.zookeeper
    if found is None:
        return
    dead = {server: why for server, why in found.servers.items() if why}
    if found.problem:
        yield Finding.of(
            Code.ZOOKEEPER_UNREACHABLE,
            "zookeeper",
            found.problem,
            f"nc -vz {next(iter(found.servers), 'HOST:PORT').replace(':', ' ')}  # is it up? a firewall?",
        )
    for server, why in dead.items():
        yield Finding.of(
            Code.ZOOKEEPER_SERVER,
            server,
            f"the ZooKeeper server {server} cannot be reached: {why}",
            f"nc -vz {server.replace(':', ' ')}",
            Severity.NOTE if found.problem else Severity.DEGRADED,
        )
    if found.round_trip_s is not None and found.round_trip_s > SLOW_S:
        yield Finding.of(
            Code.ZOOKEEPER_SLOW,
            "zookeeper",
            f"a read from ZooKeeper takes {found.round_trip_s * 1000:.0f} ms: elections are as much later",
            "echo mntr | nc HOST 2181 | grep latency  # on each server: disk of its log, memory, other load",
        )
    if found.pool_problem:
        yield Finding.of(
            Code.POOL_UNREADABLE, "pool", found.pool_problem, "proxypool pool show  # or: proxypool pool init"
        )
    yield from judge_access(found)


def judge_access(found: ZooKeeperFacts) -> Iterator[Finding]:
    """Who may change the pool."""
    if found.has_access_lists is False:
        yield Finding.of(
            Code.POOL_OPEN,
            "pool",
            "the pool has no access lists: whoever reaches ZooKeeper can change it",
            "proxypool pool credentials DIR  # then: docs/how-to/secure-the-control-plane.md",
        )
    if found.open_count:
        shown = ", ".join(found.open_nodes)
        more = (
            f" and {found.open_count - len(found.open_nodes)} more" if found.open_count > len(found.open_nodes) else ""
        )
        yield Finding.of(
            Code.ACCESS_LISTS,
            "pool",
            f"access lists are not what they ought to be at {shown}{more}",
            "proxypool pool secure DIR --dry-run  # says how; without --dry-run it puts them right",
        )


def judge_provider(facts: Facts) -> Iterator[Finding]:
    """Whether the controller could make another pair: cards on two nodes."""
    for quota in facts.quota or ():
        if quota.problem:
            yield Finding.of(
                Code.PROVIDER_FAILS,
                quota.subnet,
                f"the provider says nothing of subnet {quota.subnet}: {quota.problem}",
                f"proxypool scale plan {quota.subnet}",
            )
            continue
        able = [node for node, cards in quota.cards.items() if cards is None or cards > 0]
        if len(able) < 2:  # noqa: PLR2004 - a pair is of two
            on = f"only on {able[0]}" if able else "on no node"
            yield Finding.of(
                Code.NO_QUOTA,
                quota.subnet,
                f"subnet {quota.subnet} gets another card {on}: no pair can be added",
                f"proxypool subnet spare list {quota.subnet}  # or raise the quota at the provider",
            )
