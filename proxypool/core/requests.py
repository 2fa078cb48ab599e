"""What an operator asks for: subnets and pairs without the numbers that proxypool chooses itself. Pure.

`PoolRequest` is the form of `proxypool pool apply`; `resolve_*` turn a request into a spec, keeping what the pool
has already: the tunnel key of a subnet and the VRRP id, weight, mode and probe target of a pair stay as they are unless
the request names others. Whether a pair drains or is paused, and whether scaling is, is no part of a request:
describing it again ends none of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from proxypool.core.addressing import KEY_RANGE, VRID_RANGE, allocate_key, allocate_vrid
from proxypool.core.documents import decode_hook
from proxypool.core.errors import InvalidInput
from proxypool.core.model import (
    MAX_WEIGHT,
    FailoverMode,
    MemberSpec,
    Name,
    PairSpec,
    PairState,
    PoolSpec,
    Snapshot,
    SubnetSpec,
    TunnelKind,
)
from proxypool.core.scaling.documents import Spares
from proxypool.core.scaling.requests import ScalingRequest, SparesRequest
from proxypool.core.validation import require_weight

_Key = Annotated[int, Meta(ge=KEY_RANGE.start, lt=KEY_RANGE.stop)]
_Vrid = Annotated[int, Meta(ge=VRID_RANGE.start, lt=VRID_RANGE.stop)]
_Weight = Annotated[int, Meta(ge=1, le=MAX_WEIGHT)]


class PairRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pair as asked for."""

    id: Name
    havip: IPv4Address
    members: tuple[MemberSpec, ...]
    vrid: _Vrid | None = None
    egress_address: IPv4Address | None = None
    weight: _Weight | None = None
    """None: what it has, or 1."""
    mode: FailoverMode | None = None
    """None: what it has, or fast."""
    probe: IPv4Address | None = None


class PairSettings(Struct, frozen=True, kw_only=True):
    """What of a pair can be changed while it serves; None: as it is."""

    weight: int | None = None
    mode: FailoverMode | None = None
    probe: IPv4Address | None = None
    no_probe: bool = False
    """Ask the gateway again, or nobody where there is none."""

    def applied(self, spec: PairSpec) -> PairSpec:
        """The pair with these settings.

        Raises:
            InvalidInput: no such weight.
        """
        weight = spec.weight if self.weight is None else self.weight
        require_weight(weight)
        probe = None if self.no_probe else self.probe or spec.probe
        return msgspec.structs.replace(spec, weight=weight, mode=self.mode or spec.mode, probe=probe)


class SubnetRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A subnet as asked for, with its pairs."""

    id: Name
    cidrs: tuple[IPv4Network, ...]
    tenant: Name = "default"
    key: _Key | None = None
    labels: Mapping[str, str] | None = None
    """None: what it has."""
    pairs: tuple[PairRequest, ...] = ()
    scaling: ScalingRequest | None = None
    """None: as it is."""
    spares: SparesRequest | None = None
    """None: as they are; else all that the subnet has from now on."""


class PoolRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The document of `pool apply`. Subnets and pairs that it does not name stay as they are."""

    tunnel: TunnelKind | None = None
    tunnel_range: IPv4Network | None = None
    subnets: tuple[SubnetRequest, ...] = ()


def parse_pool_request(text: bytes, *, what: str) -> PoolRequest:
    """Read a document of `pool apply`.

    Raises:
        InvalidInput: not JSON, an unknown field, a value of the wrong kind; twice the same subnet or pair.
    """
    try:
        request: PoolRequest = msgspec.json.decode(text, type=PoolRequest, dec_hook=decode_hook)
    except RecursionError as error:
        raise InvalidInput(f"{what}: it is nested too deeply: see `proxypool pool apply --help`") from error
    except ValueError as error:
        raise InvalidInput(f"{what}: {error}") from error
    _require_unique("subnet", (subnet.id for subnet in request.subnets), what)
    for subnet in request.subnets:
        _require_unique(f"pair of subnet {subnet.id}", (pair.id for pair in subnet.pairs), what)
    return request


