"""Lists of children's names, as ZooKeeper sends them: ten thousand of them, of which one is new.

kazoo makes a string of each name, which takes it 5 ms of the interpreter for ten thousand; here the bytes are compared
with those of the list before, and only what lies in between is looked at.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from kazoo.protocol.serialization import GetChildren2, stat_struct
from kazoo.protocol.states import ZnodeStat

_LENGTH = struct.Struct("!i")
_HEAD = b"\0\0\0"
"""Of a name's length in four bytes. No name has a zero in it, so this is where a name begins, if all are short."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Names of a node's children, and the zxid of the last change of the list."""

    names: frozenset[str] = frozenset()
    pzxid: int = 0
    raw: bytes = b""
    """The names as they were sent."""


@dataclass(frozen=True, slots=True)
class RawListing:
    """As it was sent: not understood yet."""

    count: int
    raw: bytes
    pzxid: int

    def after(self, before: Listing) -> Listing:
        """What it says. The names that were there before are the same objects."""
        if self.raw == before.raw:
            return Listing(before.names, self.pzxid, before.raw)
        if self.raw.count(_HEAD) != self.count or not before.raw:
            # Nothing to compare with; or a node with a name of 256 bytes and more, which is none of ours.
            return Listing(frozenset(_names(self.raw)), self.pzxid, self.raw)
        start, end = _same_at_both_ends(before.raw, self.raw)
        gone = frozenset(_names(before.raw[start : len(before.raw) - end]))
        come = frozenset(_names(self.raw[start : len(self.raw) - end]))
        return Listing((before.names - (gone - come)) | (come - gone), self.pzxid, self.raw)


def _same_at_both_ends(old: bytes, new: bytes) -> tuple[int, int]:
    """How many bytes the two have in common at the beginning and at the end, whole names only."""
    shorter = min(len(old), len(new))
    head = _longest(lambda length: old[:length] == new[:length], shorter)
    start = new.rfind(_HEAD, 0, head) if head < shorter else _boundary(old, new, shorter)
    start = max(start, 0)
    most = shorter - start
    tail = _longest(lambda length: old[len(old) - length :] == new[len(new) - length :], most)
    at = new.find(_HEAD, len(new) - tail)
    return start, len(new) - at if at >= 0 else 0


def _boundary(old: bytes, new: bytes, shorter: int) -> int:
    """One begins with all of the other: where the other ends, a name ends in both."""
    longer = old if len(old) > shorter else new
    return shorter if longer[shorter : shorter + len(_HEAD)] == _HEAD else longer.rfind(_HEAD, 0, shorter)


def _longest(holds: Any, most: int) -> int:
    """The greatest length for which it holds, by halving; it holds for all that are smaller."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _names(raw: bytes) -> list[str]:
    found = []
    offset = 0
    while offset < len(raw):
        (length,) = _LENGTH.unpack_from(raw, offset)
        offset += _LENGTH.size
        found.append(raw[offset : offset + length].decode())
        offset += length
    return found


class _Request(GetChildren2):  # type: ignore[misc]  # kazoo is untyped
    """`getChildren2` whose answer is left as it is."""

    @classmethod
    def deserialize(cls, buffer: bytes, offset: int) -> RawListing:
        """The answer's body."""
        (count,) = _LENGTH.unpack_from(buffer, offset)
        end = len(buffer) - stat_struct.size
        stat = ZnodeStat._make(stat_struct.unpack_from(buffer, end))
        return RawListing(max(count, 0), bytes(buffer[offset + _LENGTH.size : end]), stat.pzxid)


def list_async(client: Any, path: str, watch: Any) -> Any:
    """As the client's `get_children_async`, with a `RawListing` as its result."""
    result = client.handler.async_result()
    client._call(_Request(path, watch), result)  # noqa: SLF001 - its public method has its own parser
    return result
