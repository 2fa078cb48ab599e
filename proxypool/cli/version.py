"""`proxypool version`."""

from __future__ import annotations

import typer

import proxypool

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"proxypool {proxypool.__version__}")
