"""`proxypool pair switchover`."""

from __future__ import annotations

from typing import Annotated

import typer

from proxypool.cli import rehearsal
from proxypool.cli.arguments import PairArgument, SubnetArgument
from proxypool.cli.confirm import YesOption, ask_if_somebody_is_there
from proxypool.cli.rehearsal import DryRunOption
from proxypool.cli.serving import TimeoutOption, told_if_interrupted, wait_until_served
from proxypool.cli.settings import MAX_REASON, Settings, operator


def switchover(
    context: typer.Context,
    subnet: SubnetArgument,
    pair: PairArgument,
    to: Annotated[str | None, typer.Option("--to", metavar="NODE", help="Default: the member not elected.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until the new master is observed.")] = True,
    timeout: TimeoutOption = 10.0,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Kept with the record in the history.")] = "",
    yes: YesOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Make the other member the master. Connections go on where the pair has an egress address, and break elsewhere.

    Where they would break it is asked for, on a terminal; a script is not asked.
    """
    settings: Settings = context.obj
    with settings.store() as store:
        plan = rehearsal.switchover(store, subnet, pair, to)
        if dry_run:
            typer.echo(plan.text)
            return
        if plan.breaks:
            ask_if_somebody_is_there(f"{plan.text.removeprefix('would ')}. Do it?", yes=yes)
        done = store.elections.switchover(
            store.read_snapshot(), subnet, pair, to, who=operator(), note=reason[:MAX_REASON]
        )
        with told_if_interrupted(subnet, pair):
            if not done.is_needed:
                typer.echo(f"{done.new} is the elected member of {subnet}/{pair} already")
            else:
                typer.echo(f"{subnet}/{pair}: {done.old} -> {done.new}")
            if wait:
                wait_until_served(store, subnet, pair, done.new, timeout, f"pair {subnet}/{pair}")
