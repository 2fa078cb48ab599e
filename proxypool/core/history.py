"""What happened to the pool: changes of master and of size as records, why they happened, and their names. Pure.

A record is written by the daemon of the new master, or by the controller. Its name says when, what and by whom, so that
writing it again is no second record, and so that the log can be searched by its names alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from msgspec import Struct, field

from proxypool.core.documents import API_VERSION
from proxypool.core.model import Document, PairSpec
from proxypool.core.quantities import Count, Measure, Moment
from proxypool.core.states import PRIORITY_UNFIT

KEPT = 1000
"""So many records are kept, the newest."""
FRESH_INTERVALS = 2.0
"""An advertisement is fresh for so many intervals: then the sender lived at the claim. keepalived waits for three."""
GOODBYE = 0
"""Priority of an advertisement with which a master gives up (RFC 5798, 5.2.4)."""
UNFIT_PRIORITY = PRIORITY_UNFIT + 1
"""Of a master that cannot serve: track file and base priority; one without a track file has less."""
SEPARATOR = "_"
"""Between the parts of a record's name: names of subnets, pairs and nodes cannot contain it."""
NO_NODE = "-"
"""Before a kind that stands in place of a node in a record's name: no node's name begins so."""


class Kind(StrEnum):
    """What sort of change it was."""

    FAILOVER = "failover"
    SWITCHOVER = "switchover"
    """The old master lived and handed over."""
    START = "start"
    """There was no master before."""
    SCALE_OUT = "scale-out"
    """The controller added a pair, or gave that up."""
    SCALE_IN = "scale-in"
    """The controller drained a pair and removed it."""
    REPLACE = "replace"
    """The controller put another node in a member's place."""
    PAUSE = "pause"
    """Somebody froze a pair for maintenance."""
    RESUME = "resume"


SCALING_KINDS = frozenset({Kind.SCALE_OUT, Kind.SCALE_IN, Kind.REPLACE})
"""Of the controller's records."""
PAUSING_KINDS = frozenset({Kind.PAUSE, Kind.RESUME})
"""Of records that the command line writes; all others are about a change of master."""


class Reason(StrEnum):
    """Why the master changed."""

    SILENT = "silent"
    """The old master was no longer heard."""
    GAVE_UP = "gave-up"
    """The old master said goodbye: keepalived stopped or had a fault."""
    UNFIT = "unfit"
    """The old master said that it cannot serve."""
    SWITCHOVER = "switchover"
    """Somebody asked for it."""
    MAINTENANCE = "maintenance"
    """Of a pause and its end: an operator's order."""
    ELECTION = "election"
    """ZooKeeper elected another although the old master lived: its session had ended."""
    TIE_BREAK = "tie-break"
    """Two masters did not hear each other; the one that was not elected stood aside."""
    COLD_START = "cold-start"
    """The other member was never heard."""
    RETURNED = "returned"
    """It had given up and nobody had taken over."""
    UNSEEN = "unseen"
    """It happened while no daemon of the new master looked."""
    UNKNOWN = "unknown"
    """Advertisements cannot be timed on this node."""


class Phase(StrEnum):
    """Part of a change of master."""

    DETECTION = "detection"
    """Last advertisement of the old master to keepalived's claim of the HaVip."""
    GATE = "gate"
    """Claim to open gate."""
    BLACKOUT = "blackout"
    """As the new master can know it, at most: from the last sign of the old one to the open gate."""
    ELECTION = "election"
    """Claim to the election's confirmation."""


_PARTS = 4
_AT_MS = re.compile(r"[0-9]{1,15}")
_KINDS = {
    Reason.SWITCHOVER: Kind.SWITCHOVER,
    Reason.ELECTION: Kind.SWITCHOVER,
    Reason.COLD_START: Kind.START,
}
_HAS_DETECTION = frozenset({Reason.SILENT, Reason.GAVE_UP})


