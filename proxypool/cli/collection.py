"""What goes into a support archive: a list of steps, each of which finds one file of it. Nothing is run here."""

from __future__ import annotations

import json
import os
import platform
import ssl
import sys
import tomllib
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import proxypool
from proxypool.adapters.machine import programs
from proxypool.adapters.secret_file import path_of, read_secret
from proxypool.cli.settings import SECRET_VARIABLE, Settings
from proxypool.core.addressing import NAMESPACE_PREFIX
from proxypool.core.config import CONTROLLER_METRICS, HOST_METRICS, NODE_METRICS, Config, MetricsConfig
from proxypool.core.doctor.facts import DaemonRole
from proxypool.core.errors import AccessDenied, TransientError
from proxypool.core.redaction import is_secret_name, redacted, secrets_in

COMMAND_WITHIN_S = 10.0
MAX_NAMESPACES = 50
"""So many subnets' namespaces are looked into at most."""
LOG_LINES = 1000
NETNS_DIR = Path("/run/netns")
DOCUMENTS = (
    ("status", "-o", "json"),
    ("topology", "-o", "json"),
    ("scale", "status", "-o", "json"),
    ("history", "--limit", "300", "-o", "json"),
    ("pool", "show", "-o", "json"),
)
"""Commands of ours whose documents go in; those that this version does not have are left out."""
KERNEL = (
    ("ip", "-d", "-s", "link"),
    ("ip", "addr"),
    ("ip", "rule"),
    ("ip", "route", "show", "table", "all"),
    ("ip", "neigh"),
    ("bridge", "fdb"),
    ("iptables-legacy-save", "-c"),
    ("ipset", "save"),
    ("conntrack", "-C"),
    ("conntrack", "-S"),
    ("ip", "-o", "netns", "list"),
    ("ss", "-s"),
)
INSIDE = (
    ("ip", "-d", "-s", "addr"),
    ("ip", "route"),
    ("ip", "neigh"),
    ("iptables-legacy-save", "-c"),
    ("ipset", "save"),
    ("conntrack", "-C"),
    ("sysctl", "net.ipv4.ip_forward", "net.netfilter.nf_conntrack_count", "net.netfilter.nf_conntrack_max"),
)
"""In each subnet's namespace."""
SYSTEM_LOGS = (Path("/var/log/syslog"), Path("/var/log/messages"))
TAIL_BYTES = 4 << 20
UNITS = ("proxypool-node", "proxypool-host", "proxypool-controller", "keepalived")


@dataclass(frozen=True, slots=True)
class Step:
    """Finds the text of one file of the archive."""

    name: str
    find: Callable[[], str]
    within_s: float = COMMAND_WITHIN_S
    needs_pool: bool = False
    """Asks ZooKeeper. Where one of these fails, those that follow would wait for the same."""


def steps(settings: Settings, config: Config, commands: frozenset[str]) -> Iterator[Step]:
    """All of them, the cheapest first. `commands`: those that this version has."""
    yield Step("versions.json", versions)
    yield Step("environment.json", environment)
    yield Step("configuration.toml", lambda: Path(settings.path()).read_text(encoding="utf-8", errors="replace"))
    yield Step("documents/config.json", partial(_ours, settings, ("config", "show", "--sources", "-o", "json")))
    yield Step("documents/zookeeper.json", partial(_tree, settings), 30.0, needs_pool=True)
    for words in DOCUMENTS:
        if words[0] in commands:
            name = "-".join(words[: words.index("-o")]).replace("---limit-300", "")
            yield Step(f"documents/{name}.json", partial(_ours, settings, words), 20.0, needs_pool=True)
    for role in DaemonRole:
        if getattr(config, role.value) is not None:
            words = ("doctor", "--role", role.value, "-o", "json")
            yield Step(f"documents/doctor-{role.value}.json", partial(_ours, settings, words), 40.0)
    yield from _metrics(config)
    yield from _kernel()
    yield from _keepalived(config)
    for unit in UNITS:
        yield Step(f"logs/{unit}.log", partial(_run, ("journalctl", "-u", unit, "-n", str(LOG_LINES), "--no-pager")))
        yield Step(f"logs/{unit}.unit", partial(_run, ("systemctl", "cat", "--no-pager", unit)))
    for path in SYSTEM_LOGS:
        if path.exists():
            yield Step(f"logs/{path.name}.log", partial(_our_lines, path))
    yield Step("run-directory.txt", partial(_listing, config.run_dir))


