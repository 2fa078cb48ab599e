"""`proxypool run`: the daemons, in the foreground."""

from __future__ import annotations

import gc
import importlib
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from proxypool.cli.settings import Settings
from proxypool.core.config import Config
from proxypool.core.errors import InvalidInput

app = typer.Typer(
    help="Run a daemon in the foreground. SIGTERM ends it; traffic goes on.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)

ConfigOption = Annotated[
    str | None, typer.Option("--config", metavar="FILE", help="Instead of the global option.", show_default=False)
]


@app.command()
def node(context: typer.Context, config: ConfigOption = None) -> None:
    """Run the daemon of a proxy node."""
    _run("node", context.obj, config)


@app.command()
def host(context: typer.Context, config: ConfigOption = None) -> None:
    """Run the agent of a function host."""
    _run("host", context.obj, config)


@app.command()
def controller(context: typer.Context, config: ConfigOption = None) -> None:
    """Run a controller: two or three of them on any machines, one of which leads."""
    _run("controller", context.obj, config)


def _run(role: str, settings: Settings, path: str | None) -> NoReturn:
    """What was imported lives as long as the process: looking through it for garbage stops a daemon for 50 ms."""
    loaded = _load(settings, path, role)
    main = importlib.import_module(f"proxypool.daemons.{role}").main
    gc.freeze()
    raise typer.Exit(main(loaded, lambda: _load(settings, path, role)))


def _load(settings: Settings, path: str | None, role: str) -> Config:
    config = settings.load(path)
    named = path or settings.path()
    if getattr(config, role) is None:
        what = f"{named} has no section [{role}]" if Path(named).exists() else f"there is no configuration file {named}"
        needs = f"`[{role}]`" if role == "controller" else f'`[{role}]` and `underlay = "eth0"`'
        raise InvalidInput(f"{what}: a {role} needs at least {needs}")
    return config
