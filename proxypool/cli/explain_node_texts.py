"""Why a node is as it is, in words: its pairs and roles, orders, room, problems, what would happen. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from proxypool.cli.cordon_texts import cordon_text
from proxypool.cli.explain_pair_texts import obstacle_text
from proxypool.cli.output import table
from proxypool.core.addressing import VRID_RANGE
from proxypool.core.explanation import Heir, Obstacle, Survival, member_of, obstacle
from proxypool.core.scaling.orders import Stay
from proxypool.core.scaling.rooms import PAIRS
from proxypool.core.status import HostReport, MemberReport, NodeReport, PairReport, SubnetReport
from proxypool.core.units import ago, rate, some_of


def node_paragraphs(
    node: NodeReport,
    places: Sequence[tuple[SubnetReport, PairReport]],
    stays: Sequence[Stay],
    heirs: Sequence[Heir],
    now: float,
) -> list[str]:
    """The explanation. `places`: the pairs it is in; `stays`: what of them the controller would move, or not."""
    parts = (
        " ".join(_what(node, now)),
        " ".join(_orders(node, stays, now)),
        " ".join(_roles(node, places)),
        _table(node, places, now),
        " ".join(_room(node, places)),
        " ".join(_death(node, heirs)),
    )
    return [part for part in parts if part]


def _what(node: NodeReport, now: float) -> Iterator[str]:
    if node.is_alive:
        yield f"Node {node.id} is there: its daemon{uptime(node, now)}, underlay address {node.underlay}."
    else:
        yield (
            f"The daemon of node {node.id} ({node.underlay}) is not connected to ZooKeeper: the machine is down, cut "
            "off, or the daemon does not run. Its keepalived may still serve."
        )
    if node.labels:
        yield f"Labels: {', '.join(f'{key}={value}' for key, value in sorted(node.labels.items()))}."
    for problem in node.problems:
        yield f"Problem: {problem}."


def _orders(node: NodeReport, stays: Sequence[Stay], now: float) -> Iterator[str]:
    order = cordon_text(node.cordoned_since, node.draining_since, node.ordered_by, node.order_reason, now)
    if not order:
        yield "It takes new pairs." if node.is_alive else "It gets no new pair while it is not there."
        return
    yield f"It is {order}. No new pair is placed on it until `proxypool node uncordon {node.id}`."
    if node.draining_since is None:
        return
    moving = [f"{stay.pair.subnet}/{stay.pair.id}" for stay in stays if not stay.why]
    yield f"Still to move: {some_of(moving)}." if moving else "Nothing is left to move."
    for stay in stays:
        if stay.why:
            yield f"{stay.pair.subnet}/{stay.pair.id} stays, as {stay.why}."


def uptime(machine: NodeReport | HostReport, now: float) -> str:
    """What follows the word for its daemon: which version, and since when."""
    version = f" {machine.version}" if machine.version else ""
    return f"{version} has run for {ago(machine.since, now)}" if machine.since else f"{version} runs"


def _roles(node: NodeReport, places: Sequence[tuple[SubnetReport, PairReport]]) -> Iterator[str]:
    if not places:
        yield "It is in no pair."
        return
    roles: dict[str, int] = {}
    for _, pair in places:
        member = member_of(pair, node.id)
        role = f"{member.role} in" if member is not None and member.role else "silent about"
        roles[role] = roles.get(role, 0) + 1
    told = ", ".join(f"{role} {number}" for role, number in sorted(roles.items(), key=lambda item: -item[1]))
    yield f"It is in {_pairs(len(places))}: {told}."


def _pairs(number: int) -> str:
    return f"{number or 'no'} pair{'' if number == 1 else 's'}"


def _table(node: NodeReport, places: Sequence[tuple[SubnetReport, PairReport]], now: float) -> str:
    rows = []
    for subnet, pair in places:
        member = member_of(pair, node.id)
        if member is None:
            continue
        found = obstacle(member, now)
        fault = found not in {None, Obstacle.NOT_BACKUP} and member.role != "master"
        other = next((one for one in pair.members if one.node != node.id), None)
        rows.append(
            (
                *(f"{subnet.id}/{pair.id}", member.role or "silent", ago(member.since, now)),
                obstacle_text(found, member, now) if found is not None and fault else "; ".join(member.health) or "ok",
                f"{other.node} ({other.role or 'silent'})" if other else "",
            )
        )
    return table(("PAIR", "ROLE", "FOR", "HEALTH", "OTHER MEMBER"), rows) if rows else ""


def _room(node: NodeReport, places: Sequence[tuple[SubnetReport, PairReport]]) -> Iterator[str]:
    members = [member for _, pair in places if (member := member_of(pair, node.id)) is not None]
    limit = node.labels.get(PAIRS, "")
    most = f"its label {PAIRS} allows {limit}" if limit.isdecimal() else "the controller knows how many it may have"
    yield f"Room: it has {_pairs(len(places))}, {most}; {len(places)} of {len(VRID_RANGE)} VRRP ids are taken."
    taken = (
        sum(member.rx_bytes_per_s or 0.0 for member in members),
        sum(member.tx_bytes_per_s or 0.0 for member in members),
    )
    if any(taken):
        yield f"It carries {rate(taken[0])} from hosts and {rate(taken[1])} to them."
    fullest = max(((_fullness(member), at) for at, member in enumerate(members)), default=(0.0, 0))
    if fullest[0] > 0:
        subnet, pair = places[fullest[1]]
        member = members[fullest[1]]
        yield (
            f"Its fullest connection table, that of {subnet.id}/{pair.id}, has {member.conntrack} of "
            f"{member.conntrack_limit} entries."
        )


def _fullness(member: MemberReport) -> float:
    return (member.conntrack or 0) / member.conntrack_limit if member.conntrack_limit else 0.0


def _death(node: NodeReport, heirs: Sequence[Heir]) -> Iterator[str]:
    if not node.is_alive and not node.master_of:
        return
    if not node.master_of:
        yield "If it died now, no traffic would be touched: it is nobody's master."
        return
    good = [heir for heir in heirs if heir.obstacle is None]
    bad = [heir for heir in heirs if heir.obstacle is not None]
    if good:
        lost = [heir.pair for heir in good if heir.connections is not Survival.KEPT]
        yield f"If it died now, other members would take over {some_of([f'{one.pair} ({one.node})' for one in good])}."
        if lost:
            yield f"Established connections of {some_of(lost)} would break."
    if bad:
        start = "But nobody" if good else "If it died now, nobody"
        pairs = some_of([heir.pair for heir in bad])
        yield f"{start} can be relied on to take over {pairs}: see `proxypool explain {bad[0].pair}`."
