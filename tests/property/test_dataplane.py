"""The dataplane thread over a model of the kernel: whatever is wanted, one wish after the other, and whatever happens
in between, the kernel ends as last wanted; and what others made is as it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from proxypool.core.errors import ProxypoolError, TransientError
from proxypool.core.planner import MakeNamespace, Operation, Remove
from proxypool.core.scene import AnyObject, Scene
from proxypool.daemons.dataplane import Dataplane, Reconciled
from proxypool.daemons.scopes import MAX_RETRY_S, RESYNC_S, VERIFY_AFTER_S
from tests.property.effort import effort
from tests.property.kernel import Kernel, Refused
from tests.property.pools import pools
from tests.property.test_planner import FOREIGN, drift, host_scenes, node_scenes

SCOPE = "s1"


@dataclass
class ModelDriver:
    """`Driver` over one modelled namespace, which can be told to refuse what comes next."""

    kernel: Kernel
    identity: int = 1
    looks: int = 0
    refuse: int = 0
    """Operations that will be refused for no reason that anybody could know."""

    def identity_of(self, namespace: str | None) -> int | None:
        return self.identity if self.kernel.exists else None

    def observe(self, desired: Scene) -> Scene:
        self.looks += 1
        return self.kernel.observe()

    def execute(self, namespace: str | None, batch: Sequence[Operation]) -> list[ProxypoolError | None]:
        return [self._apply(operation) for operation in batch]

    def _apply(self, operation: Operation) -> ProxypoolError | None:
        if self.refuse:
            self.refuse -= 1
            return TransientError("refused")
        if isinstance(operation, MakeNamespace):
            self.identity += 1
        try:
            self.kernel.apply(operation)
        except Refused as error:
            return TransientError(str(error))
        return None


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class World:
    """A dataplane without a thread."""

    driver: ModelDriver
    clock: Clock = field(default_factory=Clock)
    results: list[Reconciled] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dataplane = Dataplane(self.results.append, driver=self.driver, clock=self.clock)

    def work(self) -> None:
        """All that is to be done at this moment."""
        while self.dataplane.work():
            pass

    def pass_time(self, seconds: float) -> None:
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now = min(end, self.clock.now + 0.1)
            self.work()

    def is_as(self, desired: Scene) -> bool:
        kernel = self.driver.kernel
        return kernel.exists == desired.exists and kernel.objects == dict(desired.objects)


@st.composite
def wishes(draw: st.DrawFn) -> list[Scene]:
    """Scenes of one namespace, as pools ask for it one after the other."""
    scenes = draw(st.sampled_from((node_scenes, host_scenes)))
    every = [scenes(draw(pools())) for _ in range(draw(st.integers(2, 5)))]
    name = draw(st.sampled_from(sorted({name for scene in every for name in scene}, key=str)))
    return [scene.get(name, Scene(name, {}, exists=name is None)) for scene in every]


def world_of(scene: Scene) -> World:
    return World(ModelDriver(Kernel(scene.namespace, FOREIGN)))


def touch_something(world: World, data: st.DataObject) -> None:
    """Somebody changes an object of ours, and the kernel tells."""
    kernel = world.driver.kernel
    if kernel.objects:
        item: AnyObject = kernel.objects[data.draw(st.sampled_from(sorted(kernel.objects)))]
        drift(kernel, item, data)
        world.dataplane.touch(SCOPE)


def replace_namespace(world: World) -> None:
    """Somebody removes the namespace and makes an empty one of ours under its name."""
    kernel = world.driver.kernel
    if kernel.namespace is not None and kernel.exists:
        kernel.objects.clear()
        world.driver.identity += 1
        world.dataplane.touch(SCOPE)


@given(wishes(), st.data())
@effort(80)
def test_whatever_happens_between_wishes_the_last_one_is_fulfilled(scenes: list[Scene], data: st.DataObject) -> None:
    world = world_of(scenes[0])
    for scene in scenes:
        world.dataplane.want(SCOPE, scene)
        match data.draw(st.sampled_from(("nothing", "work", "time", "drift", "refuse", "replace"))):
            case "work":
                world.work()
            case "time":
                world.pass_time(data.draw(st.sampled_from((0.1, VERIFY_AFTER_S + 0.2))))
            case "drift":
                world.work()
                touch_something(world, data)
            case "refuse":
                world.driver.refuse = data.draw(st.integers(1, 4))
                world.work()
            case "replace":
                world.work()
                replace_namespace(world)
            case _:
                pass
        assert tuple(world.driver.kernel.foreign.values()) == FOREIGN
    world.pass_time(MAX_RETRY_S + 2 * VERIFY_AFTER_S)
    assert world.is_as(scenes[-1])
    assert not world.results[-1].problems
    assert tuple(world.driver.kernel.foreign.values()) == FOREIGN


@given(wishes())
@effort(60)
def test_a_wish_after_one_that_stands_is_fulfilled_without_a_look_and_seen_soon_after(scenes: list[Scene]) -> None:
    """And nothing of it is taken for a repair."""
    world = world_of(scenes[0])
    for mark, scene in enumerate(scenes):
        world.dataplane.want(SCOPE, scene, mark)
        looks, had_base = world.driver.looks, mark > 0 and scenes[mark - 1].exists
        world.work()
        assert world.is_as(scene)
        if had_base and scene.exists:
            assert world.driver.looks == looks
        else:
            assert world.driver.looks > looks or scene == scenes[mark - 1]
    looks = world.driver.looks
    was_short = looks_are_due(world)
    world.pass_time(VERIFY_AFTER_S + 0.2)
    assert (world.driver.looks > looks) == was_short
    assert not any(result.is_repair or result.problems for result in world.results)


def looks_are_due(world: World) -> bool:
    """Whether anything was written that was not seen since."""
    scope = world.dataplane._scopes.get(SCOPE)
    return scope is not None and bool(scope.belief.unseen)


@given(wishes(), st.data())
@effort(60)
def test_what_somebody_spoils_between_wishes_is_repaired_in_time_and_counted(
    scenes: list[Scene], data: st.DataObject
) -> None:
    """A stream of wishes, ten a second, does not put it off."""
    first = scenes[0]
    world = world_of(first)
    world.dataplane.want(SCOPE, first)
    world.pass_time(1.0)
    keys = sorted(first.objects)
    if not keys or not first.exists:
        return
    spoilt = first.objects[data.draw(st.sampled_from(keys))]
    with contextlib.suppress(Refused):
        world.driver.kernel.apply(Remove(spoilt))
    if world.is_as(first):
        return
    world.dataplane.touch(SCOPE)
    for mark in range(1, 11):
        world.dataplane.want(SCOPE, first, mark)
        world.pass_time(0.1)
    assert world.is_as(first)
    assert sum(result.is_repair for result in world.results) == 1


@given(wishes(), st.data())
@effort(40)
def test_what_was_never_seen_in_place_is_put_without_counting_a_repair(
    scenes: list[Scene], data: st.DataObject
) -> None:
    """The kernel said yes and did nothing."""
    first, second = scenes[:2]
    world = world_of(first)
    world.dataplane.want(SCOPE, first)
    world.pass_time(1.0)
    world.dataplane.want(SCOPE, second)
    fresh = [item for key, item in second.objects.items() if first.objects.get(key) != item]
    if not (first.exists and second.exists and fresh):
        return
    world.work()
    lost = data.draw(st.sampled_from(sorted(fresh, key=lambda item: item.key)))
    world.driver.kernel.objects.pop(lost.key, None)
    world.pass_time(VERIFY_AFTER_S + 0.5)
    assert world.is_as(second)
    assert not any(result.is_repair for result in world.results)


def test_nobody_looks_while_nothing_happens() -> None:
    """But now and then, as notifications can be lost."""
    scene = Scene.of(None, ())
    world = world_of(scene)
    world.dataplane.want(SCOPE, scene)
    world.pass_time(1.0)
    assert world.driver.looks == 1
    world.pass_time(RESYNC_S + 1.0)
    assert world.driver.looks == 2


def test_the_result_of_a_wish_carries_its_mark() -> None:
    scene = Scene.of(None, ())
    world = world_of(scene)
    for mark in (7, 8):
        world.dataplane.want(SCOPE, scene, mark)
        world.work()
    assert [result.mark for result in world.results] == [7, 8]


def test_a_wish_that_asks_for_the_same_is_no_work() -> None:
    scene = Scene.of(None, ())
    world = world_of(scene)
    world.dataplane.want(SCOPE, scene)
    world.work()
    world.dataplane.want(SCOPE, Scene.of(None, ()))
    assert not world.dataplane.work()
