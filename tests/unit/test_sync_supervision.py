"""What is done about a conntrackd, as transcripts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from proxypool.core.state_sync import SyncCounts
from proxypool.core.sync_supervision import (
    CALM_S,
    FIRST_PAUSE_S,
    LOOK_S,
    MAX_PAUSE_S,
    READY_S,
    RENEW_S,
    STEADY_S,
    End,
    Step,
    Supervision,
    SyncProcess,
    SyncState,
    SyncWish,
)
from tests.unit.test_state_sync import CONFIG

BACKUP = SyncWish(CONFIG, namespace=7, is_master=False)
MASTER = replace(BACKUP, is_master=True)
PLANNED = replace(MASTER, was_planned=True)
UNKNOWN = replace(BACKUP, is_master=None)
CALM = SyncCounts(entries=5, messages_received=1)


@dataclass
class World:
    """A conntrackd that does what it is told, and a clock."""

    supervision: Supervision = field(default_factory=Supervision)
    process: SyncProcess | None = None
    now: float = 1000.0
    counts: SyncCounts = CALM
    is_silent: bool = False
    is_peer_there: bool = True
    starts: int = 0

    def adopt(self) -> World:
        """One that an earlier daemon started."""
        self.process = SyncProcess(99, CONFIG.fingerprint, 7)
        return self

    def run(self, wish: SyncWish | None, seconds: float = 0.0) -> list[Step]:
        """Everything that is done until then, looks left out."""
        done: list[Step] = []
        end = self.now + seconds
        while True:
            step = self.supervision.next_step(wish, self.process, self.now)
            if step is None:
                if self.now >= end:
                    return done
                self.now += 0.25
                continue
            if step is not Step.LOOK:
                done.append(step)
            self._do(step, wish)

    def _do(self, step: Step, wish: SyncWish | None) -> None:
        match step:
            case Step.START:
                assert wish is not None
                assert self.process is None, "two would fight for one socket"
                self.starts += 1
                self.process = SyncProcess(self.starts, wish.config.fingerprint, wish.namespace)
                self.is_silent, self.counts = False, CALM
                self.supervision.started(self.process, self.now)
            case Step.STOP:
                self.process = None
                self.supervision.stopped(self.now)
            case _ if self.is_silent:
                self.now += 5.0
                self.supervision.silent("no answer", self.now)
            case Step.LOOK:
                if self.is_peer_there:
                    received = self.counts.messages_received + 1
                    self.counts = replace(self.counts, messages_received=received)
                self.supervision.looked(self.counts, self.now)
            case _:
                self.supervision.told(step)

    @property
    def state(self) -> SyncState:
        """As published."""
        return self.supervision.report().state

    @property
    def restarts(self) -> dict[str, int]:
        """As counted."""
        return dict(self.supervision.report().restarts)


class TestStart:
    def test_a_backup_owns_nothing_and_asks_for_all(self) -> None:
        """What it found in the kernel is the master's: told back as ended, it would cut connections there."""
        assert World().run(BACKUP, 5.0) == [Step.START, Step.EMPTY_LIST, Step.ASK]

    def test_a_master_tells_what_it_has(self) -> None:
        """It read the kernel as it started."""
        assert World().run(MASTER, 5.0) == [Step.START, Step.TELL]

    def test_a_role_that_is_not_known_yet_is_waited_for(self) -> None:
        world = World()
        assert world.run(UNKNOWN, 5.0) == [Step.START]
        assert world.run(BACKUP) == [Step.EMPTY_LIST, Step.ASK]

    def test_a_predecessors_is_adopted_and_put_right(self) -> None:
        """It may have taken over, or stepped back, while no daemon looked."""
        assert World().adopt().run(MASTER) == [Step.READ_KERNEL, Step.TELL]
        assert World().adopt().run(BACKUP) == [Step.EMPTY_LIST, Step.ASK]

    def test_a_predecessors_of_a_subnet_that_is_not_served_any_more_ends(self) -> None:
        assert World().adopt().run(None) == [Step.STOP]

    def test_nothing_is_started_where_nothing_is_wanted(self) -> None:
        assert World().run(None, 60.0) == []


