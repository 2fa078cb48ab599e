"""From the pool and the attachments to what is programmed on this host, and to what attachments lead to.

Runs on the main loop. What a path is and how new connections are shared is `core.steering`'s business, what it looks
like in the kernel `core.host_scene`'s; here is only what the two are made from, and when the set of attached instances
may follow: as soon as what an entry leads to is programmed, and the subnet's nodes know this host.
"""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address, IPv4Network

from proxypool.adapters.conntrack import Conntrack, Flow
from proxypool.core.attachments import Rules
from proxypool.core.composite import Part
from proxypool.core.errors import ProxypoolError
from proxypool.core.host_scene import HostFacts, guard_of, havips_of, host_scene, path_legs, platform_of, steering_of
from proxypool.core.model import PairSpec, PairState, Snapshot, SubnetSpec
from proxypool.core.scene import Scene
from proxypool.core.shares import wanted_shares
from proxypool.core.silence import left_behind
from proxypool.core.steering import Book, Group, adopt, advance, ready_entries
from proxypool.daemons.attachments import Attachments
from proxypool.daemons.beginning import forget_unanswered
from proxypool.daemons.dataplane import HOST_SCOPE, Dataplane, Reconciled
from proxypool.daemons.pair_watch import PairWatch
from proxypool.daemons.registrar import Registrar

log = logging.getLogger(__name__)

RETIREMENT_CHECK_S = 10.0


