"""How a pool is in a line or a few: level, codes of what is wrong, what to run next. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from proxypool.cli.output import Colour, paint, wrap
from proxypool.core.checks import Check, Level
from proxypool.core.status import PoolStatus, all_checks

LEVEL_COLOURS = {Level.OK: Colour.GOOD, Level.DEGRADED: Colour.WARN, Level.CRITICAL: Colour.BAD}


def health_line(status: PoolStatus, *, colour: bool, width: int | None = None) -> str:
    """One line: how it is, the codes of what is wrong, how much of everything there is. Below, what to run next."""
    pairs = sum(len(subnet.pairs) for subnet in status.subnets)
    nodes = f"{sum(node.is_alive for node in status.nodes)}/{len(status.nodes)}"
    hosts = f"{sum(host.is_alive for host in status.hosts)}/{len(status.hosts)}"
    checks = by_urgency(all_checks(status))
    codes = list(dict.fromkeys(check.code for check in checks))
    shown = f" ({', '.join(codes)})" if codes else ""
    line = (
        f"pool {status.pool}: {status.level.value}{shown} - {_count(len(status.subnets), 'subnet')}, "
        f"{_count(pairs, 'pair')}, {nodes} nodes, {hosts} hosts, tunnel {status.tunnel or 'not set'}"
    )
    head, _, rest = wrap(line, width, _INDENT).partition(f": {status.level.value}")
    line = f"{head}: {paint(status.level.value, LEVEL_COLOURS[status.level], enabled=colour)}{rest}"
    return f"{line}\n{next_line(checks[0])}\nrunbook: proxypool explain {checks[0].code}" if checks else line


def by_urgency(checks: Iterable[Check]) -> list[Check]:
    """The worst first; what is equally bad stays in its order."""
    return sorted(checks, key=lambda check: check.level is not Level.CRITICAL)


def next_line(check: Check) -> str:
    """What to run about it."""
    return f"next{f', on {check.on}' if check.on else ''}: {check.command}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def check_lines(checks: Iterable[Check], *, colour: bool = False, width: int | None = None) -> str:
    """What is wrong, one per line, and below each what to run next."""
    return "\n".join(line for check in checks for line in _check_lines(check, colour=colour, width=width))


def _check_lines(check: Check, *, colour: bool, width: int | None) -> Iterator[str]:
    text = wrap(f"{check.level.value} {check.code} {check.name} {check.subject}: {check.message}", width, _INDENT)
    level = check.level.value
    yield f"{paint(level, LEVEL_COLOURS[check.level], enabled=colour)}{text.removeprefix(level)}"
    if check.command:
        yield f"{_INDENT}{next_line(check)}"


_INDENT = "    "


def brief_health(status: PoolStatus) -> str:
    """`critical: PP001 no-master s1/p1, and 3 more`, or `ok`."""
    checks = by_urgency(all_checks(status))
    if not checks:
        return status.level.value
    others = f", and {len(checks) - 1} more" if len(checks) > 1 else ""
    return f"{status.level.value}: {checks[0].code} {checks[0].name} {checks[0].subject}{others}"
