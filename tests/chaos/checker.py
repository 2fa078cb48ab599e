"""The invariants of the design (docs/design.md, docs/faults.md) over a recorded history. Pure.

    1  at most one open gate per pair, but for as long as it takes to notice
    2  with one healthy member, traffic is back within the detection time
    3  no connection ends, or moves, while its pair is undisturbed
    4  no packet leaves an ENI with a source that is not its own
    5  no packet of a customer where it does not belong
    6  what others made is not touched
    7  a pool that is as it must be is left alone
    8  what a daemon says is what its kernel says

and: all is well a while after everything was healed (0).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from proxypool.lab.fault_kinds import Fault
from tests.chaos import bounds
from tests.chaos.history import Connection, FaultEvent, GateChange, History, Pair, Probes
from tests.chaos.world import NO_ENI, World

AROUND_S = 6.0
"""How much of the time before a violation is shown with it."""


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be."""

    invariant: int
    subject: str
    start: float
    end: float
    text: str

    def __str__(self) -> str:
        return f"invariant {self.invariant}, {self.subject}: {self.text}"


def check(history: History) -> list[Violation]:
    """All violations, in the order of time."""
    world = World(history)
    found = [
        *two_gates(history, world),
        *outages(history, world),
        *connections(history, world),
        *(_once(history, 4, text, "left an ENI") for text in history.strangers),
        *(_once(history, 5, text, "is where it does not belong") for text in history.crossed),
        *(_once(history, 6, text, "was of somebody else") for text in history.foreign_lost),
        *(_once(history, 7, text, "is changed all the time although all is well") for text in history.restless),
        *false_words(history, world),
        *(_once(history, 0, text, "after everything was healed") for text in history.unhealed),
    ]
    return sorted(found, key=lambda violation: violation.start)


def _once(history: History, invariant: int, text: str, what: str) -> Violation:
    return Violation(invariant, text, history.end, history.end, what)


# ---- 1: gates --------------------------------------------------------------------------------------------------------


def two_gates(history: History, world: World) -> Iterator[Violation]:
    """A gate counts while its node is on the underlay both ways: no packet reaches one that is cut off.

    The clock runs while there is a referee (`Moment.has_referee`). It begins anew when the ground changes: a bound holds
    from the last event on that concerned the pair or ZooKeeper.
    """
    for pair in history.pairs:
        since: float | None = None
        limit = 0.0
        for start, end, both_open in _overlaps(history, world, pair):
            moment = world.at(start)
            if not both_open or not moment.has_referee(pair):
                since = None
                continue
            allowed = _two_gates_limit(history, world, pair, start)
            since, limit = (start, allowed) if since is None else (since, max(limit, start - since + allowed))
            if end - since > limit:
                nodes = " and ".join(pair.members)
                text = f"{nodes} both forwarded for {end - since:.2f} s, {limit:.2f} s are the most"
                yield Violation(1, pair.name, since, end, text)
                since = None


def _two_gates_limit(history: History, world: World, pair: Pair, at: float) -> float:
    """How long from `at` on."""
    moment = world.at(at)
    nodes = list(pair.members)
    if all(moment.hears(a, b) for a in nodes for b in nodes if a != b):
        return bounds.TWO_GATES_S
    limit = bounds.tie_break_s(history.session_timeout_s, history.server_tick_s)
    before = world.between(max(history.start, at - history.session_timeout_s - bounds.RECONNECT_S), at + 0.001)
    if not all(past.has_zookeeper(node) and past.has_daemon(node) for _, _, past in before for node in nodes):
        limit += bounds.RECONNECT_S
    return limit


def _overlaps(history: History, world: World, pair: Pair) -> Iterator[tuple[float, float, bool]]:
    """Parts of the history in which nothing changes, each with whether both gates counted as open."""
    changes = [change for change in history.gates if change.subnet == pair.subnet and change.node in pair.members]
    edges = sorted({history.start, history.end, *(change.at for change in changes), *world.times})
    is_open = dict.fromkeys(pair.members, False)
    by_time: dict[float, list[GateChange]] = {}
    for change in changes:
        by_time.setdefault(change.at, []).append(change)
    for start, end in pairwise(edges):
        for change in by_time.get(start, ()):
            is_open[change.node] = change.is_open
        moment = world.at(start)
        count = sum(is_open[node] and moment.is_connected(node) for node in pair.members)
        yield start, end, count > 1