def _require_unique(kind: str, names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidInput(f"{what}: {kind} {name} stands there twice")
        seen.add(name)


def parse_member(text: str) -> MemberSpec:
    """`node-a,eni=eth1,address=172.16.101.11/24[,gateway=172.16.101.1]`.

    Raises:
        InvalidInput: no node first, an unknown or missing key, an address that is none.
    """
    form = "NODE,eni=NAME_OR_MAC,address=ADDRESS/PREFIX[,gateway=ADDRESS]"
    node, *rest = text.split(",")
    values: dict[str, Any] = {"node": node}
    for item in rest:
        key, separator, value = item.partition("=")
        if not separator or key not in ("eni", "address", "gateway"):
            raise InvalidInput(f"member {text!r}: {item!r} is not understood; the form is {form}")
        values[key] = value
    if "address" in values and "/" not in values["address"]:
        raise InvalidInput(f"member {text!r}: the address needs its prefix length, as in {values['address']}/24")
    try:
        return msgspec.convert(values, MemberSpec, dec_hook=decode_hook)
    except (msgspec.ValidationError, ValueError) as error:
        raise InvalidInput(f"member {text!r}: {error}; the form is {form}") from error


def resolve_pool(request: PoolRequest, current: PoolSpec | None) -> PoolSpec:
    """The pool's spec: what is asked for, else what there is, else the defaults."""
    base = current or PoolSpec()
    return msgspec.structs.replace(
        base,
        tunnel=base.tunnel if request.tunnel is None else request.tunnel,
        tunnel_range=base.tunnel_range if request.tunnel_range is None else request.tunnel_range,
    )


def resolve_subnet(request: SubnetRequest, subnets: Mapping[str, SubnetSpec]) -> SubnetSpec:
    """A subnet's spec, with the smallest free key if it has none yet and asks for none."""
    current = subnets.get(request.id)
    key = request.key
    if key is None:
        key = current.key if current else allocate_key(subnet.key for subnet in subnets.values())
    labels = request.labels
    if labels is None:
        labels = current.labels if current else {}
    scaling = current.scaling if current else None
    if request.scaling is not None:
        scaling = request.scaling.applied(request.id, scaling)
    return SubnetSpec(
        id=request.id, cidrs=request.cidrs, key=key, tenant=request.tenant, scaling=scaling, labels=labels
    )


def resolve_spares(request: SparesRequest, current: Spares | None) -> Spares:
    """A subnet's spares: what is asked for, and no others."""
    return msgspec.structs.replace(
        current or Spares(),
        members=request.members,
        havips=request.havips,
        egress_addresses=request.egress_addresses,
    )


def resolve_pair(request: PairRequest, subnet: str, snapshot: Snapshot) -> PairSpec:
    """A pair's spec, with the smallest VRRP id that is free on both of its nodes unless it has or asks for one.

    A drain that was begun goes on.
    """
    current = snapshot.pairs.get(subnet, {}).get(request.id)
    nodes = {member.node for member in request.members}
    others = [pair for pair in snapshot.all_pairs() if pair is not current]
    taken = {pair.vrid for pair in others if any(pair.member(node) for node in nodes)}
    vrid = request.vrid
    if vrid is None:
        vrid = current.vrid if current and current.vrid not in taken else allocate_vrid(taken)
    weight = request.weight
    if weight is None:
        weight = current.weight if current else 1
    # Taken away with `pair set` only, which names the risk.
    egress = request.egress_address or (current.egress_address if current else None)
    return PairSpec(
        id=request.id,
        subnet=subnet,
        members=request.members,
        havip=request.havip,
        vrid=vrid,
        egress_address=egress,
        state=current.state if current else PairState.ACTIVE,
        weight=weight,
        draining_since=current.draining_since if current else None,
        mode=request.mode or (current.mode if current else FailoverMode.FAST),
        probe=request.probe or (current.probe if current else None),
        paused_since=current.paused_since if current else None,
        paused_by=current.paused_by if current else "",
        pause_reason=current.pause_reason if current else "",
        provider=current.provider if current else "",
    )
