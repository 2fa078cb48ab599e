"""The configuration of an ip-masq-agent (YAML or JSON), for hosts that move over from one. The one owner of PyYAML."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

import yaml

from proxypool.core.errors import InvalidInput, TransientError

KEY = "nonMasqueradeCIDRs"
LINK_LOCAL = IPv4Network("169.254.0.0/16")


def read_non_masquerade_cidrs(path: Path) -> tuple[IPv4Network, ...]:
    """Destinations that are left alone, sorted. IPv6 ones are nobody's business here. Link-local ones are added, as the
    agent does, unless `masqLinkLocal` is true.

    Raises:
        TransientError: the file cannot be read.
        InvalidInput: it is no such configuration.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TransientError(f"cannot read the ip-masq-agent's configuration {path}: {error}") from error
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidInput(f"{path} is neither YAML nor JSON: {' '.join(str(error).split())}") from error
    document = {} if document is None else document
    if not isinstance(document, dict) or not isinstance(document.get(KEY, []), list):
        raise InvalidInput(f"{path}: expected a mapping with a list {KEY!r}, as an ip-masq-agent has it")
    found = {network for entry in document.get(KEY, []) if isinstance(network := _network(path, entry), IPv4Network)}
    if document.get("masqLinkLocal") is not True:
        found.add(LINK_LOCAL)
    return tuple(sorted(found))


def _network(path: Path, entry: object) -> IPv4Network | IPv6Network:
    try:
        return ip_network(str(entry))
    except ValueError as error:
        raise InvalidInput(f"{path}: {KEY}: {error}") from error
