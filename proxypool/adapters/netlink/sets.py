"""Our ipsets: their existence and the members of address sets as part of a scene, and a handle for marked sets.

A set is ours by its prefix. One of ours that is not what its name is wanted for is shown as what it is, so that the
planner removes it first: the kernel cannot change a set's type, and swapping needs two of the same.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from ipaddress import IPv4Address, IPv4Network
from typing import TypeVar

from proxypool.adapters.kernel_errors import kernel_error
from proxypool.adapters.netlink import ipset
from proxypool.adapters.nfnetlink import NLA_F_NESTED, NLA_F_NET_BYTEORDER, NetfilterSocket, Refused, attributes
from proxypool.core.errors import PermanentError, TransientError
from proxypool.core.scene import SET_PREFIX, AddressSet, LeaseSet, MarkedSet, Scene, UnknownSet

ADDRESSES = ipset.SetKind("hash:ip", 0, 0, 65536)
MARKED = ipset.SetKind("hash:net", 6, ipset.WITH_SKBINFO, 262144)
"""skbinfo came with revision 6 (Linux 3.18). The limit: every instance of the largest host, many times over."""
LEASES = ipset.SetKind("hash:net", 0, 0, 64, timeout_s=1)
NOT_OURS = -1
"""The mark of a member that has none, another mask, or more to it than a mark: different from any that is wanted."""

_HEAD = ipset.ATTRIBUTE_HEAD
_IP_HEAD = _HEAD.pack(12, ipset.IP | NLA_F_NESTED) + _HEAD.pack(8, ipset.IPV4 | NLA_F_NET_BYTEORDER)
_LISTED_IP_HEAD = _HEAD.pack(12, ipset.IP | NLA_F_NESTED) + _HEAD.pack(8, ipset.IPV4)
"""The kernel asks for the flag of the byte order and does not set it itself."""
_CIDR_HEAD = _HEAD.pack(5, ipset.CIDR)
_MARK_HEAD = _HEAD.pack(12, ipset.SKBMARK | NLA_F_NET_BYTEORDER)
_MARK = struct.Struct(">II")
_MEMBER = struct.Struct(">12s4s4sB3x4sII")
"""A member with a mark and nothing else, as the kernel lists it: heads and values by turns."""
_MEMBER_HEADS = (ipset.member_head(_MEMBER.size) + _LISTED_IP_HEAD, _CIDR_HEAD, _MARK_HEAD)
_ADDRESS = struct.Struct("=12s4s")
_ADDRESS_HEAD = ipset.member_head(_ADDRESS.size) + _LISTED_IP_HEAD
_T = TypeVar("_T")


def put_set(item: AddressSet | MarkedSet | LeaseSet) -> None:
    """Make a set of ours exist; an address set gets its members, one by one, so that rules never see a gap.

    Raises:
        TransientError, PermanentError: what the kernel refused, with set and member in the text.
    """
    with closing(NetfilterSocket()) as link, _told(f"set {item.name}"):
        kind = {AddressSet: ADDRESSES, MarkedSet: MARKED, LeaseSet: LEASES}[type(item)]
        try:
            ipset.create(link, item.name, kind)
        except Refused as refused:
            if refused.code != errno.EEXIST or not all(head.is_of(kind) for head in ipset.heads(link, item.name)):
                raise
        if isinstance(item, AddressSet):
            present = _addresses(link, item.name)
            _alter(link, ipset.ADD, item.name, sorted(item.members - present), _address_body)
            _alter(link, ipset.DELETE, item.name, sorted(present - item.members), _address_body)


def change_set(name: str, added: Iterable[IPv4Address], removed: Iterable[IPv4Address]) -> None:
    """Add and remove members of an address set that is there, without reading the others: there may be ten thousand.

    Adding what is there, and removing what is not, is fine.

    Raises:
        TransientError, PermanentError: what the kernel refused, with set and member in the text.
    """
    with closing(NetfilterSocket()) as link, _told(f"set {name}"):
        _alter(link, ipset.ADD, name, sorted(added), _address_body)
        _alter(link, ipset.DELETE, name, sorted(removed), _address_body)


def remove_set(name: str) -> None:
    """Destroy a set of ours; an absent one is fine.

    Raises:
        TransientError: a rule refers to it.
    """
    with closing(NetfilterSocket()) as link, _told(f"remove set {name}"):
        try:
            ipset.destroy(link, name)
        except Refused as refused:
            if refused.code != errno.ENOENT:
                raise


def observe_sets(desired: Scene) -> Iterator[AddressSet | MarkedSet | LeaseSet | UnknownSet]:
    """Our sets. Members are read of those only that are wanted as address sets.

    Raises:
        TransientError, PermanentError: the kernel did not answer.
    """
    with closing(NetfilterSocket()) as link, _told("observe sets"):
        for head in ipset.heads(link):
            if not head.name.startswith(SET_PREFIX):
                continue
            if head.is_of(MARKED):
                yield MarkedSet(head.name)
            elif head.is_of(LEASES):
                yield LeaseSet(head.name)
            elif head.is_of(ADDRESSES):
                is_wanted = isinstance(desired.objects.get(("set", head.name)), AddressSet)
                yield AddressSet(head.name, _addresses(link, head.name) if is_wanted else frozenset())
            else:
                yield UnknownSet(head.name, head.type_name)


class MarkedSetHandle:
    """The members of one marked set: network -> packet mark under the handle's mask.

    Usable from any thread, one at a time. Whether the set is there is the scene's matter: the handle stays good when
    the set goes and comes back.

    Raises:
        TransientError: from every method but `count`: the set is not there, of another type, or full.
        PermanentError: from the same: a member that such a set cannot hold, such as 0.0.0.0/0.
    """

    def __init__(self, name: str, mask: int) -> None:
        """Open the socket in the calling thread's namespace."""
        self._name = name
        self._mask = mask
        self._packed_mask = mask.to_bytes(4)
        with _told(f"open set {name}"):
            self._link = NetfilterSocket()
        self._networks: dict[tuple[bytes, int], IPv4Network] = {}
        """Of the last `read`: a network is made once, as that costs more than reading it."""

    def close(self) -> None:
        """Close the socket; the set stays as it is."""
        self._link.close()

    def put(self, marks: Mapping[IPv4Network, int]) -> None:
        """Add members, or change the marks of those that are there, in place: no packet misses a member meanwhile.

        When one is refused, some of the others are in.

        Raises:
            ValueError: a mark has bits outside the mask.
        """
        for network, mark in marks.items():
            if mark & ~self._mask:
                raise ValueError(f"mark {mark:#x} of {network} is not within {self._mask:#x}")

        def body(network: IPv4Network) -> bytes:
            return _network_body(network) + _MARK_HEAD + marks[network].to_bytes(4) + self._packed_mask

        if marks:
            with _told(f"set {self._name}"):
                self._check_type()
                _alter(self._link, ipset.ADD, self._name, tuple(marks), body)

    def remove(self, networks: Iterable[IPv4Network]) -> None:
        """Remove members; absent ones are fine."""
        with _told(f"set {self._name}"):
            _alter(self._link, ipset.DELETE, self._name, tuple(networks), _network_body)

    def read(self) -> dict[IPv4Network, int]:
        """All members with their marks; `NOT_OURS` for one that `put` would not have made like that."""
        with _told(f"read set {self._name}"):
            self._check_type()
            found: dict[IPv4Network, int] = {}
            networks: dict[tuple[bytes, int], IPv4Network] = {}
            for packed, length, mark in self._members():
                key = (packed, length)
                network = self._networks.get(key) or IPv4Network(key)
                networks[key] = network
                found[network] = mark
            self._networks = networks
            return found

    def count(self) -> int | None:
        """How many members there are; None: there is no set of that name.

        The kernel counts, some 6 ns per member (mtype_ext_size() in ip_set_hash_gen.h), and sends none.
        """
        with _told(f"count set {self._name}"):
            try:
                return ipset.heads(self._link, self._name)[0].count
            except Refused as refused:
                if refused.code == errno.ENOENT:
                    return None
                raise

    def _check_type(self) -> None:
        """A set of addresses would take single hosts without a word, and rules would miss what they look for."""
        type_name = ipset.type_of(self._link, self._name)
        if type_name != MARKED.type_name:
            raise TransientError(f"set {self._name} is of type {type_name} instead of {MARKED.type_name}")

    def _members(self) -> Iterator[tuple[bytes, int, int]]:
        """Address, prefix length and mark of each member."""
        for listed in ipset.member_lists(self._link, self._name):
            at, end = 0, len(listed)
            while at < end:
                if at + _MEMBER.size <= end:
                    head, packed, cidr_head, length, mark_head, mark, mask = _MEMBER.unpack_from(listed, at)
                    if (head, cidr_head, mark_head) == _MEMBER_HEADS:
                        yield packed, length, mark if mask == self._mask else NOT_OURS
                        at += _MEMBER.size
                        continue
                (packed, length, mark, mask), at = _odd_member(listed, at)
                yield packed, length, mark if mask == self._mask else NOT_OURS


