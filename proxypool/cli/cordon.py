"""`proxypool node cordon`, `uncordon` and `drain`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from proxypool.cli.arguments import NodeArgument
from proxypool.cli.confirm import YesOption, require_confirmation
from proxypool.cli.cordon_texts import (
    cordon_text,
    drain_steps,
    drained_text,
    interrupted_text,
    progress_text,
    timed_out_text,
)
from proxypool.cli.exits import ExitCode, fail
from proxypool.cli.progress import ProgressLine
from proxypool.cli.rehearsal import DryRunOption
from proxypool.cli.scaling_texts import controller_line
from proxypool.cli.settings import MAX_REASON, Settings, operator
from proxypool.core.errors import TransientError
from proxypool.core.scaling.documents import NodeOrders
from proxypool.core.scaling.orders import Stay, stays_on
from proxypool.core.scaling.overview import ScalingView, controller_state
from proxypool.core.units import duration

if TYPE_CHECKING:
    from proxypool.adapters.zookeeper import PoolStore

POLL_S = 1.0
DEFAULT_WAIT_S = 3600.0
"""The pairs that leave may keep connections for long."""

ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Kept with the order, and shown.")]


def cordon(
    context: typer.Context, node: NodeArgument, reason: ReasonOption = "", dry_run: DryRunOption = False
) -> None:
    """Have no new pair placed on a node. Pairs that it has stay. Again is no error."""
    settings: Settings = context.obj
    with settings.store() as store:
        if dry_run:
            orders = store.scaling.orders(node)
            typer.echo(f"would cordon node {node}" if orders.cordoned_since is None else _now(node, orders))
            return
        is_changed = store.scaling.cordon(node, time.time(), operator(), reason[:MAX_REASON]).what != "unchanged"
        orders = store.scaling.orders(node)
    typer.echo(f"node {node} is cordoned: no new pair is placed on it" if is_changed else _now(node, orders))


def uncordon(
    context: typer.Context, node: NodeArgument, reason: ReasonOption = "", dry_run: DryRunOption = False
) -> None:
    """Allow new pairs on a node again; a drain of it ends too. Again is no error."""
    settings: Settings = context.obj
    with settings.store() as store:
        orders = store.scaling.orders(node)
        is_free = orders.cordoned_since is None and orders.draining_since is None
        if not dry_run and not is_free:
            store.scaling.uncordon(node, operator(), reason[:MAX_REASON])
    if is_free:
        typer.echo(f"node {node} is not cordoned")
    elif dry_run:
        typer.echo(f"would uncordon node {node}, {_now(node, orders).partition(' is ')[2]}")
    else:
        typer.echo(f"node {node} takes new pairs again")


def drain(
    context: typer.Context,
    node: NodeArgument,
    wait: Annotated[
        bool, typer.Option("--wait", help="Until no pair that moves is left, and show how far it is.")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", help=f"Wait so long; else with --wait {DEFAULT_WAIT_S:g}."),
    ] = None,
    reason: ReasonOption = "",
    yes: YesOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Have the controller move a node's pairs elsewhere, without breaking a connection.

    For each a new pair is made, and the old one drains until its connections have ended, or the controller's deadline
    for that has passed. Again is no error, and `uncordon` takes it back.
    """
    settings: Settings = context.obj
    wait_s = timeout if timeout is not None else DEFAULT_WAIT_S if wait else None
    with settings.store() as store:
        orders, view = store.scaling.orders(node), store.read_scaling()
        stays = stays_on(node, view.snapshot)
        lines = "\n".join(f"  {number}. {step}" for number, step in enumerate(drain_steps(node, stays), 1))
        if dry_run:
            typer.echo(f"would drain node {node}; nothing is changed now:\n{lines}")
            _warn_of_no_controller(view)
            return
        if orders.draining_since is None:
            typer.echo(f"to drain node {node}:\n{lines}")
            _warn_of_no_controller(view)
            require_confirmation(f"drain node {node}? {_moving(stays)}", yes=yes)
        is_changed = store.scaling.drain(node, time.time(), operator(), reason[:MAX_REASON]).what != "unchanged"
        typer.echo(f"node {node} is draining" if is_changed else _now(node, orders))
        if wait_s is not None:
            _wait(store, node, wait_s)


def _moving(stays: tuple[Stay, ...]) -> str:
    count = sum(not stay.why for stay in stays)
    return f"{count} pair{'' if count == 1 else 's'} will be made elsewhere."


def _now(node: str, orders: NodeOrders) -> str:
    text = cordon_text(orders.cordoned_since, orders.draining_since, orders.who, orders.reason, time.time())
    return f"node {node} is {text}"


def _warn_of_no_controller(view: ScalingView) -> None:
    state = controller_state(view.report, view.controllers, time.time())
    if state.is_old:
        typer.echo(f"note: {controller_line(state)}", err=True)


def _wait(store: PoolStore, node: str, timeout_s: float) -> None:
    """Wait until nothing that moves is left.

    Raises:
        Exit: the time is over, the order was taken back, or Ctrl-C.
    """
    line, began = ProgressLine(sys.stdout), time.monotonic()
    try:
        left = _watch(store, node, timeout_s, line)
    except KeyboardInterrupt:
        line.end()
        typer.echo(interrupted_text(node), err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    finally:
        line.end()
    if left is None or any(not stay.why for stay in left):
        raise fail(timed_out_text(node, left, timeout_s), ExitCode.TIMED_OUT)
    typer.echo(drained_text(node, left, time.monotonic() - began))


def _watch(store: PoolStore, node: str, timeout_s: float, line: ProgressLine) -> tuple[Stay, ...] | None:
    """What is left; None: the time is over, and the pool could not be read in it."""
    began = time.monotonic()
    left: tuple[Stay, ...] | None = None
    while True:
        try:
            orders, view = store.scaling.orders(node), store.read_scaling()
            if orders.draining_since is None:
                line.end()
                raise fail(f"node {node} was uncordoned meanwhile: what has not moved stays")
            left = stays_on(node, view.snapshot)
            text = progress_text(node, left, view.actions)
            if all(stay.why for stay in left):
                return left
        except TransientError as error:
            text = str(error)
        remaining_s = began + timeout_s - time.monotonic()
        if remaining_s <= 0:
            return left
        line.show(f"{text}; waiting {duration(remaining_s)} more", time.monotonic())
        time.sleep(min(POLL_S, remaining_s))
