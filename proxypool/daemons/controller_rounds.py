"""What a leading controller does: look at the pool, take actions on, begin others, say what it thinks.

Level-triggered: each round reads the actions that are under way from ZooKeeper, and what an answer or a change of the
pool brings in between only makes the next step come sooner. So does the end of an action: what waited for its turn
begins then, not with the next round, which looks at the whole pool. Runs on the main loop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from proxypool.adapters.zookeeper.actions import ActionStore, Deposed, FoundActions
from proxypool.adapters.zookeeper.leadership import Leader
from proxypool.adapters.zookeeper.mirror import PoolMirror
from proxypool.core.breaker import Breaker
from proxypool.core.config import ControllerConfig
from proxypool.core.errors import AccessDenied, InvalidInput, TransientError
from proxypool.core.model import PairSpec, PairState, Snapshot, SubnetSpec
from proxypool.core.scaling.action import step
from proxypool.core.scaling.deaths import Deaths
from proxypool.core.scaling.documents import Action, ActionKind, Key, Step, SubnetVerdict, coming
from proxypool.core.scaling.freshness import Freshness
from proxypool.core.scaling.placement import NodeRoom
from proxypool.core.scaling.plan import Limits, Nodes, Plan, Subject, new_breaker, plan
from proxypool.core.scaling.records import active_pairs, record_of, verdict_of
from proxypool.core.scaling.retry import ErrorKind
from proxypool.core.scaling.rooms import rooms
from proxypool.core.scaling.series import Answer as NodeAnswer
from proxypool.core.scaling.series import NodeSample
from proxypool.core.scaling.signals import Signals
from proxypool.core.scaling.turns import Answer, Deadlines, Failed, Offered, Seen, Turn
from proxypool.core.scaling.waiting import Waiting
from proxypool.daemons.member_words import with_word_of_members
from proxypool.daemons.patience import Patience
from proxypool.daemons.provider_calls import Pool, ProviderCalls
from proxypool.daemons.sizing import Sizing
from proxypool.telemetry.controller_metrics import ControllerMetrics

log = logging.getLogger(__name__)

MAX_TURNS = 40
"""Of one action at one time: many more than it has steps."""


@dataclass
class Rounds:
    """Of one leader: another one, or the same again, begins with a new one."""

    leader: Leader
    config: ControllerConfig
    name: str
    pool: str
    store: ActionStore
    mirror: PoolMirror
    calls: ProviderCalls
    signals: Signals
    freshness: Freshness
    metrics: ControllerMetrics
    actions: dict[Key, Action] = field(default_factory=dict)
    """As written last."""
    malformed: Mapping[str, str] = field(default_factory=dict)
    """Subnet -> why an action of it cannot be read."""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Subnets in which nothing begins, as not all is known of them, and why."""
    verdicts: dict[str, SubnetVerdict] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    sizing: Sizing = field(init=False)
    patience: Patience = field(default_factory=Patience)
    deaths: Deaths = field(default_factory=Deaths)
    doubt: str = ""
    """Why members of dead nodes are not replaced now."""
    breaker: Breaker = field(default_factory=new_breaker)
    _answers: dict[Key, Answer] = field(default_factory=dict)
    _waiting: Waiting = field(default_factory=Waiting)
    _is_turn_free: bool = False
    """Whether fewer actions are under way than when the last ones began."""
    _is_behind: bool = True
    """Whether the mirror may not have what we wrote last."""

    def __post_init__(self) -> None:
        """It has watched nothing yet."""
        self.sizing = Sizing(self.config.policy, self.signals, self.metrics.decided)

    def use(self, config: ControllerConfig) -> None:
        """Another configuration from the next round on."""
        self.config = config
        self.sizing.use(config.policy)

    def look(self) -> Snapshot:
        """The pool, with all that we wrote.

        Raises:
            TransientError: ZooKeeper does not answer.
        """
        if self._is_behind:
            self.store.catch_up()
            self._is_behind = False
        return self.mirror.snapshot

    def pool_now(self) -> Pool:
        """What calls to the provider are about."""
        return Pool(self.pool, self.mirror.snapshot.subnets, self.mirror.snapshot.nodes)

    def round(self, now: float) -> None:
        """Everything once. `now`: monotonic seconds.

        Raises:
            Deposed: another one leads.
            TransientError: ZooKeeper does not answer.
        """
        self._is_behind = True
        snapshot = self.look()
        self._take(self.store.read(), snapshot)
        self.deaths = self.deaths.seen(tuple(snapshot.nodes), self.mirror.placing.nodes_alive, now)
        self.doubt = self.deaths.doubt({member.node for pair in snapshot.all_pairs() for member in pair.members})
        self._decide(snapshot, now)
        self.take_on(now)
        self._begin(now)

    def _take(self, found: FoundActions, snapshot: Snapshot) -> None:
        for key in self.actions.keys() - found.actions.keys():
            log.warning("%s/%s: the action was removed by somebody else", *key)
        self.actions, self.malformed = dict(found.actions), found.malformed
        self.unreadable = {**self.store.unreadable(snapshot), **found.malformed}

    def _decide(self, snapshot: Snapshot, now: float) -> None:
        self.signals.keep(snapshot.nodes)
        managed = _managed(snapshot.subnets, snapshot)
        self.sizing.keep(managed)
        self.sizing.look(managed, snapshot, self.actions.values(), now)

    # ---- actions that are under way ------------------------------------------------------------------------------

    def take_on(self, now: float) -> None:
        """Take every action as far as it goes."""
        for key in tuple(self.actions):
            self.advance(key, now)

    def read(self, answers: Mapping[str, NodeAnswer], now: float) -> None:
        """The nodes were asked what their pairs use."""
        self.signals.stale_after_s = self.freshness.read(now)
        self.metrics.read(answers.values())
        for answer in answers.values():
            if isinstance(answer, NodeSample):
                self.signals.saw(answer)

    def answered(self, action: Action, answer: Answer) -> None:
        """The provider has answered; what an action asked for that stands elsewhere by now is dropped."""
        current = self.actions.get(action.key)
        if current is not None and (current.id, current.pair, current.step) == (action.id, action.pair, action.step):
            self._answers[action.key] = answer

    def advance(self, key: Key, now: float) -> None:
        """Take one action as far as it goes, if there is one. What is wrong with it keeps no other from going on.

        Raises:
            Deposed: another one leads.
        """
        try:
            for _ in range(MAX_TURNS):
                if key not in self.actions or not self._turn(key, now):
                    return
        except Deposed:
            raise
        except (TransientError, AccessDenied) as error:
            # It is read again, and tried again, in the next round.
            log.info("%s/%s: %s", *key, error)
        except Exception:
            log.exception("%s/%s: cannot go on with %s", *key, self.actions.get(key))

    def _turn(self, key: Key, now: float) -> bool:
        """One step; whether another one may follow."""
        action = self.actions[key]
        turn = step(action, self._seen(action, now), time.time())
        self._answers.pop(key, None)
        if turn.action == action and turn.write is None:
            if turn.call is not None:
                self.calls.ask(action, turn.call, self.pool_now())
            return False
        try:
            self._commit(action, turn)
        except InvalidInput as error:
            self._answers[key] = Failed(str(error), ErrorKind.REFUSED)
            return True
        if turn.action.step is not Step.DONE:
            self.actions[key] = turn.action
            self._is_turn_free = self._is_turn_free or turn.action.step is Step.WAIT
            return True
        self._is_turn_free = True
        del self.actions[key]
        self.store.prune_history()
        self.patience.ended(turn.action, now)
        self.metrics.ended(turn.action, time.time())
        return False

    def _commit(self, action: Action, turn: Turn) -> None:
        record = None
        if turn.write is not None:
            self._is_behind = True
        if turn.action.step is Step.DONE:
            pairs = self.mirror.snapshot.pairs.get(action.subnet, {})
            record = record_of(turn, pairs, self.name, time.time())
        self.store.advance(self.leader, turn, record)
        if turn.action.step is not action.step:
            label, after = f"{action.subnet}/{action.pair}", turn.action
            why = f": {after.error}" if after.error else ""
            log.info("%s: %s (%s): %s -> %s%s", label, action.kind, action.reason, action.step, after.step, why)

    def _is_in_the_way(self, action: Action, pairs: Mapping[str, PairSpec], now: float) -> bool:
        """Whether a pair of a dead node is not replaced before this action is over."""
        if ActionKind.REPLACE in self.patience.waits(action.subnet, now):
            return False
        dead = frozenset[str]() if self.doubt else self.deaths.dead(self.config.dead_after_s, now)
        active = (pair for pair in pairs.values() if pair.state is PairState.ACTIVE and pair.id != action.pair)
        return any(member.node in dead for pair in active for member in pair.members)

    def _seen(self, action: Action, now: float) -> Seen:
        snapshot = self.look()
        pairs = snapshot.pairs.get(action.subnet, {})
        spec = snapshot.subnets.get(action.subnet)
        config, decision = self.config, self.sizing.decisions.get(action.subnet)
        others = tuple(one for one in self.actions.values() if one.subnet == action.subnet and one.key != action.key)
        there = active_pairs(pairs.values()) + coming(others)
        seen = Seen(
            pairs=pairs,
            min_pairs=spec.scaling.min_pairs if spec is not None and spec.scaling is not None else 1,
            nodes=self._rooms(snapshot, now) if isinstance(self._answers.get(action.key), Offered) else (),
            spread=config.placement,
            unreachable=frozenset(self.deaths.since),
            others=others,
            is_short=decision is not None and decision.wanted > there,
            is_in_the_way=self._is_in_the_way(action, pairs, now),
            answer=self._answers.get(action.key),
            deadlines=Deadlines(ready_s=config.ready_deadline_s, drain_s=config.drain_deadline_s),
        )
        return with_word_of_members(seen, action, self.store)

    def _rooms(self, snapshot: Snapshot, now: float) -> tuple[NodeRoom, ...]:
        used = self.signals.bandwidth_used(now)
        return rooms(snapshot, self.mirror.placing, self.actions.values(), self.config.node_pairs, used)

    # ---- actions that begin --------------------------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        """Of all subnets."""
        snapshot = self.look()
        managed = _managed(snapshot.subnets, snapshot)
        found = self._begin_of(managed, snapshot, now)
        self.verdicts = {name: one for name, one in self.verdicts.items() if name in managed}
        self._waiting = Waiting(tuple(found.waits))
        self.problems = (self.doubt,) if self.doubt else ()

    def begin_waiting(self, now: float) -> None:
        """Of those subnets whose turn it is, if a turn has become free since the last ones began.

        Raises:
            Deposed: another one leads.
            TransientError: ZooKeeper does not answer.
        """
        names = self._waiting.first(self.config.max_actions) if self._is_turn_free else ()
        if not names:
            return
        snapshot = self.look()
        subnets = _managed(names, snapshot)
        self.sizing.look(subnets, snapshot, self.actions.values(), now)
        found = self._begin_of(subnets, snapshot, now)
        self._waiting = self._waiting.after(names, (action.subnet for action in found.begin), found.waits)

    def _begin_of(self, subnets: Mapping[str, SubnetSpec], snapshot: Snapshot, now: float) -> Plan:
        """Begin what these subnets need, as far as there are turns."""
        placing = self.mirror.placing
        draining = frozenset(node for node, order in placing.orders.items() if order.draining_since is not None)
        nodes = Nodes(self.deaths.dead(self.config.dead_after_s, now), draining, self.doubt)
        subjects = [
            Subject(
                spec,
                snapshot.pairs.get(name, {}),
                self.sizing.decisions.get(name),
                {signal.value: load for signal, load in self.sizing.loads.get(name, {}).items() if load is not None},
                self.patience.waits(name, now),
            )
            for name, spec in subnets.items()
        ]
        readable = [subject for subject in subjects if subject.spec.id not in self.unreadable]
        limits = Limits(self.config.max_actions, self.calls.provider)
        self._is_turn_free = False
        found = plan(readable, self.actions.values(), nodes, limits, self.breaker, (time.time(), now))
        self.breaker = found.breaker
        for action in found.begin:
            self._start(action, now)
        self.verdicts = {**self.verdicts, **self._judged(subjects, found)}
        return found

    def _start(self, action: Action, now: float) -> None:
        if not self.store.begin(self.leader, action):
            return
        log.info("%s/%s: %s begins: %s", action.subnet, action.pair, action.kind, action.reason)
        self.actions[action.key] = action
        self.advance(action.key, now)

    def _judged(self, subjects: list[Subject], found: Plan) -> dict[str, SubnetVerdict]:
        verdicts = {}
        for subject in subjects:
            name = subject.spec.id
            why, waits = self.unreadable.get(name) or found.blocked.get(name, ""), found.waits.get(name, "")
            active, load = active_pairs(subject.pairs.values()), self.sizing.loads.get(name, {})
            verdicts[name] = verdict_of(active, subject.decision, load, why, waits)
        return verdicts


def _managed(names: Iterable[str], snapshot: Snapshot) -> Mapping[str, SubnetSpec]:
    """Those of them that are scaled."""
    found = ((name, snapshot.subnets.get(name)) for name in names)
    return {name: spec for name, spec in found if spec is not None and spec.scaling is not None}
