"""`proxypool pair`."""

from __future__ import annotations

import difflib
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from proxypool.cli.confirm import YesOption, require_confirmation
from proxypool.cli.exits import ExitCode, fail
from proxypool.cli.output import Format, OutputOption, ago, fields, listing, show, single
from proxypool.cli.settings import Settings
from proxypool.cli.status import read_status
from proxypool.cli.subnet import SubnetArgument
from proxypool.cli.views import check_lines, member_table, pair_table
from proxypool.core.documents import to_builtins
from proxypool.core.errors import InvalidInput
from proxypool.core.requests import PairRequest, parse_member

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxypool.adapters.zookeeper import PoolStore
    from proxypool.core.model import PairSpec
    from proxypool.core.status import PairReport, PoolStatus, SubnetReport

app = typer.Typer(
    help="Pairs of nodes that serve a subnet behind a HaVip.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)

PairArgument = Annotated[str, typer.Argument(metavar="PAIR", help="Its id within the subnet.", show_default=False)]
TimeoutOption = Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="How long to wait.")]


@app.command()
def add(
    context: typer.Context,
    subnet: SubnetArgument,
    pair: PairArgument,
    havip: Annotated[str, typer.Option(metavar="ADDRESS", help="Floating underlay address of the pair.")],
    member: Annotated[
        list[str],
        typer.Option(
            "--member",
            metavar="NODE,eni=NAME,address=IP/LEN[,gateway=IP]",
            help="Given twice: the nodes, with their card in the customer's subnet.",
        ),
    ],
    vrid: Annotated[int | None, typer.Option(help="VRRP id, 1-255. Default: the smallest free on both nodes.")] = None,
    egress_address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Floating address in the customer's subnet.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is served.")] = False,
    timeout: TimeoutOption = 30.0,
) -> None:
    """Add a pair to a subnet. The same again changes nothing."""
    settings: Settings = context.obj
    request = PairRequest(
        id=pair,
        havip=_address(havip, "--havip"),
        members=tuple(parse_member(text) for text in member),
        vrid=vrid,
        egress_address=_address(egress_address, "--egress-address") if egress_address else None,
    )
    with settings.store() as store:
        spec = store.add_pair(subnet, request)
        typer.echo(f"pair {subnet}/{spec.id}: HaVip {spec.havip}, VRRP id {spec.vrid}, {_nodes(spec)}")
        _warn_of_unknown_nodes(store, (place.node for place in spec.members))
        if wait:
            _wait_until_served(store, subnet, pair, None, timeout, f"pair {subnet}/{pair}")


def _nodes(spec: PairSpec) -> str:
    return " and ".join(place.node for place in spec.members)


def _address(text: str, option: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ValueError as error:
        raise InvalidInput(f"{option}: {error}") from error


def _warn_of_unknown_nodes(store: PoolStore, nodes: Iterable[str]) -> None:
    known = sorted(store.read_snapshot().nodes)
    for node in nodes:
        if node not in known:
            near = difflib.get_close_matches(node, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            typer.echo(f"note: no daemon has registered as {node} yet{hint}", err=True)


def _wait_until_served(store: PoolStore, subnet: str, pair: str, node: str | None, timeout_s: float, what: str) -> None:
    served = store.elections.wait_for_master(subnet, pair, node, timeout_s)
    if served is None:
        raise fail(f"{what} is not served after {timeout_s:g} s: see `proxypool status {subnet}`", ExitCode.TIMED_OUT)
    typer.echo(f"{what} is served by {served.node} after {served.took_s:.3f} s")


@app.command("list")
def list_pairs(
    context: typer.Context,
    subnet: Annotated[str | None, typer.Argument(help="Only of this subnet.", show_default=False)] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """List the pairs."""
    status = _status(context.obj, subnet)
    found = [(one, pair) for one in status.subnets for pair in one.pairs]
    show(
        listing("Pair", [_document(*item) for item in found]),
        output,
        lambda wide: pair_table(found, status.at, wide=wide),
    )


@app.command("show")
def show_pair(
    context: typer.Context, subnet: SubnetArgument, pair: PairArgument, output: OutputOption = Format.TABLE
) -> None:
    """Show a pair and its members."""
    from proxypool.adapters.zookeeper import NotFound

    status = _status(context.obj, subnet)
    (one,) = status.subnets
    found = next((item for item in one.pairs if item.id == pair), None)
    if found is None:
        raise NotFound("pair", pair, (item.id for item in one.pairs), f"in subnet {subnet}")
    show(single("Pair", _document(one, found)), output, lambda wide: _text(status, one, found, wide=wide))


def _status(settings: Settings, subnet: str | None) -> PoolStatus:
    with settings.store() as store:
        return read_status(store, subnet)


def _document(subnet: SubnetReport, pair: PairReport) -> dict[str, object]:
    return {"subnet": subnet.id, **to_builtins(pair)}


def _text(status: PoolStatus, subnet: SubnetReport, pair: PairReport, *, wide: bool) -> str:
    about = fields(
        (
            ("pair", f"{subnet.id}/{pair.id}"),
            ("level", pair.level.value),
            ("HaVip", str(pair.havip)),
            ("held by", ", ".join(pair.havip_holders)),
            ("VRRP id", str(pair.vrid)),
            ("egress address", str(pair.egress_address or "")),
            ("state", pair.state),
            ("elected", pair.elected or ""),
            ("epoch", str(pair.epoch or "")),
            ("last change", ago(pair.last_change, status.at)),
        )
    )
    only = msgspec.structs.replace(status, subnets=(msgspec.structs.replace(subnet, pairs=(pair,)),))
    return "\n\n".join(part for part in (about, check_lines(pair.checks), member_table(only, wide=wide)) if part)


@app.command()
def remove(context: typer.Context, subnet: SubnetArgument, pair: PairArgument, yes: YesOption = False) -> None:
    """Remove a pair. Its HaVip goes, and with it every connection through it."""
    settings: Settings = context.obj
    with settings.store() as store:
        store.require_pair(subnet, pair)
        question = f"remove pair {subnet}/{pair}? Every connection through it breaks."
        require_confirmation(question, yes=yes)
        store.remove_pair(subnet, pair)
    typer.echo(f"removed pair {subnet}/{pair}")


@app.command()
def switchover(
    context: typer.Context,
    subnet: SubnetArgument,
    pair: PairArgument,
    to: Annotated[str | None, typer.Option("--to", metavar="NODE", help="Default: the member not elected.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until the new master is observed.")] = True,
    timeout: TimeoutOption = 10.0,
) -> None:
    """Make the other member the master."""
    settings: Settings = context.obj
    with settings.store() as store:
        done = store.elections.switchover(store.read_snapshot(), subnet, pair, to)
        if not done.is_needed:
            typer.echo(f"{done.new} is the elected member of {subnet}/{pair} already")
        else:
            typer.echo(f"{subnet}/{pair}: {done.old} -> {done.new}")
        if wait:
            _wait_until_served(store, subnet, pair, done.new, timeout, f"pair {subnet}/{pair}")
