"""`proxypool subnet spare`: cards and addresses that the provider `spare` makes pairs of."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Annotated

import typer

from proxypool.cli.arguments import SubnetArgument
from proxypool.cli.output import Format, OutputOption, listing, show, table
from proxypool.cli.rehearsal import DryRunOption
from proxypool.cli.scaling_texts import spares_line
from proxypool.cli.settings import Settings
from proxypool.core.errors import InvalidInput
from proxypool.core.requests import parse_member
from proxypool.core.scaling.documents import Spares
from proxypool.core.scaling.requests import SparesRequest, card_of, parse_card

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from proxypool.core.scaling.requests import Taken

app = typer.Typer(
    help="Cards and addresses of a subnet that wait to be used for new pairs.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)

HavipOption = Annotated[
    list[str] | None,
    typer.Option("--havip", metavar="ADDRESS", help="Floating underlay address; may be given again."),
]
EgressOption = Annotated[
    list[str] | None,
    typer.Option(
        "--egress-address", metavar="ADDRESS", help="Floating address in the customer's subnet; may be given again."
    ),
]


@app.command()
def add(
    context: typer.Context,
    subnet: SubnetArgument,
    member: Annotated[
        list[str] | None,
        typer.Option(
            "--member",
            metavar="NODE,eni=NAME,address=IP/LEN[,gateway=IP]",
            help="A card in the customer's subnet, as for `pair add`; may be given again.",
        ),
    ] = None,
    havip: HavipOption = None,
    egress_address: EgressOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Add spares. A pair takes two cards of different nodes, a HaVip and, if any, an egress address."""
    settings: Settings = context.obj
    members = tuple(parse_member(text) for text in member or ())
    request = SparesRequest(
        members=members,
        havips=_addresses(havip, "--havip"),
        egress_addresses=_addresses(egress_address, "--egress-address"),
    )
    if request == SparesRequest():
        raise InvalidInput("nothing to add: give --member, --havip or --egress-address")
    with settings.store() as store:
        change = store.scaling.add_spares(subnet, request, is_dry_run=dry_run)
        if dry_run:
            more = _counted(len(members), len(request.havips) + len(request.egress_addresses))
            what = f"would add {more} to" if change.what != "unchanged" else "nothing to add to"
            typer.echo(f"{what} the spares of subnet {subnet}")
            return
        spares, _ = store.scaling.spares(subnet)[subnet]
    now = "" if change.what != "unchanged" else ", unchanged"
    typer.echo(f"spares of subnet {subnet}{now}: {spares_line(spares)}")


@app.command()
def remove(
    context: typer.Context,
    subnet: SubnetArgument,
    member: Annotated[
        list[str] | None,
        typer.Option("--member", metavar="NODE,eni=NAME", help="A card; may be given again."),
    ] = None,
    havip: HavipOption = None,
    egress_address: EgressOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Take spares away. One that a pair uses stays."""
    settings: Settings = context.obj
    cards = frozenset(parse_card(text) for text in member or ())
    addresses = (*_addresses(havip, "--havip"), *_addresses(egress_address, "--egress-address"))
    if not cards and not addresses:
        raise InvalidInput("nothing to remove: give --member, --havip or --egress-address")
    with settings.store() as store:
        store.scaling.remove_spares(subnet, cards, addresses, is_dry_run=dry_run)
        if dry_run:
            typer.echo(f"would take {_counted(len(cards), len(addresses))} from the spares of subnet {subnet}")
            return
        spares, _ = store.scaling.spares(subnet)[subnet]
    typer.echo(f"spares of subnet {subnet}: {spares_line(spares)}")


def _counted(cards: int, addresses: int) -> str:
    parts = [f"{cards} card{'' if cards == 1 else 's'}"] if cards else []
    parts += [f"{addresses} address{'' if addresses == 1 else 'es'}"] if addresses else []
    return " and ".join(parts)


def _addresses(texts: list[str] | None, option: str) -> tuple[IPv4Address, ...]:
    try:
        return tuple(IPv4Address(item) for text in texts or () for item in text.split(","))
    except ValueError as error:
        raise InvalidInput(f"{option}: {error}") from error


@app.command("list")
def list_spares(
    context: typer.Context,
    subnet: Annotated[
        str | None, typer.Argument(metavar="SUBNET", help="Only of this one.", show_default=False)
    ] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """List the spares, and who uses them."""
    settings: Settings = context.obj
    with settings.store() as store:
        found = store.scaling.spares(subnet)
    items = list(_items(found))
    header = ("SUBNET", "KIND", "NODE", "ENI", "ADDRESS", "GATEWAY", "USED BY")
    names = ("subnet", "kind", "node", "eni", "address", "gateway", "used_by")
    show(
        listing("Spare", items),
        output,
        lambda _wide: table(header, [[item[name] for name in names] for item in items]) if items else "no spares",
    )


def _items(found: Mapping[str, tuple[Spares, Taken]]) -> Iterator[dict[str, str]]:
    for subnet, (spares, taken) in sorted(found.items()):
        blank = {"subnet": subnet, "node": "", "eni": "", "gateway": ""}
        for member in spares.members:
            yield {
                "subnet": subnet,
                "kind": "card",
                "node": member.node,
                "eni": member.eni,
                "address": str(member.address),
                "gateway": str(member.gateway or ""),
                "used_by": taken.cards.get(card_of(member.node, member.eni), ""),
            }
        for kind, addresses in (("havip", spares.havips), ("egress-address", spares.egress_addresses)):
            for address in addresses:
                user = taken.addresses.get(address, "")
                yield {**blank, "kind": kind, "address": str(address), "used_by": user}
