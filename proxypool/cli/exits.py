"""Exit codes, and from errors to one line on standard error. See docs/reference/exit-codes.md."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer

from proxypool.core.errors import AccessDenied, ProxypoolError
from proxypool.core.one_line import for_terminal


class ExitCode(IntEnum):
    """What a script can rely on."""

    OK = 0
    FAILED = 1
    USAGE = 2
    DEGRADED = 3
    CRITICAL = 4
    TIMED_OUT = 5
    UNREACHABLE = 6
    NOT_CONFIRMED = 7
    DENIED = 8
    INTERRUPTED = 130


MEANINGS = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "failed: what is wrong is said on standard error",
    ExitCode.USAGE: "usage: no such command, option or value",
    ExitCode.DEGRADED: "degraded (with --exit-code); not ready (upgrade-check)",
    ExitCode.CRITICAL: "critical (with --exit-code)",
    ExitCode.TIMED_OUT: "a wait timed out: what was asked for is done, or goes on",
    ExitCode.UNREACHABLE: "ZooKeeper cannot be reached",
    ExitCode.NOT_CONFIRMED: "not confirmed, or a risk was not accepted: nothing was changed",
    ExitCode.DENIED: "access denied: ZooKeeper refuses it, or a file with a secret is open to others",
    ExitCode.INTERRUPTED: "interrupted by Ctrl-C",
}
"""For people."""


def fail(message: str, code: ExitCode = ExitCode.FAILED) -> typer.Exit:
    """Say what is wrong; raise the result."""
    typer.echo(f"error: {for_terminal(message)}", err=True)
    return typer.Exit(code)


@contextmanager
def reported() -> Iterator[None]:
    """One line and an exit code for everything that proxypool raises on purpose, and for Ctrl-C."""
    try:
        yield
    except ProxypoolError as error:
        raise fail(str(error), _code_of(error)) from None
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def _code_of(error: ProxypoolError) -> ExitCode:
    if isinstance(error, AccessDenied):
        return ExitCode.DENIED
    if "proxypool.adapters.zookeeper" in sys.modules:
        from proxypool.adapters.zookeeper import ZooKeeperUnreachable

        if isinstance(error, ZooKeeperUnreachable):
            return ExitCode.UNREACHABLE
    if "proxypool.core.draining" in sys.modules:
        from proxypool.core.draining import RiskNotAccepted

        if isinstance(error, RiskNotAccepted):
            return ExitCode.NOT_CONFIRMED
    return ExitCode.FAILED