def versions() -> str:
    """Of everything that matters."""
    packages = {one.name: one.version for one in metadata.distributions()}
    system = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    found = {
        "proxypool": proxypool.__version__,
        "python": sys.version,
        "kernel": " ".join(os.uname()),
        "system": system.get("PRETTY_NAME", ""),
        "packages": dict(sorted(packages.items())),
    }
    return json.dumps(found, indent=2)


def environment() -> str:
    """Our variables, and those that change how our programs behave."""
    wanted = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("PROXYPOOL_") or name in {"PATH", "LANG", "LC_ALL", "NO_COLOR", "TERM", "XTABLES_LIBDIR"}
    }
    return json.dumps(redacted(wanted), indent=2)


def known_secrets(settings: Settings) -> frozenset[str]:
    """Every secret that can be found: in the configuration, in the files that it names, and in the environment."""
    found = {value for name, value in os.environ.items() if is_secret_name(name)}
    raw: dict[str, Any] = {}
    with suppress(OSError, ValueError, RecursionError):
        raw = tomllib.loads(Path(settings.path()).read_text(encoding="utf-8"))
        found |= set(secrets_in(raw))
    found |= set(secrets_in({"environment": dict(os.environ)}))
    beside = map(str, Path(settings.path()).parent.glob("*credential*"))
    named = [os.environ[SECRET_VARIABLE]] if os.environ.get(SECRET_VARIABLE) else []
    for path in (*_secret_files(raw), *named, *beside):
        with suppress(OSError, ValueError, RecursionError, AccessDenied):
            text = path_of(path).read_text(encoding="utf-8")
            # A bare token, or lines of `name = value`, with quotes or without.
            for line in text.splitlines():
                found |= {line.strip(), line.partition("=")[2].strip().strip("\"'")}
            found |= {str(value) for value in _leaves(tomllib.loads(text))}
    return frozenset(found)