@dataclass
class Steerer:
    """Owner of the numbers of groups and paths. `conntrack` must be of the machine's own namespace."""

    served: tuple[str, ...]
    attaches_all: bool
    linger_s: float
    dataplane: Dataplane
    attachments: Attachments
    registrar: Registrar
    pair_watch: PairWatch
    conntrack: Conntrack
    is_connected: Callable[[], bool]
    """Whether what the pool says is what ZooKeeper says now."""
    facts: HostFacts | None = None
    found: Scene | None = None
    """What a predecessor left; None: not looked yet."""
    snapshot: Snapshot = field(default_factory=Snapshot)
    is_remembered: bool = False
    """Whether the snapshot is from before the start, and may be old."""
    silent: frozenset[IPv4Address] = frozenset()
    proven: frozenset[IPv4Address] = frozenset()
    """HaVips that an echo has said something of: others are of pairs that may have been added just now."""
    book: Book | None = None
    refused: dict[str, str] = field(default_factory=dict)
    """Subnets that attach_all leaves out, and why."""
    dead: frozenset[IPv4Address] = frozenset()
    _dying: frozenset[IPv4Address] = frozenset()
    """Of the dead those whose connections are to be cut once more."""
    _left_behind: Mapping[int, frozenset[str]] = field(default_factory=dict)
    """Paths of silent pairs whose unanswered SYNs were forgotten."""
    problem: str | None = None
    cuts: int = 0
    """Connections cut since the start: their pair was gone, or they began while somebody had changed what is ours."""
    _rules: Rules | None = None
    _everyone: Group | None = None
    """Group of the instances that are attached to nothing by name, with attach_all."""
    is_held: bool = False
    """Whether nothing is worked out by itself: this kernel cannot make the tunnels that the pool asks for now, and what
    is there goes on.
    """
    is_programmed: bool = False
    """Whether a wish of ours was in place once: until then a predecessor's set is not touched but for what is known."""
    _wish: Scene | None = None
    _wish_number: int = 0
    _wish_book: Book = field(default_factory=Book)
    _programmed: Book = field(default_factory=Book)
    _entries: dict[Group, int] = field(default_factory=dict)
    _joined: set[str] = field(default_factory=set)
    """Subnets that were ready once: what is steered stays steered, whatever happens to the list."""
    _retirement_due: float = 0.0
    _guard: tuple[Mapping[str, SubnetSpec], tuple[IPv4Network, ...], Part] | None = None
    _platform: tuple[tuple[object, ...], frozenset[IPv4Address], Part] | None = None
    """And what they were made from."""
    _havips: tuple[object, frozenset[IPv4Address]] = (None, frozenset())
    """Of the pairs that the first is."""

    @property
    def subnets_in_use(self) -> frozenset[str]:
        """Subnets with a programmed group."""
        return frozenset(name for group in self._entries for name in group)

    @property
    def unknown_subnets(self) -> list[str]:
        """Subnets this host is configured for that the pool does not have."""
        return self._rules.unknown() if self._rules is not None else []

    def silent_pairs(self) -> tuple[tuple[str, str], ...]:
        """Subnet and pair of the HaVips that do not answer now."""
        if not self.silent:
            return ()
        return tuple((pair.subnet, pair.id) for pair in self.snapshot.all_pairs() if pair.havip in self.silent)

    # ---- what comes ----------------------------------------------------------------------------------------------

    def refresh(self, now: float) -> None:
        """Work out everything anew: something that it depends on changed."""
        facts, found, spec = self.facts, self.found, self.snapshot.spec
        if facts is None or found is None or spec is None:
            return
        self._rules = Rules(facts.instance_cidrs, self.snapshot.subnets, self.served, facts.open_cidrs)
        if self.book is None:
            self.book = self._programmed = adopt(path_legs(found, self.snapshot.subnets))
            self._entries = {}
            self.attachments.keep(self.book.groups, now)
        self._everyone = self._group_of_all(self._rules)
        # The rules first: which groups there are depends on which subnets there are.
        self._publish()
        groups = self.attachments.groups(now, self.linger_s) | ({self._everyone} if self._everyone else set())
        self.book = advance(self.book, wanted_shares(groups, self.snapshot.pairs, self._not_answering()))
        self._find_dead()
        self._want(facts, groups)
        self._publish()

    def reconciled(self, result: Reconciled) -> None:
        """The dataplane has looked at the machine."""
        if result.mark == self._wish_number and not result.problems:
            self._programmed, self.is_programmed = self._wish_book, True
            self._publish()
            self._cut_dying()

    def repaired(self) -> None:
        """Somebody had changed what is ours. A flow that began meanwhile may have been let through without a path or
        without the host's address, and would stay so for as long as it goes on: its next packet is to be a new one.
        """
        if self.facts is None:
            return
        mask, reach = self.facts.marks.mask, self.attachments.reach()

        def began_meanwhile(flow: Flow) -> bool:
            is_whole = flow.mark & mask and flow.is_source_nated
            return not is_whole and flow.goes_to(reach.get(flow.source, ()))

        self._cut(0, 0, began_meanwhile)

    def joined(self, subnet: str) -> None:
        """A subnet's nodes know this host; unless it has stopped being wanted since."""
        self._joined |= {subnet} & self.registrar.joined
        self._publish()

    def second_passed(self, now: float) -> None:
        """Cut what was let go, and drop paths without connections."""
        self.attachments.cut_again()
        if self._wish_book is self._programmed:
            self._cut_dying()
        if now >= self._retirement_due and self.book is not None and not self.is_held:
            self._retirement_due = now + RETIREMENT_CHECK_S
            self._drop_empty_paths()
            self.refresh(now)
        else:
            # Why something is not ready may be another reason by now.
            self._publish()

    # ---- what follows --------------------------------------------------------------------------------------------

    def _group_of_all(self, rules: Rules) -> Group | None:
        if not self.attaches_all:
            return None
        group, refused = rules.everything()
        for name in sorted(refused.keys() - self.refused.keys()):
            log.warning("subnet %s is not served to all instances here: %s", name, refused[name])
        self.refused = refused
        return group or None

    def _pairs(self, subnet: str) -> Iterable[PairSpec]:
        return self.snapshot.pairs.get(subnet, {}).values()

    def _not_answering(self) -> frozenset[IPv4Address]:
        havips = (pair.havip for pairs in self.snapshot.pairs.values() for pair in pairs.values())
        return self.silent | (frozenset(havips) - self.proven)

    def _living_pairs(self, subnet: str) -> tuple[str, ...]:
        return tuple(pair.id for pair in self._pairs(subnet) if self.snapshot.elections.get(f"{subnet}/{pair.id}"))

    def _chosen_pairs(self, subnet: str) -> tuple[str, ...]:
        """Those whose members' word an attach waits for. That of one that is being prepared may be long in coming."""
        preparing = {pair.id for pair in self._pairs(subnet) if pair.state is PairState.PREPARING}
        return tuple(pair for pair in self._living_pairs(subnet) if pair not in preparing)

    def _find_dead(self) -> None:
        """Pairs that are gone from the pool; and those that are silent and, by what ZooKeeper says, without a member.

        Neither alone is enough: with both daemons dead traffic goes on, and a HaVip that moves is silent for a moment.
        """
        if self.is_remembered:
            return
        legs = {leg for legs in self.book.paths.values() for leg in legs} if self.book else set()
        known = {pair.havip for leg in legs for pair in self._pairs(leg.subnet)}
        dead = {leg.havip for leg in legs} - known
        if self.is_connected():
            for subnet in {leg.subnet for leg in legs}:
                living = self._living_pairs(subnet)
                dead |= {pair.havip for pair in self._pairs(subnet) if pair.id not in living} & self.silent
        else:
            dead |= self.dead & known
        fresh = frozenset(dead) - self.dead
        self.dead = frozenset(dead)
        if fresh:
            log.warning("no member of a pair lives behind %s: connections are cut", ", ".join(map(str, sorted(fresh))))
            self._dying |= fresh
            self._cut_paths(self._dying)

    def _want(self, facts: HostFacts, groups: Iterable[Group]) -> None:
        assert self.book is not None and self.snapshot.spec is not None  # noqa: S101, PT018 - for mypy
        steering = steering_of(self.book, groups, self.snapshot, self.dead)
        used = frozenset(name for group in groups for name in group if name in steering.subnets)
        # First of all: ZooKeeper and the nodes work while we do.
        self.registrar.want({name: self._chosen_pairs(name) for name in used}, self.snapshot.subnet_hosts)
        self._joined = (self._joined & used) | self.registrar.joined
        self.pair_watch.want(frozenset(havip for name in used for havip in steering.havips[name]))
        scene = host_scene(facts, self.snapshot.spec, steering, self._guard_of(facts), self._platform_of(facts))
        if scene != self._wish:
            self._wish = scene
            self._wish_number += 1
            self.dataplane.want(HOST_SCOPE, scene, self._wish_number)
        self._wish_book = self.book

    def _guard_of(self, facts: HostFacts) -> Part:
        """Of the pool as it is; made anew only when its subnets changed."""
        subnets = self.snapshot.subnets
        if self._guard is None or self._guard[0] is not subnets or self._guard[1] != facts.open_cidrs:
            customers = (cidr for subnet in subnets.values() for cidr in subnet.cidrs)
            self._guard = (subnets, facts.open_cidrs, guard_of(facts.open_cidrs, customers))
        return self._guard[2]

    def _platform_of(self, facts: HostFacts) -> Part:
        """As `_guard_of`, of the pool's pairs and nodes, and of pairs that are gone."""
        pairs, nodes = self.snapshot.pairs, self.snapshot.nodes
        if self._havips[0] is not pairs:
            self._havips = (pairs, havips_of(pairs))
        paths = self.book.paths if self.book is not None else {}
        gone = frozenset(leg.havip for legs in paths.values() for leg in legs) - self._havips[1]
        inputs = (pairs, nodes, facts.open_cidrs, facts.coordinators)
        known = self._platform
        if known is None or known[1] != gone or not all(map(operator.is_, inputs, known[0])):
            known = self._platform = (inputs, gone, platform_of(facts, self._havips[1] | gone, nodes))
        return known[2]

    def _publish(self) -> None:
        """Tell the attachments what leads where."""
        if self.book is None or self._rules is None:
            return
        entries = ready_entries(self.book, self._programmed, self._entries)
        self._entries = {
            group: entry for group, entry in entries.items() if group in self._entries or self._joined.issuperset(group)
        }
        try:
            self.attachments.publish(self._rules, self._entries, self._everyone, self._why_not_ready())
            self.problem = None
        except ProxypoolError as error:
            self.problem = str(error)
        else:
            self._begin_anew()

    def _why_not_ready(self) -> str:
        if self.registrar.problem:
            return f": {self.registrar.problem}"
        return "" if self.is_connected() else ": ZooKeeper does not answer"

    # ---- connections ---------------------------------------------------------------------------------------------

    def _drop_empty_paths(self) -> None:
        if self.book is None or self.facts is None:
            return
        marks = self.facts.marks
        try:
            empty = {n for n in self.book.retired() if self.conntrack.count(marks.of_path(n), marks.mask) == 0}
        except ProxypoolError as error:
            log.warning("%s", error)
            return
        self.book = self.book.without(empty)

    def _begin_anew(self) -> None:
        """Have the SYNs that a silent pair has not answered take another pair when they are sent again: once for each
        path, when nothing new takes it.
        """
        if self.book is None or self.facts is None:
            return
        left = left_behind(self.book, self._entries, self.silent) if self.silent else {}
        fresh = {number: self._cidrs(left[number]) for number in left if left[number] != self._left_behind.get(number)}
        try:
            count = forget_unanswered(self.conntrack, self.facts.marks, fresh) if fresh else 0
        except ProxypoolError as error:
            log.warning("connections without an answer stay with a silent pair: %s", error)
            return
        self._left_behind = left
        if count:
            log.info("%d connections that a silent pair has not answered may begin anew", count)

    def _cut_dying(self) -> None:
        """Once more, when nothing new takes a path of theirs: flows of datagrams came back to it until then, and
        would stay for as long as they go on.
        """
        if self._dying and self._cut_paths(self._dying & self.dead):
            self._dying = frozenset()

    def _cut_paths(self, havips: frozenset[IPv4Address]) -> bool:
        """End the connections through pairs that are gone: what they send next is new, and finds another pair. Whether
        it could be done.
        """
        if self.book is None or self.facts is None:
            return False
        is_done = True
        for number, legs in self.book.paths.items():
            cidrs = self._cidrs(leg.subnet for leg in legs if leg.havip in havips)
            if cidrs:
                marks = self.facts.marks
                is_done &= self._cut(marks.of_path(number), marks.mask, partial(Flow.goes_to, cidrs=cidrs))
        return is_done

    def _cidrs(self, subnets: Iterable[str]) -> tuple[IPv4Network, ...]:
        known = self.snapshot.subnets
        return tuple(cidr for name in subnets if name in known for cidr in known[name].cidrs)

    def _cut(self, mark: int, mask: int, is_over: Callable[[Flow], bool]) -> bool:
        try:
            self.cuts += self.conntrack.delete([flow for flow in self.conntrack.flows(mark, mask) if is_over(flow)])
        except ProxypoolError as error:
            log.warning("connections could not be cut: %s", error)
            return False
        return True
