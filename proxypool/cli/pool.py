"""`proxypool pool`."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Annotated

import typer

from proxypool.cli import pool_access
from proxypool.cli.confirm import unbroken
from proxypool.cli.drain import RiskOption
from proxypool.cli.output import Format, OutputOption, fields, show, single
from proxypool.cli.reading import read_bytes
from proxypool.cli.rehearsal import DryRunOption
from proxypool.cli.settings import Settings
from proxypool.core.errors import InvalidInput
from proxypool.core.model import TunnelKind
from proxypool.core.requests import PoolRequest, parse_pool_request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxypool.adapters.zookeeper import Change

MAX_REQUEST = 64 << 20
"""Bytes of a description: one of ten thousand subnets has a tenth of it."""

app = typer.Typer(
    help="Make the pool, show it, or apply a whole description of it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


app.command()(pool_access.credentials)
app.command()(pool_access.secure)


@app.command()
def init(
    context: typer.Context,
    tunnel: Annotated[
        TunnelKind | None, typer.Option(help="How hosts reach nodes. Default: gre, or what the pool has.")
    ] = None,
    tunnel_range: Annotated[
        str | None,
        typer.Option(
            metavar="CIDR",
            help="Hosts' tunnel addresses come from here. Default: 100.64.0.0/10, or what the pool has.",
        ),
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Make the pool in ZooKeeper. Doing it again changes nothing; without pairs, kind and range can be changed."""
    settings: Settings = context.obj
    request = PoolRequest(tunnel=tunnel, tunnel_range=_network(tunnel_range))
    with settings.store() as store:
        _print(store.init_pool(request, is_dry_run=dry_run), is_dry_run=dry_run)


def _network(text: str | None) -> IPv4Network | None:
    try:
        return IPv4Network(text) if text else None
    except ValueError as error:
        raise InvalidInput(f"--tunnel-range: {error}") from error


@app.command("show")
def show_pool(context: typer.Context, output: OutputOption = Format.TABLE) -> None:
    """Show what holds for the whole pool."""
    settings: Settings = context.obj
    with settings.store() as store:
        snapshot = store.read_snapshot()
    from proxypool.core.kinds import PoolSummary

    spec = snapshot.spec
    summary = PoolSummary(
        pool=settings.load().pool,
        tunnel=spec.tunnel.value if spec else None,
        tunnel_range=spec.tunnel_range if spec else None,
        vxlan_port=spec.vxlan_port if spec else None,
        subnets=len(snapshot.subnets),
        managed=sum(subnet.scaling is not None for subnet in snapshot.subnets.values()),
        pairs=len(list(snapshot.all_pairs())),
        nodes=len(snapshot.nodes),
        hosts=len(snapshot.hosts),
    )
    show(
        single("Pool", summary),
        output,
        lambda _wide: fields((name.replace("_", " "), _shown(getattr(summary, name))) for name in _SHOWN),
    )


_SHOWN = ("pool", "tunnel", "tunnel_range", "vxlan_port", "subnets", "managed", "pairs", "nodes", "hosts")


def _shown(value: object) -> str:
    return "" if value is None else str(value)


@app.command()
def apply(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A JSON document; - is standard input.")],
    dry_run: DryRunOption = False,
    accept_risk: RiskOption = None,
) -> None:
    """Make subnets and pairs as a document says. Checked as a whole first; what it does not name stays as it is.

    The document: {"tunnel": "vxlan", "subnets": [{"id": "s1", "tenant": "t1", "cidrs": ["172.16.101.0/24"], "pairs":
    [{"id": "p1", "havip": "192.168.4.100", "members": [{"node": "node-a", "eni": "eni1", "address":
    "172.16.101.11/24"}, …]}]}]}. A pair may also have a "vrid", a "weight" and an "egress_address"; a subnet
    "scaling": {"min_pairs": 1, "max_pairs": 8, "mode": "observe"} and "spares": {"members": […], "havips": […],
    "egress_addresses": […]}. What it has already stays if it is not named; spares that are named are all it has.

    Another HaVip, other members or another egress address of a pair that hosts use break its connections: that risk
    must be accepted.
    """
    settings: Settings = context.obj
    request = parse_pool_request(read_bytes(file, MAX_REQUEST), what="standard input" if file == "-" else file)
    with settings.store() as store:
        if dry_run:
            _print(store.apply(request, is_dry_run=True))
            store.require_safe(request, accept_risk or ())
            return
        with unbroken("the pool is being written"):
            changes = store.apply(request, accept_risk or ())
        _print(changes)


def _print(changes: Sequence[Change], *, is_dry_run: bool = False) -> None:
    done = [change for change in changes if change.what != "unchanged"]
    for change in done:
        typer.echo(f"{'would be ' if is_dry_run else ''}{change.what} {change.kind} {change.name}")
    if not done:
        typer.echo("unchanged")
