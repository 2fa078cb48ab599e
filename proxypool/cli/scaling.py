"""`proxypool scale status`, `plan`, `set`, `pause`, `resume` and `history`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from proxypool.cli import history as records
from proxypool.cli import watching
from proxypool.cli.arguments import SubnetArgument
from proxypool.cli.history import LimitOption, SinceOption
from proxypool.cli.output import Format, OutputOption, WatchOption, render, show, to_json, wants_colour
from proxypool.cli.rehearsal import DryRunOption
from proxypool.cli.scaling_texts import plan_text, status_text
from proxypool.cli.settings import Settings
from proxypool.cli.sizing import apply_scaling, read_scale_status
from proxypool.core.errors import InvalidInput
from proxypool.core.scaling.model import MAX_PAIRS, ScalingMode
from proxypool.core.scaling.overview import ScaleStatus, SubnetScale, outlook
from proxypool.core.scaling.requests import ScalingRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxypool.adapters.zookeeper import Change, PoolStore

OptionalSubnet = Annotated[
    str | None, typer.Argument(metavar="SUBNET", help="Only this one; also if it is not managed.", show_default=False)
]
MinOption = Annotated[
    int | None, typer.Option("--min", "--min-pairs", metavar="N", help=f"Pairs it has at least, 1-{MAX_PAIRS}.")
]
MaxOption = Annotated[
    int | None, typer.Option("--max", "--max-pairs", metavar="N", help=f"Pairs it has at most, 1-{MAX_PAIRS}.")
]
ModeOption = Annotated[
    ScalingMode | None,
    typer.Option(
        "--mode",
        "--scaling",
        help="off: leave it alone. observe: keep the minimum, and say what the load asks for. enforce: also do it.",
    ),
]
AllOption = Annotated[bool, typer.Option("--all", help="Every subnet that is managed.")]


def status(
    context: typer.Context,
    subnet: OptionalSubnet = None,
    output: OutputOption = Format.TABLE,
    watch: WatchOption = False,
) -> None:
    """Show how many pairs managed subnets have, should have, and why. Loads are in pairs: 1.0 fills one."""
    settings: Settings = context.obj
    with settings.store() as store:
        if watch:
            watching.watch(lambda: _line_or_text(read_scale_status(store, subnet), output), records.WATCH_S)
        found = read_scale_status(store, subnet)
    typer.echo(_text(found, output), color=wants_colour())


def _text(found: ScaleStatus, output: Format) -> str:
    return render(found, output, lambda wide: status_text(found, wide=wide, colour=wants_colour()))


def _line_or_text(found: ScaleStatus, output: Format) -> str:
    """While it is watched: as JSON, one document per line."""
    return to_json(found, indent=None) if output is Format.JSON else _text(found, output)


def plan(context: typer.Context, subnet: OptionalSubnet = None, output: OutputOption = Format.TABLE) -> None:
    """Show what the controller would do now, by its last report, and why. Nothing is changed."""
    settings: Settings = context.obj
    with settings.store() as store:
        found = read_scale_status(store, subnet)
    document = {
        "apiVersion": found.api_version,
        "kind": "ScalePlan",
        "pool": found.pool,
        "at": found.at,
        "controller": found.controller,
        "subnets": [outlook(one) for one in found.subnets],
    }
    show(document, output, lambda _wide: plan_text(found))


def set_scaling(
    context: typer.Context,
    subnet: SubnetArgument,
    min_pairs: MinOption = None,
    max_pairs: MaxOption = None,
    mode: ModeOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Say how large a subnet is to be. From then on the controller looks after it; what is not named stays."""
    size = ScalingRequest(min_pairs=min_pairs, max_pairs=max_pairs, mode=mode)
    if size.is_empty:
        raise InvalidInput("nothing to change: give --min, --max or --mode")
    apply_scaling(context.obj, subnet, size, is_dry_run=dry_run)


def pause(
    context: typer.Context, subnet: OptionalSubnet = None, every: AllOption = False, dry_run: DryRunOption = False
) -> None:
    """Begin no action on a subnet until `resume`; one that has begun is finished. Again is no error."""
    settings: Settings = context.obj
    names = _names(subnet, every=every)
    with settings.store() as store:
        if dry_run:
            _rehearse(store, subnet, "pause")
            return
        _say(store.scaling.pause(names, time.time()), "paused", "paused already")


def resume(
    context: typer.Context, subnet: OptionalSubnet = None, every: AllOption = False, dry_run: DryRunOption = False
) -> None:
    """End a pause. Again is no error."""
    settings: Settings = context.obj
    names = _names(subnet, every=every)
    with settings.store() as store:
        if dry_run:
            _rehearse(store, subnet, "resume")
            return
        _say(store.scaling.resume(names), "resumed", "not paused")


def _names(subnet: str | None, *, every: bool) -> Sequence[str] | None:
    if (subnet is None) is not every:
        raise InvalidInput(
            "which subnet? Give its id, or --all" if subnet is None else "give a subnet or --all, not both"
        )
    return None if subnet is None else (subnet,)


def _rehearse(store: PoolStore, subnet: str | None, verb: str) -> None:
    found = read_scale_status(store, subnet).subnets
    doomed = [one for one in found if one.mode is not None and (one.paused_since is None) is (verb == "pause")]
    for one in doomed:
        typer.echo(f"would {verb} scaling of subnet {one.id}{_goes_on(one)}")
    if not doomed:
        typer.echo(f"nothing to {verb}")


def _goes_on(subnet: SubnetScale) -> str:
    begun = [f"{action.kind.value} of {action.pair}" for action in subnet.actions]
    return f"; {' and '.join(begun)} {'is' if len(begun) == 1 else 'are'} finished first" if begun else ""


def _say(changes: Sequence[Change], done: str, already: str) -> None:
    for change in changes:
        typer.echo(f"scaling of subnet {change.name} is {done if change.what == 'changed' else already}")
    if not changes:
        typer.echo("no subnet is managed")


def history(
    context: typer.Context,
    subnet: Annotated[
        str | None, typer.Argument(metavar="SUBNET", help="Only of this one.", show_default=False)
    ] = None,
    limit: LimitOption = 50,
    since: SinceOption = None,
    output: OutputOption = Format.TABLE,
    watch: WatchOption = False,
) -> None:
    """Show the pairs that came, went and were replaced: when, why, by which signals, and how long it took.

    The newest comes last.
    """
    records.print_records(context.obj, subnet, limit, since, output, watch=watch, is_scaling=True)
