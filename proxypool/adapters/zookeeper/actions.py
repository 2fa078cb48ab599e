"""What the leading controller reads and writes: its actions, the pairs they are about, records of them, its report.

Every write checks in the same transaction that its writer still leads. What an action does to a pair is an edit like
an operator's: checked against the whole pool, and committed only if nobody edited the pool meanwhile. The pool is read
from the mirror for that, not anew: a large one takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError

from proxypool.adapters.zookeeper.changes import PAIR_CONTAINERS, creation
from proxypool.adapters.zookeeper.editing import PoolEditor
from proxypool.adapters.zookeeper.errors import Conflict, NotFound
from proxypool.adapters.zookeeper.history import PoolHistory
from proxypool.adapters.zookeeper.layout import (
    ACTIONS,
    REPORT,
    Facet,
    action_subnet,
    action_suffix,
    pair_suffix,
    record_suffix,
    subnet_suffix,
)
from proxypool.adapters.zookeeper.leadership import Leader
from proxypool.adapters.zookeeper.listing import RawListing
from proxypool.adapters.zookeeper.members import read_statuses
from proxypool.adapters.zookeeper.mirror import PoolMirror
from proxypool.adapters.zookeeper.parsing import require_place
from proxypool.adapters.zookeeper.reading import Node, read_all, read_children, read_nodes, read_subtree
from proxypool.adapters.zookeeper.session import PoolSession
from proxypool.adapters.zookeeper.writing import Create, Delete, SetData, Write, commit
from proxypool.core.documents import decode, encode, require_known
from proxypool.core.errors import InvalidInput, TransientError
from proxypool.core.history import Record, name_of
from proxypool.core.model import MemberStatus, PairSpec, PairState, Snapshot
from proxypool.core.scaling.documents import Action, Key, Report, Step
from proxypool.core.scaling.pairs import in_state, new_pair, require_others
from proxypool.core.scaling.turns import PutPair, RemovePair, SetState, Turn
from proxypool.core.scaling.turns import Write as PairWrite
from proxypool.core.validation import validate_pair

ATTEMPTS = 5


class Deposed(TransientError):
    """Another controller leads now; nothing was written."""


@dataclass(frozen=True, slots=True)
class FoundActions:
    """Those under way."""

    actions: Mapping[Key, Action]
    malformed: Mapping[str, str]
    """Subnet -> why an action of it cannot be read: no other begins."""


@dataclass(frozen=True, slots=True)
class Look:
    """At one pair."""

    statuses: Mapping[str, MemberStatus]
    """By node."""
    hosts_zxid: int
    """Of the last change of the subnet's list of hosts, read before the statuses."""