class LeaseHandle:
    """The one member of a lease set. Usable from any thread, one at a time.

    Raises:
        TransientError: from every method: the set is not there, or of another type.
    """

    def __init__(self, name: str, network: IPv4Network) -> None:
        """Open the socket in the calling thread's namespace."""
        self._name, self._network = name, network
        with _told(f"open set {name}"):
            self._link = NetfilterSocket()

    def close(self) -> None:
        """Close the socket; the lease runs on."""
        self._link.close()

    def grant(self, duration_s: int) -> None:
        """The member is in for so long from now, whatever was granted before; the kernel takes it out."""
        with _told(f"set {self._name}"):
            timeout = ipset.big_endian(ipset.TIMEOUT, duration_s)
            _alter(self._link, ipset.ADD, self._name, (self._network,), lambda one: _network_body(one) + timeout)

    def end(self) -> None:
        """The member is out."""
        with _told(f"set {self._name}"):
            _alter(self._link, ipset.DELETE, self._name, (self._network,), _network_body)


def _alter(link: NetfilterSocket, command: int, name: str, members: Sequence[_T], body: Callable[[_T], bytes]) -> None:
    try:
        ipset.alter(link, command, name, [body(member) for member in members])
    except Refused as refused:
        verb = "add" if command == ipset.ADD else "remove"
        raise _error(refused, f"set {name}: {verb} {members[refused.index]}") from refused


