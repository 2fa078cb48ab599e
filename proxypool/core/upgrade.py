"""Whether a pool is ready for a rolling upgrade, or for going back, and in which order. Pure.

Ready is a pool in which every machine may be away for a moment: everything is well, each pair has somebody who takes
over, and nothing is in the middle of something. Codes are for scripts: they never change their meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum, StrEnum

from msgspec import Struct

from proxypool.core.checks import Check, Level
from proxypool.core.checks import Code as CheckCode
from proxypool.core.model import PairState
from proxypool.core.states import Role
from proxypool.core.status import PairReport, PoolStatus, SubnetReport, all_checks
from proxypool.core.units import some_of
from proxypool.core.versions import Release, are_near, release_of, told

SHOWN = 3
"""Names that a message has at most."""


class Weight(StrEnum):
    """`blocks`: see to it first. `note`: know it, and go on."""

    BLOCKS = "blocks"
    NOTE = "note"


LEVELS = {Weight.BLOCKS: Level.DEGRADED, Weight.NOTE: Level.OK}
"""Weight -> level, as of other codes."""


class Code(Enum):
    """Code, name and weight of every finding."""

    NOT_WELL = ("PU001", "not-well", Weight.BLOCKS)
    NO_FIT_BACKUP = ("PU002", "no-fit-backup", Weight.BLOCKS)
    IN_THE_MIDDLE = ("PU003", "in-the-middle", Weight.BLOCKS)
    NOT_RUNNING = ("PU004", "not-running", Weight.NOTE)
    TOO_FAR_APART = ("PU005", "too-far-apart", Weight.BLOCKS)
    UNKNOWN_VERSION = ("PU006", "unknown-version", Weight.NOTE)
    UNREADABLE_DOCUMENT = ("PU007", "unreadable-document", Weight.BLOCKS)
    ZOOKEEPER_SERVER = ("PU008", "zookeeper-server", Weight.BLOCKS)
    ZOOKEEPER_NO_RESERVE = ("PU009", "zookeeper-no-reserve", Weight.NOTE)
    UNDER_WAY = ("PU010", "under-way", Weight.NOTE)


class Finding(Struct, frozen=True, kw_only=True):
    """Something that speaks against it, or that one has to know."""

    code: str
    name: str
    weight: Weight
    subject: str
    message: str
    command: str
    """What to run next."""

    @staticmethod
    def of(kind: Code, subject: str, message: str, command: str) -> Finding:
        """A finding of this kind."""
        code, name, weight = kind.value
        return Finding(code=code, name=name, weight=weight, subject=subject, message=message, command=command)


class Stage(StrEnum):
    """What is upgraded together, in this order. Hosts first: they only follow. Controllers last: they alone decide what
    becomes of pairs, and must not write what others cannot read.
    """

    HOSTS = "hosts"
    BACKUPS = "backups"
    MASTERS = "masters"
    CONTROLLERS = "controllers"


class Step(Struct, frozen=True, kw_only=True):
    """A machine; of hosts and of controllers all of them, one after the other."""

    stage: Stage
    machines: tuple[str, ...]
    before: tuple[str, ...] = ()
    """Commands to run before its daemon is restarted."""
    after: str = ""
    """Command to run afterwards: go on when it ends with 0."""


class Readiness(Struct, frozen=True, kw_only=True):
    """What `proxypool upgrade-check` says."""

    pool: str
    at: float
    """Seconds since the epoch."""
    target: str | None
    """The version that was asked about; None: any that is near enough."""
    is_ready: bool
    """Whether nothing blocks."""
    versions: tuple[str, ...]
    """That run, the oldest first."""
    done: int
    """Machines that run the target already."""
    findings: tuple[Finding, ...]
    """Those that block first."""
    order: tuple[Step, ...]
    """What is left to be upgraded."""


WELL = "proxypool status --wait --timeout 120"
_JUDGED_ELSEWHERE = frozenset(
    code.value[1]
    for code in (
        *(CheckCode.NO_BACKUP, CheckCode.PAUSED, CheckCode.MALFORMED_DOCUMENT, CheckCode.DOCUMENT_TOO_NEW),
        *(CheckCode.MIXED_VERSIONS, CheckCode.SCALING_PAUSED),
    )
)


def judge(status: PoolStatus, servers: Mapping[str, str], target: Release | None = None) -> Readiness:
    """The findings and the order.

    Args:
        status: of the whole pool.
        servers: of ZooKeeper: address -> why no connection to it can be opened; empty: one can.
        target: the version that is to run everywhere, later or earlier than those that run.
    """
    found = [
        *_documents(status),
        *_versions(status, target),
        *_ensemble(servers),
        *_health(all_checks(status)),
        *(finding for subnet in status.subnets for finding in _subnet(subnet)),
        *_machines(status),
    ]
    found.sort(key=lambda one: (one.weight is not Weight.BLOCKS, one.code))
    return Readiness(
        pool=status.pool,
        at=status.at,
        target=target.text if target is not None else None,
        is_ready=not any(one.weight is Weight.BLOCKS for one in found),
        versions=tuple(running.version for running in status.versions),
        done=_done(status, target),
        findings=tuple(found),
        order=tuple(_order(status, target)),
    )


def _documents(status: PoolStatus) -> Iterator[Finding]:
    names = {CheckCode.MALFORMED_DOCUMENT.value[1], CheckCode.DOCUMENT_TOO_NEW.value[1]}
    for check in status.checks:
        if check.name in names:
            yield Finding.of(
                Code.UNREADABLE_DOCUMENT,
                check.subject,
                f"a daemon that starts now cannot read it: {check.message}",
                "proxypool version  # on this machine: is it the older one?"
                if check.name == CheckCode.DOCUMENT_TOO_NEW.value[1]
                else check.command,
            )


def _versions(status: PoolStatus, target: Release | None) -> Iterator[Finding]:
    known = [found for running in status.versions if (found := release_of(running.version)) is not None]
    for running in status.versions:
        if release_of(running.version) is None:
            yield Finding.of(
                Code.UNKNOWN_VERSION,
                "versions",
                f"{told(running)}: whether it works with others is not known",
                "proxypool node list -o wide",
            )
    wanted = [*known, *([target] if target is not None else [])]
    if wanted and not are_near(min(wanted), max(wanted)):
        to = f", {target.text} is asked for" if target is not None else ""
        yield Finding.of(
            Code.TOO_FAR_APART,
            "versions",
            f"{', '.join(one.text for one in sorted(set(known)))} run{'s' if len(set(known)) == 1 else ''}{to}: "
            "versions work together over one minor step: go by way of those between",
            f"proxypool upgrade-check --to {_step_toward(known, target)}",
        )
    if len(set(known)) > 1:
        yield Finding.of(
            Code.UNDER_WAY,
            "versions",
            f"an upgrade is under way: {'; '.join(map(told, status.versions))}",
            f"proxypool upgrade-check --to {max(known).text}",
        )


def _step_toward(known: Iterable[Release], target: Release | None) -> str:
    """The next version on the way; what runs is brought together first."""
    oldest, newest = min(known), max(known)
    if oldest.major != newest.major or (target is not None and target.major != oldest.major):
        return newest.text
    if target is None or not are_near(oldest, newest):
        return f"{oldest.major}.{oldest.minor + 1}"
    return f"{oldest.major}.{oldest.minor + 1 if target > newest else newest.minor - 1}"


def _ensemble(servers: Mapping[str, str]) -> Iterator[Finding]:
    for server, why in servers.items():
        if why:
            command = f"nc -vz {' '.join(server.rsplit(':', 1))}"
            yield Finding.of(
                Code.ZOOKEEPER_SERVER, server, f"the ZooKeeper server {server} cannot be reached: {why}", command
            )
    if len(servers) < 3:  # noqa: PLR2004 - of two, one is no majority
        count = f"there {'is' if len(servers) == 1 else 'are'} {len(servers)} ZooKeeper server"
        yield Finding.of(
            Code.ZOOKEEPER_NO_RESERVE,
            "zookeeper",
            f"{count}{'' if len(servers) == 1 else 's'}: when one is away nothing is decided; traffic goes on",
            "proxypool config show",
        )


def _health(checks: Iterable[Check]) -> Iterator[Finding]:
    for check in checks:
        if check.name not in _JUDGED_ELSEWHERE:
            on = f"  # on {check.on}" if check.on else ""
            yield Finding.of(
                Code.NOT_WELL, check.subject, f"{check.code} {check.name}: {check.message}", f"{check.command}{on}"
            )


def _subnet(subnet: SubnetReport) -> Iterator[Finding]:
    for action in subnet.scale.actions:
        yield Finding.of(
            Code.IN_THE_MIDDLE,
            f"{subnet.id}/{action.pair}",
            f"the controller is at it: {action.kind.value}, step {action.step.value}",
            f"proxypool scale status {subnet.id} -w",
        )
    for pair in subnet.pairs:
        name = f"{subnet.id}/{pair.id}"
        where = f"{subnet.id} {pair.id}"
        if pair.paused_since is not None:
            yield Finding.of(
                Code.IN_THE_MIDDLE,
                name,
                f"it is paused{f' ({pair.pause_reason})' if pair.pause_reason else ''}: nobody takes over",
                f"proxypool pair resume {where}",
            )
        if pair.state != PairState.ACTIVE:
            yield Finding.of(Code.IN_THE_MIDDLE, name, f"it is {pair.state}", f"proxypool status {subnet.id} -w")
        elif not _has_fit_backup(pair):
            yield Finding.of(
                Code.NO_FIT_BACKUP,
                name,
                f"nobody can take over from {pair.master or 'whoever is to be master'}",
                f"proxypool explain {name}",
            )


def _has_fit_backup(pair: PairReport) -> bool:
    return pair.master is not None and any(
        member.is_alive and member.role == Role.BACKUP and not member.health for member in pair.members
    )


def _machines(status: PoolStatus) -> Iterator[Finding]:
    for node in status.nodes:
        if node.draining_since is not None:
            yield Finding.of(
                Code.IN_THE_MIDDLE,
                f"nodes/{node.id}",
                "its members are being moved elsewhere",
                f"proxypool node show {node.id}",
            )
    dead = {
        "node": [node.id for node in status.nodes if not node.is_alive and not node.pairs],
        "host": [host.id for host in status.hosts if not host.is_alive],
    }
    for kind, names in dead.items():
        if names:
            yield Finding.of(
                Code.NOT_RUNNING,
                f"{kind}s",
                f"the daemon of {some_of(names, SHOWN)} does not run: it has the old version when it comes back",
                f"proxypool {kind} list",
            )


def _is_done(version: str, target: Release | None) -> bool:
    return target is not None and release_of(version) == target


def _done(status: PoolStatus, target: Release | None) -> int:
    return sum(
        len(one.nodes) + one.hosts + len(one.controllers) for one in status.versions if _is_done(one.version, target)
    )


def _order(status: PoolStatus, target: Release | None) -> Iterator[Step]:
    hosts = tuple(host.id for host in status.hosts if host.is_alive and not _is_done(host.version, target))
    if hosts:
        yield Step(stage=Stage.HOSTS, machines=hosts, after=WELL)
    nodes = [node for node in status.nodes if node.is_alive and not _is_done(node.version, target)]
    away = _ways_out(status)
    for node in nodes:
        if not node.master_of:
            yield Step(stage=Stage.BACKUPS, machines=(node.id,), after=WELL)
    for node in nodes:
        if node.master_of:
            ways = [away[node.id, name] for name in node.master_of if (node.id, name) in away]
            before = tuple(f"proxypool pair switchover {way}" for way in ways)
            yield Step(stage=Stage.MASTERS, machines=(node.id,), before=before, after=WELL)
    controllers = tuple(
        name for one in status.versions if not _is_done(one.version, target) for name in one.controllers
    )
    if controllers:
        yield Step(stage=Stage.CONTROLLERS, machines=controllers, after=WELL)


def _ways_out(status: PoolStatus) -> dict[tuple[str, str], str]:
    """(node, `<subnet>/<pair>`) that it is master of -> what `pair switchover` needs to be told.

    Of pairs with an egress address, whose connections go along. Those of others would break, and a restart of the
    daemon moves nothing: there the master stays where it is.
    """
    found = {}
    for subnet in status.subnets:
        for pair in subnet.pairs:
            others = [member.node for member in pair.members if member.node != pair.master]
            if pair.master is not None and others and pair.egress_address is not None:
                found[pair.master, f"{subnet.id}/{pair.id}"] = f"{subnet.id} {pair.id} --to {others[0]}"
    return found
