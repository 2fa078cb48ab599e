"""`proxypool bundle`."""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxypool.cli.exits import ExitCode, fail
from proxypool.cli.progress import ProgressLine
from proxypool.cli.settings import Settings
from proxypool.core.errors import InvalidInput
from proxypool.core.units import scaled

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxypool.adapters.machine.archive import Archive
    from proxypool.cli.collection import Step

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)

WITHIN_S = 180.0
README = """A support archive of proxypool.

manifest.json says what was looked for, how long it took, and why something is not here.
Secrets that proxypool knows, and what looks like one, were replaced by ***. Addresses, names of machines, subnets and
customers are in it: give it only to whom these may be known.
"""


@app.command()
def bundle(
    context: typer.Context,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="Default: proxypool-bundle-HOST-TIME.tar.gz in this directory.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="What has not been looked at by then is left out.")
    ] = WITHIN_S,
) -> None:
    """Collect all that helps to find a fault in one archive, without secrets: documents, metrics, kernel, logs.

    Versions, effective configuration, status, history, the pool's documents, doctor's findings, metrics of this
    machine's daemons, links, routes, rules, sets, counts of connections, keepalived's files, logs. Every step has a
    time limit; what failed is noted in manifest.json. Nothing is changed.
    """
    from proxypool.adapters.machine.archive import Archive
    from proxypool.cli.collection import known_secrets, steps
    from proxypool.cli.main import COMMANDS

    settings: Settings = context.obj
    config = settings.load_or_default()
    now = time.time()
    top = f"proxypool-bundle-{socket.gethostname()}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}"
    path = Path(output or f"{top}.tar.gz")
    # `kill` is as good as Ctrl-C: no half file is left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Archive(path, top, known_secrets(settings), now) as archive:
            todo = list(steps(settings, config, frozenset(name for name, _, _ in COMMANDS)))
            failed = _collect(archive, todo, timeout)
            count, size = archive.count, archive.finish()
    except KeyboardInterrupt:
        raise fail("interrupted: nothing was written", ExitCode.INTERRUPTED) from None
    missing = f"; {failed} of {len(todo)} steps found nothing, see manifest.json in it" if failed else ""
    typer.echo(f"{path}: {count} files, {scaled(size)}B{missing}")


def _collect(archive: Archive, todo: Iterable[Step], timeout_s: float) -> int:
    """Take one step after the other, so that a machine in need is not loaded more; how many failed."""
    from proxypool.adapters.machine.limits import Seen, gather

    if timeout_s <= 0:
        raise InvalidInput(f"--timeout {timeout_s:g} leaves no time: give more than 0")
    todo, manifest, line = list(todo), [], ProgressLine(sys.stderr)
    deadline, pool_problem = time.monotonic() + timeout_s, ""
    archive.add("README.txt", README)
    try:
        for number, step in enumerate(todo, 1):
            began = time.monotonic()
            line.show(f"{number} of {len(todo)}: {step.name}", began)
            left_s = min(step.within_s, deadline - began)
            if left_s <= 0:
                seen = Seen(step.name, why_not=f"not begun: the time of {timeout_s:g} s was over")
            elif step.needs_pool and pool_problem:
                seen = Seen(step.name, why_not=pool_problem)
            else:
                (seen,) = gather({step.name: step.find}, left_s)
            pool_problem = pool_problem or (seen.why_not if step.needs_pool else "")
            entry: dict[str, Any] = {"file": step.name, "took_s": round(time.monotonic() - began, 3)}
            if seen.why_not:
                entry["why_not"] = seen.why_not
            else:
                entry["bytes"] = archive.add(step.name, seen.value)
            manifest.append(entry)
    finally:
        line.end()
    archive.add("manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False))
    return sum("why_not" in entry for entry in manifest)
