"""`address:port`, as configuration and documents name what listens. Pure."""

from __future__ import annotations

import re
from ipaddress import ip_address

from proxypool.core.errors import InvalidInput

_PORT = re.compile(r"[0-9]{1,5}")


def parse_endpoint(text: str, *, what: str) -> tuple[str, int]:
    """`address:port` as a pair.

    Raises:
        InvalidInput: no port, or a port outside 1-65535.
    """
    host, separator, port = text.rpartition(":")
    if not (separator and host and _PORT.fullmatch(port)) or not 1 <= int(port) <= 65535:  # noqa: PLR2004
        raise InvalidInput(f"{what}: {text!r} is not ADDRESS:PORT")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address. Another name than `localhost` may be anybody's."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
