"""Dry runs of what can hurt traffic: what would be done, in which order, and to whom. Nothing is changed."""

from __future__ import annotations

import time
from collections.abc import Collection
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from proxypool.cli.drain_texts import (
    addition_steps,
    drain_steps,
    dry_run_text,
    numbers_text,
    removal_steps,
    undrain_steps,
)
from proxypool.cli.status import find_pair, read_status
from proxypool.core.draining import (
    Risk,
    drain_refusals,
    egress_refusals,
    pair_left,
    removal_refusals,
    require_accepted,
)
from proxypool.core.model import PairState
from proxypool.core.requests import PairSettings
from proxypool.core.sync_supervision import SyncState
from proxypool.core.validation import validate_pair

if TYPE_CHECKING:
    from proxypool.adapters.zookeeper import PoolStore
    from proxypool.core.requests import PairRequest

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and to whom; change nothing.")]


def addition(store: PoolStore, subnet: str, request: PairRequest) -> None:
    """Say what adding a pair would do.

    Raises:
        NotFound, InvalidInput: it would fail.
    """
    spec, change = store.pairs.plan(subnet, request)
    name = f"{subnet}/{spec.id}"
    if change.what == "unchanged":
        typer.echo(f"pair {name} is there already: {numbers_text(spec)}")
    else:
        (where,) = read_status(store, subnet).subnets
        typer.echo(dry_run_text("add", f"{name}: {numbers_text(spec)}", addition_steps(where, spec)))


def drain(store: PoolStore, subnet: str, pair: str, wait_s: float | None, accepted: Collection[Risk]) -> None:
    """Say what draining a pair, and waiting for it, would do.

    Raises:
        NotFound: there is no such pair.
        RiskNotAccepted: after what would be done was said.
    """
    steps = drain_steps(*find_pair(read_status(store, subnet), pair), wait_s)
    typer.echo(dry_run_text("drain", f"{subnet}/{pair}", steps))
    pairs = store.read_snapshot().pairs[subnet]
    require_accepted(drain_refusals(pairs[pair], pairs), accepted)


def removal(store: PoolStore, subnet: str, pair: str, wait_s: float | None) -> None:
    """Say what removing a pair would do; with `wait_s`, after it was drained.

    Raises:
        NotFound: there is no such pair.
    """
    where, what = find_pair(read_status(store, subnet), pair)
    steps = [*drain_steps(where, what, wait_s)] if wait_s is not None else []
    steps += removal_steps(where, what, is_drained_first=wait_s is not None)
    typer.echo(dry_run_text("remove", f"{subnet}/{pair}", steps))


def undrain(store: PoolStore, subnet: str, pair: str) -> None:
    """Say what ending a drain would do.

    Raises:
        NotFound: there is no such pair.
    """
    where, what = find_pair(read_status(store, subnet), pair)
    if what.state != PairState.DRAINING:
        typer.echo(f"pair {subnet}/{pair} is not draining")
        return
    typer.echo(dry_run_text("undrain", f"{subnet}/{pair}", undrain_steps(where, what)))


def setting(
    store: PoolStore,
    subnet: str,
    pair: str,
    settings: PairSettings,
    egress: IPv4Address | UnsetType | None,
    accepted: Collection[Risk],
) -> None:
    """Say what changing a pair would do. `egress`: unset if it stays.

    Raises:
        NotFound, InvalidInput: it would fail.
        RiskNotAccepted: after what would be done was said.
    """
    view = store.read_view()
    find_pair(read_status(store, subnet), pair)
    old = view.snapshot.pairs[subnet][pair]
    new = settings.applied(old)
    if egress is not UNSET:
        new = replace(new, egress_address=egress)
    validate_pair(new, view.snapshot)
    changes = [
        f"{name.replace('_', ' ')} {_shown(getattr(old, name))} -> {_shown(getattr(new, name))}"
        for name in ("weight", "mode", "probe", "egress_address")
        if getattr(old, name) != getattr(new, name)
    ]
    if not changes:
        typer.echo(f"pair {subnet}/{pair} has all that: unchanged")
        return
    typer.echo(dry_run_text("change", f"{subnet}/{pair}", changes))
    left = pair_left(view.snapshot, view.statuses, subnet, pair, time.time())
    is_in_use = bool(view.snapshot.subnet_hosts.get(subnet))
    require_accepted(egress_refusals(old, new.egress_address, left, is_in_use=is_in_use), accepted)


def _shown(value: object) -> str:
    return "none" if value is None else str(getattr(value, "value", value))


class SwitchoverPlan(Struct, frozen=True):
    """What a switchover would do."""

    text: str
    breaks: bool
    """Whether connections would."""


def switchover(store: PoolStore, subnet: str, pair: str, to: str | None) -> SwitchoverPlan:
    """What a switchover would do, as far as status tells. Whether it can be done, it says itself.

    Raises:
        NotFound: there is no such pair.
    """
    status = read_status(store, subnet)
    _, found = find_pair(status, pair)
    new = to or next((one.node for one in found.members if not one.elected), "")
    member = next((one for one in found.members if one.node == new), None)
    name = f"{subnet}/{pair}"
    if found.paused_since is not None:
        return SwitchoverPlan(f"pair {name} is paused: it would be refused", breaks=False)
    if member is None or not member.is_alive or member.health:
        why = "; ".join(member.health) if member is not None and member.health else "it is not ready"
        return SwitchoverPlan(f"{new or 'nobody'} cannot take {name} over: {why}", breaks=False)
    if member.elected and found.master == new:
        return SwitchoverPlan(f"{new} is the elected member of {name} already", breaks=False)
    old = found.master or found.elected or "nobody"
    what = f"would make {new} the master of {name} instead of {old}"
    if found.egress_address is None:
        count = next((one.conntrack for one in found.members if one.node == old and one.conntrack is not None), None)
        tracked = f", {count} tracked now," if count is not None else ""
        return SwitchoverPlan(
            f"{what}: its connections{tracked} break, as the pair has no egress address", breaks=count != 0
        )
    if all(one.sync == SyncState.OK for one in found.members):
        return SwitchoverPlan(f"{what}: its connections go on", breaks=False)
    return SwitchoverPlan(f"{what}: its members are not in sync, so connections may break", breaks=True)


def require_removable(store: PoolStore, subnet: str, pair: str, accepted: frozenset[Risk], *, will_drain: bool) -> None:
    """Refuse before anybody is asked, or waits. Removing looks again.

    Raises:
        RiskNotAccepted: what it would do to traffic was not accepted.
    """
    view = store.read_view()
    left = pair_left(view.snapshot, view.statuses, subnet, pair, time.time())
    require_accepted(removal_refusals(subnet, pair, view.snapshot, left, will_drain=will_drain), accepted)