class TestRoles:
    def test_a_new_master_takes_over_what_it_was_told(self) -> None:
        """For the member that returns; until then its list has only what was new since."""
        world = World()
        world.run(BACKUP, 5.0)
        assert world.run(MASTER) == [Step.READ_KERNEL]

    def test_after_a_planned_change_it_has_time(self) -> None:
        """The other member has everything, and while the kernel's table is read a processor forwards nothing."""
        world = World()
        world.run(BACKUP, 5.0)
        assert world.run(PLANNED, CALM_S - 0.25) == []
        assert world.run(PLANNED, 0.25) == [Step.READ_KERNEL, Step.TELL]
        assert world.run(PLANNED, RENEW_S - 0.25) == []
        assert world.run(PLANNED, 0.25) == [Step.READ_KERNEL, Step.TELL]

    def test_a_part_is_not_told_for_all(self) -> None:
        """What is told anew because messages were lost is all there is, also just after a planned change."""
        world = World()
        world.run(BACKUP, 12.0)
        assert world.run(PLANNED) == []
        world.counts = replace(world.counts, queue_drops=1)
        assert world.run(PLANNED, CALM_S - 0.5) == [Step.READ_KERNEL, Step.TELL]
        world.run(PLANNED, LOOK_S)
        world.counts = replace(world.counts, queue_drops=2)
        assert world.run(PLANNED, LOOK_S) == [Step.TELL]

    def test_one_that_steps_back_owns_nothing_any_more(self) -> None:
        world = World()
        world.run(MASTER, 5.0)
        assert world.run(BACKUP) == [Step.EMPTY_LIST]

    def test_a_master_tells_all_again_from_time_to_time(self) -> None:
        """UDP entries would run out on the backup."""
        world = World()
        world.run(MASTER, 5.0)
        assert world.run(MASTER, RENEW_S) == [Step.READ_KERNEL, Step.TELL]

    def test_a_large_table_is_told_less_often(self) -> None:
        world = World(counts=replace(CALM, entries=400_000))
        world.adopt().run(MASTER, RENEW_S + 1.0)
        assert world.run(MASTER, 3 * RENEW_S) == []
        assert world.run(MASTER, 2 * RENEW_S) == [Step.READ_KERNEL, Step.TELL]

    def test_a_backup_never_tells(self) -> None:
        world = World()
        world.run(BACKUP, 5.0)
        world.counts = replace(world.counts, overruns=3, queue_drops=3)
        assert world.run(BACKUP, 10 * RENEW_S) == []