# ---- 2: traffic ------------------------------------------------------------------------------------------------------


def outages(history: History, world: World) -> Iterator[Violation]:
    """Of each gap, what is left when all times are taken out in which it may be: no healthy member, or so soon after
    something happened to the pair.
    """
    by_name = {(pair.subnet, pair.id): pair for pair in history.pairs}
    for probes in history.probes:
        pair = by_name[probes.subnet, probes.pair]
        for start, end in probes.gaps:
            excess = _excess(history, world, pair, probes, (start, end))
            if excess is not None:
                text = (
                    f"no answer to {probes.pod} for {end - start:.2f} s, since {excess[1] - excess[0]:.2f} s too long"
                )
                yield Violation(2, pair.name, excess[0], end, text)


def _excess(
    history: History, world: World, pair: Pair, probes: Probes, gap: tuple[float, float]
) -> tuple[float, float] | None:
    """The longest part of a gap that has no excuse; None if there is none to speak of."""
    start, end = gap
    # A prober that was itself kept from running sees a gap that is none.
    tolerated = _tolerated(world, pair, start, end)
    if end - start <= probes.own_stall_s + tolerated:
        return None
    parts, at = [], start
    for begin, until in (*_excuses(history, world, pair), (end, end)):
        if begin > at:
            parts.append((at, min(begin, end)))
        at = max(at, until)
        if at >= end:
            break
    longest = max(parts, key=lambda part: part[1] - part[0], default=(end, end))
    limit = tolerated if tolerated > bounds.SHORT_GAP_S else bounds.EDGE_S
    return longest if longest[1] - longest[0] > probes.own_stall_s + limit else None


def _tolerated(world: World, pair: Pair, start: float, end: float) -> float:
    """How long a gap may be that may come at any moment: of a false alarm, or when one of two masters stands aside."""
    nodes = list(pair.members)
    longest = bounds.SHORT_GAP_S
    for _, _, moment in world.between(start - bounds.OUTAGE_S, end):
        hear_each_other = all(moment.hears(a, b) for a in nodes for b in nodes if a != b)
        if not hear_each_other and all(moment.is_connected(node) for node in nodes):
            longest = max(longest, bounds.ANNOUNCEMENT_S)
        if any(moment.is_lossy(node) for node in nodes):
            longest = max(longest, bounds.LOSSY_GAP_S)
    return longest


def _bound(history: History, pair: Pair, event: FaultEvent) -> float:
    """How long traffic may be interrupted by an event. Who returns to a pair whose traffic flows disturbs nobody."""
    fault = Fault(event.fault)
    if fault in {Fault.POWER_ON, Fault.START_SERVICES, Fault.HEAL_ENI} and event.machine in pair.members:
        holder = {
            pair.macs.get(span.mac)
            for span in history.holders
            if span.address == pair.havip and span.start < event.at <= span.end + bounds.EDGE_S
        }
        if holder and event.machine not in holder:
            return bounds.SHORT_GAP_S
    return bounds.OUTAGES_S.get(fault, bounds.OUTAGE_S)


def _excuses(history: History, world: World, pair: Pair) -> list[tuple[float, float]]:
    """Stretches in which traffic may be interrupted, by their beginning."""
    concerned = {*pair.members, *history.zookeepers}
    found = [
        (event.at - bounds.EDGE_S, event.done + _bound(history, pair, event))
        for event in world.events
        if event.machine in concerned
    ]
    unready: dict[str, float] = dict.fromkeys(pair.members, history.start)
    """Until when a member does not count as healthy."""
    bound = bounds.OUTAGE_S
    for start, end, moment in world.between(history.start, history.end):
        able = []
        for node in pair.members:
            if moment.is_able(node, pair.subnet):
                able.append(node)
            else:
                wait = bounds.READY_AFTER_HEALING_S if moment.is_on(node) else bounds.READY_AFTER_POWER_ON_S
                unready[node] = max(unready[node], end + wait)
                if moment.has(node, NO_ENI, pair.subnet):
                    bound = max(bound, bounds.OUTAGES_S[Fault.FILL_CONNTRACK])
        healthy_from = min((unready[node] for node in able), default=end)
        if healthy_from > start:
            found.append((start, min(end, healthy_from) + bound))
    return sorted(found)


# ---- 3: connections --------------------------------------------------------------------------------------------------


