"""Why a pair is as it is, in words: who is master, by which rule, why the other is not, what would happen. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from proxypool.cli.event_texts import local_time
from proxypool.core.explanation import Heir, Obstacle, Survival, obstacle
from proxypool.core.history import Phase, Reason, Record
from proxypool.core.model import FailoverMode, PairState
from proxypool.core.status import MemberReport, PairReport, SubnetReport
from proxypool.core.units import ago, brief, duration

DAY_S = 86400.0


def pair_paragraphs(
    subnet: SubnetReport,
    pair: PairReport,
    *,
    queue: Sequence[str],
    last: Record | None,
    changes: int,
    heir: Heir | None,
    now: float,
) -> list[str]:
    """The explanation. `queue`: the election, the elected one first; `changes`: of master within a day."""
    parts = (
        _what(subnet, pair, now),
        _master(pair, queue, now),
        _others(pair, queue, now),
        _last(last, changes, now),
        heir_sentences(heir, pair),
    )
    return [text for part in parts if (text := " ".join(part))]


def _what(subnet: SubnetReport, pair: PairReport, now: float) -> Iterator[str]:
    cidrs = ", ".join(map(str, subnet.cidrs))
    yield f"Pair {subnet.id}/{pair.id} carries traffic to {cidrs} (tenant {subnet.tenant}) behind HaVip {pair.havip}."
    if pair.state == PairState.DRAINING:
        left = "an unknown number of" if pair.connections_left is None else pair.connections_left
        since = ago(pair.draining_since, now)
        yield f"It has been draining for {since}: {left} connections are left, no new ones come."
    elif pair.state == PairState.PREPARING:
        yield "It is being prepared: no host uses it yet."
    if pair.paused_since is not None:
        yield (
            f"It has been paused for {duration(now - pair.paused_since)}: only a master that is dead is replaced, "
            f"whatever health and the election say. End that with `proxypool pair resume {subnet.id} {pair.id}`."
        )


def _master(pair: PairReport, queue: Sequence[str], now: float) -> Iterator[str]:
    masters = [member for member in pair.members if member.role == "master"]
    if not masters:
        yield f"Nobody is master: traffic to {pair.havip} is not served."
    elif len(masters) > 1:
        yield (
            f"{' and '.join(member.node for member in masters)} both say that they are master. Either one has just "
            "taken over and the other's last word is still there, or they do not hear each other's VRRP on the "
            "underlay; the one that is not elected yields after the session timeout."
        )
    else:
        yield from _one_master(masters[0], now)
    elected = queue[0] if queue else None
    if not masters and elected:
        yield f"ZooKeeper elected {elected}, which does not serve."
    elif not queue:
        yield "Nobody stands in the election: VRRP alone decides."
    elif len(masters) == 1 and masters[0].node != elected:
        yield (
            f"ZooKeeper elected {elected} (epoch {pair.epoch}) instead, so this will change: the election follows the "
            f"master within seconds, or {elected} takes over."
        )
    elif len(masters) == 1:
        yield f"By the rule of mode {pair.mode}: {_RULES.get(pair.mode, pair.mode)} (epoch {pair.epoch})."


_RULES: Mapping[str, str] = {
    FailoverMode.FAST: "it is the one that ZooKeeper elected, which has the higher VRRP priority",
    FailoverMode.STRICT: "it is the one that ZooKeeper elected, and nobody else may forward",
}


def _one_master(master: MemberReport, now: float) -> Iterator[str]:
    since = f", since {local_time(master.since, wide=False)} ({ago(master.since, now)} ago)" if master.since else ""
    because = REASONS.get(master.change_reason or "")
    yield f"{master.node} is master{since}{f', because {because}' if because else ''}."
    faults = [
        text
        for text, is_so in (
            ("it does not hold the HaVip", not master.has_havip),
            ("its gate is closed", not master.gate),
            ("it does not answer for the egress address", master.answers_egress is False),
        )
        if is_so
    ]
    if faults:
        yield f"But it does not serve: {' and '.join(faults)}."
    if master.health:
        yield f"It says that it cannot serve: {'; '.join(master.health)}."


REASONS: Mapping[str, str] = {
    Reason.SILENT: "the old master was no longer heard",
    Reason.GAVE_UP: "the old master gave up: its keepalived was stopped or had a fault",
    Reason.UNFIT: "the old master said that it cannot serve",
    Reason.SWITCHOVER: "somebody asked for it with `proxypool pair switchover`",
    Reason.ELECTION: "ZooKeeper elected it, as the session of the old master had ended",
    Reason.TIE_BREAK: "two masters did not hear each other, and the one that was not elected stood aside",
    Reason.COLD_START: "there was no other master when it began",
    Reason.RETURNED: "it had given up, and nobody had taken over meanwhile",
    Reason.UNSEEN: "of something that its daemon did not see, as it did not run",
    Reason.UNKNOWN: "of something that is not known: advertisements cannot be timed on that node",
}


def _others(pair: PairReport, queue: Sequence[str], now: float) -> Iterator[str]:
    for member in pair.members:
        if member.role != "master":
            yield f"{member.node} is not: {_why_not(pair, member, queue, now)}."


def _why_not(pair: PairReport, member: MemberReport, queue: Sequence[str], now: float) -> str:
    found = obstacle(member, now)
    if found is None:
        stands = "stands in the election" if member.node in queue else "does not stand in the election"
        master = f"{pair.master} serves" if pair.master else "it has not been told to take over"
        return f"{master}, and a master that serves stays. It is backup, well and ready, and {stands}"
    return obstacle_text(found, member, now)


def obstacle_text(found: Obstacle, member: MemberReport, now: float) -> str:
    """Why a member cannot be relied on."""
    match found:
        case Obstacle.NOT_ALIVE:
            return "its daemon is not connected to ZooKeeper, so nobody knows how it is"
        case Obstacle.NOT_REPORTING:
            return "its daemon runs, but says nothing of this pair"
        case Obstacle.UNFIT:
            return f"it cannot serve: {'; '.join(member.health)}"
        case Obstacle.DAMPED:
            left_s = max(0.0, (member.damped_until or now) - now)
            return f"it is well, but was not a moment ago, and is held back for flapping for another {left_s:.0f} s"
        case Obstacle.NOT_BACKUP:
            return f"its role is {member.role}"


def _last(last: Record | None, changes: int, now: float) -> Iterator[str]:
    if last is None:
        yield "The history has no change of its master."
        return
    old = f"from {last.from_node} to {last.to_node}" if last.from_node else f"to {last.to_node}"
    yield (
        f"The last change of master: a {last.kind} {old}, {local_time(last.at, wide=False)} ({ago(last.at, now)} ago), "
        f"because {REASONS.get(last.reason, last.reason)}."
    )
    by = f"{last.who} asked for it" if last.who else ""
    note = f"{': ' if by else 'Noted: '}{last.note}" if last.note else ""
    if by or note:
        yield f"{by}{note}."
    phases = [
        text.format(brief(last.phases[phase.value]))
        for phase, text in (
            (Phase.DETECTION, "it was noticed after {}"),
            (Phase.BLACKOUT, "nobody served for at most {}"),
            (Phase.ELECTION, "the election confirmed it after {}"),
        )
        if phase.value in last.phases
    ]
    if phases:
        yield f"{', '.join(phases).capitalize()}."
    if changes > 1:
        yield f"Its master changed {changes} times within a day: see `proxypool history`."


def heir_sentences(heir: Heir | None, pair: PairReport) -> Iterator[str]:
    """What would happen if the member died now."""
    if heir is None:
        return
    if heir.obstacle is None:
        how = (
            "when ZooKeeper has ended the session of the dead one, some seconds later"
            if pair.mode == FailoverMode.STRICT
            else "as soon as VRRP misses the dead one: after some 50 ms, unless detection is configured otherwise"
        )
        yield f"If {heir.dead} died now, {heir.node} would take over {how}. {_SURVIVAL[heir.connections]}"
        return
    doubt = _DOUBTS.get(heir.obstacle, "nobody would take over, and traffic to the HaVip would stop")
    yield f"If {heir.dead} died now, {doubt.format(node=heir.node)}."
    yield (
        f"New connections would go to {', '.join(heir.others)} within a second."
        if heir.others
        else "No other pair of the subnet could take new connections."
    )


_DOUBTS = {
    Obstacle.NOT_ALIVE: "nobody can be relied on to take over: {node} would, if only its daemon is gone and its "
    "keepalived lives",
    Obstacle.NOT_REPORTING: "nobody can be relied on to take over: {node} does not say how it is",
    Obstacle.DAMPED: "{node} would take over only once it is no longer held back",
}
_SURVIVAL = {
    Survival.KEPT: "Established connections would go on: both members know them.",
    Survival.RESET: "Established connections would be reset, as the pair has no egress address; new ones work at once.",
    Survival.NOT_SYNCED: "Established connections would not survive: the members do not tell each other about them.",
}
