"""`proxypool subnet`."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Annotated

import typer

from proxypool.cli.confirm import YesOption, require_confirmation
from proxypool.cli.output import Format, OutputOption, fields, listing, show, single
from proxypool.cli.settings import Settings
from proxypool.cli.status import read_status
from proxypool.cli.views import pair_table, subnet_table
from proxypool.core.errors import InvalidInput
from proxypool.core.requests import SubnetRequest

app = typer.Typer(
    help="Customers' subnets that functions must reach.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)

SubnetArgument = Annotated[str, typer.Argument(metavar="SUBNET", help="Its id.", show_default=False)]
PairArgument = Annotated[str, typer.Argument(metavar="PAIR", help="Its id within the subnet.", show_default=False)]


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
) -> None:
    """Add a subnet. The same again changes nothing."""
    settings: Settings = context.obj
    request = SubnetRequest(id=subnet, cidrs=_networks(cidr), tenant=tenant, key=key, labels=_labels(label))
    with settings.store() as store:
        spec = store.add_subnet(request)
    typer.echo(f"subnet {spec.id}: {', '.join(map(str, spec.cidrs))}, tenant {spec.tenant}, tunnel key {spec.key}")


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
    show(listing("Subnet", found), output, lambda wide: subnet_table(found, wide=wide))


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
            )
        )
        pairs = pair_table([(one, pair) for pair in one.pairs], status.at, wide=wide)
        return f"{about}\n\n{pairs}" if one.pairs else about

    show(single("Subnet", one), output, text)


@app.command()
def remove(context: typer.Context, subnet: SubnetArgument, yes: YesOption = False) -> None:
    """Remove a subnet that has no pairs."""
    settings: Settings = context.obj
    with settings.store() as store:
        store.require_subnet(subnet)
        require_confirmation(f"remove subnet {subnet}?", yes=yes)
        store.remove_subnet(subnet)
    typer.echo(f"removed subnet {subnet}")
