"""`proxypool upgrade-check`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated

import typer

from proxypool.cli.exits import ExitCode
from proxypool.cli.output import Colour, Format, OutputOption, paint, show, single, terminal_width, wants_colour, wrap
from proxypool.cli.settings import Settings
from proxypool.cli.status import read_status
from proxypool.core.errors import InvalidInput

if TYPE_CHECKING:
    from proxypool.core.upgrade import Readiness, Step
    from proxypool.core.versions import Release

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)

MANY = 6
"""Machines of a step that are named in a table that is not wide."""


@app.command("upgrade-check")
def upgrade_check(
    context: typer.Context,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="VERSION",
            help="That is to run everywhere, later or earlier: 0.2.0. Default: any that is near enough.",
            show_default=False,
        ),
    ] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Say whether the pool is ready for a rolling upgrade, what speaks against it, and the order of it.

    Ready: everything is well, every pair has a backup that is fit, nothing is in the middle of something, versions are
    at most one minor step apart, every document can be read, every ZooKeeper server answers. It changes nothing. Ends
    with 0 if the pool is ready, with 3 if not; each finding has a code that never changes its meaning, and a command
    that helps. `proxypool explain PU002` says what a code means.
    """
    from proxypool.core.upgrade import judge

    settings: Settings = context.obj
    target = _target(to)
    with settings.store() as store:
        status = read_status(store)
    found = judge(status, _servers(settings.load().zookeeper.hosts), target)
    show(
        single("UpgradeReadiness", found),
        output,
        lambda wide: readiness_text(found, wide=wide, colour=wants_colour(), width=terminal_width()),
    )
    if not found.is_ready:
        raise typer.Exit(ExitCode.DEGRADED)


def _target(text: str | None) -> Release | None:
    from proxypool.core.versions import release_of

    if text is None:
        return None
    found = release_of(text)
    if found is None:
        raise InvalidInput(
            f"--to {text!r} is not a version: 0.2.0, for instance; `proxypool version` says which one this is"
        )
    return found


def _servers(hosts: tuple[str, ...]) -> Mapping[str, str]:
    """All at once: each may take until its own time is over."""
    from proxypool.adapters.machine.place import why_unreachable

    with ThreadPoolExecutor(len(hosts)) as pool:
        return dict(zip(hosts, pool.map(why_unreachable, hosts), strict=True))


def readiness_text(found: Readiness, *, wide: bool, colour: bool, width: int | None = None) -> str:
    """Whether it is ready, each finding with its command, and the order."""
    from proxypool.core.upgrade import Weight

    blocking = sum(one.weight is Weight.BLOCKS for one in found.findings)
    head = paint("ready", Colour.GOOD, enabled=colour)
    if not found.is_ready:
        head = f"{paint('not ready', Colour.BAD, enabled=colour)}: {blocking} to see to first"
    about = f" for {found.target}" if found.target else ""
    versions = ", ".join(version or "unknown" for version in found.versions) or "none"
    lines = [f"pool {found.pool}{about}: {head}", f"versions that run: {versions}"]
    for one in found.findings:
        weight = paint(one.weight.value, Colour.BAD if one.weight is Weight.BLOCKS else Colour.DIM, enabled=colour)
        lines += ["", wrap(f"{weight} {one.code} {one.name} {one.subject}: {one.message}", width, "    ")]
        lines.append(f"    {one.command}")
    lines.append("")
    if not found.order:
        return "\n".join([*lines, f"nothing is left to be upgraded: {found.done} daemons run {found.target}"])
    lines.append("order: one machine at a time, the next one when the command after it ends with 0")
    for number, step in enumerate(found.order, 1):
        lines += _step_lines(number, step, wide=wide, width=width)
    return "\n".join(lines)


def _step_lines(number: int, step: Step, *, wide: bool, width: int | None) -> Iterator[str]:
    shown = step.machines if wide or len(step.machines) <= MANY else step.machines[:MANY]
    more = f" and {len(step.machines) - len(shown)} more (-o wide)" if len(shown) < len(step.machines) else ""
    yield wrap(f"{number:>3}. {step.stage.value}: {', '.join(shown)}{more}", width, "       ")
    for command in step.before:
        yield f"       before: {command}"
    if step.after:
        yield f"       after:  {step.after}"
