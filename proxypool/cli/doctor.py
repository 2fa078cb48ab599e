"""`proxypool doctor`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from proxypool.cli.exits import ExitCode
from proxypool.cli.output import Colour, Format, OutputOption, paint, show, single, wants_colour
from proxypool.cli.progress import ProgressLine
from proxypool.cli.settings import Settings
from proxypool.core.doctor.facts import DaemonRole
from proxypool.core.units import brief

if TYPE_CHECKING:
    from proxypool.core.doctor.codes import Finding
    from proxypool.core.doctor.report import Diagnosis

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)

WITHIN_S = 20.0
_COLOURS = {
    "ok": Colour.GOOD,
    "note": Colour.DIM,
    "degraded": Colour.WARN,
    "critical": Colour.BAD,
}


@app.command()
def doctor(
    context: typer.Context,
    role: Annotated[
        DaemonRole | None,
        typer.Option("--role", help="What the machine is for. Default: the one section of its configuration."),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="What has not answered by then is told as such.")
    ] = WITHIN_S,
    output: OutputOption = Format.TABLE,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="End with 3 if something is degraded, 4 if it is critical.")
    ] = False,
) -> None:
    """Look whether this machine can do its part: kernel, programs, network, clock, ZooKeeper, configuration.

    Nothing is changed, and nothing is waited for longer than the timeout. Without root less can be looked at; what
    could not be is said. Every finding has a code that never changes its meaning, and a command that helps.
    """
    from proxypool.cli.examination import examine, role_of
    from proxypool.core.checks import Level
    from proxypool.core.doctor.report import judge

    settings: Settings = context.obj
    line = ProgressLine(sys.stderr) if sys.stderr.isatty() else None

    def progress(probe: str, done: int, count: int) -> None:
        if line is not None:
            line.show(f"looked at {done} of {count}: {probe}", time.monotonic())

    try:
        found = judge(examine(settings, role or role_of(settings), timeout, progress))
    finally:
        if line is not None:
            line.end()
    show(single("Diagnosis", found), output, lambda wide: diagnosis_text(found, wide=wide, colour=wants_colour()))
    if exit_code and found.level is not Level.OK:
        raise typer.Exit(ExitCode.DEGRADED if found.level is Level.DEGRADED else ExitCode.CRITICAL)


def diagnosis_text(found: Diagnosis, *, wide: bool, colour: bool) -> str:
    """The level, each finding with its fix, and what was looked at."""
    counts: dict[str, int] = {}
    for finding in found.findings:
        counts[finding.severity.value] = counts.get(finding.severity.value, 0) + 1
    numbers = ", ".join(f"{number} {name}" for name, number in counts.items())
    level = paint(found.level.value, _COLOURS[found.level.value], enabled=colour)
    lines = [f"this {found.facts.role.value}: {level}{f' - {numbers}' if numbers else ''}"]
    for fix, some in _by_fix(found.findings):
        lines.append("")
        for finding in some:
            severity = paint(finding.severity.value, _COLOURS[finding.severity.value], enabled=colour)
            lines.append(f"{severity} {finding.code} {finding.name} {finding.subject}: {finding.message}")
        lines.append(f"    {fix}")
    about = "\n".join(_about(found)) if wide else "; ".join(_about(found))
    return "\n".join([*lines, "", f"looked at: {about}" if not wide else about])


def _by_fix(findings: Iterable[Finding]) -> Iterator[tuple[str, list[Finding]]]:
    """Those that follow each other and have the same fix, together: without root there are a dozen of one kind."""
    for (_, fix), some in groupby(findings, key=lambda finding: (finding.code, finding.fix)):
        yield fix, list(some)


def _about(found: Diagnosis) -> Iterator[str]:
    """What is well and worth to know, a phrase each."""
    facts = found.facts
    if facts.config_path and not facts.config_problem and facts.is_config_there:
        yield f"configuration {facts.config_path}"
    if facts.kernel is not None:
        there = [name for name, state in facts.kernel.features.items() if state == "there"]
        yield f"kernel {facts.kernel.release}" + (f" with {', '.join(there)}" if there else "")
    for name, program in (facts.programs or {}).items():
        if program.path:
            yield program.version or name
    if facts.underlay is not None and facts.underlay.is_there:
        yield f"{facts.underlay.name} {facts.underlay.address} MTU {facts.underlay.mtu}"
    if facts.clock is not None and facts.clock.is_synchronised:
        yield f"clock within {brief(facts.clock.error_s)}"
    if facts.zookeeper is not None and facts.zookeeper.round_trip_s is not None:
        skew = "" if facts.zookeeper.skew_s is None else f", clocks {facts.zookeeper.skew_s:+.2f} s apart"
        yield f"ZooKeeper answers in {brief(facts.zookeeper.round_trip_s)}{skew}"
    if facts.daemon_pid is not None:
        yield f"daemon pid {facts.daemon_pid}"
    for quota in facts.quota or ():
        cards = ", ".join(f"{node} {'any' if count is None else count}" for node, count in quota.cards.items())
        yield f"cards for {quota.subnet}: {cards or 'none'}"