class TestTroubles:
    def test_one_that_died_is_started_again_and_counted(self) -> None:
        world = World()
        world.run(BACKUP, 5.0)
        world.process = None
        assert world.run(BACKUP, 2 * FIRST_PAUSE_S) == [Step.START, Step.EMPTY_LIST, Step.ASK]
        assert world.restarts == {"died": 1}

    def test_one_that_dies_again_and_again_is_started_less_and_less_often(self) -> None:
        world = World()
        for _ in range(12):
            world.run(BACKUP, MAX_PAUSE_S)
            world.process = None
        assert world.starts == 12
        assert world.run(BACKUP, MAX_PAUSE_S - 1.0) == []
        assert world.state is SyncState.DOWN

    def test_one_that_has_lived_for_a_while_is_forgiven(self) -> None:
        world = World()
        for _ in range(6):
            world.run(BACKUP, MAX_PAUSE_S)
            world.process = None
        world.run(BACKUP, MAX_PAUSE_S + STEADY_S + 1.0)
        world.process = None
        assert Step.START in world.run(BACKUP, 2 * FIRST_PAUSE_S)

    def test_one_that_does_not_answer_twice_is_ended_and_counted(self) -> None:
        world = World()
        world.run(BACKUP, 5.0)
        world.is_silent = True
        assert world.run(BACKUP, 2 * LOOK_S) == [Step.STOP, Step.START, Step.EMPTY_LIST, Step.ASK]
        assert world.restarts == {"hung": 1}

    def test_one_that_was_only_slow_lives_and_its_list_is_put_right(self) -> None:
        """Whatever it was told meanwhile may not have been done."""
        world = World()
        world.run(MASTER, 5.0)
        world.supervision.silent("no answer", world.now)
        assert world.state is SyncState.HUNG
        assert world.run(MASTER) == [Step.READ_KERNEL, Step.TELL]
        assert world.restarts == {}

    def test_one_that_does_not_listen_yet_is_waited_for(self) -> None:
        """It reads the kernel's table first."""
        world = World()
        world.supervision.next_step(BACKUP, None, world.now)
        world._do(Step.START, BACKUP)
        for _ in range(int(READY_S) - 1):
            world.now += 1.0
            assert world.supervision.next_step(BACKUP, world.process, world.now) is Step.EMPTY_LIST
            world.supervision.not_ready("it does not listen", world.now)
        assert world.run(BACKUP) == [Step.EMPTY_LIST, Step.ASK]

    def test_one_that_never_listens_is_ended(self) -> None:
        world = World()
        world.run(BACKUP, 5.0)
        world.now += READY_S
        for _ in range(2):
            world.supervision.not_ready("it does not listen", world.now)
        assert world.supervision.next_step(BACKUP, world.process, world.now) is Step.STOP

    def test_one_that_cannot_be_started_is_tried_again(self) -> None:
        supervision = Supervision()
        assert supervision.next_step(BACKUP, None, 0.0) is Step.START
        supervision.failed("conntrackd is not installed", 0.0)
        assert supervision.next_step(BACKUP, None, 0.0) is None
        assert supervision.next_step(BACKUP, None, FIRST_PAUSE_S) is Step.START
        report = supervision.report()
        assert (report.state, report.problem) == (SyncState.DOWN, "conntrackd is not installed")
        assert dict(report.restarts) == {End.FAILED: 1}

    def test_lost_events_are_made_up_for(self) -> None:
        world = World()
        world.run(MASTER, 5.0)
        world.counts = replace(world.counts, overruns=1)
        assert world.run(MASTER, LOOK_S + 1.0) == [Step.EMPTY_LIST, Step.READ_KERNEL, Step.TELL]

    def test_a_queue_that_was_full_is_made_up_for(self) -> None:
        world = World()
        world.run(MASTER, 5.0)
        world.counts = replace(world.counts, queue_drops=1)
        assert world.run(MASTER, LOOK_S + 1.0) == [Step.TELL]

    def test_the_other_members_silence_is_seen_and_changes_nothing(self) -> None:
        world = World()
        world.run(MASTER, 5.0)
        assert world.state is SyncState.OK
        world.is_peer_there = False
        assert world.run(MASTER, LOOK_S + 1.0) == []
        assert world.supervision.report().state == "unheard"


class TestChanges:
    def test_another_configuration_is_another_process(self) -> None:
        world = World()
        world.run(BACKUP, 5.0)
        changed = replace(BACKUP, config=replace(CONFIG, limit=1))
        assert world.run(changed, 1.0) == [Step.STOP, Step.START, Step.EMPTY_LIST, Step.ASK]
        assert world.restarts == {"changed": 1}

    def test_another_namespace_is_another_process(self) -> None:
        """The old one would stay for as long as a process is in it, and with it its tunnels' keys."""
        world = World()
        world.run(BACKUP, 5.0)
        assert world.run(replace(BACKUP, namespace=8), 1.0) == [Step.STOP, Step.START, Step.EMPTY_LIST, Step.ASK]

    def test_a_namespace_that_went_and_came_back(self) -> None:
        world = World()
        world.run(BACKUP, 5.0)
        assert world.run(None, 1.0) == [Step.STOP]
        assert world.run(BACKUP, 1.0) == [Step.START, Step.EMPTY_LIST, Step.ASK]
        assert world.restarts == {}
