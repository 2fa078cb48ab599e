"""`proxypool pair pause` and `resume`."""

from __future__ import annotations

import time

import typer

from proxypool.cli.arguments import PairArgument, SubnetArgument
from proxypool.cli.output import ago
from proxypool.cli.rehearsal import DryRunOption
from proxypool.cli.settings import Settings
from proxypool.cli.status import find_pair, read_status


def pause(context: typer.Context, subnet: SubnetArgument, pair: PairArgument, dry_run: DryRunOption = False) -> None:
    """Freeze a pair for maintenance: only a dead master is replaced. Again is no error, and `resume` ends it."""
    settings: Settings = context.obj
    with settings.store() as store:
        if dry_run:
            status = read_status(store, subnet)
            _, found = find_pair(status, pair)
            if found.paused_since is not None:
                typer.echo(f"pair {subnet}/{pair} has been paused for {ago(found.paused_since, status.at)}: unchanged")
                return
            keeper = f"{found.master} stays master" if found.master else "whoever is master stays it"
            typer.echo(f"would pause pair {subnet}/{pair}: {keeper} whatever its health and the election say")
            return
        is_changed = store.pause_pair(subnet, pair, time.time()).what == "changed"
    typer.echo(f"pair {subnet}/{pair} {'is paused' if is_changed else 'is paused already'}")


def resume(context: typer.Context, subnet: SubnetArgument, pair: PairArgument, dry_run: DryRunOption = False) -> None:
    """End a pause: what health and election demand happens now."""
    settings: Settings = context.obj
    with settings.store() as store:
        if dry_run:
            _, found = find_pair(read_status(store, subnet), pair)
            what = "would resume" if found.paused_since is not None else "is not paused: nothing to resume for"
            typer.echo(f"{what} pair {subnet}/{pair}" if found.paused_since else f"pair {subnet}/{pair} is not paused")
            return
        is_changed = store.resume_pair(subnet, pair).what == "changed"
    typer.echo(f"pair {subnet}/{pair} {'is resumed' if is_changed else 'is not paused'}")