@dataclass(frozen=True, slots=True)
class Heard:
    """What is known of a member's advertisements. Times of the monotonic clock, in seconds; None: there was none."""

    at: float | None
    """The last one."""
    before: float | None
    """The one before it."""
    priority: int
    interval_s: float
    """As the last one announces it."""

    def until(self, moment: float) -> float | None:
        """When the last one had come at a moment that has just been: another may have come since."""
        return self.before if self.at is not None and self.at > moment and self.before is not None else self.at


class Record(Document, frozen=True, kw_only=True, rename={"from_node": "from", "to_node": "to"}):
    """One entry of the log. Other kinds of events will leave more fields empty, and bring some of their own."""

    kind: str
    reason: str
    subnet: str = ""
    pair: str = ""
    from_node: str = ""
    """The old master; empty: there was none."""
    to_node: str = ""
    epoch: Count = 0
    """The election's, as last known: the one that confirmed the change, if one did."""
    at: Moment
    """Wall time of the claim, seconds since the epoch, by the clock of the node that writes."""
    phases: Mapping[str, Measure] = field(default_factory=dict)
    """Phase -> seconds; what is not known is left out."""
    carried_over: Count | None = None
    """Entries in the connection table of the new master at the claim; without an egress address they are worth nothing
    and it is 0. None: not known.
    """
    who: str = ""
    """user@host of whoever asked for it."""
    note: str = ""
    """What they said about it."""
    by: str = ""
    """The node, or the controller, that wrote it."""
    signals: Mapping[str, Measure] = field(default_factory=dict)
    """Of a change of size: load in pairs, by signal, when it began."""
    pairs_before: Count | None = None
    """Of a change of size: active pairs when it began."""
    pairs_after: Count | None = None
    took_s: Measure | None = None
    """Of a change of size: from its beginning to its end."""
    error: str = ""
    """Of a change of size that was given up: why."""

    @property
    def is_scaling(self) -> bool:
        """Whether it is about a change of size, not of master."""
        return self.kind in SCALING_KINDS

    @property
    def is_pausing(self) -> bool:
        """Whether it is about a pause of a pair, or its end."""
        return self.kind in PAUSING_KINDS


class RecordList(Struct, frozen=True, kw_only=True, rename={"api_version": "apiVersion"}):
    """The document of `history`, the newest record last."""

    api_version: str = API_VERSION
    kind: str = "RecordList"
    items: tuple[Record, ...]


class Intent(Document, frozen=True, kw_only=True):
    """What `pair switchover` leaves for the new master: whose doing it is."""

    epoch: Count
    """Of the candidate that is elected by it."""
    who: str
    note: str = ""
    at: Moment = 0.0


@dataclass(frozen=True, slots=True)
class Name:
    """What a record's name says."""

    at_ms: int
    subnet: str
    pair: str
    to_node: str
    """The new master; empty: it is about a change of size; `-pause` or `-resume`: about an order of an operator."""

    @property
    def is_change_of_master(self) -> bool:
        """Whether `to_node` is one."""
        return bool(self.to_node) and not self.to_node.startswith(NO_NODE)

    @property
    def text(self) -> str:
        """Names sort by time."""
        return SEPARATOR.join((f"{self.at_ms:013d}", self.subnet, self.pair, self.to_node))


def kind_of(reason: Reason) -> Kind:
    """What sort of change a reason makes."""
    return _KINDS.get(reason, Kind.FAILOVER)


def name_of(record: Record) -> Name:
    """The name of a record: of what does not change when more becomes known."""
    about = f"{NO_NODE}{record.kind}" if record.kind in PAUSING_KINDS else "" if record.is_scaling else record.to_node
    return Name(int(record.at * 1000), record.subnet, record.pair, about)


