"""What an explanation is made of: the thing itself, what is wrong with it, its last change, and who would take over.

Pure: the sentences are the command line's.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct

from proxypool.core.checks import Check, Level
from proxypool.core.documents import API_VERSION
from proxypool.core.history import Record, parse_name
from proxypool.core.machine_checks import check_hosts
from proxypool.core.model import PairState
from proxypool.core.pool_view import PoolView
from proxypool.core.scaling.overview import ControllerState, SubnetScale
from proxypool.core.states import Role, SyncState
from proxypool.core.status import HostReport, MemberReport, NodeReport, PairReport, PoolStatus, SubnetReport, all_checks


class Obstacle(StrEnum):
    """Why a member cannot be relied on to take over."""

    NOT_ALIVE = "not-alive"
    """Its daemon is gone; its keepalived may or may not be there."""
    NOT_REPORTING = "not-reporting"
    UNFIT = "unfit"
    DAMPED = "damped"
    """Well, but held back for flapping."""
    NOT_BACKUP = "not-backup"
    """Not yet, or no longer: starting, or master as well."""


class Survival(StrEnum):
    """What becomes of established connections when the master dies."""

    KEPT = "kept"
    RESET = "reset"
    """The pair has no egress address: they get a RST."""
    NOT_SYNCED = "not-synced"
    """It has one, and the members do not tell each other their connections."""


class Heir(Struct, frozen=True, kw_only=True):
    """Who serves a pair if one member dies now."""

    pair: str
    """`<subnet>/<pair>`"""
    dead: str
    node: str
    """The other member."""
    obstacle: Obstacle | None
    """None: it takes over."""
    connections: Survival
    others: tuple[str, ...]
    """Other pairs of the subnet that take new connections and are served."""


class Explanation(Struct, frozen=True, kw_only=True, rename={"api_version": "apiVersion"}):
    """The document."""

    api_version: str = API_VERSION
    kind: str = "Explanation"
    about: str
    """subnet, pair, node, host or code."""
    subject: str
    at: float
    """Seconds since the epoch."""
    level: Level
    text: tuple[str, ...]
    """The explanation, a paragraph each."""
    checks: tuple[Check, ...]
    controller: ControllerState | None = None
    """Of a subnet."""
    subnet: SubnetScale | None = None
    pair: PairReport | None = None
    node: NodeReport | None = None
    host: HostReport | None = None
    last_change: Record | None = None
    """Of a pair: the last change of master in the history."""
    heirs: tuple[Heir, ...] = ()
    """Who takes over if the master of the pair, or the node, dies now; of a node: of each pair whose master it is."""


def member_of(pair: PairReport, node: str) -> MemberReport | None:
    """The member on a node."""
    return next((member for member in pair.members if member.node == node), None)


def heir_of(subnet: SubnetReport, pair: PairReport, dead: str, now: float) -> Heir:
    """Who serves the pair if its member `dead` dies at wall time `now`."""
    other = next(member for member in pair.members if member.node != dead)
    return Heir(
        pair=f"{subnet.id}/{pair.id}",
        dead=dead,
        node=other.node,
        obstacle=obstacle(other, now),
        connections=_survival(pair),
        others=tuple(
            one.id
            for one in subnet.pairs
            if one.id != pair.id and one.state == PairState.ACTIVE and one.master is not None
        ),
    )


def obstacle(member: MemberReport, now: float) -> Obstacle | None:
    """Why a member could not take over now; None: it could."""
    if not member.is_alive:
        return Obstacle.NOT_ALIVE
    if member.role is None:
        return Obstacle.NOT_REPORTING
    if member.health:
        return Obstacle.UNFIT
    if member.damped_until is not None and member.damped_until > now:
        return Obstacle.DAMPED
    return None if member.role == Role.BACKUP else Obstacle.NOT_BACKUP


def _survival(pair: PairReport) -> Survival:
    if pair.egress_address is None:
        return Survival.RESET
    return Survival.KEPT if all(member.sync == SyncState.OK for member in pair.members) else Survival.NOT_SYNCED


def checks_about_node(status: PoolStatus, node: str) -> tuple[Check, ...]:
    """Of the machine, and of its members."""
    return tuple(
        check
        for check in all_checks(status)
        if check.subject == f"nodes/{node}" or (check.subject.count("/") == 2 and check.subject.endswith(f"/{node}"))  # noqa: PLR2004 - subnet/pair/node
    )


def checks_about_host(view: PoolView, host: str) -> tuple[Check, ...]:
    """Of the machine alone, also where others have the same trouble."""
    alive = view.hosts_alive.get(host)
    return tuple(check_hosts({host: alive} if alive is not None else {}))


def changes_since(names: Iterable[str], subnet: str, pair: str, at: float) -> int:
    """How often a pair's master has changed since a wall time, by the names of the history's records."""
    parsed = (parse_name(text) for text in names)
    return sum(
        name is not None
        and (name.subnet, name.pair) == (subnet, pair)
        and bool(name.to_node)
        and name.at_ms >= at * 1000
        for name in parsed
    )
