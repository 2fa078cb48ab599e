"""Ask before something is removed or moved; and finish what must not be left half done."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from proxypool.cli.exits import ExitCode, fail

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def require_confirmation(question: str, *, yes: bool) -> None:
    """Go on only if the user says so.

    Raises:
        Exit: not confirmed, or nobody there to ask.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise fail("not confirmed: give --yes, as there is no terminal to ask on", ExitCode.NOT_CONFIRMED)
    typer.echo(f"{question} [y/N] ", nl=False, err=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise fail("not confirmed", ExitCode.NOT_CONFIRMED)


def ask_if_somebody_is_there(question: str, *, yes: bool) -> None:
    """As `require_confirmation` on a terminal; scripts, which have none, go on.

    Raises:
        Exit: not confirmed.
    """
    if sys.stdin.isatty():
        require_confirmation(question, yes=yes)


@contextmanager
def unbroken(what: str) -> Iterator[None]:
    """Let Ctrl-C wait until something is done that must not be left half done, and say so. A second one does not wait.

    Raises:
        KeyboardInterrupt: it is done, and there was one.
    """
    seen: list[int] = []

    def remember(number: int, _: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        seen.append(number)
        typer.echo(f"{what}: it ends by itself in a moment", err=True)

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if seen:
        raise KeyboardInterrupt
