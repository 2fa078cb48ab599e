"""`proxypool subnet`."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Annotated

import typer

from proxypool.cli import spare
from proxypool.cli.arguments import SubnetArgument
from proxypool.cli.confirm import YesOption, require_confirmation
from proxypool.cli.output import Format, OutputOption, fields, listing, show, single, terminal_width
from proxypool.cli.rehearsal import DryRunOption
from proxypool.cli.scaling_texts import spares_line
from proxypool.cli.settings import Settings
from proxypool.cli.sizing import apply_scaling, follows_text
from proxypool.cli.status import read_status
from proxypool.cli.views import pair_table, subnet_table
from proxypool.core.errors import InvalidInput
from proxypool.core.model import SubnetSpec
from proxypool.core.requests import SubnetRequest
from proxypool.core.scaling.model import MAX_PAIRS, ScalingMode
from proxypool.core.scaling.overview import SubnetScale
from proxypool.core.scaling.requests import ScalingRequest
from proxypool.core.units import ago

app = typer.Typer(
    help="Customers' subnets that functions must reach.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(spare.app, name="spare")

MinOption = Annotated[
    int | None,
    typer.Option("--min-pairs", metavar="N", help=f"Have the controller keep so many pairs at least, 1-{MAX_PAIRS}."),
]
MaxOption = Annotated[int | None, typer.Option("--max-pairs", metavar="N", help=f"And so many at most, 1-{MAX_PAIRS}.")]
ScalingOption = Annotated[
    ScalingMode | None,
    typer.Option(
        help="off: leave it alone. observe: keep the minimum, and say what the load asks for. enforce: also do that."
    ),
]


@app.command()
def add(
    context: typer.Context,
    subnet: SubnetArgument,
    cidr: Annotated[list[str], typer.Option("--cidr", metavar="CIDR", help="Its addresses; may be given again.")],
    tenant: Annotated[str, typer.Option(help="Whose it is. CIDRs may overlap between tenants only.")] = "default",
    key: Annotated[int | None, typer.Option(help="Tunnel key, 1-16777215. Default: the smallest free one.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="For people and providers; may be given again.")
    ] = None,
    min_pairs: MinOption = None,
    max_pairs: MaxOption = None,
    scaling: ScalingOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Add a subnet; with --min-pairs the controller gives it its pairs. The same again changes nothing."""
    settings: Settings = context.obj
    size = ScalingRequest(min_pairs=min_pairs, max_pairs=max_pairs, mode=scaling)
    request = SubnetRequest(
        id=subnet,
        cidrs=_networks(cidr),
        tenant=tenant,
        key=key,
        labels=_labels(label),
        scaling=None if size.is_empty else size,
    )
    with settings.store() as store:
        if dry_run:
            spec, change = store.plan_subnet(request)
            there = "is there already" if change.what == "unchanged" else "would be added"
            typer.echo(f"subnet {spec.id} {there}: {_about(spec)}")
            return
        spec = store.add_subnet(request)
        size_line = f"size: {follows_text(store, subnet, spec.scaling)}" if spec.scaling is not None else ""
    typer.echo(f"subnet {spec.id}: {_about(spec)}")
    if size_line:
        typer.echo(size_line)


def _about(spec: SubnetSpec) -> str:
    return f"{', '.join(map(str, spec.cidrs))}, tenant {spec.tenant}, tunnel key {spec.key}"


@app.command("set")
def set_subnet(
    context: typer.Context,
    subnet: SubnetArgument,
    min_pairs: MinOption = None,
    max_pairs: MaxOption = None,
    scaling: ScalingOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Change how many pairs a subnet is to have, as `scale set` does. What is not named stays."""
    size = ScalingRequest(min_pairs=min_pairs, max_pairs=max_pairs, mode=scaling)
    if size.is_empty:
        raise InvalidInput("nothing to change: give --min-pairs, --max-pairs or --scaling")
    apply_scaling(context.obj, subnet, size, is_dry_run=dry_run)


def _networks(texts: list[str]) -> tuple[IPv4Network, ...]:
    try:
        return tuple(IPv4Network(item) for text in texts for item in text.split(","))
    except ValueError as error:
        raise InvalidInput(f"--cidr: {error}") from error


def _labels(texts: list[str] | None) -> dict[str, str] | None:
    if texts is None:
        return None
    labels = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise InvalidInput(f"--label {text!r} is not KEY=VALUE")
        labels[key] = value
    return labels


@app.command("list")
def list_subnets(context: typer.Context, output: OutputOption = Format.TABLE) -> None:
    """List the subnets."""
    settings: Settings = context.obj
    with settings.store() as store:
        found = read_status(store).subnets
    show(listing("Subnet", found), output, lambda wide: subnet_table(found, wide=wide, width=terminal_width()))


@app.command("show")
def show_subnet(context: typer.Context, subnet: SubnetArgument, output: OutputOption = Format.TABLE) -> None:
    """Show a subnet and its pairs."""
    settings: Settings = context.obj
    with settings.store() as store:
        status = read_status(store, subnet)
    (one,) = status.subnets

    def text(wide: bool) -> str:  # noqa: FBT001 - called by `show`
        about = fields(
            (
                ("subnet", one.id),
                ("level", one.level.value),
                ("tenant", one.tenant),
                ("CIDRs", ", ".join(map(str, one.cidrs))),
                ("tunnel key", str(one.key)),
                ("hosts", ", ".join(one.hosts)),
                ("size", _size(one.scale, status.at)),
                *((("spares", spares_line(one.spares)),) if one.spares else ()),
            )
        )
        pairs = pair_table([(one, pair) for pair in one.pairs], status.at, wide=wide, width=terminal_width())
        return f"{about}\n\n{pairs}" if one.pairs else about

    show(single("Subnet", one), output, text)


def _size(scale: SubnetScale, now: float) -> str:
    """How large it is to be."""
    if scale.mode is None:
        return "not managed by the controller"
    paused = f", paused for {ago(scale.paused_since, now)}" if scale.paused_since is not None else ""
    return f"{scale.min_pairs} to {scale.max_pairs} pairs, mode {scale.mode}{paused}"


@app.command()
def remove(
    context: typer.Context, subnet: SubnetArgument, yes: YesOption = False, dry_run: DryRunOption = False
) -> None:
    """Remove a subnet that has no pairs."""
    settings: Settings = context.obj
    with settings.store() as store:
        if dry_run:
            store.remove_subnet(subnet, is_dry_run=True)
            (one,) = read_status(store, subnet).subnets
            hosts = f"; {len(one.hosts)} hosts use it: their instances no longer reach it" if one.hosts else ""
            typer.echo(f"would remove subnet {subnet}: its tunnel key {one.key} becomes free{hosts}")
            return
        store.require_subnet(subnet)
        require_confirmation(f"remove subnet {subnet}?", yes=yes)
        store.remove_subnet(subnet)
    typer.echo(f"removed subnet {subnet}")
