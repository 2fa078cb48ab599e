"""Where the command begins: before anything else is imported, so that Ctrl-C is quiet from the first moment on."""

from __future__ import annotations

import gc

INTERRUPTED = 130
"""As `exits.ExitCode`, which is not there yet."""


def main() -> None:
    """The installed command."""
    # A short command keeps nearly all that it makes until its end; looking for garbage is a sixth of its time.
    gc.disable()
    try:
        from proxypool.cli.main import main as run

        run()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
