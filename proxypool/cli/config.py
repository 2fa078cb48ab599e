"""`proxypool config`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from proxypool.cli.output import Format, OutputOption, fields, show, single, table
from proxypool.cli.settings import Settings, read_config
from proxypool.core.errors import InvalidInput

app = typer.Typer(
    help="The configuration file: check it, show what is in force, its schema.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.command()
def check(
    context: typer.Context,
    file: Annotated[
        str | None, typer.Argument(help="Default: --config, $PROXYPOOL_CONFIG, /etc/proxypool/proxypool.toml.")
    ] = None,
    named: Annotated[
        str | None, typer.Option("--file", metavar="FILE", help="The same as the argument.", show_default=False)
    ] = None,
) -> None:
    """Check a configuration file: syntax, names of keys, kinds and ranges of values; whether its provider is there."""
    from proxypool.providers import registry

    settings: Settings = context.obj
    if file is not None and named is not None:
        raise InvalidInput("give the file once: as the argument or with --file")
    path = file or named or settings.path()
    config = read_config(path)
    try:
        registry.check(config.provider)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from error
    roles = [role for role in ("node", "host", "controller") if getattr(config, role) is not None]
    servers = ", ".join(config.zookeeper.hosts)
    typer.echo(f"{path}: ok - pool {config.pool}, ZooKeeper {servers}, roles: {', '.join(roles) or 'none'}")


@app.command("show")
def show_config(
    context: typer.Context,
    file: Annotated[
        str | None, typer.Option("--file", metavar="FILE", help="Instead of the one in force.", show_default=False)
    ] = None,
    sources: Annotated[
        bool, typer.Option("--sources", help="Also where each value comes from: default, file, environment, option.")
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show the configuration that is in force, without secrets. Sections that the file has not are left out."""
    from proxypool.core.config_sources import settings_of
    from proxypool.core.kinds import Configuration

    settings: Settings = context.obj
    path = file or settings.path()
    config = settings.load(file)
    text = Path(path).read_text(encoding="utf-8") if file or Path(path).exists() else ""
    found = settings_of(config, text, path, settings.origins)
    document = Configuration(file=path if text else None, settings=found)
    shown = [(one.key, _value(one.value), one.source) for one in found]
    show(
        single("Configuration", document),
        output,
        lambda _wide: (
            table(("KEY", "VALUE", "SOURCE"), shown) if sources else fields((key, value) for key, value, _ in shown)
        ),
    )
    if not text:
        typer.echo(f"note: there is no configuration file {path}: these are the defaults", err=True)


def _value(value: Any) -> str:
    """As TOML would have it, where that has a way to say it."""
    return "" if value is None else json.dumps(value, ensure_ascii=False)


@app.command("schema")
def show_schema() -> None:
    """Print the JSON schema of the configuration file, for editors and other tools."""
    from proxypool.core.config_sources import schema

    typer.echo(json.dumps(schema(), indent=2))
