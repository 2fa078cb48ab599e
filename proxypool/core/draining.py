"""Draining and removing a pair: which acts are risky, what is left of a pair, and how fast it empties. Pure.

A risk is refused unless it is accepted by its name. Nothing here is a reason to stop a daemon: these are questions of
operators and of the controller, answered from what the pool's documents and members say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from ipaddress import IPv4Address

from msgspec import Struct
from msgspec.structs import replace

from proxypool.core.errors import PermanentError
from proxypool.core.model import MemberStatus, PairSpec, PairState, Snapshot
from proxypool.core.states import Role

FRESH_S = 10.0
"""A master whose pair drains publishes every second. Older than this, its number says nothing."""
SETTLE_S = 2.0
"""Hosts learn of a drain well within this; before, no connection left does not mean that none will come."""
PACE_WINDOW_S = 15.0
MIN_PACE_S = 1.0


class Risk(StrEnum):
    """What an act can do to traffic, by the name under which it is accepted."""

    STOP_NEW_CONNECTIONS = "stop-new-connections"
    DROP_CONNECTIONS = "drop-connections"


class Reason(StrEnum):
    """Why an act is risky."""

    LAST_ACTIVE = "last-active"
    LAST_PAIR = "last-pair"
    NOT_DRAINING = "not-draining"
    NOT_EMPTY = "not-empty"
    NOT_KNOWN = "not-known"
    EGRESS_MOVES = "egress-moves"
    PAIR_MOVES = "pair-moves"


class Unknown(StrEnum):
    """Why nobody can say how many connections are left. The values are for people."""

    NO_MASTER = "no member is master"
    NOT_COUNTED = "its master has not counted them yet"
    STALE = f"its master has not reported for more than {FRESH_S:g} s"
    JUST_BEGUN = "hosts have just been told not to send new ones"


class Left(Struct, frozen=True):
    """Living connections of a pair. Not known is not zero."""

    count: int | None
    why_unknown: Unknown | None = None


class Refusal(Struct, frozen=True):
    """A risky act, and what makes it risky."""

    risk: Risk
    reason: Reason
    subnet: str
    pair: str
    left: Left | None = None

    @property
    def sentence(self) -> str:
        """What would happen, for people."""
        name = f"pair {self.subnet}/{self.pair}"
        match self.reason:
            case Reason.LAST_ACTIVE:
                return f"{name} is the last active pair of subnet {self.subnet}: new connections have nowhere to go"
            case Reason.LAST_PAIR:
                return f"{name} is the last pair of subnet {self.subnet}, and hosts use that subnet"
            case Reason.NOT_DRAINING:
                return f"{name} is not draining: every connection through it breaks"
            case Reason.NOT_EMPTY:
                return f"{name} still has {connections(self.left)}"
            case Reason.PAIR_MOVES:
                return f"{name} has another HaVip or other members then: every connection through it breaks"
            case Reason.EGRESS_MOVES:
                return f"{name} has another egress address then: the connections that left with this one break"
            case Reason.NOT_KNOWN:
                why = self.left.why_unknown if self.left else None
                return f"nobody can say whether {name} still has connections{f' ({why})' if why else ''}"


class RiskNotAccepted(PermanentError):
    """What was asked for is risky, and the risk was not accepted."""

    def __init__(self, refusals: Collection[Refusal]) -> None:
        self.refusals = tuple(refusals)
        why = "; ".join(refusal.sentence for refusal in self.refusals)
        risks = dict.fromkeys(refusal.risk for refusal in self.refusals)
        options = " ".join(f"--accept-risk={risk.value}" for risk in risks)
        super().__init__(f"{why}: {_instead(self.refusals)}to do it anyway give {options}")


def _instead(refusals: Collection[Refusal]) -> str:
    for refusal in refusals:
        if refusal.reason in {Reason.EGRESS_MOVES, Reason.PAIR_MOVES}:
            return f"drain it first with `proxypool pair drain {refusal.subnet} {refusal.pair} --wait`; "
        if refusal.risk is Risk.DROP_CONNECTIONS:
            return f"drain it first with `proxypool pair remove {refusal.subnet} {refusal.pair} --drain`; "
    for refusal in refusals:
        return f"add another pair first with `proxypool pair add {refusal.subnet} …`; "
    return ""


def connections(left: Left | None) -> str:
    """So many connections, in words."""
    if left is None or left.count is None:
        return "an unknown number of connections"
    return f"{left.count} connection{'' if left.count == 1 else 's'}"


def require_accepted(refusals: Iterable[Refusal], accepted: Collection[Risk]) -> None:
    """Go on only if every risk was accepted by its name.

    Raises:
        RiskNotAccepted: one was not.
    """
    open_risks = [refusal for refusal in refusals if refusal.risk not in accepted]
    if open_risks:
        raise RiskNotAccepted(open_risks)


def drain_refusals(spec: PairSpec, pairs: Mapping[str, PairSpec]) -> tuple[Refusal, ...]:
    """Why a pair should not be drained; `pairs` are all of its subnet. One that takes no new connections as it is,
    as it drains or is being prepared, is no risk.
    """
    if spec.state is not PairState.ACTIVE or _other_active(spec.id, pairs):
        return ()
    return (Refusal(Risk.STOP_NEW_CONNECTIONS, Reason.LAST_ACTIVE, spec.subnet, spec.id),)


def removal_refusals(
    subnet: str, pair: str, snapshot: Snapshot, left: Left, *, will_drain: bool = False
) -> tuple[Refusal, ...]:
    """Why a pair should not be removed now; with `will_drain`, why it should not be drained and then removed.

    Where no host uses the subnet nothing can break but what is left of the pair's connections. A pair whose document
    cannot be read counts as one that does not drain. One that is being prepared has no connections and takes none.
    """
    pairs = snapshot.pairs.get(subnet, {})
    spec, is_in_use = pairs.get(pair), bool(snapshot.subnet_hosts.get(subnet))
    if spec is not None and spec.state is PairState.PREPARING:
        return ()
    found = []
    if is_in_use and not set(pairs) - {pair}:
        found.append(Refusal(Risk.STOP_NEW_CONNECTIONS, Reason.LAST_PAIR, subnet, pair))
    elif is_in_use and spec is not None:
        found += drain_refusals(spec, pairs)
    reason = None if will_drain else _why_it_breaks(spec, left, is_in_use=is_in_use)
    if reason is not None:
        found.append(Refusal(Risk.DROP_CONNECTIONS, reason, subnet, pair, left))
    return tuple(found)


def _why_it_breaks(spec: PairSpec | None, left: Left, *, is_in_use: bool) -> Reason | None:
    if left.count:
        is_draining = spec is not None and spec.state is PairState.DRAINING
        return Reason.NOT_EMPTY if is_draining else Reason.NOT_DRAINING
    if not is_in_use:
        return None
    if spec is None or spec.state is not PairState.DRAINING:
        return Reason.NOT_DRAINING
    return Reason.NOT_KNOWN if left.count is None else None


def egress_refusals(spec: PairSpec, egress: IPv4Address | None, left: Left, *, is_in_use: bool) -> tuple[Refusal, ...]:
    """Why a pair should not get another egress address, or none. A first one breaks nothing: what is established goes
    on as it began, on the member that is master now.
    """
    if spec.egress_address in (None, egress) or spec.state is PairState.PREPARING:
        return ()
    is_empty = left.count == 0 if spec.state is PairState.DRAINING else not is_in_use
    if is_empty:
        return ()
    return (Refusal(Risk.DROP_CONNECTIONS, Reason.EGRESS_MOVES, spec.subnet, spec.id, left),)


def change_refusals(old: PairSpec, new: PairSpec, *, is_in_use: bool) -> tuple[Refusal, ...]:
    """Why a pair should not be described anew. Nobody asks how many connections it has: a description may be of
    hundreds of pairs.
    """
    if not is_in_use or old.state is PairState.PREPARING:
        return ()
    found = []
    if old.havip != new.havip or set(old.members) != set(new.members):
        found.append(Refusal(Risk.DROP_CONNECTIONS, Reason.PAIR_MOVES, old.subnet, old.id))
    return (*found, *egress_refusals(old, new.egress_address, Left(None), is_in_use=is_in_use))


def _other_active(pair: str, pairs: Mapping[str, PairSpec]) -> bool:
    return any(other.state is PairState.ACTIVE for name, other in pairs.items() if name != pair)


def connections_left(spec: PairSpec, statuses: Iterable[MemberStatus], now: float) -> Left:
    """What the masters of a draining pair counted, at wall time `now`.

    A clock that is wrong by more than `FRESH_S`, in either direction, makes a number stale: it cannot be told from a
    daemon that hangs.
    """
    masters = [status for status in statuses if status.role == Role.MASTER]
    if not masters:
        return Left(None, Unknown.NO_MASTER)
    total = 0
    for status in masters:
        if abs(now - status.at) > FRESH_S:
            return Left(None, Unknown.STALE)
        if status.connections is None:
            return Left(None, Unknown.NOT_COUNTED)
        total += status.connections
    if total == 0 and spec.draining_since is not None and 0 <= now - spec.draining_since < SETTLE_S:
        return Left(None, Unknown.JUST_BEGUN)
    return Left(total)


def pair_left(
    snapshot: Snapshot, statuses: Mapping[str, Mapping[str, MemberStatus]], subnet: str, pair: str, now: float
) -> Left:
    """The same for one of a pool's pairs; `statuses` by `<subnet>/<pair>` and node. Not known if it cannot be read."""
    spec = snapshot.pairs.get(subnet, {}).get(pair)
    if spec is None:
        return Left(None)
    return connections_left(spec, statuses.get(f"{subnet}/{pair}", {}).values(), now)


