"""What can be wrong with a pool: codes that never change their meaning, and the rules that find them. Pure.

Codes are for scripts and runbooks: they are never renamed or used again for something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum, StrEnum

from msgspec import Struct

from proxypool.core.model import Alive, MemberStatus, PairSpec, PairState
from proxypool.core.next_steps import next_step
from proxypool.core.pausing import said
from proxypool.core.states import Role, SyncState

STALE_AFTER_S = 15.0
"""A member publishes every few seconds; older than this, what it says may no longer be so."""
TAKEOVER_S = 8.0
"""Two masters are two only when the usual session timeout and the tie break are over."""
CONNTRACK_HIGH = 0.9


class Level(StrEnum):
    """How bad. `degraded`: served, but the next failure may not be survived. `critical`: not served, or not safely."""

    OK = "ok"
    DEGRADED = "degraded"
    CRITICAL = "critical"


_ORDER = (Level.OK, Level.DEGRADED, Level.CRITICAL)


class Code(Enum):
    """Code, name and level of every check."""

    NO_MASTER = ("PP001", "no-master", Level.CRITICAL)
    TWO_MASTERS = ("PP002", "two-masters", Level.CRITICAL)
    NO_BACKUP = ("PP003", "no-backup", Level.DEGRADED)
    ELECTED_NOT_MASTER = ("PP004", "elected-not-master", Level.DEGRADED)
    HAVIP_MISMATCH = ("PP005", "havip-mismatch", Level.CRITICAL)
    MEMBER_UNFIT = ("PP006", "member-unfit", Level.DEGRADED)
    MEMBER_NOT_REPORTING = ("PP007", "member-not-reporting", Level.DEGRADED)
    NODE_NOT_ALIVE = ("PP008", "node-not-alive", Level.DEGRADED)
    MALFORMED_DOCUMENT = ("PP009", "malformed-document", Level.DEGRADED)
    STALE_STATUS = ("PP010", "stale-status", Level.DEGRADED)
    GATE_MISMATCH = ("PP011", "gate-mismatch", Level.CRITICAL)
    NOBODY_ELECTED = ("PP012", "nobody-elected", Level.DEGRADED)
    NODE_PROBLEM = ("PP013", "node-problem", Level.DEGRADED)
    NO_PAIR = ("PP014", "no-pair", Level.DEGRADED)
    CONNTRACK_HIGH = ("PP015", "conntrack-high", Level.DEGRADED)
    TAKING_OVER = ("PP016", "taking-over", Level.DEGRADED)
    NO_ACTIVE_PAIR = ("PP017", "no-active-pair", Level.DEGRADED)
    STATE_NOT_SYNCED = ("PP018", "state-not-synced", Level.DEGRADED)
    PAUSED = ("PP019", "paused", Level.DEGRADED)
    EGRESS_UNANSWERED = ("PP020", "egress-unanswered", Level.CRITICAL)
    NO_CONTROLLER = ("PP021", "no-controller", Level.DEGRADED)
    CONTROLLER_SILENT = ("PP022", "controller-silent", Level.DEGRADED)
    CONTROLLER_PROBLEM = ("PP023", "controller-problem", Level.DEGRADED)
    SCALING_STUCK = ("PP024", "scaling-stuck", Level.DEGRADED)
    SCALING_PAUSED = ("PP025", "scaling-paused", Level.DEGRADED)
    AT_MAX_PAIRS = ("PP026", "at-max-pairs", Level.DEGRADED)
    MIXED_VERSIONS = ("PP027", "mixed-versions", Level.DEGRADED)
    DOCUMENT_TOO_NEW = ("PP028", "document-too-new", Level.DEGRADED)
    HOST_PROBLEM = ("PP029", "host-problem", Level.DEGRADED)


class Check(Struct, frozen=True, kw_only=True):
    """Something that is wrong."""

    code: str
    name: str
    level: Level
    subject: str
    """`<subnet>`, `<subnet>/<pair>`, `<subnet>/<pair>/<node>`, `nodes/<node>`, `hosts/<host>`, `controller`, `versions`
    or the path of a document.
    """
    message: str
    command: str = ""
    """What to run next."""
    on: str = ""
    """Where to run it; empty: wherever the pool is reached."""

    @staticmethod
    def of(kind: Code, subject: str, message: str) -> Check:
        """A finding of this kind."""
        code, name, level = kind.value
        step = next_step(name, subject)
        return Check(
            code=code, name=name, level=level, subject=subject, message=message, command=step.command, on=step.on
        )


def worst(levels: Iterable[Level]) -> Level:
    """The worst level, ok if there is none."""
    return max(levels, key=_ORDER.index, default=Level.OK)


class Member(Struct, frozen=True):
    """A member as the checks see it."""

    node: str
    status: MemberStatus | None
    alive: Alive | None
    is_elected: bool

    @property
    def is_master(self) -> bool:
        """By its own word."""
        return self.status is not None and self.status.role == Role.MASTER

    @property
    def is_ready(self) -> bool:
        """Whether it could take over now."""
        return self.status is not None and self.status.role == Role.BACKUP and not self.status.health


def check_subnet(subnet: str, pairs: Iterable[PairSpec], *, is_managed: bool = False) -> Iterator[Check]:
    """What is wrong with a subnet beside its pairs. A pair that drains, or is being prepared, is no fault, unless no
    other one is active.
    """
    found = sorted(pairs, key=lambda pair: pair.id)
    add = f"add one with `proxypool pair add {subnet} …`"
    draining = [pair.id for pair in found if pair.state is PairState.DRAINING]
    if not found:
        way = "the controller adds one" if is_managed else add
        yield Check.of(Code.NO_PAIR, subnet, f"no pair serves it: {way}")
    elif not any(pair.state is PairState.ACTIVE for pair in found):
        what = "every pair drains" if len(draining) == len(found) else "no pair is active yet"
        ways = "wait until one that is being prepared is open" if len(draining) < len(found) else add
        ways += f", or `proxypool pair undrain {subnet} {draining[-1]}`" if draining else ""
        yield Check.of(Code.NO_ACTIVE_PAIR, subnet, f"{what}, so new connections have nowhere to go: {ways}")


def check_pair(pair: PairSpec, members: Sequence[Member], now: float) -> Iterator[Check]:
    """What is wrong with a pair, the worst kinds first. One that is being prepared serves nobody yet: its members are
    not expected to be up, and what keeps it from being opened is told of the action (`scaling.checks`).
    """
    found = _check_pair(pair, members, now)
    if pair.state is PairState.PREPARING:
        found = (check for check in found if check.name in _WHILE_PREPARING)
    return iter(found)


_WHILE_PREPARING = frozenset({"two-masters", "taking-over"})
"""What a pair does wrong to others, before any host uses it."""


def _check_pair(pair: PairSpec, members: Sequence[Member], now: float) -> Iterator[Check]:
    subject = f"{pair.subnet}/{pair.id}"
    masters = [member.node for member in members if member.is_master]
    elected = next((member.node for member in members if member.is_elected), None)
    if not masters:
        yield Check.of(
            Code.NO_MASTER, subject, f"no member is master: traffic to {pair.havip} is not served; see {_hint(members)}"
        )
    taker = _taker(members, now)
    if len(masters) > 1 and taker is not None:
        yield Check.of(
            Code.TAKING_OVER,
            subject,
            f"{taker} took the HaVip over; {elected} was master and has not been heard of since, or will yield: "
            "ZooKeeper tells after the session timeout",
        )
    elif len(masters) > 1:
        yield Check.of(
            Code.TWO_MASTERS,
            subject,
            f"{' and '.join(masters)} are both master: check that they hear each other's VRRP on the underlay; "
            "the one not elected yields after the session timeout",
        )
    if masters and not any(member.is_ready for member in members):
        yield Check.of(
            Code.NO_BACKUP, subject, f"nobody can take over if {masters[-1]} fails: see {_hint(members, masters[-1:])}"
        )
    if elected is None:
        yield Check.of(Code.NOBODY_ELECTED, subject, f"nobody stands in the election: see {_hint(members)}")
    elif len(masters) == 1 and elected != masters[0]:
        yield Check.of(
            Code.ELECTED_NOT_MASTER,
            subject,
            f"{elected} is elected but {masters[0]} is master: the election follows within seconds, or the daemon of "
            f"{masters[0]} is dead or cut off and {elected} takes over; if neither, see keepalived's log on {elected}",
        )
    if pair.paused_since is not None:
        yield Check.of(
            Code.PAUSED,
            subject,
            f"paused for {max(0.0, now - pair.paused_since):.0f} s{said(pair.paused_by, pair.pause_reason)}: a member "
            f"that cannot serve stays master; end it with `proxypool pair resume {pair.subnet} {pair.id}`",
        )
    are_all_alive = all(member.alive is not None for member in members)
    for member in members:
        yield from check_member(f"{subject}/{member.node}", member, now)
        yield from check_sync(pair, member, are_all_alive=are_all_alive)


def _taker(members: Sequence[Member], now: float) -> str | None:
    """The member that became master just now without being elected: the other one died, or they do not hear each other.
    The dead one's last word is still there until its session ends.
    """
    for member in members:
        if member.is_master and not member.is_elected and member.status and now - member.status.since < TAKEOVER_S:
            return member.node
    return None


def _hint(members: Sequence[Member], masters: Sequence[str] = ()) -> str:
    others = [member.node for member in members if member.node not in masters]
    return f"the daemon's log on {' and '.join(others)}"


def check_member(subject: str, member: Member, now: float) -> Iterator[Check]:
    """What is wrong with one member."""
    node, status = member.node, member.status
    if member.alive is None:
        yield Check.of(
            Code.NODE_NOT_ALIVE,
            subject,
            f"the daemon of {node} is not connected: start it, or the machine, or replace it",
        )
    elif status is None:
        yield Check.of(
            Code.MEMBER_NOT_REPORTING, subject, f"the daemon of {node} runs but does not serve this pair: see its log"
        )
    if status is None:
        return
    if status.health:
        yield Check.of(Code.MEMBER_UNFIT, subject, f"{node} cannot serve: {'; '.join(status.health)}")
    if member.is_master != status.has_havip:
        what = "is master without the HaVip" if member.is_master else f"holds the HaVip as {status.role}"
        yield Check.of(
            Code.HAVIP_MISMATCH,
            subject,
            f"{node} {what}: check that keepalived runs there and nobody else set the address",
        )
    if member.is_master != bool(status.gate):
        what = "master with the gate closed" if member.is_master else f"{status.role} with the gate open"
        yield Check.of(
            Code.GATE_MISMATCH, subject, f"{node} is {what}: its daemon repairs this within 2 s; if not, see its log"
        )
    if member.is_master and status.gate and status.answers_egress is False:
        yield Check.of(
            Code.EGRESS_UNANSWERED,
            subject,
            f"{node} is master and does not answer for the egress address, so nothing comes back from the customer's "
            "servers: its daemon repairs this within 2 s; if not, see its log",
        )
    age_s = now - max(status.at, member.alive.at if member.alive else 0.0)
    if age_s > STALE_AFTER_S:
        yield Check.of(
            Code.STALE_STATUS,
            subject,
            f"{node} has not reported for {age_s:.0f} s: its daemon hangs, or its clock is wrong",
        )
    if (
        status.conntrack is not None
        and status.conntrack_limit
        and (status.conntrack >= CONNTRACK_HIGH * status.conntrack_limit)
    ):
        yield Check.of(
            Code.CONNTRACK_HIGH,
            subject,
            f"{node} tracks {status.conntrack} of {status.conntrack_limit} connections: add a pair",
        )


def check_sync(pair: PairSpec, member: Member, *, are_all_alive: bool) -> Iterator[Check]:
    """Whether connections would survive a failover. A member that is dead is heard of by nobody, and has a check."""
    state = member.status.sync if member.status is not None and member.alive is not None else None
    if state is None or state in {SyncState.OK, SyncState.STARTING}:
        return
    if state == SyncState.UNHEARD and not are_all_alive:
        return
    what = {
        SyncState.UNHEARD: "hears nothing from the other member's conntrackd",
        SyncState.HUNG: "has a conntrackd that does not answer",
        SyncState.DOWN: "has no running conntrackd",
    }.get(SyncState(state) if state in set(SyncState) else SyncState.DOWN)
    yield Check.of(
        Code.STATE_NOT_SYNCED,
        f"{pair.subnet}/{pair.id}/{member.node}",
        f"{member.node} {what}: connections would not survive a failover; the daemon starts it again within a minute, "
        f"if not, see the daemon's log there, and whether UDP (VXLAN) or GRE passes between the two nodes",
    )
