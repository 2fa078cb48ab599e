"""`proxypool`: global options and the list of commands."""

from __future__ import annotations

import gc
import os
from typing import Annotated, Any

import typer

from proxypool.cli.exits import reported
from proxypool.cli.lazy import LazyGroup
from proxypool.cli.settings import POOL_VARIABLE, SECRET_VARIABLE, USER_VARIABLE, ZOOKEEPER_VARIABLE, Settings

COMMANDS = (
    ("status", "proxypool.cli.status", "Show how the pool is: pairs, members, gates, HaVips, traffic."),
    (
        "topology",
        "proxypool.cli.topology",
        "Show the way of packets as a tree: hosts, tunnel, pairs, ENIs.",
    ),
    ("pool", "proxypool.cli.pool", "Make the pool, show it, or apply a whole description of it."),
    ("subnet", "proxypool.cli.subnet", "Customers' subnets that functions must reach."),
    ("pair", "proxypool.cli.pair", "Pairs of nodes that serve a subnet behind a HaVip."),
    ("scale", "proxypool.cli.scale", "How many pairs subnets have: by themselves, and why."),
    ("node", "proxypool.cli.node", "Proxy nodes."),
    ("host", "proxypool.cli.host", "Function hosts."),
    (
        "explain",
        "proxypool.cli.explain",
        "Say in words why a subnet, pair, node or host is as it is; or what to do about a code.",
    ),
    (
        "history",
        "proxypool.cli.history",
        "Show what happened: who became master, when, why, and for how long nobody served.",
    ),
    (
        "events",
        "proxypool.cli.events",
        "Show what happens: roles, failovers, scaling, drains, checks.",
    ),
    ("run", "proxypool.cli.run", "Run a daemon in the foreground."),
    ("config", "proxypool.cli.config", "The configuration file: check it, show what is in force, its schema."),
    (
        "doctor",
        "proxypool.cli.doctor",
        "Look whether this machine can do its part: kernel, programs, network, clock, ZooKeeper, configuration.",
    ),
    (
        "upgrade-check",
        "proxypool.cli.upgrade_check",
        "Say whether the pool is ready for a rolling upgrade, what speaks against it, and the order of it.",
    ),
    (
        "bundle",
        "proxypool.cli.bundle",
        "Collect all that helps to find a fault in one archive, without secrets: documents, metrics, kernel, logs.",
    ),
    ("lab", "proxypool.cli.lab", "A whole pool on one machine, from network namespaces and the real programs."),
    (
        "completion",
        "proxypool.cli.completion",
        "Print a script that completes commands, options and names in a shell.",
    ),
    ("version", "proxypool.cli.version", "Print the version."),
)

LONG_RUNNING = ("run", "lab")


class Root(LazyGroup):
    """All commands. Errors become one line and an exit code here."""

    commands_by_module = COMMANDS

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with reported():
            return super().invoke(ctx)


app = typer.Typer(
    name="proxypool",
    cls=Root,
    help="Highly available pairs of proxy nodes between function hosts and customers' subnets.",
    epilog="Exit codes: 0 ok, 1 failed, 2 usage, 3 degraded and 4 critical (status --exit-code), 3 not ready "
    "(upgrade-check), 5 wait timed out, "
    "6 ZooKeeper unreachable, 7 not confirmed or risk not accepted, 8 access denied, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options(
    context: typer.Context,
    config: Annotated[
        str | None,
        typer.Option("--config", metavar="FILE", help="Default: $PROXYPOOL_CONFIG, /etc/proxypool/proxypool.toml."),
    ] = None,
    zookeeper: Annotated[
        str | None,
        typer.Option(
            "--zookeeper",
            metavar="HOST:PORT[,…]",
            envvar="PROXYPOOL_ZOOKEEPER",
            show_envvar=True,
            help="Instead of the configuration's servers.",
        ),
    ] = None,
    pool: Annotated[
        str | None,
        typer.Option(
            "--pool",
            metavar="NAME",
            envvar="PROXYPOOL_POOL",
            show_envvar=True,
            help="Instead of the configuration's pool.",
        ),
    ] = None,
) -> None:
    """Highly available pairs of proxy nodes between function hosts and customers' subnets."""
    if context.invoked_subcommand in LONG_RUNNING:
        gc.enable()
    context.obj = Settings(config=config, zookeeper=zookeeper, pool=pool, origins=_origins(context))


def _origins(context: typer.Context) -> dict[str, str]:
    """Key of the configuration -> which option or variable says it instead of the file."""
    found = {}
    for name, key, variable in (("zookeeper", "zookeeper.hosts", ZOOKEEPER_VARIABLE), ("pool", "pool", POOL_VARIABLE)):
        if context.params.get(name):
            is_option = getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
            found[key] = f"option --{name}" if is_option else f"environment {variable}"
    for key, variable in (("zookeeper.user", USER_VARIABLE), ("zookeeper.secret_file", SECRET_VARIABLE)):
        if os.environ.get(variable):
            found[key] = f"environment {variable}"
    return found


def main() -> None:
    """The whole command, once `start` has got this far."""
    app(prog_name="proxypool")
