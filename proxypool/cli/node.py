"""`proxypool node`."""

from __future__ import annotations

import typer

from proxypool.cli import cordon
from proxypool.cli.arguments import NodeArgument
from proxypool.cli.cordon_texts import orders_text
from proxypool.cli.output import Format, OutputOption, fields, listing, show, single, terminal_width, yes
from proxypool.cli.settings import Settings
from proxypool.cli.status import read_status
from proxypool.cli.views import node_table
from proxypool.core.status import PoolStatus
from proxypool.core.units import ago

app = typer.Typer(
    help="Proxy nodes.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


app.command()(cordon.cordon)
app.command()(cordon.uncordon)
app.command()(cordon.drain)


@app.command("list")
def list_nodes(context: typer.Context, output: OutputOption = Format.TABLE) -> None:
    """List the nodes."""
    status = _status(context.obj)
    show(
        listing("Node", status.nodes),
        output,
        lambda wide: node_table(status.nodes, status.at, wide=wide, width=terminal_width()),
    )


@app.command("show")
def show_node(
    context: typer.Context,
    node: NodeArgument,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show a node."""
    from proxypool.adapters.zookeeper import NotFound

    status = _status(context.obj)
    found = next((item for item in status.nodes if item.id == node), None)
    if found is None:
        raise NotFound("node", node, (item.id for item in status.nodes))
    items = (
        ("node", found.id),
        ("alive", yes(found.is_alive)),
        ("underlay", str(found.underlay)),
        ("version", found.version),
        ("up", ago(found.since, status.at)),
        ("metrics", found.metrics),
        ("labels", ", ".join(f"{key}={value}" for key, value in sorted(found.labels.items()))),
        ("pairs", ", ".join(found.pairs)),
        ("master of", ", ".join(found.master_of)),
        ("orders", orders_text(found, status.at)),
        ("problems", "; ".join(found.problems)),
    )
    show(single("Node", found), output, lambda _wide: fields(items))


def _status(settings: Settings) -> PoolStatus:
    with settings.store() as store:
        return read_status(store)
