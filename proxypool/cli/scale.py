"""`proxypool scale`: collects its commands."""

from __future__ import annotations

import typer

from proxypool.cli import scaling, simulate

app = typer.Typer(
    help="How many pairs subnets have: by themselves, and why.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)

app.command()(scaling.status)
app.command()(scaling.plan)
app.command("set")(scaling.set_scaling)
app.command()(scaling.pause)
app.command()(scaling.resume)
app.command()(scaling.history)
app.command()(simulate.simulate)
