"""The configuration of an ip-masq-agent (YAML or JSON), for hosts that move over from one. The one owner of PyYAML."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

import yaml

from proxypool.core.errors import InvalidInput, TransientError

KEY = "nonMasqueradeCIDRs"
MAX_BYTES = 64 << 10
"""A thousand CIDRs have a third of it. PyYAML takes seconds for a megabyte."""
MAX_BRACKETS = 100
"""One within another, PyYAML's time grows with the square of their number."""
LINK_LOCAL = IPv4Network("169.254.0.0/16")


def read_non_masquerade_cidrs(path: Path) -> tuple[IPv4Network, ...]:
    """Destinations that are left alone, sorted. IPv6 ones are nobody's business here. Link-local ones are added, as the
    agent does, unless `masqLinkLocal` is true.

    Raises:
        TransientError: the file cannot be read.
        InvalidInput: it is no such configuration.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TransientError(f"cannot read the ip-masq-agent's configuration {path}: {error}") from error
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"{path} has more than {MAX_BYTES >> 10} KiB: is it an ip-masq-agent's configuration?")
    if text.count("[") + text.count("{") > MAX_BRACKETS:
        raise InvalidInput(f"{path} is nested too deeply: expected a mapping with a list {KEY!r}")
    try:
        document = yaml.safe_load(text)
    except RecursionError as error:
        raise InvalidInput(f"{path} is nested too deeply: expected a mapping with a list {KEY!r}") from error
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        # PyYAML lets pass what its makers of dates and numbers raise.
        raise InvalidInput(f"{path} is neither YAML nor JSON: {' '.join(str(error).split())}") from error
    document = {} if document is None else document
    if not isinstance(document, dict) or not isinstance(document.get(KEY, []), list):
        raise InvalidInput(f"{path}: expected a mapping with a list {KEY!r}, as an ip-masq-agent has it")
    found = {network for entry in document.get(KEY, []) if isinstance(network := _network(path, entry), IPv4Network)}
    if document.get("masqLinkLocal") is not True:
        found.add(LINK_LOCAL)
    return tuple(sorted(found))


def _network(path: Path, entry: object) -> IPv4Network | IPv6Network:
    if not isinstance(entry, str):
        # Not made a text: a few lines of YAML can refer to each other so that it has a thousand million characters.
        raise InvalidInput(f"{path}: {KEY}: expected a text such as 10.0.0.0/8, not a {type(entry).__name__}")
    try:
        return ip_network(entry)
    except ValueError as error:
        raise InvalidInput(f"{path}: {KEY}: {error}") from error
