"""`proxypool host`."""

from __future__ import annotations

from typing import Annotated

import typer

from proxypool.cli.output import Format, OutputOption, ago, fields, listing, show, single, yes
from proxypool.cli.settings import Settings
from proxypool.cli.status import read_status
from proxypool.cli.views import host_table
from proxypool.core.status import PoolStatus

app = typer.Typer(
    help="Function hosts.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.command("list")
def list_hosts(context: typer.Context, output: OutputOption = Format.TABLE) -> None:
    """List the hosts."""
    status = _status(context.obj)
    show(listing("Host", status.hosts), output, lambda wide: host_table(status.hosts, status.at, wide=wide))


@app.command("show")
def show_host(
    context: typer.Context,
    host: Annotated[str, typer.Argument(metavar="HOST", show_default=False)],
    output: OutputOption = Format.TABLE,
) -> None:
    """Show a host."""
    from proxypool.adapters.zookeeper import NotFound

    status = _status(context.obj)
    found = next((item for item in status.hosts if item.id == host), None)
    if found is None:
        raise NotFound("host", host, (item.id for item in status.hosts))
    items = (
        ("host", found.id),
        ("alive", yes(found.is_alive)),
        ("underlay", str(found.underlay)),
        ("tunnel address", str(found.tunnel_address)),
        ("version", found.version),
        ("up", ago(found.since, status.at)),
        ("metrics", found.metrics),
        ("subnets", ", ".join(found.subnets)),
        ("problems", "; ".join(found.problems)),
    )
    show(single("Host", found), output, lambda _wide: fields(items))


def _status(settings: Settings) -> PoolStatus:
    with settings.store() as store:
        return read_status(store)
