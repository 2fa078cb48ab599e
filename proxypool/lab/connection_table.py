"""Fill a namespace's connection table to the brim, and empty it again. Acts in the calling thread's namespace."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path

from proxypool.adapters.nfnetlink import NLM_F_EXCL, NetfilterSocket, attribute, nested

NEW = 1 << 8 | 0
"""IPCTNL_MSG_CT_NEW of NFNL_SUBSYS_CTNETLINK."""
CREATE = 0x400
_ORIGINAL, _REPLY, _STATUS, _TIMEOUT = 1, 2, 3, 7
_IP, _PROTOCOL, _SOURCE, _DESTINATION, _NUMBER, _FROM_PORT, _TO_PORT = 1, 2, 1, 2, 1, 2, 3
_ESTABLISHED = 1 << 1 | 1 << 2 | 1 << 3
"""IPS_SEEN_REPLY, IPS_ASSURED (so it is not dropped early for a new one), IPS_CONFIRMED."""
LIFE_S = 3600
BATCH = 200
UDP = 17
_FROM = 198 << 24 | 18 << 16
"""198.18.0.0/15 is for such tests (RFC 2544)."""
_TO = bytes((198, 19, 0, 1))
_TOP_UP = 100
"""Requests after the table ought to be full, to be sure."""


def fill() -> int:
    """How many entries were made."""
    limit, count = (
        int(Path(f"/proc/sys/net/netfilter/nf_conntrack_{what}").read_text(encoding="ascii"))
        for what in ("max", "count")
    )
    link = NetfilterSocket()
    made = refused = 0
    try:
        bodies = _bodies()
        while made < limit - count + _TOP_UP and refused < _TOP_UP:
            batch = [next(bodies) for _ in range(BATCH if made + BATCH < limit - count else 10)]
            no = link.exchange(NEW, batch, CREATE | NLM_F_EXCL)
            made, refused = made + len(batch) - len(no), refused + len(no)
    finally:
        link.close()
    return made


def empty() -> None:
    """All entries that `fill` made; those of others stay."""
    from proxypool.adapters.ctnetlink import DELETE  # noqa: PLC0415

    link = NetfilterSocket()
    try:
        bodies = _bodies(for_deleting=True)
        missing = 0
        while missing < BATCH:
            # Whatever is not there is refused; the entries were made in this order.
            with contextlib.suppress(TimeoutError):
                missing = len(link.exchange(DELETE, [next(bodies) for _ in range(BATCH)]))
    finally:
        link.close()


def _bodies(*, for_deleting: bool = False) -> Iterator[bytes]:
    """Of one entry after the other, always in the same order."""
    tail = attribute(_STATUS, struct.pack(">I", _ESTABLISHED)) + attribute(_TIMEOUT, struct.pack(">I", LIFE_S))
    for number in range(1 << 24):
        source, port = struct.pack(">I", _FROM + (number >> 12)), 1024 + (number & 0xFFF)
        original = nested(_ORIGINAL, *_tuple(source, _TO, port, 9))
        yield original if for_deleting else original + nested(_REPLY, *_tuple(_TO, source, 9, port)) + tail


def _tuple(source: bytes, destination: bytes, from_port: int, to_port: int) -> tuple[bytes, bytes]:
    return (
        nested(_IP, attribute(_SOURCE, source), attribute(_DESTINATION, destination)),
        nested(
            _PROTOCOL,
            attribute(_NUMBER, bytes([UDP])),
            attribute(_FROM_PORT, struct.pack(">H", from_port)),
            attribute(_TO_PORT, struct.pack(">H", to_port)),
        ),
    )
