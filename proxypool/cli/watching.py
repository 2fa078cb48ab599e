"""Showing something again whenever it changes, until Ctrl-C."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from typing import NoReturn

import typer

from proxypool.cli.output import wants_colour
from proxypool.core.errors import TransientError

CLEAR_SCREEN = "\x1b[H\x1b[2J\x1b[3J"


def watch(look: Callable[[], str], interval_s: float) -> NoReturn:
    """What `look` returns."""
    gc.enable()
    shown = ""
    while True:
        try:
            now = look()
            if now != shown:
                shown = now
                typer.echo((CLEAR_SCREEN if sys.stdout.isatty() else "") + now, color=wants_colour())
                sys.stdout.flush()
        except TransientError as error:
            typer.echo(f"waiting: {error}", err=True)
        time.sleep(interval_s)
