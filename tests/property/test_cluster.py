"""What must hold of a pair whatever fails, in whatever order.

The schedule of faults is hypothesis's, the world is `pair_world`. Safety and takeover are checked after every tick, the
final state after the last fault and a quiet while:

- Members that hear each other never have two open gates for longer than the detection takes, but for the second at most
  for which a gate is open ahead of a planned change that does not come; members that do not hear each other, for
  no longer than the tie break and a second, if both daemons reach ZooKeeper and somebody is elected.
- The HaVip is claimed within a second where a member is free to claim it. A member that stands aside is free again when
  it hears the other, when ZooKeeper says that the other is dead, or when ZooKeeper is lost.
- Nobody stands aside for a member that could not serve.
- Where members hear each other and ZooKeeper works, the elected member serves.
- After a while without faults no role changes, and exactly one gate is open: a fit member's if there is one whose
  daemon lives, and the elected one's if ZooKeeper works. Two stay open only where members do not hear each other *and*
  a daemon is dead, ZooKeeper is out of reach, or both are unfit: then nobody can tell which should close.

Not covered on purpose: a member that stood aside, or has just booted, takes nothing over while its daemon is dead; and
one whose keepalived has just started may not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from proxypool.core.model import Candidate
from proxypool.core.role import PRIORITY_ASIDE, Coordinator, Role, Timers, Vrrp
from tests.property.effort import effort
from tests.property.pair_world import SERVER_TICK_S, SESSION_TIMEOUT_S, TICK_S, PairWorld

TIMERS = replace(Timers.for_session(SESSION_TIMEOUT_S, SERVER_TICK_S), hold_s=5.0)
DETECTION_S = 0.3
"""Three advertisement intervals, the skew, and a tick for the message."""
TAKEOVER_S = 1.0
DUAL_S = TIMERS.tie_break_s + 1.0
CONFIRMED_S = SESSION_TIMEOUT_S + SERVER_TICK_S + 1.0
"""ZooKeeper knows by then that a member is dead, and the other that ZooKeeper is lost."""
FOLLOWED_S = TIMERS.silent_s + 2.0
"""A member that is elected although a living master stands behind it has yielded by then."""
LEASE_S = TIMERS.lease_s + TIMERS.lease_margin_s + 1.0
QUIET_S = 2 * CONFIRMED_S + TIMERS.tie_break_s + TIMERS.hold_s + LEASE_S + 3.0
"""An expiry, a tie break, and a second expiry that follows from them; then a claim that was held."""
STABLE_S = TIMERS.tie_break_s + 2.0
MEMBER_FAULTS = (
    *("power", "daemon", "keepalived", "fitness", "hearing", "underlay", "link", "session"),
    *("stopped daemon", "stopped keepalived", "switchover", "daemon in the middle"),
)
POOL_FAULTS = ("zookeeper", "heartbeats", "pause")


@dataclass(frozen=True)
class Fault:
    """Something changes `after` ticks from the change before: from working to broken or back."""

    after: int
    name: str
    member: int = 0
    deeds: int = 0
    """What a daemon that dies still does."""

    def strike(self, world: PairWorld) -> None:  # noqa: C901, PLR0912 - one case for each fault
        """Let it happen."""
        member = world.members[self.member]
        match self.name:
            case "power":
                (world.power_off if member.is_powered else world.power_on)(member)
            case "daemon":
                (world.kill_daemon if member.daemon is not None else world.start_daemon)(member)
            case "daemon in the middle":
                if member.daemon is not None and not member.is_daemon_stopped:
                    member.dies_after = self.deeds
            case "keepalived":
                (world.stop_keepalived if member.runs_vrrp else world.start_keepalived)(member)
            case "fitness":
                member.is_fit = not member.is_fit
            case "hearing":
                member.is_deaf = not member.is_deaf
            case "underlay":
                member.is_isolated = not member.is_isolated
            case "link":
                member.is_cut = not member.is_cut
            case "session":
                world.expire_session(member)
            case "stopped daemon":
                member.is_daemon_stopped = member.daemon is not None and not member.is_daemon_stopped
            case "stopped keepalived":
                member.is_keepalived_stopped = member.runs_vrrp and not member.is_keepalived_stopped
            case "switchover":
                if not world.is_paused:
                    world.choose(member)
            case "pause":
                world.order(is_paused=not world.is_paused)
            case "zookeeper":
                (world.zookeeper_down if world.zookeeper.is_up else world.zookeeper_up)()
            case "heartbeats":
                is_deaf = world.is_heard
                for one in world.members:
                    one.is_deaf = is_deaf
            case unknown:
                raise ValueError(unknown)


class Watch:
    """Checks every tick; remembers since when each condition holds."""

    def __init__(self, world: PairWorld) -> None:
        self.world = world
        self._since: dict[str, float] = {}
        self._elected: tuple[Candidate, ...] = ()
        self._contested: list[float | None] = [None, None]
        self._served = [0.0, 0.0]

    def look(self) -> None:
        """Check the moment."""
        elected = self.world.zookeeper.candidates[:1]
        if elected != self._elected:
            # The tie break begins anew.
            self._elected = elected
            self._since.pop("arbitrated", None)
            self._since.pop("ready", None)
        self._check_dual()
        self._check_takeover()
        self._check_elected()
        self._check_aside()

    def _check_dual(self) -> None:
        open_at = [one for one in self.world.members if self.world.forwards(one) and not one.is_ahead]
        if self.world.is_strict:
            assert len(open_at) <= 1, "two members forward in mode strict"
        dual_s = self._lasts("dual", len(open_at) > 1)
        heard_s = self._lasts("heard", self.world.is_heard and not self._is_keepalived_stopped())
        arbitrated_s = self._lasts("arbitrated", self._is_arbitrated())
        assert min(dual_s, heard_s) <= DETECTION_S, "two open gates although the members hear each other"
        assert min(dual_s, arbitrated_s) <= DUAL_S, "two open gates although ZooKeeper can break the tie"

    def _is_keepalived_stopped(self) -> bool:
        return any(member.is_keepalived_stopped for member in self.world.members)

    def _check_takeover(self) -> None:
        if self.world.is_strict:
            # Nobody takes over without the election.
            return
        claimants = [member for member in self.world.members if self.world.can_claim(member)]
        none_s = self._lasts("none", not any(member.gate for member in self.world.members))
        free_s = self._lasts("free", any(member.track != PRIORITY_ASIDE for member in claimants))
        able_s = self._lasts("able", bool(claimants))
        assert min(none_s, free_s) <= TAKEOVER_S, "no open gate although a member is free to take over"
        assert min(none_s, able_s) <= QUIET_S, "no open gate although a member could stop standing aside"

    def _check_elected(self) -> None:
        elected = [member for member in self.world.members for one in self._elected if one.node == member.node]
        is_ready = any(self.world.can_claim(member) and member.is_fit for member in elected)
        have_looked = all(one.daemon is not None and one.daemon.is_fit is not None for one in self.world.members)
        is_free = is_ready and have_looked and self.world.is_heard and not self.world.is_paused
        ready_s = self._lasts("ready", is_free and self._is_arbitrated() and not self._is_keepalived_stopped())
        wrong_s = self._lasts("wrong", not any(self.world.forwards(member) for member in elected))
        limit_s = LEASE_S + TAKEOVER_S if self.world.is_strict else FOLLOWED_S
        assert min(wrong_s, ready_s) <= limit_s, "the elected member does not serve"

    def _check_aside(self) -> None:
        """Who stands aside does it for one that, since both were master, could serve or had only begun to look."""
        for index, member in enumerate(self.world.members):
            is_starting = member.daemon is not None and member.daemon.state.role is Role.INIT
            if member.vrrp in {Vrrp.MASTER, Vrrp.BACKUP} or is_starting:
                self._served[index] = self.world.now
        for index, member in enumerate(self.world.members):
            state = member.daemon.state if member.daemon is not None else None
            contested = self._contested[index]
            if state is not None and state.is_aside and contested is not None:
                assert self._served[1 - index] >= member.world(contested), "stands aside for one that could not serve"
            self._contested[index] = state.contested_since if state is not None else None

    def _lasts(self, what: str, is_so: bool) -> float:  # noqa: FBT001 - a condition and its name
        if not is_so:
            self._since.pop(what, None)
            return 0.0
        return self.world.now - self._since.setdefault(what, self.world.now)

    def _is_arbitrated(self) -> bool:
        """ZooKeeper can break a tie: both daemons know their VRRP state and are connected, and somebody is elected."""
        acting = [one.daemon for one in self.world.members if one.daemon is not None and not one.is_daemon_stopped]
        return (
            bool(self._elected)
            and len(acting) == len(self.world.members)
            and all(one.client.state is Coordinator.CONNECTED and one.state.role is not Role.INIT for one in acting)
        )


def check_final(world: PairWorld) -> None:
    """The state after a quiet while."""
    powered = [member for member in world.members if member.is_powered]
    claimants = [member for member in powered if world.can_claim(member)]
    open_at = [member for member in world.members if world.forwards(member) and not member.is_left_open]
    have_daemons = all(member.daemon is not None and not member.is_daemon_stopped for member in powered)
    have_keepalived = not any(member.is_keepalived_stopped for member in powered)
    have_zookeeper = world.zookeeper.is_up and not any(member.is_cut for member in powered)
    is_arbitrated = have_daemons and have_zookeeper and bool(world.zookeeper.candidates)
    if world.is_strict:
        if claimants and is_arbitrated and have_keepalived:
            assert [one.node for one in open_at] == [world.zookeeper.candidates[0].node], "the elected one must serve"
        return
    if not claimants:
        assert not open_at or not (have_daemons and have_keepalived)
        return
    assert open_at, "no open gate"
    if world.is_heard and have_keepalived and have_daemons:
        aside = [member.node for member in powered if member.daemon is not None and member.daemon.state.is_aside]
        assert not aside, "stands aside although it hears the master"
    if not (len(claimants) == 1 or world.is_heard or is_arbitrated) or not (have_keepalived or have_daemons):
        return
    assert len(open_at) == 1, "two open gates"
    if world.is_paused:
        return
    if any(member.is_fit for member in claimants) and have_daemons:
        if world.is_heard or have_zookeeper:
            assert open_at[0].is_fit, "an unfit member serves although a fit one could"
        if is_arbitrated:
            assert open_at[0].node == world.zookeeper.candidates[0].node, "another member serves than the elected one"


class Trial:
    """A world, its watch, and what was done to it."""

    def __init__(self, world: PairWorld) -> None:
        self.world, self.watch = world, Watch(world)
        self.pass_time(Fault(0, "power", 0), Fault(1, "power", 1))

    def pass_time(self, *faults: Fault, quiet_s: float = 0.0) -> None:
        """Let faults happen, and then nothing for a while; check all the time."""
        with self._explained():
            for fault in faults:
                self._advance(fault.after)
                self.world.transcript.append(f"{self.world.now:7.2f} !! {fault}")
                fault.strike(self.world)
            self._advance(round(quiet_s / TICK_S))

    def finish(self) -> None:
        """Check what a quiet while leads to."""
        with self._explained():
            self._advance(round(QUIET_S / TICK_S))
            changes = len(self.world.role_changes)
            self._advance(round(STABLE_S / TICK_S))
            assert len(self.world.role_changes) == changes, "roles change although nothing happens"
            check_final(self.world)

    def _advance(self, ticks: int) -> None:
        for _ in range(ticks):
            self.world.advance()
            self.watch.look()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except AssertionError as error:
            error.add_note("\n".join(self.world.transcript[-60:]))
            raise


def run(world: PairWorld, faults: Sequence[Fault]) -> None:
    """Start both members, let the faults happen, and check all the time."""
    trial = Trial(world)
    trial.pass_time(*faults)
    trial.finish()


SETTLED = 80
"""Ticks after which both members are up and one of them is elected."""
LONG = 200
SCENARIOS: dict[str, tuple[Fault, ...]] = {
    "cold start": (),
    "the master is powered off": (Fault(SETTLED, "power", 0),),
    "the master is powered off and comes back before its session has expired": (
        Fault(SETTLED, "power", 0),
        Fault(30, "power", 0),
    ),
    "the master's keepalived is stopped": (Fault(SETTLED, "keepalived", 0),),
    "the master becomes unfit": (Fault(SETTLED, "fitness", 0),),
    "the master's daemon dies for good": (Fault(SETTLED, "daemon", 0),),
    "the master's session expires": (Fault(SETTLED, "session", 0),),
    "the master is cut off from ZooKeeper": (Fault(SETTLED, "link", 0),),
    "both are unfit": (Fault(SETTLED, "fitness", 0), Fault(0, "fitness", 1)),
    "ZooKeeper is down when both start": (Fault(0, "zookeeper"),),
    "ZooKeeper is down, the master dies, ZooKeeper returns": (
        Fault(SETTLED, "zookeeper"),
        Fault(LONG, "power", 0),
        Fault(LONG, "zookeeper"),
    ),
    "unfit and fit again while ZooKeeper is down": (
        Fault(SETTLED, "zookeeper"),
        Fault(LONG, "fitness", 1),
        Fault(LONG, "fitness", 1),
        Fault(LONG, "fitness", 0),
    ),
    "a partition that heals": (Fault(SETTLED, "heartbeats"), Fault(LONG, "heartbeats")),
    "the backup hears nothing": (Fault(SETTLED, "hearing", 1),),
    "the master hears nothing": (Fault(SETTLED, "hearing", 0),),
    "nothing reaches the master": (Fault(SETTLED, "underlay", 0),),
    "nothing reaches the backup, then it does": (Fault(SETTLED, "underlay", 1), Fault(LONG, "underlay", 1)),
    "nothing reaches the master, and it is back": (Fault(SETTLED, "underlay", 0), Fault(LONG, "underlay", 0)),
    "nothing reaches either, and ZooKeeper neither": (
        Fault(SETTLED, "underlay", 0),
        Fault(0, "underlay", 1),
        Fault(0, "link", 0),
        Fault(0, "link", 1),
    ),
    "nothing reaches the master while the backup's daemon is dead": (
        Fault(SETTLED, "daemon", 1),
        Fault(0, "underlay", 0),
    ),
    "a partition, then the elected one dies": (Fault(SETTLED, "heartbeats"), Fault(LONG, "power", 0)),
    "a partition, then ZooKeeper and the elected one die": (
        Fault(SETTLED, "heartbeats"),
        Fault(LONG, "zookeeper"),
        Fault(0, "power", 0),
    ),
    "a partition that outlasts ZooKeeper's outage": (
        Fault(SETTLED, "heartbeats"),
        Fault(LONG, "zookeeper"),
        Fault(LONG, "zookeeper"),
    ),
    "the elected one dies in a partition, and ZooKeeper's restart lengthens its session": (
        Fault(6, "heartbeats"),
        Fault(0, "power", 1),
        Fault(33, "zookeeper"),
        Fault(0, "zookeeper"),
    ),
    "the one that stands aside restarts its daemon": (
        Fault(SETTLED, "heartbeats"),
        Fault(LONG, "daemon", 1),
        Fault(4, "daemon", 1),
    ),
    "a partition in which the election changes": (Fault(SETTLED, "heartbeats"), Fault(LONG, "session", 0)),
    "the master's daemon stands still for longer than its session": (
        Fault(SETTLED, "stopped daemon", 0),
        Fault(LONG, "stopped daemon", 0),
    ),
    "the master's daemon and keepalived stand still": (
        Fault(SETTLED, "stopped daemon", 0),
        Fault(0, "stopped keepalived", 0),
        Fault(LONG, "stopped keepalived", 0),
        Fault(0, "stopped daemon", 0),
    ),
    "the master's keepalived stands still": (
        Fault(SETTLED, "stopped keepalived", 0),
        Fault(LONG, "stopped keepalived"),
    ),
    "a switchover, and one to a member whose rival's daemon is dead": (
        Fault(SETTLED, "switchover", 1),
        Fault(SETTLED, "daemon", 1),
        Fault(3, "switchover", 0),
    ),
    "the chosen one's daemon dies in the middle of the switchover": (
        Fault(SETTLED, "daemon in the middle", 1, 1),
        Fault(0, "switchover", 1),
        Fault(LONG, "daemon", 1),
    ),
    "a switchover to and fro, and the daemon of the one that was chosen first dies at once": (
        Fault(2, "switchover", 1),
        Fault(1, "switchover", 0),
        Fault(0, "daemon", 1),
    ),
    "a switchover in a partition": (Fault(SETTLED, "heartbeats"), Fault(30, "switchover", 1)),
    "a paused master becomes unfit and is resumed": (
        Fault(SETTLED, "pause"),
        Fault(0, "fitness", 0),
        Fault(LONG, "pause"),
    ),
    "a switchover to one whose keepalived has just started": (
        Fault(SETTLED, "power", 1),
        Fault(LONG, "power", 1),
        Fault(20, "switchover", 1),
    ),
    "one returns whose master cannot serve": (
        Fault(SETTLED, "power", 1),
        Fault(LONG, "fitness", 0),
        Fault(0, "power", 1),
    ),
    "a paused master dies": (Fault(SETTLED, "pause"), Fault(9, "power", 0)),
    "a member that flaps": tuple(Fault(30, "fitness", 0) for _ in range(9)),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_keeps_mode_strict(name: str) -> None:
    """Never two that forward, however long it takes."""
    run(PairWorld(TIMERS, (1,), is_strict=True), SCENARIOS[name])


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("latency", [0, 5])
def test_a_scenario_keeps_the_invariants(name: str, latency: int) -> None:
    """Faults that once broke an invariant, or that operators ask about."""
    run(PairWorld(TIMERS, (latency,)), SCENARIOS[name])


delays = st.one_of(st.integers(0, 6), st.integers(0, 40), st.integers(60, 160))
schedules = st.lists(
    st.one_of(
        st.builds(Fault, delays, st.sampled_from(MEMBER_FAULTS), st.integers(0, 1), st.integers(0, 4)),
        st.builds(Fault, delays, st.sampled_from(POOL_FAULTS)),
    ),
    max_size=12,
)
latencies = st.lists(st.integers(0, 10), min_size=1, max_size=5)
first_looks = st.lists(st.integers(0, 255), min_size=1, max_size=4)


clocks = st.tuples(*(st.tuples(st.floats(0, 1e6), st.floats(0.99, 1.01)) for _ in range(2)))


@given(schedules, latencies, first_looks)
@effort(60)
def test_any_schedule_of_faults_keeps_the_invariants(
    schedule: list[Fault], latencies: list[int], first_looks: list[int]
) -> None:
    """With `PROPERTY_EFFORT=50` it looks at many more schedules."""
    run(PairWorld(TIMERS, tuple(latencies), tuple(first_looks)), schedule)


@given(schedules, latencies, first_looks, clocks)
@effort(40)
def test_mode_strict_never_has_two_that_forward(
    schedule: list[Fault],
    latencies: list[int],
    first_looks: list[int],
    clocks: tuple[tuple[float, float], tuple[float, float]],
) -> None:
    """Whatever fails, with clocks that neither agree nor run alike."""
    run(PairWorld(TIMERS, tuple(latencies), tuple(first_looks), is_strict=True, clocks=clocks), schedule)


class Pair(RuleBasedStateMachine):
    """The same, fault by fault: hypothesis sees what the pair has become and may go on from there, and a rule applies
    only where it does something. All the time is watched, and the end is judged after a quiet while.
    """

    @initialize(latencies=latencies, looks=first_looks, clocks=clocks, is_strict=st.booleans())
    def begin(
        self,
        latencies: list[int],
        looks: list[int],
        clocks: tuple[tuple[float, float], tuple[float, float]],
        *,
        is_strict: bool,
    ) -> None:
        """Both members start."""
        self.trial = Trial(PairWorld(TIMERS, tuple(latencies), tuple(looks), is_strict=is_strict, clocks=clocks))

    @rule(after=delays, name=st.sampled_from(MEMBER_FAULTS), member=st.integers(0, 1), deeds=st.integers(0, 4))
    def member_fault(self, after: int, name: str, member: int, deeds: int) -> None:
        """Something of one member breaks or works again."""
        self.trial.pass_time(Fault(after, name, member, deeds))

    @rule(after=delays, name=st.sampled_from(POOL_FAULTS))
    def pool_fault(self, after: int, name: str) -> None:
        """Something of both."""
        self.trial.pass_time(Fault(after, name))

    @precondition(lambda self: any(member.daemon is None for member in self.trial.world.members))
    @rule(after=delays)
    def daemons_return(self, after: int) -> None:
        """systemd starts what has died."""
        dead = [index for index, one in enumerate(self.trial.world.members) if one.is_powered and one.daemon is None]
        self.trial.pass_time(*(Fault(after, "daemon", index) for index in dead))

    @precondition(lambda self: not self.trial.world.zookeeper.is_up)
    @rule(after=st.integers(60, 160))
    def zookeeper_returns(self, after: int) -> None:
        """After every session would have ended."""
        self.trial.pass_time(Fault(after, "zookeeper"))

    @rule()
    def quiet(self) -> None:
        """Nothing happens for so long that everything settles."""
        self.trial.pass_time(quiet_s=QUIET_S)

    def teardown(self) -> None:
        """Judge the end."""
        if hasattr(self, "trial"):
            self.trial.finish()


TestPair = Pair.TestCase
TestPair.settings = settings(effort(20), stateful_step_count=15)
