"""The messages of ipsets: NFNL_SUBSYS_IPSET, protocol 6 (linux/netfilter/ipset/ip_set.h, net/netfilter/ipset/).

Members go in and out by the hundred in one message (IPSET_ATTR_ADT). Each carries a line number; when the kernel
refuses one it says which, and those before it are in.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from proxypool.adapters.nfnetlink import (
    BODY_AT,
    HEADER,
    NLA_F_NESTED,
    NLA_F_NET_BYTEORDER,
    NLM_F_EXCL,
    NetfilterSocket,
    Refused,
    attribute,
    attributes,
    messages,
    nested,
)

_SUBSYSTEM = 6 << 8
CREATE, DESTROY, LIST, ADD, DELETE = (_SUBSYSTEM | command for command in (2, 3, 7, 9, 10))
_HEADER_ONLY = _SUBSYSTEM | 12
_PROTOCOL, _SETNAME, _TYPENAME, _REVISION, _FAMILY, _FLAGS, _DATA, _ADT, _LINE = range(1, 10)
"""IPSET_ATTR_* at command level."""
IP, CIDR, TIMEOUT, CADT_FLAGS, _MAXELEM, _NETMASK, _ELEMENTS, SKBMARK, PAD = 1, 3, 6, 8, 19, 20, 24, 27, 30
"""IPSET_ATTR_* within a set's head and its members."""
IPV4 = 1
_LIST_HEADER = 1 << 2
"""IPSET_FLAG_LIST_HEADER."""
WITH_SKBINFO = 1 << 6
"""IPSET_FLAG_WITH_SKBINFO."""
_BITMASK = 12
_U32 = struct.Struct(">I")
_NATIVE_U32 = struct.Struct("=I")
ATTRIBUTE_HEAD = struct.Struct("=HH")
_LINE_ATTRIBUTE = struct.Struct("=HHI")
_BATCH = 1000
"""Members in one message: an attribute holds 64 kB."""
_ERR_BUSY = 4100
_REASONS = {
    errno.ENOENT: "there is no such set",
    errno.EEXIST: "a set of another type has that name",
    4097: "it is not what this type of set holds",
    4098: "the kernel has no such type of set",
    4099: "the kernel holds as many sets as it can",
    _ERR_BUSY: "it is in use by a kernel component; it can go when no iptables rule names it any more",
    4102: "the set is of another type",
    4104: "the prefix length is out of range",
    4106: "the set is of another family",
    4109: "the set holds no IPv4 addresses",
    4114: "the set was made without skbinfo",
    4352: "the set is full",
}
"""IPSET_ERR_* and IPSET_ERR_HASH_FULL, as sentences."""
PERMANENT = {4098, 4104}


@dataclass(frozen=True, slots=True)
class SetKind:
    """What a set is made as."""

    type_name: str
    revision: int
    """Of the type, the lowest that has what we need: an older kernel's ipset must be able to list it."""
    flags: int
    """IPSET_FLAG_WITH_*."""
    limit: int
    """Most members."""
    timeout_s: int | None = None
    """How long a member stays that does not say so itself; None: members stay until they are removed."""


@dataclass(frozen=True, slots=True)
class Head:
    """What the kernel says of a set without its members."""

    name: str
    type_name: str
    flags: int
    is_plain: bool
    """IPv4, whole members."""
    count: int
    has_timeout: bool = False
    """Members go when their time is over."""

    def is_of(self, kind: SetKind) -> bool:
        """Whether the set works as one of that kind; a limit or revision of another version of ours is no matter."""
        same = (self.type_name, self.flags, self.has_timeout) == (
            kind.type_name,
            kind.flags,
            kind.timeout_s is not None,
        )
        return self.is_plain and same


def reason(refused: Refused) -> str:
    """Why, as a sentence."""
    return _REASONS.get(refused.code) or os.strerror(refused.code)


def set_body(name: str) -> bytes:
    """What each request begins with: which set it is about."""
    return attribute(_PROTOCOL, b"\x06") + attribute(_SETNAME, name.encode() + b"\0")


def create(link: NetfilterSocket, name: str, kind: SetKind) -> None:
    """Make a set.

    Raises:
        Refused: EEXIST, or the kernel lacks the type.
    """
    timeout = () if kind.timeout_s is None else (big_endian(TIMEOUT, kind.timeout_s),)
    body = (
        set_body(name)
        + attribute(_TYPENAME, kind.type_name.encode() + b"\0")
        + attribute(_REVISION, bytes([kind.revision]))
        + attribute(_FAMILY, b"\x02")
        + nested(_DATA, big_endian(CADT_FLAGS, kind.flags), big_endian(_MAXELEM, kind.limit), *timeout)
    )
    _do(link, CREATE, body, NLM_F_EXCL)


