"""Waiting until a pair is served, and Ctrl-C meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from proxypool.cli.exits import ExitCode, fail

if TYPE_CHECKING:
    from proxypool.adapters.zookeeper import PoolStore

TimeoutOption = Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="How long to wait.")]


@contextmanager
def told_if_interrupted(subnet: str, pair: str) -> Iterator[None]:
    """Ctrl-C ends the wait, not what is waited for."""
    try:
        yield
    except KeyboardInterrupt:
        what = f"pair {subnet}/{pair} comes into service without us: see `proxypool status {subnet}`"
        typer.echo(f"interrupted: {what}", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def wait_until_served(store: PoolStore, subnet: str, pair: str, node: str | None, timeout_s: float, what: str) -> None:
    """By `node`; None: by any member. Says how long it took, or ends the program. `what` is served, for people."""
    served = store.elections.wait_for_master(subnet, pair, node, timeout_s)
    if served is None:
        raise fail(f"{what} is not served after {timeout_s:g} s: see `proxypool status {subnet}`", ExitCode.TIMED_OUT)
    typer.echo(f"{what} is served by {served.node} after {served.took_s:.3f} s")