def _addresses(link: NetfilterSocket, name: str) -> frozenset[IPv4Address]:
    found: set[IPv4Address] = set()
    for listed in ipset.member_lists(link, name):
        at, end = 0, len(listed)
        while at < end:
            head, packed = _ADDRESS.unpack_from(listed, at)
            if head == _ADDRESS_HEAD:
                at += _ADDRESS.size
            else:
                (packed, *_), at = _odd_member(listed, at)
            found.add(IPv4Address(packed))
    return frozenset(found)


def _odd_member(listed: bytes, at: int) -> tuple[tuple[bytes, int, int, int], int]:
    """A member whose attributes are not just those of ours, in their order, and where the next one begins.

    Address, prefix length, mark and mask; the last two 0 when there is more to it than a mark, such as `nomatch`.
    """
    size, _ = _HEAD.unpack_from(listed, at)
    found = attributes(listed, at + _HEAD.size, at + size)
    start, _ = attributes(listed, *found[ipset.IP])[ipset.IPV4]
    length = listed[found[ipset.CIDR][0]] if ipset.CIDR in found else 32
    # Where the machine's words must be aligned, the kernel pads before the mark.
    is_marked = found.keys() - {ipset.PAD} == {ipset.IP, ipset.CIDR, ipset.SKBMARK}
    mark, mask = _MARK.unpack_from(listed, found[ipset.SKBMARK][0]) if is_marked else (0, 0)
    return (listed[start : start + 4], length, mark, mask), at + size + 3 & ~3


def _address_body(address: IPv4Address) -> bytes:
    return _IP_HEAD + address.packed


def _network_body(network: IPv4Network) -> bytes:
    return _IP_HEAD + network.network_address.packed + _CIDR_HEAD + bytes((network.prefixlen, 0, 0, 0))


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn the kernel's answers into our families, with what was being done in the text."""
    try:
        yield
    except Refused as refused:
        raise _error(refused, what) from refused
    except OSError as error:
        raise kernel_error(error.errno or 0, f"{what}: {error}") from error


def _error(refused: Refused, what: str) -> TransientError | PermanentError:
    text = f"{what}: {ipset.reason(refused)}"
    return PermanentError(text) if refused.code in ipset.PERMANENT else kernel_error(refused.code, text)