def connections(history: History, world: World) -> Iterator[Violation]:
    """A connection that ended, or hangs, although nothing happened to its pair and another MAC never had its HaVip."""
    pair_of = {address: pair for pair in history.pairs for address in (*pair.members.values(), pair.egress) if address}
    for connection in history.connections:
        if connection.source is None or connection.state in {"alive", "ended"}:
            continue
        pair = pair_of.get(connection.source)
        if pair is None:
            text = f"a connection of {connection.pod} had the source {connection.source}, which is no member's"
            yield Violation(3, connection.source, connection.opened, connection.over or history.end, text)
        elif _was_undisturbed(history, world, pair, connection):
            text = f"a connection of {connection.pod} is {connection.state} although its pair was undisturbed"
            yield Violation(3, pair.name, connection.opened, connection.over or history.end, text)


def _was_undisturbed(history: History, world: World, pair: Pair, connection: Connection) -> bool:
    start, end = connection.opened - bounds.UNDISTURBED_S, connection.over or history.end
    if any(event.machine in pair.members and start <= event.at <= end for event in world.events):
        return False
    lasting = world.between(start, end)
    if any(moment.active.get(node) for _, _, moment in lasting for node in pair.members):
        return False
    spans = [span for span in history.holders if span.address == pair.havip]
    return len({span.mac for span in spans if span.start <= end and span.end >= start}) <= 1


# ---- 8: words --------------------------------------------------------------------------------------------------------


def false_words(history: History, world: World) -> Iterator[Violation]:
    """A daemon that runs says master where there is no HaVip or no open gate, or the other way round, for too long."""
    wrong: dict[tuple[str, str], float] = {}
    for said in sorted(history.said, key=lambda word: word.at):
        key = said.node, said.subnet
        is_master = said.role == "master"
        if (is_master, is_master) == (said.has_havip, bool(said.is_open)) or not world.at(said.at).has_daemon(
            said.node
        ):
            wrong.pop(key, None)
            continue
        since = wrong.setdefault(key, said.at)
        calm_since = max(since, *(e.at for e in world.events if e.machine == said.node and e.at <= said.at), since)
        if said.at - calm_since > bounds.SAID_WRONG_S:
            kernel = f"HaVip {'here' if said.has_havip else 'not here'}, gate {'open' if said.is_open else 'closed'}"
            text = f"{said.node} says {said.role} for {said.at - calm_since:.1f} s; its kernel: {kernel}"
            yield Violation(8, f"{said.subnet}/{said.node}", calm_since, said.at, text)
            wrong.pop(key)


# ---- what went on around a violation ---------------------------------------------------------------------------------


def timeline(history: History, violation: Violation) -> list[str]:
    """Lines, each with the time since the beginning of the violation: faults, gates, holders, gaps, what daemons log."""
    first, last = violation.start - AROUND_S, violation.end + 1.0
    lines: list[tuple[float, str]] = [(violation.start, f"=== {violation}"), (violation.end, "=== its end")]
    for event in history.faults:
        limit = f" of {event.subnet}" if event.subnet else ""
        lines.append((event.at, f"fault   {event.fault} {event.machine}{limit}"))
    lines += [
        (change.at, f"gate    {change.node} {change.subnet} {'open' if change.is_open else 'closed'}")
        for change in history.gates
    ]
    names = {mac: node for pair in history.pairs for mac, node in pair.macs.items()}
    for span in history.holders:
        name = names.get(span.mac, span.mac)
        lines += [
            (span.start, f"wire    {name} answers for {span.address}"),
            (span.end, f"wire    {name} answered last for {span.address}"),
        ]
    for probes in history.probes:
        for start, end in probes.gaps:
            what = f"{probes.pod} through {probes.subnet}/{probes.pair}"
            lines += [(start, f"probe   {what}: silence"), (end, f"probe   {what}: answers after {end - start:.3f} s")]
    shown = [(at, text) for at, text in lines if first <= at <= last]
    # What began earlier and still lasts.
    active = World(history).at(first).active
    lasting = [
        f"{fault.value} {machine}{' of ' + subnet if subnet else ''}"
        for machine, faults in active.items()
        for fault, subnet in sorted(faults)
    ]
    head = [f"{'':>10}  lasting before: {', '.join(lasting)}"] if lasting else []
    return head + [f"{at - violation.start:+10.3f}  {text}" for at, text in sorted(shown)]
