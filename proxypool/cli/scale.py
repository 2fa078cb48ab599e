"""`proxypool scale`: collects its commands."""

from __future__ import annotations

import typer

from proxypool.cli import simulate

app = typer.Typer(
    help="How many pairs subnets have: by themselves, and why.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def scale() -> None:
    """How many pairs subnets have: by themselves, and why."""


app.command()(simulate.simulate)
