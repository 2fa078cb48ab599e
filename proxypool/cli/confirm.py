"""Ask before something is removed."""

from __future__ import annotations

import sys
from typing import Annotated

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
