"""Dry runs of what can hurt traffic: what would be done, in which order, and to whom. Nothing is changed."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated

import typer

from proxypool.cli.drain_texts import addition_steps, drain_steps, dry_run_text, numbers_text, removal_steps
from proxypool.cli.status import find_pair, read_status
from proxypool.core.draining import Risk, drain_refusals, pair_left, removal_refusals, require_accepted

if TYPE_CHECKING:
    from proxypool.adapters.zookeeper import PoolStore
    from proxypool.core.requests import PairRequest

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and to whom; change nothing.")]


def addition(store: PoolStore, subnet: str, request: PairRequest) -> None:
    """Say what adding a pair would do.

    Raises:
        NotFound, InvalidInput: it would fail.
    """
    spec, change = store.plan_pair(subnet, request)
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


def require_removable(store: PoolStore, subnet: str, pair: str, accepted: frozenset[Risk], *, will_drain: bool) -> None:
    """Refuse before anybody is asked, or waits. Removing looks again.

    Raises:
        RiskNotAccepted: what it would do to traffic was not accepted.
    """
    view = store.read_view()
    left = pair_left(view.snapshot, view.statuses, subnet, pair, time.time())
    require_accepted(removal_refusals(subnet, pair, view.snapshot, left, will_drain=will_drain), accepted)
