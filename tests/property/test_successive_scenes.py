"""Scenes of a node that follow one another take over what did not change, and are as if each had been made anew."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proxypool.core.composite import Composite
from proxypool.core.model import HostSpec, Snapshot
from proxypool.core.node_scene import HostChanges, RootScenes, SubnetScenes, root_scene, subnet_scene
from proxypool.core.planner import plan
from proxypool.core.scene import Scene
from tests.property.effort import effort
from tests.property.kernel import Kernel
from tests.property.pools import FACTS, hosts, pools
from tests.unit import builders


@st.composite
def successions(draw: st.DrawFn) -> list[Snapshot]:
    """Snapshots as the mirror makes them: other hosts each time, some of them, as the same objects, in some subnets."""
    first = draw(pools())
    found = [first]
    for _ in range(draw(st.integers(1, 4))):
        last = found[-1]
        every = dict(last.hosts)
        for host in draw(hosts):
            every[host.id] = host if draw(st.booleans()) else moved(host)
        for name in draw(st.sets(st.sampled_from(sorted(every)))) if every else ():
            del every[name]
        names = sorted({*every, *last.hosts, "h9"})
        users = {
            subnet: draw(st.frozensets(st.sampled_from(names))) if draw(st.booleans()) else users_before
            for subnet, users_before in last.subnet_hosts.items()
        }
        known = last.hosts if draw(st.booleans()) else every
        found.append(replace(last if draw(st.booleans()) else first, hosts=known, subnet_hosts=users))
    return found


def moved(host: HostSpec) -> HostSpec:
    """The same host on another machine."""
    return replace(host, underlay=host.underlay + 100)


@given(successions())
@effort(150)
def test_each_scene_is_as_if_it_were_the_first(snapshots: list[Snapshot]) -> None:
    """Of hosts whose document is not there it says so, and nothing leads to them."""
    changes = HostChanges()
    root = RootScenes(FACTS, changes)
    subnets: dict[str, SubnetScenes] = {}
    for snapshot in snapshots:
        assert snapshot.spec is not None
        assert root.next(snapshot.spec, snapshot) == root_scene(FACTS, snapshot.spec, snapshot)
        for pair in snapshot.pairs_on(FACTS.name):
            scenes = subnets.setdefault(pair.subnet, SubnetScenes(FACTS, changes))
            assert scenes.next(snapshot, pair) == subnet_scene(FACTS, snapshot, pair)
            assert scenes.unknown == snapshot.subnet_hosts[pair.subnet] - snapshot.hosts.keys()


@given(successions())
@effort(100)
def test_the_difference_of_two_scenes_leads_from_one_to_the_other(snapshots: list[Snapshot]) -> None:
    """Planned by parts, it is what is planned by looking at every object."""
    scenes = SubnetScenes(FACTS)
    pair = next(iter(snapshots[0].pairs_on(FACTS.name)), None)
    if pair is None:
        return
    last = scenes.next(snapshots[0], pair)
    kernel = Kernel(last.namespace)
    for operation in plan(last, kernel.observe()):
        kernel.apply(operation)
    for snapshot in snapshots[1:]:
        scene = scenes.next(snapshot, pair)
        operations = plan(scene, last)
        assert operations == plan(scene, Scene(last.namespace, dict(last.objects)))
        for operation in operations:
            kernel.apply(operation)
        assert kernel.objects == dict(scene.objects)
        last = scene


@given(pools())
@effort(40)
def test_what_did_not_change_is_the_same_scene(pool: Snapshot) -> None:
    """So that nobody has to compare it."""
    assert pool.spec is not None
    root = RootScenes(FACTS)
    assert root.next(pool.spec, pool) is root.next(pool.spec, replace(pool, elections={}))
    for pair in pool.pairs_on(FACTS.name):
        scenes = SubnetScenes(FACTS)
        assert scenes.next(pool, pair) is scenes.next(replace(pool, elections={}), pair)


def test_one_more_host_makes_one_more_part() -> None:
    """The others' parts are taken over as they are."""
    known = [builders.host(f"h{n}", f"192.168.80.{n}", f"100.64.0.{n}") for n in range(1, 9)]
    p1 = builders.pair()
    before, after = builders.snapshot(pairs=[p1], hosts=known[:7]), builders.snapshot(pairs=[p1], hosts=known)
    scenes = SubnetScenes(FACTS)
    old, new = scenes.next(before, p1).objects, scenes.next(after, p1).objects
    assert isinstance(old, Composite)
    assert isinstance(new, Composite)
    assert {name for name, part in new.parts.items() if old.parts.get(name) is not part} == {"h8"}
    assert old == dict(subnet_scene(FACTS, before, p1).objects)
    assert old != new