def drained(spec: PairSpec, at: float) -> PairSpec:
    """The pair, draining since wall time `at`, or since when it began."""
    since = spec.draining_since if spec.state is PairState.DRAINING else None
    return replace(spec, state=PairState.DRAINING, draining_since=at if since is None else since)


def undrained(spec: PairSpec) -> PairSpec:
    """The pair, open to new connections if it was draining. To open one that is being prepared is the controller's
    business: it knows when its members are ready.
    """
    return replace(spec, state=PairState.ACTIVE, draining_since=None) if spec.state is PairState.DRAINING else spec


class Pace:
    """How fast connections end, from the numbers of the last seconds. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def observe(self, now: float, count: int) -> None:
        """A number as it was seen now."""
        self._seen.append((now, count))
        while now - self._seen[0][0] > PACE_WINDOW_S:
            self._seen.popleft()

    def per_s(self) -> float | None:
        """Connections that end per second; negative when they grow, None before there is anything to compare."""
        if not self._seen:
            return None
        (began, first), (ended, last) = self._seen[0], self._seen[-1]
        return (first - last) / (ended - began) if ended - began >= MIN_PACE_S else None

    def remaining_s(self, count: int) -> float | None:
        """How long it will take at this pace; None when it will not end."""
        pace = self.per_s()
        return count / pace if pace is not None and pace > 0 else None
