"""Whatever becomes of a conntrackd and of its member's role, its list is right in the end, and harmless on the way."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from proxypool.core.sync_supervision import MAX_PAUSE_S, Step, SyncState, SyncWish
from tests.property.effort import effort
from tests.unit.test_sync_supervision import BACKUP, MASTER, PLANNED, UNKNOWN, World

ROLES = {"master": MASTER, "planned master": PLANNED, "backup": BACKUP, "not known": UNKNOWN, "not served": None}
TROUBLES = ("dies", "hangs", "is slow", "loses events", "loses messages", "daemon restarts", "namespace is made anew")


@dataclass
class Listed(World):
    """Also knows what the process holds for its own, and what it told."""

    owns_all: bool = False
    has_told_all: bool = False
    is_slow_once: bool = False

    def _do(self, step: Step, wish: SyncWish | None) -> None:
        if wish is not None and wish.is_master is False:
            assert step not in {Step.TELL, Step.READ_KERNEL}, "a backup has nothing of its own"
        if self.is_slow_once and step not in {Step.START, Step.STOP}:
            self.is_slow_once = False
            self.supervision.silent("no answer", self.now)
            return
        is_done = not self.is_silent or step is Step.START
        super()._do(step, wish)
        if not is_done:
            return
        match step:
            case Step.START:
                self.owns_all, self.has_told_all = True, False
            case Step.READ_KERNEL:
                self.owns_all = True
            case Step.EMPTY_LIST:
                self.owns_all = False
            case Step.TELL:
                assert self.owns_all, "it tells a part for all"
                self.has_told_all = True
            case _:
                pass

    def suffer(self, trouble: str) -> None:
        match trouble:
            case "dies":
                self.process = None
            case "hangs":
                self.is_silent = self.process is not None
            case "is slow":
                self.is_slow_once = True
            case "loses events":
                self.counts = replace(self.counts, overruns=self.counts.overruns + 1)
            case "loses messages":
                self.counts = replace(self.counts, queue_drops=self.counts.queue_drops + 1)
            case "daemon restarts":
                self.supervision = type(self.supervision)()
            case _:
                pass


@given(
    st.lists(
        st.tuples(st.sampled_from(tuple(ROLES)), st.sampled_from((*TROUBLES, "")), st.integers(0, 40)), max_size=12
    ),
    st.sampled_from(("master", "planned master", "backup", "not served")),
)
@effort(100)
def test_in_the_end_the_list_is_the_roles(story: list[tuple[str, str, int]], last: str) -> None:
    world, namespace = Listed(), BACKUP.namespace

    def wish(role: str) -> SyncWish | None:
        found = ROLES[role]
        return found and replace(found, namespace=namespace)

    for role, trouble, quarters in story:
        if trouble == "namespace is made anew":
            namespace += 1
        world.suffer(trouble)
        world.run(wish(role), quarters / 4)
    wanted = wish(last)
    world.run(wanted, 4 * MAX_PAUSE_S)
    if wanted is None:
        assert world.process is None
        return
    assert world.process is not None
    assert world.process.namespace == namespace
    assert world.state is SyncState.OK
    assert world.owns_all is wanted.is_master
    if wanted.is_master:
        assert world.has_told_all
