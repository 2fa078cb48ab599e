"""`proxypool topology`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from proxypool.cli.output import Format, OutputOption, show, terminal_width, wants_colour
from proxypool.cli.settings import Settings
from proxypool.cli.status import read_status
from proxypool.cli.topology_texts import PLAIN, tree_text
from proxypool.core.topology import topology as arranged

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command()
def topology(
    context: typer.Context,
    subnet: Annotated[str | None, typer.Argument(metavar="SUBNET", help="Only this one.", show_default=False)] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show the way of packets as a tree: hosts, tunnel, pairs, ENIs.

    With the roles of nodes, and what is wrong where. -o wide shows all hosts of a subnet, not only the first.
    """
    settings: Settings = context.obj
    with settings.store() as store:
        found = arranged(read_status(store, subnet))

    def text(wide: bool) -> str:  # noqa: FBT001 - called by `show`
        tree = tree_text(found, wide=wide, colour=wants_colour(), width=terminal_width())
        return tree if _can_draw() else tree.translate(PLAIN)

    show(found, output, text)


def _can_draw() -> bool:
    """Whether standard output can show the lines of a tree."""
    return (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