class ActionStore:
    """See the module's text. Blocking; the session must be connected.

    Raises, each of its methods:
        TransientError: the connection broke.
    """

    def __init__(self, session: PoolSession, mirror: PoolMirror) -> None:
        self._session, self._layout, self._mirror = session, session.layout, mirror
        self._editor, self._history = PoolEditor(session), PoolHistory(session)

    def catch_up(self) -> None:
        """Wait until the mirror has all that was written before now."""
        self._editor.version()
        self._mirror.current(self._session.timeout_s)

    def unreadable(self, snapshot: Snapshot) -> Mapping[str, str]:
        """Subnets of which not everything could be read, and why: there may be more pairs than are known."""
        found = {self._layout.parts(path): why for path, why in snapshot.malformed.items()}
        return {parts[1]: why for parts, why in found.items() if parts[0] == "subnets"}

    def prune_history(self) -> None:
        """Keep the log at its size; see `history`."""
        if self._history.is_overfull:
            self._history.prune()

    def read(self) -> FoundActions:
        """All actions as they are now."""
        (names,) = read_children(self._session, (self._layout.path(ACTIONS),))
        paths = [self._layout.path(f"{ACTIONS}/{name}") for name in names or ()]
        actions: dict[Key, Action] = {}
        malformed: dict[str, str] = {}
        for name, path, node in zip(names or (), paths, read_nodes(self._session, paths), strict=True):
            if node is None:
                continue
            try:
                action = require_place(decode(node.data, Action, what=path), name, path)
            except InvalidInput as error:
                malformed[action_subnet(name)] = str(error)
            else:
                actions[action.key] = action
        return FoundActions(actions, malformed)

    def look(self, subnet: str, pair: str) -> Look:
        """What members of a pair publish, and which list of the subnet's hosts they ought to have."""
        (listing,) = read_all(self._session, ((Facet.CHILDREN, self._layout.path(f"{subnet_suffix(subnet)}/hosts")),))
        try:
            statuses = read_statuses(self._session, subnet, pair)
        except NotFound:
            statuses = {}
        return Look(statuses, listing.pzxid if isinstance(listing, RawListing) else 0)

    def begin(self, leader: Leader, action: Action) -> bool:
        """Write a new action; whether there was none in its place.

        Raises:
            Deposed: we lead no longer.
        """
        try:
            path = self._layout.path(action_suffix(action.key))
            commit(self._session, (leader.fence, Create(path, encode(action))))
        except NodeExistsError:
            return False
        except NoNodeError as error:
            raise self._deposed(leader) from error
        return True

    def advance(self, leader: Leader, turn: Turn, record: Record | None = None) -> None:
        """Write an action as a turn leaves it, and what the turn does to a pair, as one transaction. An action that is
        over goes, and its record comes, if there is to be one.

        Raises:
            Deposed: we lead no longer.
            Conflict: others changed the same again and again, or the action is gone.
            InvalidInput: the pair cannot be so, or a later proxypool wrote the action.
        """
        path = self._layout.path(action_suffix(turn.action.key))
        for _ in range(ATTEMPTS):
            version = self._editor.version() if turn.write is not None else None
            pair = self._pair_writes(turn.action, turn.write) if turn.write is not None else []
            (old,) = read_nodes(self._session, (path,))
            if old is None:
                raise Conflict(f"the action at {path} was removed by somebody else")
            last: Sequence[Write] = [SetData(path, encode(turn.action, old.data, what=path), old.version)]
            if turn.action.step is Step.DONE:
                last = [Delete(path, old.version), *([self._creation(record)] if record is not None else [])]
            if self._commit(leader, version, [*pair, *last]):
                return
            if read_nodes(self._session, (leader.candidate,)) == [None]:
                raise self._deposed(leader)
        raise Conflict(f"subnet {turn.action.subnet} is changed by others again and again")

    def _commit(self, leader: Leader, version: Node | None, writes: Sequence[Write]) -> bool:
        if version is not None:
            return self._editor.commit(version, writes, (leader.fence,))
        try:
            commit(self._session, (leader.fence, *writes))
        except (NoNodeError, NodeExistsError, BadVersionError):
            return False
        return True

    def _deposed(self, leader: Leader) -> Deposed:
        return Deposed(f"{leader.candidate} is gone: another controller leads")

    def _creation(self, record: Record) -> Create:
        return Create(self._layout.path(record_suffix(name_of(record).text)), encode(record))

    def _pair_writes(self, action: Action, write: PairWrite) -> list[Write]:
        """Made of what is there after the pool's version was read."""
        name = action.pair if isinstance(write, PutPair) else write.pair
        path = self._layout.path(pair_suffix(action.subnet, name))
        (found,) = read_nodes(self._session, (path,))
        snapshot = self._mirror.current(self._session.timeout_s)
        match write:
            case PutPair():
                spec = new_pair(action, snapshot)
                validate_pair(spec, snapshot)
                return list(creation(path, encode(spec), PAIR_CONTAINERS))
            case SetState(_, state, others_active):
                require_others(snapshot, action.subnet, name, others_active)
                spec = in_state(_pair(found, path), state, action.step_since)
                return [SetData(path, encode(spec, found.data if found else None, what=path))]
            case RemovePair(_, state):
                _require_state(_pair(found, path), state)
                return [Delete(doomed) for doomed in read_subtree(self._session, path)]

    def write_report(self, leader: Leader, report: Report) -> None:
        """For people. Nothing of an older one is kept: it says what is so now.

        Raises:
            Deposed: we lead no longer.
            DocumentTooNew: a later controller's report is there; it stays.
        """
        path = self._layout.path(REPORT)
        for _ in range(ATTEMPTS):
            (old,) = read_nodes(self._session, (path,))
            if old is not None:
                require_known(old.data, what=path)
            data = encode(report)
            write: Write = Create(path, data) if old is None else SetData(path, data)
            try:
                commit(self._session, (leader.fence, write))
            except NodeExistsError:
                continue
            except NoNodeError as error:
                if read_nodes(self._session, (leader.candidate,)) == [None]:
                    raise self._deposed(leader) from error
                continue
            return
        raise Conflict(f"{path} is made and removed by others again and again")


def _pair(found: Node | None, path: str) -> PairSpec:
    if found is None:
        raise Conflict(f"{path} was removed by somebody else")
    return decode(found.data, PairSpec, what=path)


def _require_state(pair: PairSpec, state: PairState) -> None:
    if pair.state is not state:
        raise Conflict(f"pair {pair.subnet}/{pair.id} is {pair.state}, no longer {state}")
