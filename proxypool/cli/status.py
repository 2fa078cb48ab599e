"""`proxypool status`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from proxypool.cli import watching
from proxypool.cli.exits import ExitCode, fail
from proxypool.cli.health_texts import brief_health
from proxypool.cli.output import Format, OutputOption, WatchOption, render, terminal_width, to_json, wants_colour
from proxypool.cli.progress import ProgressLine
from proxypool.cli.settings import Settings
from proxypool.core.assembly import assemble
from proxypool.core.checks import Level
from proxypool.core.errors import InvalidInput, TransientError
from proxypool.core.status import PairReport, PoolStatus, SubnetReport, of_subnet

if TYPE_CHECKING:
    from proxypool.adapters.zookeeper import PoolStore

_EXITS = {Level.OK: ExitCode.OK, Level.DEGRADED: ExitCode.DEGRADED, Level.CRITICAL: ExitCode.CRITICAL}

DEFAULT_WAIT_S = 60.0
WAIT_POLL_S = 0.3
app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command()
def status(
    context: typer.Context,
    subnet: Annotated[str | None, typer.Argument(metavar="SUBNET", help="Only this one.", show_default=False)] = None,
    output: OutputOption = Format.TABLE,
    watch: WatchOption = False,
    watch_interval: Annotated[float, typer.Option("--watch-interval", metavar="SECONDS")] = 1.0,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="End with 3 if the pool is degraded, 4 if it is critical.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Until nothing is wrong, then show it. What is wrong goes to standard error.")
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="With --wait: how long; then the exit code is 5.")
    ] = DEFAULT_WAIT_S,
) -> None:
    """Show how the pool is: pairs, members, gates, HaVips, traffic."""
    settings: Settings = context.obj
    if wait and watch:
        raise InvalidInput("give --watch or --wait, not both: one never ends, the other does when all is well")
    with settings.store() as store:
        if watch:
            watching.watch(lambda: _line_or_text(read_status(store, subnet), output), max(0.05, watch_interval))
        found = _wait(store, subnet, timeout) if wait else read_status(store, subnet)
    typer.echo(_text(found, output), color=wants_colour())
    if wait and found.level is not Level.OK:
        raise fail(f"not all is well after {timeout:g} s: {brief_health(found)}", ExitCode.TIMED_OUT)
    if exit_code and found.level is not Level.OK:
        raise typer.Exit(_EXITS[found.level])


def _wait(store: PoolStore, subnet: str | None, timeout_s: float) -> PoolStatus:
    """The status when nothing is wrong any more, or when the time is over. Lost connections are waited for, too.

    Raises:
        TransientError: the time is over, and ZooKeeper cannot be asked.
    """
    line, deadline = ProgressLine(sys.stderr), time.monotonic() + timeout_s
    try:
        while True:
            now = time.monotonic()
            try:
                found = read_status(store, subnet)
                if found.level is Level.OK or now >= deadline:
                    return found
                why = brief_health(found)
            except TransientError as error:
                if now >= deadline:
                    raise
                why = str(error)
            line.show(f"waiting, {deadline - now:.0f} s left: {why}", now)
            time.sleep(min(WAIT_POLL_S, max(0.0, deadline - now)))
    finally:
        line.end()


def read_status(store: PoolStore, subnet: str | None = None) -> PoolStatus:
    """The pool's status, or that of one subnet and the machines it uses.

    Raises:
        NotFound: there is no such subnet.
    """
    whole = assemble(store.read_view(), time.time())
    if subnet is None:
        return whole
    from proxypool.adapters.zookeeper import NotFound

    one = of_subnet(whole, subnet)
    if one is None:
        raise NotFound("subnet", subnet, (found.id for found in whole.subnets))
    return one


def find_pair(status: PoolStatus, pair: str) -> tuple[SubnetReport, PairReport]:
    """A pair of the one subnet of a status.

    Raises:
        NotFound: there is no such pair.
    """
    from proxypool.adapters.zookeeper import NotFound

    (subnet,) = status.subnets
    found = next((one for one in subnet.pairs if one.id == pair), None)
    if found is None:
        raise NotFound("pair", pair, (one.id for one in subnet.pairs), f"in subnet {subnet.id}")
    return subnet, found


def _text(found: PoolStatus, output: Format) -> str:
    from proxypool.cli.views import status_text

    return render(
        found, output, lambda wide: status_text(found, wide=wide, colour=wants_colour(), width=terminal_width())
    )


def _line_or_text(found: PoolStatus, output: Format) -> str:
    """While it is watched: as JSON, one document per line."""
    return to_json(found, indent=None) if output is Format.JSON else _text(found, output)
