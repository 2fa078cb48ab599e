"""`proxypool pair pause` and `resume`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from proxypool.cli.arguments import PairArgument, SubnetArgument
from proxypool.cli.rehearsal import DryRunOption
from proxypool.cli.settings import MAX_REASON, Settings, operator
from proxypool.cli.status import find_pair, read_status
from proxypool.core.errors import TransientError
from proxypool.core.history import Kind, pausing_record
from proxypool.core.pausing import said
from proxypool.core.units import ago

if TYPE_CHECKING:
    from proxypool.adapters.zookeeper import PoolSession, PoolStore
    from proxypool.core.history import Record

ReasonOption = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Shown by status, and kept with the record in the history.")
]


def pause(
    context: typer.Context,
    subnet: SubnetArgument,
    pair: PairArgument,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
) -> None:
    """Freeze a pair for maintenance: only a dead master is replaced. Again is no error, and `resume` ends it."""
    settings: Settings = context.obj
    who, reason = operator(), reason[:MAX_REASON]
    with settings.session() as session:
        store, now = _store(session), time.time()
        if dry_run:
            _rehearse_pause(store, subnet, pair)
            return
        before, after = store.pairs.pause(subnet, pair, now, who, reason)
        if before.paused_since is None:
            _record(session, pausing_record(Kind.PAUSE, after, now, who, reason))
    said_now = said("", after.pause_reason)
    if before.paused_since is None:
        typer.echo(f"pair {subnet}/{pair} is paused{said_now}")
    else:
        changed = "; the reason is new" if before != after else ""
        typer.echo(f"pair {subnet}/{pair} is paused already{said(after.paused_by, after.pause_reason)}{changed}")


def _rehearse_pause(store: PoolStore, subnet: str, pair: str) -> None:
    status = read_status(store, subnet)
    _, found = find_pair(status, pair)
    if found.paused_since is not None:
        by = said(found.paused_by, found.pause_reason)
        typer.echo(f"pair {subnet}/{pair} has been paused for {ago(found.paused_since, status.at)}{by}: unchanged")
        return
    keeper = f"{found.master} stays master" if found.master else "whoever is master stays it"
    typer.echo(f"would pause pair {subnet}/{pair}: {keeper} whatever its health and the election say")


def resume(
    context: typer.Context,
    subnet: SubnetArgument,
    pair: PairArgument,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
) -> None:
    """End a pause: what health and election demand happens now."""
    settings: Settings = context.obj
    with settings.session() as session:
        store, now = _store(session), time.time()
        if dry_run:
            _, found = find_pair(read_status(store, subnet), pair)
            is_paused = found.paused_since is not None
            typer.echo(f"would resume pair {subnet}/{pair}" if is_paused else f"pair {subnet}/{pair} is not paused")
            return
        before = store.pairs.resume(subnet, pair)
        if before.paused_since is not None:
            took_s = max(0.0, now - before.paused_since)
            _record(session, pausing_record(Kind.RESUME, before, now, operator(), reason[:MAX_REASON], took_s))
    typer.echo(f"pair {subnet}/{pair} {'is resumed' if before.paused_since is not None else 'is not paused'}")


def _store(session: PoolSession) -> PoolStore:
    from proxypool.adapters.zookeeper import PoolStore

    return PoolStore(session)


def _record(session: PoolSession, record: Record) -> None:
    """The order stands, whether it can be recorded or not."""
    from proxypool.adapters.zookeeper import PoolHistory

    try:
        PoolHistory(session).write([record])
    except TransientError as error:
        typer.echo(f"note: done, but not recorded in the history: {error}", err=True)