def destroy(link: NetfilterSocket, name: str) -> None:
    """Remove a set.

    Raises:
        Refused: ENOENT, or a rule refers to it.
    """
    _do(link, DESTROY, set_body(name))


def heads(link: NetfilterSocket, name: str | None = None) -> list[Head]:
    """Every set of the namespace, or one, without members.

    Raises:
        Refused: ENOENT.
    """
    body = set_body(name) if name is not None else attribute(_PROTOCOL, b"\x06")
    dump = link.dump(LIST, body + big_endian(_FLAGS, _LIST_HEADER))
    return [_head(data, at, end) for data in dump for at, end in messages(data)]


def type_of(link: NetfilterSocket, name: str) -> str:
    """The type of a set.

    Raises:
        Refused: ENOENT.
    """
    data = link.ask(_HEADER_ONLY, set_body(name))
    at, end = attributes(data, BODY_AT, len(data))[_TYPENAME]
    return _text(data, at, end)


def listed(link: NetfilterSocket, name: str) -> list[bytes]:
    """A set as the kernel lists it, head and members, to be compared with another look.

    Raises:
        Refused: ENOENT.
    """
    dump = link.dump(LIST, set_body(name))
    return [data[at + HEADER.size : end] for data in dump for at, end in messages(data)]


def member_lists(link: NetfilterSocket, name: str) -> Iterator[bytes]:
    """The members of a set as the kernel lists them: attributes IPSET_ATTR_DATA, one after the other.

    Raises:
        Refused: ENOENT.
    """
    for data in link.dump(LIST, set_body(name)):
        for at, end in messages(data):
            found = attributes(data, at + BODY_AT, end).get(_ADT)
            if found is not None:
                yield data[found[0] : found[1]]


def member_head(size: int) -> bytes:
    """How a listed member of so many bytes, these four included, begins."""
    return ATTRIBUTE_HEAD.pack(size, _DATA | NLA_F_NESTED)


def alter(link: NetfilterSocket, command: int, name: str, bodies: Sequence[bytes]) -> None:
    """ADD or DELETE members; what is there already is overwritten, what is absent is fine.

    Raises:
        Refused: its `index` is that of the member that was refused; those before it are done.
    """
    for start in range(0, len(bodies), _BATCH):
        batch = bodies[start : start + _BATCH]
        packed = b"".join(
            member_head(len(body) + 12) + body + _LINE_ATTRIBUTE.pack(8, _LINE, line)
            for line, body in enumerate(batch, start + 1)
        )
        request = set_body(name) + _LINE_ATTRIBUTE.pack(8, _LINE, start + 1) + nested(_ADT, packed)
        for refused in link.exchange(command, [request]):
            # call_ad() in ip_set_core.c: the answer repeats the request, with the line that failed at command level.
            found = attributes(refused.answer, BODY_AT, len(refused.answer)).get(_LINE)
            line = _NATIVE_U32.unpack_from(refused.answer, found[0])[0] if found else start + 1
            raise Refused(refused.code, line - 1)


def big_endian(kind: int, value: int) -> bytes:
    """An attribute that holds a 32-bit number in the network's order."""
    return attribute(kind | NLA_F_NET_BYTEORDER, _U32.pack(value))


def _do(link: NetfilterSocket, command: int, body: bytes, flags: int = 0) -> None:
    for refused in link.exchange(command, [body], flags):
        raise refused


def _head(data: bytes, at: int, end: int) -> Head:
    top = attributes(data, at + BODY_AT, end)
    inner = attributes(data, *top[_DATA])

    def number(kind: int) -> int:
        return int(_U32.unpack_from(data, inner[kind][0])[0]) if kind in inner else 0

    return Head(
        _text(data, *top[_SETNAME]),
        _text(data, *top[_TYPENAME]),
        number(CADT_FLAGS),
        is_plain=data[top[_FAMILY][0]] == 2 and not {_NETMASK, _BITMASK} & inner.keys(),  # noqa: PLR2004
        count=number(_ELEMENTS),
        has_timeout=TIMEOUT in inner,
    )


def _text(data: bytes, at: int, end: int) -> str:
    return data[at:end].rstrip(b"\0").decode(errors="replace")
