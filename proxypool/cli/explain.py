"""`proxypool explain`."""

from __future__ import annotations

import typer

from proxypool.cli.arguments import SubnetArgument
from proxypool.cli.explain_texts import explanation
from proxypool.cli.output import Format, OutputOption, show, single
from proxypool.cli.settings import Settings
from proxypool.cli.sizing import read_scale_status

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command()
def explain(context: typer.Context, subnet: SubnetArgument, output: OutputOption = Format.TABLE) -> None:
    """Say in words why a subnet has as many pairs as it has, what holds it, and what comes next."""
    settings: Settings = context.obj
    with settings.store() as store:
        found = read_scale_status(store, subnet)
    (one,) = found.subnets
    text = explanation(one, found.controller, found.at)
    document = {"controller": found.controller, "subnet": one, "text": text.split("\n\n")}
    show(single("Explanation", document), output, lambda _wide: text)