def pausing_record(kind: Kind, pair: PairSpec, at: float, who: str, note: str, took_s: float | None = None) -> Record:
    """Of a pause that begins at wall time `at`, or of its end. `took_s`: how long it was."""
    return Record(
        kind=kind, reason=Reason.MAINTENANCE, subnet=pair.subnet, pair=pair.id, at=at, who=who, note=note, took_s=took_s
    )


def parse_name(text: str) -> Name | None:
    """None if it is no record's name."""
    parts = text.split(SEPARATOR)
    if len(parts) != _PARTS or not _AT_MS.fullmatch(parts[0]):
        return None
    at_ms, subnet, pair, node = parts
    return Name(int(at_ms), subnet, pair, node)


def newest(
    names: Iterable[str],
    limit: int,
    *,
    subnet: str | None = None,
    pair: str | None = None,
    since: float = 0.0,
    is_scaling: bool = False,
) -> list[str]:
    """The newest `limit` names of a pool, subnet or pair since a wall time, oldest first; with `is_scaling` only those
    of changes of size.
    """
    found = [
        text
        for text in sorted(names)
        if (name := parse_name(text)) is not None
        and subnet in (None, name.subnet)
        and pair in (None, name.pair)
        and name.at_ms >= since * 1000
        and not (is_scaling and name.to_node)
    ]
    return found[-limit:] if limit > 0 else []


def last_of_each(names: Iterable[str]) -> dict[str, str]:
    """`<subnet>/<pair>` -> the name of the record of its last change of master."""
    parsed = ((parse_name(text), text) for text in sorted(names))
    return {
        f"{name.subnet}/{name.pair}": text for name, text in parsed if name is not None and name.is_change_of_master
    }


def surplus(names: Iterable[str], kept: int = KEPT) -> list[str]:
    """Names to remove so that `kept` are left: what is no record's name first, then the oldest."""
    ranked = sorted(names, key=lambda text: (parse_name(text) is not None, text))
    return ranked[: max(0, len(ranked) - kept)]


def why(heard: Heard | None, claimed_at: float, left_at: float | None, *, was_elected: bool) -> Reason:
    """Why a member that claims the HaVip does so. `left_at`: when it gave it up itself, if it had it before."""
    if heard is None:
        return Reason.ELECTION if was_elected else Reason.UNKNOWN
    last = heard.until(claimed_at)
    if left_at is not None and (last is None or last < left_at):
        return Reason.RETURNED
    if last is None:
        return Reason.COLD_START
    if heard.priority == GOODBYE:
        return Reason.GAVE_UP
    if claimed_at - last > FRESH_INTERVALS * heard.interval_s:
        return Reason.SILENT
    if heard.priority <= UNFIT_PRIORITY:
        return Reason.UNFIT
    return Reason.ELECTION if was_elected else Reason.UNKNOWN


def phases(
    reason: Reason, heard: Heard | None, claimed_at: float, gate_at: float | None, left_at: float | None
) -> dict[str, float]:
    """The phases that are known at a claim. `gate_at`: when the gate was open, None: it is not yet.

    An old master that lives serves until the claim, one that gave up until its goodbye, one that fell silent until its
    last advertisement at least.
    """
    found: dict[str, float] = {}
    last = heard.until(claimed_at) if heard is not None else None
    if reason is Reason.UNKNOWN and heard is None:
        served_until = None
    elif reason in _HAS_DETECTION:
        served_until = last
    elif reason is Reason.RETURNED:
        served_until = left_at
    elif reason is Reason.COLD_START:
        served_until = None
    else:
        served_until = claimed_at
    if reason in _HAS_DETECTION and last is not None:
        found[Phase.DETECTION.value] = _span(last, claimed_at)
    if gate_at is not None:
        found[Phase.GATE.value] = _span(claimed_at, gate_at)
        if served_until is not None:
            found[Phase.BLACKOUT.value] = _span(served_until, gate_at)
    return found


def _span(start: float, end: float) -> float:
    """Rounded to a microsecond: what is noted is no more precise."""
    return round(max(0.0, end - start), 6)
