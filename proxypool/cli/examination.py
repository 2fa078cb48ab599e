"""Finds out about this machine and its pool what `proxypool doctor` judges. Every probe has a time limit."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from proxypool.adapters.keepalived import Keepalived
from proxypool.adapters.machine import kernel, place, process, programs
from proxypool.adapters.machine.limits import Seen, gather
from proxypool.adapters.secret_file import CREDENTIAL
from proxypool.cli.settings import Settings
from proxypool.core.config import Config
from proxypool.core.config_lines import lines_of
from proxypool.core.doctor.codes import PROGRAMS, SYSCTLS
from proxypool.core.doctor.facts import DaemonRole, Facts, FileFacts, ZooKeeperFacts
from proxypool.core.errors import InvalidInput, ProxypoolError

CONNECT_WITHIN_S = 4.0
QUOTA_DEADLINE_S = 8.0
MAX_SUBNETS = 8
"""The provider is asked about so many subnets at most: each is a call to the platform."""
PROGRAM, SERVER, FILE = "program ", "server ", "file "
"""Beginnings of names of probes of which there are many."""
_SECRETS = {"credentials_file", "source_token_file"}

Probes = dict[str, Callable[[], Any]]


def role_of(settings: Settings) -> DaemonRole:
    """The one role that the configuration has a section for, also if it is not valid.

    Raises:
        InvalidInput: there is none, or there are several.
    """
    try:
        config = settings.load()
        found = [role for role in DaemonRole if getattr(config, role.value) is not None]
    except InvalidInput:
        found = [role for role in DaemonRole if role.value in _sections(settings.path())]
    if len(found) != 1:
        what = "several roles" if found else "no role"
        raise InvalidInput(f"the configuration has {what}: give --role {'|'.join(role.value for role in DaemonRole)}")
    return found[0]


def _sections(path: str) -> Collection[str]:
    try:
        return lines_of(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return ()


def examine(
    settings: Settings, role: DaemonRole, within_s: float, on_progress: Callable[[str, int, int], None]
) -> Facts:
    """Everything about this machine in this role, within so many seconds. `on_progress`: last probe, done, of all."""
    config, facts = _configuration(settings, role)
    probes = _probes(config, role, facts.config_path)
    seen: dict[str, Seen] = {}
    for one in gather(probes, within_s):
        seen[one.name] = one
        on_progress(one.name, len(seen), len(probes))
    return _assemble(facts, config, seen)


def _configuration(settings: Settings, role: DaemonRole) -> tuple[Config, Facts]:
    path = settings.path()
    problem, is_there = "", os.path.exists(path)
    try:
        config = settings.load()
    except InvalidInput as error:
        problem, config = str(error), settings.load_or_default()
    return config, Facts(
        role=role,
        config_path=path,
        config_problem=problem if is_there else "",
        is_config_there=is_there,
        has_section=None if problem else getattr(config, role.value) is not None,
        keepalived_dir=config.node.keepalived_dir if config.node else "/etc/keepalived",
    )


def _probes(config: Config, role: DaemonRole, path: str) -> Probes:
    section = getattr(config, role.value)
    name = (section.name if section is not None else None) or socket.gethostname()
    probes: Probes = {
        "clock": place.clock,
        "daemon": partial(process.daemon_pid, role, Path(config.run_dir)),
        "zookeeper": partial(_zookeeper, config, role, name),
    }
    for server in config.zookeeper.hosts:
        probes[f"{SERVER}{server}"] = partial(place.why_unreachable, server)
    for name_of_file, purpose in [(path, "config"), *_files(config, role)]:
        probes[f"{FILE}{name_of_file}"] = partial(place.file, name_of_file, purpose)
    if role is DaemonRole.CONTROLLER:
        return probes | {"provider": partial(_provider_problem, config), "quota": partial(_quota, config)}
    probes["kernel"] = kernel.kernel_facts
    probes["sysctls"] = partial(kernel.read_sysctls, [need.path for need in SYSCTLS])
    for need in PROGRAMS:
        if role in need.roles:
            probes[f"{PROGRAM}{need.program}"] = partial(programs.examine, need.program)
    if section is not None:
        probes["underlay"] = partial(place.underlay, section.underlay)
    if role is DaemonRole.NODE:
        keepalived = Keepalived(Path(config.node.keepalived_dir if config.node else "/etc/keepalived"))
        probes["keepalived's configuration"] = keepalived.includes_ours
        probes["keepalived's process"] = lambda: keepalived.process.pid() is not None
    return probes


def _files(config: Config, role: DaemonRole) -> list[tuple[str, str]]:
    found = [(config.run_dir, "run")]
    kept = (config.zookeeper.secret_file, config.zookeeper.tls_key)
    found += [(one, "key") for one in kept if one]
    if role is not DaemonRole.CONTROLLER:
        found.append((f"{config.run_dir}/{role.value}.session", "session"))
    if config.host is not None and role is DaemonRole.HOST:
        found.append((config.host.state_dir, "state"))
    if config.controller is not None and role is DaemonRole.CONTROLLER:
        found += [(one, "secret") for one in (config.controller.source_token_file,) if one]
        table = config.provider.tables.get(config.provider.name, {})
        found += [(str(value), "secret") for key, value in table.items() if key in _SECRETS]
        command = table.get("program")
        if isinstance(command, list) and command and str(command[0]).startswith("/"):
            found.append((str(command[0]), "program"))
    # The modes of a credential are systemd's business.
    return [(path, purpose) for path, purpose in found if not path.startswith(CREDENTIAL)]


def _provider_problem(config: Config) -> str:
    from proxypool.providers import registry

    try:
        registry.check(config.provider)
    except InvalidInput as error:
        return str(error)
    return ""


def _zookeeper(config: Config, role: DaemonRole, name: str) -> ZooKeeperFacts:
    from proxypool.cli import pool_examination

    _silence()
    return pool_examination.zookeeper(config, role, name, CONNECT_WITHIN_S)


def _quota(config: Config) -> Any:
    from proxypool.cli import pool_examination

    _silence()
    return pool_examination.quota(config, CONNECT_WITHIN_S, QUOTA_DEADLINE_S, MAX_SUBNETS)


def _silence() -> None:
    """What the session would log is among the findings."""
    logging.getLogger("proxypool").addHandler(logging.NullHandler())


def _assemble(facts: Facts, config: Config, seen: Mapping[str, Seen]) -> Facts:
    """Values by the names of their probes; why there are none is kept, but for what depends on ZooKeeper."""

    def value(name: str) -> Any:
        return seen[name].value if name in seen else None

    def many(prefix: str) -> dict[str, Any]:
        return {
            name.removeprefix(prefix): one.value
            for name, one in seen.items()
            if name.startswith(prefix) and not one.why_not
        }

    zookeeper: ZooKeeperFacts = value("zookeeper") or ZooKeeperFacts()
    servers = {
        name.removeprefix(SERVER): one.why_not or one.value for name, one in seen.items() if name.startswith(SERVER)
    }
    ordered = {server: servers.get(server, "") for server in config.zookeeper.hosts}
    zookeeper = msgspec.structs.replace(zookeeper, servers=ordered)
    found_programs = many(PROGRAM)
    found_programs = {need.program: found_programs[need.program] for need in PROGRAMS if need.program in found_programs}
    files: list[FileFacts] = list(many(FILE).values())
    pid = value("daemon")
    unseen = {name: one.why_not for name, one in seen.items() if one.why_not and not name.startswith(SERVER)}
    if zookeeper.problem:
        # It is told once.
        unseen.pop("quota", None)
    return msgspec.structs.replace(
        facts,
        provider_problem=value("provider") or "",
        tunnel=zookeeper.tunnel,
        kernel=value("kernel"),
        sysctls=value("sysctls"),
        programs=found_programs or None,
        keepalived_running=value("keepalived's process"),
        keepalived_includes=value("keepalived's configuration"),
        **_capabilities(pid),
        daemon_pid=pid,
        is_daemon_known="daemon" in seen and not seen["daemon"].why_not,
        underlay=value("underlay"),
        clock=value("clock"),
        zookeeper=zookeeper,
        files=tuple(sorted(files, key=lambda one: one.path)),
        quota=value("quota"),
        unseen=unseen,
    )


def _capabilities(pid: int | None) -> dict[str, Any]:
    """The daemon's; ours, if none runs."""
    try:
        if pid is not None:
            return {"capabilities": process.capabilities(pid), "whose_capabilities": f"the daemon, pid {pid},"}
        return {"capabilities": process.capabilities(), "whose_capabilities": "this command"}
    except (OSError, ProxypoolError):
        return {}
