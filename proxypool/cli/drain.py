"""`proxypool pair drain`, and the wait until a pair has no connection left."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated

import typer

from proxypool.cli.drain_texts import (
    drain_text,
    drained_text,
    interrupted_text,
    progress_text,
    timed_out_text,
)
from proxypool.cli.exits import ExitCode, fail
from proxypool.cli.progress import ProgressLine
from proxypool.core.draining import Left, Pace, Risk, connections_left
from proxypool.core.errors import TransientError
from proxypool.core.model import PairState

if TYPE_CHECKING:
    from proxypool.adapters.zookeeper import PoolStore

POLL_S = 0.25
DEFAULT_WAIT_S = 600.0

RiskOption = Annotated[
    list[Risk] | None,
    typer.Option(
        "--accept-risk",
        metavar="RISK",
        help=f"Do it although it may do this: {' or '.join(risk.value for risk in Risk)}. May be given again.",
    ),
]


def begin(store: PoolStore, subnet: str, pair: str, accepted: Collection[Risk]) -> None:
    """Drain, and say so. Again is no error.

    Raises:
        NotFound: there is no such pair.
        RiskNotAccepted: it is the last active one.
    """
    change = store.pairs.drain(subnet, pair, time.time(), accepted)
    pairs = store.read_snapshot().pairs.get(subnet, {})
    if pair in pairs:
        typer.echo(drain_text(pairs[pair], pairs.values(), time.time(), is_changed=change.what == "changed"))


def wait(store: PoolStore, subnet: str, pair: str, timeout_s: float) -> Left:
    """Wait until no connection is left, and show how far it is. Returns what is left: nothing, or the time is over.

    An unreachable ZooKeeper is waited for as well: the pair drains on without it.

    Raises:
        NotFound: the pair was removed meanwhile.
        Exit: it was undrained meanwhile, or Ctrl-C.
    """
    line = ProgressLine(sys.stdout)
    try:
        left, took_s = _watch(store, subnet, pair, timeout_s, line)
    except KeyboardInterrupt:
        line.end()
        typer.echo(interrupted_text(subnet, pair), err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    finally:
        line.end()
    if left.count == 0:
        typer.echo(drained_text(f"{subnet}/{pair}", took_s))
    return left


def _watch(store: PoolStore, subnet: str, pair: str, timeout_s: float, line: ProgressLine) -> tuple[Left, float]:
    began, pace = time.monotonic(), Pace()
    while True:
        trouble = ""
        try:
            spec, statuses = store.pairs.read(subnet, pair)
            if spec.state is not PairState.DRAINING:
                line.end()
                raise fail(f"pair {subnet}/{pair} was undrained meanwhile: it takes new connections again")
            left = connections_left(spec, statuses.values(), time.time())
        except TransientError as error:
            left, trouble = Left(None), str(error)
        now = time.monotonic()
        if left.count is not None:
            pace.observe(now, left.count)
        remaining_s = began + timeout_s - now
        if left.count == 0 or remaining_s <= 0:
            return left, now - began
        text = progress_text(f"{subnet}/{pair}", left, pace, remaining_s)
        line.show(f"{text}; {trouble}" if trouble else text, now)
        time.sleep(min(POLL_S, remaining_s))


def give_up(subnet: str, pair: str, left: Left, timeout_s: float) -> typer.Exit:
    """Say that the time is over, and what to do; raise the result."""
    return fail(timed_out_text(subnet, pair, left, timeout_s), ExitCode.TIMED_OUT)
