"""Which instance may reach which subnet: the rules, as functions of values. Pure.

An instance belongs to one customer: it may be attached to several subnets of one tenant whose CIDRs do not overlap, and
to nothing of another tenant.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Literal, TypeVar

from msgspec import Meta, Struct

from proxypool.core.documents import decode
from proxypool.core.errors import InvalidInput
from proxypool.core.model import SubnetSpec
from proxypool.core.steering import Group

T = TypeVar("T", bound=Struct)
EVERY_SUBNET = "*"
MAX_BATCH = 10_000
"""Attachments in one request."""
MAX_OWNER = 1000
"""Characters. A CNI plug-in's has a network, a container and an interface in it."""
_SubnetName = Annotated[str, Meta(max_length=200)]
"""Longer than any name of a subnet is, so that one that is misspelt is told what is near it."""
Code = Literal["invalid", "not-an-instance", "unknown-subnet", "not-served", "attached-elsewhere", "overlap"]


class AttachmentRefused(InvalidInput):
    """An attachment that cannot be. `code` is stable."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code: Code = code


class Attachment(Struct, frozen=True, kw_only=True):
    """One instance may reach one subnet."""

    address: IPv4Address
    subnet: str
    owner: str = ""
    """Who asked for it, if it said so: a CNI plug-in names the container."""
    since: float = 0.0
    """Wall time, seconds since the epoch."""


class Wanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An attachment as a caller names it."""

    address: IPv4Address
    subnet: _SubnetName


class Unwanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to detach; without a subnet: all of the address."""

    address: IPv4Address
    subnet: _SubnetName | None = None


class AttachRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/attach`. All or nothing."""

    attachments: Annotated[tuple[Wanted, ...], Meta(min_length=1, max_length=MAX_BATCH)]
    replace: bool = False
    """The addresses are attached to just these subnets afterwards, whatever they were attached to before."""
    owner: Annotated[str, Meta(max_length=MAX_OWNER)] = ""


class DetachRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/detach`."""

    attachments: Annotated[tuple[Unwanted, ...], Meta(min_length=1, max_length=MAX_BATCH)]


def parse_request(body: bytes, kind: type[T]) -> T:
    """A request's body.

    Raises:
        AttachmentRefused: not JSON, an unknown or missing field, no address, too many at once.
    """
    try:
        return decode(body, kind, what="the request")
    except InvalidInput as error:
        raise AttachmentRefused("invalid", str(error)) from error


@dataclass(frozen=True, slots=True)
class Rules:
    """What an attachment is checked against. Immutable: made anew when the pool changes."""

    instance_cidrs: tuple[IPv4Network, ...]
    subnets: Mapping[str, SubnetSpec] = field(default_factory=dict)
    served: Collection[str] = (EVERY_SUBNET,)
    """Subnets this host may serve, as configured."""
    open_cidrs: tuple[IPv4Network, ...] = ()

    def require(self, address: IPv4Address, subnets: Iterable[str]) -> None:
        """Check that an instance may be attached to these subnets, all at the same time.

        Raises:
            AttachmentRefused: it may not; the text says why and what to do.
        """
        self._require_instance(address)
        specs = [self._require_subnet(name) for name in sorted(set(subnets))]
        for place, spec in enumerate(specs):
            for other in specs[:place]:
                _require_together(address, spec, other)

    def _require_instance(self, address: IPv4Address) -> None:
        home = next((cidr for cidr in self.instance_cidrs if address in cidr), None)
        if home is None:
            known = ", ".join(str(cidr) for cidr in self.instance_cidrs)
            raise AttachmentRefused(
                "not-an-instance", f"{address} is no address of this host's instances (host.instance_cidrs: {known})"
            )
        has_edges = home.prefixlen < 31  # noqa: PLR2004 - a /31 (RFC 3021) and a /32 have neither
        if has_edges and address in (home.network_address, home.broadcast_address):
            raise AttachmentRefused("not-an-instance", f"{address} is the first or last address of {home}: no instance")

    def _require_subnet(self, name: str) -> SubnetSpec:
        spec = self.subnets.get(name)
        if spec is None:
            near = difflib.get_close_matches(name, self.subnets, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise AttachmentRefused("unknown-subnet", f"the pool has no subnet {name!r}{hint}")
        if EVERY_SUBNET not in self.served and name not in self.served:
            raise AttachmentRefused(
                "not-served", f"this host does not serve subnet {name}: add it to `subnets` in its configuration"
            )
        why = self.why_not(spec)
        if why is not None:
            raise AttachmentRefused("overlap", f"this host cannot serve subnet {name}: {why}")
        return spec

    def why_not(self, spec: SubnetSpec) -> str | None:
        """Why no instance of this host can reach a subnet, whatever else it is attached to; None: it can."""
        for cidr in spec.cidrs:
            if any(cidr.overlaps(own) for own in self.instance_cidrs):
                return f"its CIDR {cidr} overlaps the instances' own addresses"
            if any(cidr.subnet_of(one) for one in self.open_cidrs):
                return f"its CIDR {cidr} is an open CIDR here (open_cidrs, or nonMasqueradeCIDRs of an ip-masq-agent)"
        return None

    def group_of(self, subnets: Iterable[str]) -> Group:
        """The group of an instance attached to these; what the pool no longer has does not count."""
        return tuple(sorted(name for name in set(subnets) if name in self.subnets))

    def unknown(self) -> list[str]:
        """Subnets this host is configured for that the pool does not have."""
        return sorted({*self.served} - {*self.subnets, EVERY_SUBNET})

    def everything(self) -> tuple[Group, dict[str, str]]:
        """The group of a host whose instances are all attached to all it serves; and who is left out, and why.

        Of two subnets that overlap the first by id is in.
        """
        chosen, taken = list[str](), _Taken()
        refused: dict[str, str] = {}
        for name in sorted(self.subnets):
            if EVERY_SUBNET not in self.served and name not in self.served:
                continue
            spec = self.subnets[name]
            clash = taken.clash(spec)
            if clash is not None:
                refused[name] = f"its CIDRs overlap those of {clash}, which all instances of this host reach"
            elif (why := self.why_not(spec)) is not None:
                refused[name] = why
            else:
                chosen.append(name)
                taken.add(spec)
        return tuple(chosen), refused


class _Taken:
    """CIDRs of subnets, and whether others overlap them: two that do are one within the other. A host may serve
    thousands of subnets, too many to compare each with each.
    """

    def __init__(self) -> None:
        self._within: dict[tuple[int, int], str] = {}
        """A CIDR, as its prefix length and that many bits -> whose it is."""
        self._around: dict[tuple[int, int], str] = {}
        """Every CIDR that contains one of those, that one included -> whose the first was."""

    def add(self, spec: SubnetSpec) -> None:
        """Take a subnet's CIDRs."""
        for cidr in spec.cidrs:
            self._within[next(_prefixes(cidr))] = spec.id
            for prefix in _prefixes(cidr):
                self._around.setdefault(prefix, spec.id)

    def clash(self, spec: SubnetSpec) -> str | None:
        """The first subnet by id, of those that were taken in this order, that this one overlaps."""
        found = [self._around.get(next(_prefixes(cidr))) for cidr in spec.cidrs]
        found += [self._within.get(prefix) for cidr in spec.cidrs for prefix in _prefixes(cidr)]
        return min((owner for owner in found if owner is not None), default=None)


def _prefixes(cidr: IPv4Network) -> Iterator[tuple[int, int]]:
    """A CIDR and all that contain it, the smallest first: prefix length and that many bits."""
    length, bits = cidr.prefixlen, int(cidr.network_address) >> (32 - cidr.prefixlen)
    while True:
        yield length, bits
        if length == 0:
            return
        length, bits = length - 1, bits >> 1


def _require_together(address: IPv4Address, spec: SubnetSpec, other: SubnetSpec) -> None:
    if spec.tenant != other.tenant:
        why = f"they belong to the tenants {other.tenant!r} and {spec.tenant!r}"
    elif _overlap(spec, other):
        why = "their CIDRs overlap"
    else:
        return
    raise AttachmentRefused(
        "attached-elsewhere",
        f"{address} cannot be attached to {other.id} and {spec.id} at the same time: {why}. Detach it first with "
        f"`proxypool host detach --address {address}`, or attach with --replace",
    )


def _overlap(spec: SubnetSpec, other: SubnetSpec) -> bool:
    return any(one.overlaps(two) for one in spec.cidrs for two in other.cidrs)