def _secret_files(value: Any) -> Iterator[str]:
    """Files that the configuration names as such: `credentials_file`, `source_token_file`, `key_file`."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            name = str(key)
            if isinstance(item, str) and name.endswith("_file") and is_secret_name(name.removesuffix("_file")):
                yield item
            yield from _secret_files(item)


def _leaves(value: Any) -> Iterator[Any]:
    for item in value.values():
        if isinstance(item, Mapping):
            yield from _leaves(item)
        elif isinstance(item, str):
            yield item


def _ours(settings: Settings, words: tuple[str, ...]) -> str:
    """One of our commands, as a process of its own: it has a time limit, and an end."""
    said = programs.run([sys.executable, "-m", "proxypool", *settings.as_options(), *words], 60.0)
    if not said.out:
        raise TransientError(said.err.strip() or f"exit code {said.code}")
    return _without_secrets(said.out)


def _without_secrets(text: str) -> str:
    """Of a JSON document also what is secret by the name of its key."""
    try:
        return json.dumps(redacted(json.loads(text)), indent=1, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def _tree(settings: Settings) -> str:
    from proxypool.adapters.zookeeper import read_documents

    with settings.session() as session:
        found = {path: _parsed(data) for path, data in read_documents(session).items()}
    return json.dumps(redacted(found), indent=1, ensure_ascii=False)


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data) if data else ""
    except (ValueError, RecursionError):
        return data.decode(errors="replace")


def _metrics(config: Config) -> Iterator[Step]:
    """Of the daemons that this machine has a section for."""
    for role, usual in (("node", NODE_METRICS), ("host", HOST_METRICS), ("controller", CONTROLLER_METRICS)):
        if getattr(config, role) is not None:
            listen = config.metrics.listen or usual
            scheme = "https" if config.metrics.tls_cert else "http"
            url = f"{scheme}://{listen.replace('0.0.0.0', '127.0.0.1')}/metrics"  # noqa: S104 - asked, not listened on
            yield Step(f"metrics/{role}.txt", partial(_get, url, config.metrics))


def _get(url: str, kept: MetricsConfig) -> str:
    """Of our own daemon: it must show our own certificate, which may be for other names than this address."""
    request, context = urllib.request.Request(url), None  # noqa: S310 - http or https
    try:
        if kept.token_file is not None:
            request.add_header("Authorization", f"Bearer {read_secret(kept.token_file, may_group_read=True)}")
        if kept.tls_cert is not None:
            context = ssl.create_default_context(cafile=path_of(kept.tls_cert))
            context.check_hostname = False
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        with urllib.request.urlopen(request, timeout=COMMAND_WITHIN_S, context=context) as answer:  # noqa: S310
            return str(answer.read().decode(errors="replace"))
    except OSError as error:
        raise TransientError(f"{url}: {getattr(error, 'reason', None) or error}") from error


def _kernel() -> Iterator[Step]:
    for words in KERNEL:
        yield Step(f"kernel/{_file_name(words)}", partial(_run, words))
    for file in ("/proc/modules", "/proc/net/dev", "/proc/net/stat/nf_conntrack", "/proc/meminfo", "/proc/loadavg"):
        yield Step(f"kernel/{file.strip('/').replace('/', '-')}.txt", partial(Path(file).read_text))
    yield Step(
        "kernel/sysctl-net.txt", partial(_run, ("sysctl", "-a", "--pattern", r"^net\.(ipv4\.(conf|ip)|netfilter)"))
    )
    namespaces = sorted(NETNS_DIR.glob(f"{NAMESPACE_PREFIX}*")) if NETNS_DIR.is_dir() else []
    for path in namespaces[:MAX_NAMESPACES]:
        for words in INSIDE:
            command = ("nsenter", f"--net={path}", *words)
            yield Step(f"kernel/{path.name}/{_file_name(words)}", partial(_run, command))


def _file_name(words: tuple[str, ...]) -> str:
    return "-".join(word.strip("-") for word in words[:4] if not word.startswith("net.")) + ".txt"


def _keepalived(config: Config) -> Iterator[Step]:
    directory = Path(config.node.keepalived_dir if config.node is not None else "/etc/keepalived")
    for path in (directory / "keepalived.conf", *sorted(directory.glob("conf.d/*.conf"))):
        yield Step(f"keepalived/{path.name}", partial(path.read_text, errors="replace"))


def _run(words: tuple[str, ...]) -> str:
    """What a program writes. One that fails has said why, and what it wrote before is kept."""
    said = programs.run(words, COMMAND_WITHIN_S)
    if said.code and not said.out:
        raise TransientError(" ".join(said.err.split()) or f"{words[0]} ended with {said.code}")
    return said.out + (f"\n[{words[0]} ended with {said.code}: {said.err.strip()}]\n" if said.code else "")


def _our_lines(path: Path) -> str:
    """The last lines of a system's log that are ours or keepalived's, where there is no journal."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    ours = [line for line in lines if "proxypool" in line or "keepalived" in line.lower()]
    return "\n".join(ours[-LOG_LINES:]) + "\n"


def _listing(directory: str) -> str:
    """Names, sizes and modes; not what is in them: the ZooKeeper session's password is."""
    lines = []
    for path in sorted(Path(directory).rglob("*")):
        with suppress(OSError):
            found = path.lstat()
            lines.append(f"{found.st_mode:07o} {found.st_uid:5} {found.st_size:9} {path}")
    return "\n".join(lines) + "\n"
