"""Pieces of queries that the dashboards share.

Every selector names the pool, so that two pools in one Prometheus are never added up. The labels `pool` and `node` are
the scrape configuration's; `subnet`, `pair` and the rest are the metrics' own.
"""

from __future__ import annotations

from proxypool.core.role import Role

POOL = 'pool=~"$pool"'
NODE = f'{POOL}, node=~"$node"'
SUBNET = f'{POOL}, subnet=~"$subnet"'
PAIR = f'{SUBNET}, pair=~"$pair"'
MEMBER = f'{PAIR}, node=~"$node"'

BY_PAIR = "by (subnet, pair)"
ROLES: dict[int, Role] = dict(enumerate((Role.INIT, Role.FAULT, Role.BACKUP, Role.MASTER)))
"""Number of a role in a panel; the worst first."""


def rise(series: str, window: str) -> str:
    """By how much a counter rose in `window`, to the unit.

    `increase()` does not serve for what happens once a day: it does not see the first event, with which the series
    begins, and it makes 1.07 of one. This one takes a series that was not there in the hour before, or that began anew,
    for all that it says now. Summed over windows that follow each other it counts every event once.
    """
    now = f"last_over_time({series}[{window}])"
    return f"({now} - last_over_time({series}[1h] offset {window}) >= 0 or {now})"


def total_rise(series: str, window: str = "$__range", by: str = "") -> str:
    """The same of all series together; 0 if there is none."""
    if by:
        return f"sum by ({by}) ({rise(series, window)})"
    return f"sum({rise(series, window)}) or vector(0)"


def number_of(condition: str) -> str:
    """How many series a condition leaves; 0 if there is none."""
    return f"count({condition}) or vector(0)"


def role_number() -> str:
    """Of each member, as in `ROLES`."""
    terms = " or ".join(
        f'proxypool_member_role{{{MEMBER}, role="{role.value}"}} * {number}' for number, role in ROLES.items()
    )
    return f"sum by (subnet, pair, node) ({terms})"


def masters() -> str:
    """Of each pair."""
    return f"sum {BY_PAIR} (proxypool_member_master{{{PAIR}}})"


def quantile(share: float, histogram: str, window: str, by: str = "") -> str:
    """Of a histogram's observations in `window`. `by`: further labels, separated by commas."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) ({rise(histogram, window)}))"
