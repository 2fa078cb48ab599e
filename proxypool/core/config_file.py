"""The configuration file: TOML in, the configuration out, or an error that names line and key. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from proxypool.core.config import (
    FROM_NODES,
    Config,
    ControllerConfig,
    HostConfig,
    LogConfig,
    MetricsConfig,
    NodeConfig,
    WebConfig,
    ZooKeeperConfig,
)
from proxypool.core.config_errors import Place, explained, require_known_keys
from proxypool.core.config_lines import line_of, lines_of
from proxypool.core.documents import decode_hook
from proxypool.core.endpoints import is_loopback, parse_endpoint
from proxypool.core.errors import InvalidInput
from proxypool.core.scaling.policy import Parameters
from proxypool.core.toml import load

PER_SUBNET = ("min_pairs", "max_pairs")
"""Parameters of the policy that no pool has."""
_SECTIONS: dict[str, type[Struct]] = {
    "zookeeper": ZooKeeperConfig,
    "node": NodeConfig,
    "node.web": WebConfig,
    "host": HostConfig,
    "controller": ControllerConfig,
    "controller.web": WebConfig,
    "controller.policy": Parameters,
    "metrics": MetricsConfig,
    "log": LogConfig,
}


def parse(text: str, *, what: str) -> Config:
    """Configuration from TOML.

    Raises:
        InvalidInput: not TOML, an unknown key (with the nearest known one), a value of the wrong kind or range.
    """
    raw = load(text, what=what)
    lines = lines_of(text)

    def place(key: str) -> str:
        line = line_of(lines, key)
        return f"{what}: " if line is None else f"{what}: line {line}: "

    _refuse_unknown(raw, place)
    if isinstance(raw.get("provider"), dict):
        raw["provider"] = _provider_section(raw["provider"], place)
    try:
        config: Config = msgspec.convert(raw, Config, dec_hook=decode_hook)
    except (msgspec.ValidationError, ValueError) as error:
        raise InvalidInput(explained(error, Config, place)) from error
    for server in config.zookeeper.hosts:
        parse_endpoint(server, what=f"{place('zookeeper.hosts')}zookeeper.hosts")
    _require_whole(config.zookeeper, place("zookeeper"))
    if config.controller is not None:
        _require_source(config.controller.source, place("controller.source"))
        if config.controller.nodes_token_file is not None and config.controller.nodes_ca is None:
            where = place("controller.nodes_token_file")
            raise InvalidInput(f"{where}controller.nodes_token_file needs nodes_ca: it would be sent in the clear")
    if config.metrics.listen is not None:
        parse_endpoint(config.metrics.listen, what=f"{place('metrics.listen')}metrics.listen")
    _require_key(config.metrics, f"{place('metrics')}metrics")
    for name, owner in (("node", config.node), ("controller", config.controller)):
        if owner is not None:
            _require_safe(owner.web, f"{place(f'{name}.web')}{name}.web")
    return config


def _require_key(kept: WebConfig | MetricsConfig, what: str) -> None:
    if (kept.tls_cert is None) is not (kept.tls_key is None):
        here, missing = ("tls_cert", "tls_key") if kept.tls_key is None else ("tls_key", "tls_cert")
        raise InvalidInput(f"{what}.{here} needs {missing}: a certificate is of no use without its key")


def _require_whole(zookeeper: ZooKeeperConfig, place: str) -> None:
    """Half of what access or TLS needs is a mistake that would leave the other half unused."""
    for key, needed in (("user", "secret_file"), ("secret_file", "user"), ("tls_cert", "tls_key")):
        _require_with(zookeeper, key, needed, place)
    _require_with(zookeeper, "tls_key", "tls_cert", place)
    _require_with(zookeeper, "tls_cert", "tls_ca", place)


def _require_with(zookeeper: ZooKeeperConfig, key: str, needed: str, place: str) -> None:
    if getattr(zookeeper, key) is not None and getattr(zookeeper, needed) is None:
        raise InvalidInput(f"{place}zookeeper.{key} needs zookeeper.{needed} too")


def _require_safe(web: WebConfig, what: str) -> None:
    _require_key(web, what)
    if web.runbooks is not None and not web.runbooks.startswith(("http://", "https://")):
        raise InvalidInput(f"{what}.runbooks: {web.runbooks!r} does not begin with http:// or https://")
    if not web.listen:
        return
    host, port = parse_endpoint(web.listen, what=f"{what}.listen")
    if web.token_file is None and not is_loopback(host):
        raise InvalidInput(
            f"{what}.listen: {web.listen} is open to others, who would see the whole pool: make a token by "
            '`(umask 077; head -c 32 /dev/urandom | base64 > FILE)` and say token_file = "FILE" too, or listen on '
            f'"127.0.0.1:{port}"'
        )


def _require_source(source: str, place: str) -> None:
    if source != FROM_NODES and not source.startswith(("http://", "https://")):
        raise InvalidInput(
            f'{place}controller.source: {source!r} is neither "{FROM_NODES}" nor the http:// or https:// address of a '
            "Prometheus"
        )


def _refuse_unknown(raw: Mapping[str, Any], place: Place) -> None:
    require_known_keys(raw, Config, "", place)
    for section, kind in _SECTIONS.items():
        require_known_keys(_table(raw, section), kind, f"{section}.", place)
    for key in PER_SUBNET:
        if key in _table(raw, "controller.policy"):
            where = f"controller.policy.{key}"
            raise InvalidInput(f"{place(where)}{where} is each subnet's own: `proxypool scale set SUBNET`")


def _table(raw: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    """A table of the file; empty if it is not there, or is no table."""
    found: Any = raw
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _provider_section(values: Mapping[str, Any], place: Place) -> dict[str, Any]:
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    for key in values:
        if key != "name" and key not in tables:
            where = f"provider.{key}"
            raise InvalidInput(f"{place(where)}unknown key {where}: it is `name`, or a table [provider.<name>]")
    return {"tables": tables} | ({"name": values["name"]} if "name" in values else {})
