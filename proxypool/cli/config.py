"""`proxypool config`."""

from __future__ import annotations

from typing import Annotated

import typer

from proxypool.cli.settings import Settings, default_path, read_config
from proxypool.core.errors import InvalidInput

app = typer.Typer(
    help="The configuration file.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def group() -> None:
    """The configuration file."""


@app.command()
def check(
    context: typer.Context,
    file: Annotated[
        str | None, typer.Argument(help="Default: --config, $PROXYPOOL_CONFIG, /etc/proxypool/proxypool.toml.")
    ] = None,
) -> None:
    """Check a configuration file: syntax, names of keys, kinds and ranges of values; whether its provider is there."""
    from proxypool.providers import registry

    settings: Settings = context.obj
    path = file or settings.config or default_path()
    config = read_config(path)
    try:
        registry.check(config.provider)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from error
    roles = [role for role in ("node", "host") if getattr(config, role) is not None]
    servers = ", ".join(config.zookeeper.hosts)
    typer.echo(f"{path}: ok - pool {config.pool}, ZooKeeper {servers}, roles: {', '.join(roles) or 'none'}")
