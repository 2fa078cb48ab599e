"""Changes of master as the node sees them: each becomes a record, with what is known of its phases, and grows when more
becomes known. Times of the monotonic clock but for the record's own.

The clock only measures; who reads the records (log, metrics, history) does so later, as packets wait for none of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from proxypool.core.history import Heard, Phase, Reason, Record, kind_of, phases, why
from proxypool.core.model import PairSpec
from proxypool.core.role import Elected, Role, RoleChanged

AMENDED_S = 120.0
"""How long after a claim an election or a gate is still taken for part of the change."""


@dataclass(frozen=True, slots=True)
class Claim:
    """keepalived claimed the HaVip."""

    at: float
    heard: Heard | None
    """The other member, as it was heard until then; None: not known."""


@dataclass(slots=True)
class _Open:
    """A change of master of which not everything is known yet."""

    record: Record
    reason: Reason
    claim: Claim
    left_at: float | None
    is_confirmed: bool


PREPARED_S = 1.5
"""A gate that was opened so shortly before the claim was opened for it."""


@dataclass
class FailoverClock:
    """Stopwatch of the pairs of one node."""

    node: str
    tell: Callable[[Record], None]
    """Called with each record, and again when more is known. It must return at once."""
    monotonic: Callable[[], float]
    wall: Callable[[], float]
    hear: Callable[[PairSpec], Heard | None] = lambda _pair: None
    """When the other member of a pair was heard last."""
    _claims: dict[str, Claim] = field(default_factory=dict)
    _gates: dict[str, float] = field(default_factory=dict)
    """When each pair's gate was last opened."""
    _left: dict[str, float] = field(default_factory=dict)
    """When this member was last master of a pair."""
    _open: dict[str, _Open] = field(default_factory=dict)

    def claimed(self, pair: PairSpec, at: float) -> None:
        """keepalived claims the HaVip, as we heard at `at`."""
        self._claims[_key(pair)] = Claim(at, self.hear(pair))

    def gate_opened(self, pair: PairSpec) -> None:
        """The gate was written just now, and is open."""
        now = self._gates[_key(pair)] = self.monotonic()
        change = self._waiting(pair, now)
        if change is not None and Phase.GATE.value not in change.record.phases:
            self._amend(change, phases(change.reason, change.claim.heard, change.claim.at, now, change.left_at))

    def role_changed(
        self,
        pair: PairSpec,
        change: RoleChanged,
        *,
        is_aside: bool,
        elected: str | None,
        carried_over: int | None,
        is_prepared: bool = False,
    ) -> None:
        """Called after the gate was written. `elected`: whom the election chose, as far as this member knows.

        `is_prepared`: it claimed the HaVip from a living master; how late that one's advertisements are says nothing.
        """
        key, now = _key(pair), self.monotonic()
        if change.old is Role.MASTER:
            self._left[key] = now
            self._open.pop(key, None)
            if is_aside and elected not in (None, self.node):
                self.tell(self._record(pair, Reason.TIE_BREAK, self.node, elected or "", change.epoch, now))
        if change.new is not Role.MASTER:
            return
        claim = self._claims.pop(key, None)
        if change.old is Role.INIT:
            self.tell(self._record(pair, Reason.UNSEEN, _peer(pair, self.node), self.node, change.epoch, now))
            return
        claim = claim or Claim(now, self.hear(pair))
        left_at = self._left.pop(key, None)
        seen = why(claim.heard, claim.at, left_at, was_elected=change.was_elected)
        reason = Reason.ELECTION if is_prepared else seen
        gate_at = self._gates.get(key)
        if gate_at is not None and gate_at < claim.at:
            # Before a planned change it is opened first; any other time is of an earlier change.
            gate_at = claim.at if change.was_elected and claim.at - gate_at < PREPARED_S else None
        record = msgspec.structs.replace(
            self._record(pair, reason, self._old_master(pair, reason), self.node, change.epoch, claim.at),
            phases=phases(reason, claim.heard, claim.at, gate_at, left_at),
            carried_over=carried_over if pair.egress_address is not None else 0,
        )
        self._open[key] = _Open(record, reason, claim, left_at, is_confirmed=change.was_elected)
        self.tell(record)

    def elected(self, pair: PairSpec, effect: Elected) -> None:
        """The election spoke."""
        now = self.monotonic()
        change = self._waiting(pair, now)
        if change is None or change.is_confirmed or effect.node != self.node:
            return
        change.is_confirmed = True
        change.record = msgspec.structs.replace(change.record, epoch=effect.epoch)
        self._amend(change, {Phase.ELECTION.value: round(now - change.claim.at, 6)})

    def forget(self, pair: PairSpec) -> None:
        """The pair is no longer served here."""
        for known in (self._claims, self._gates, self._left, self._open):
            known.pop(_key(pair), None)

    def _waiting(self, pair: PairSpec, now: float) -> _Open | None:
        change = self._open.get(_key(pair))
        return change if change is not None and now - change.claim.at < AMENDED_S else None

    def _amend(self, change: _Open, more: dict[str, float]) -> None:
        change.record = msgspec.structs.replace(change.record, phases={**change.record.phases, **more})
        self.tell(change.record)

    def _old_master(self, pair: PairSpec, reason: Reason) -> str:
        match reason:
            case Reason.COLD_START:
                return ""
            case Reason.RETURNED:
                return self.node
            case _:
                return _peer(pair, self.node)

    def _record(self, pair: PairSpec, reason: Reason, old: str, new: str, epoch: int, at: float) -> Record:
        return Record(
            kind=kind_of(reason).value,
            reason=reason.value,
            subnet=pair.subnet,
            pair=pair.id,
            from_node=old,
            to_node=new,
            epoch=epoch,
            at=round(self.wall() - (self.monotonic() - at), 6),
            by=self.node,
        )


def _peer(pair: PairSpec, node: str) -> str:
    peer = pair.peer_of(node)
    return peer.node if peer is not None else ""


def _key(pair: PairSpec) -> str:
    return f"{pair.subnet}/{pair.id}"
