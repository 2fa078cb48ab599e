"""The planner against a model of the kernel (`kernel`): every plan is accepted, converges, and may stop anywhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from proxypool.core.model import Snapshot
from proxypool.core.node_scene import root_scene, subnet_scene
from proxypool.core.planner import ChangeSet, MakeNamespace, Put, Remove, RemoveNamespace, plan
from proxypool.core.scene import (
    Address,
    AddressSet,
    AnyObject,
    Chain,
    Eni,
    Neighbour,
    Route,
    Scene,
    Sysctl,
    Table,
    Tunnel,
    UnknownRule,
)
from tests.property.effort import effort
from tests.property.kernel import Kernel, Refused
from tests.property.pools import FACTS, HOST_FACTS, groups_of, pools
from tests.unit.builders import host_scene_of

FOREIGN = (
    Route(IPv4Network("10.0.0.0/8"), device="docker0"),
    Table("security", (Chain("KUBE-FORWARD", "FORWARD", ()),)),
    Tunnel("wg0", "wireguard", IPv4Address("10.1.1.1"), tunnel_key=0, mtu=1420),
)


def node_scenes(pool: Snapshot) -> dict[str | None, Scene]:
    """All scenes of node n1: its own namespace and its subnets'."""
    assert pool.spec is not None
    scenes = [subnet_scene(FACTS, pool, pair) for pair in pool.pairs_on(FACTS.name)]
    return {scene.namespace: scene for scene in (root_scene(FACTS, pool.spec, pool), *scenes)}


def host_scenes(pool: Snapshot) -> dict[str | None, Scene]:
    """The scene of host h1."""
    assert pool.spec is not None
    return {None: host_scene_of(pool, groups_of(pool), facts=HOST_FACTS, spec=pool.spec)}


@st.composite
def changes(draw: st.DrawFn) -> tuple[Scene, Scene]:
    """A scene and the one that another state of the pool asks for in the same namespace."""
    scenes: Callable[[Snapshot], dict[str | None, Scene]] = draw(st.sampled_from((node_scenes, host_scenes)))
    before, after = scenes(draw(pools())), scenes(draw(pools()))
    names = sorted(before.keys() | after.keys(), key=str)
    name = draw(st.sampled_from(names))
    absent = Scene(name, {}, exists=False)
    return before.get(name, absent), after.get(name, absent)


def kernel_with(scene: Scene) -> Kernel:
    """A kernel that is as a scene asks, and has objects of others."""
    kernel = Kernel(scene.namespace, FOREIGN)
    settle(kernel, scene)
    return kernel


def settle(kernel: Kernel, desired: Scene) -> None:
    """Plan once and apply; nothing is left to do then."""
    for operation in plan(desired, kernel.observe()):
        kernel.apply(operation)
    assert plan(desired, kernel.observe()) == ()


def is_as(kernel: Kernel, desired: Scene) -> bool:
    return kernel.observe().exists == desired.exists and kernel.objects == dict(desired.objects)


@given(changes())
@effort(60)
def test_nothing_is_planned_for_what_is_as_desired(change: tuple[Scene, Scene]) -> None:
    for scene in change:
        assert plan(scene, scene) == ()


@given(changes())
@effort(100)
def test_every_plan_is_accepted_by_the_kernel_and_reaches_what_is_desired(change: tuple[Scene, Scene]) -> None:
    before, after = change
    kernel = kernel_with(before)
    assert is_as(kernel, before)
    settle(kernel, after)
    assert is_as(kernel, after)


@given(changes(), st.data())
@effort(100)
def test_any_prefix_of_a_plan_and_a_new_plan_converge(change: tuple[Scene, Scene], data: st.DataObject) -> None:
    """The daemon may be killed between any two operations, and the pool may change its mind meanwhile."""
    before, after = change
    kernel = kernel_with(before)
    operations = plan(after, kernel.observe())
    for operation in operations[: data.draw(st.integers(0, len(operations)))]:
        kernel.apply(operation)
    goal = data.draw(st.sampled_from((after, before)))
    settle(kernel, goal)
    assert is_as(kernel, goal)


@given(changes())
@effort(60)
def test_an_operation_done_twice_is_the_same_as_once(change: tuple[Scene, Scene]) -> None:
    """An answer of the kernel may be lost. What goes with its namespace cannot be removed twice from it."""
    before, after = change
    once, twice = kernel_with(before), kernel_with(before)
    for operation in plan(after, once.observe()):
        once.apply(operation)
        twice.apply(operation)
        if not isinstance(operation, RemoveNamespace):
            twice.apply(operation)
        assert (once.exists, once.objects) == (twice.exists, twice.objects)


@given(changes(), st.data())
@effort(60)
def test_any_drift_is_repaired(change: tuple[Scene, Scene], data: st.DataObject) -> None:
    """Objects removed or changed behind our back, devices with all that hangs on them."""
    _, desired = change
    kernel = kernel_with(desired)
    keys = st.lists(st.sampled_from(sorted(kernel.objects)), max_size=6) if kernel.objects else st.just([])
    for key in data.draw(keys):
        item = kernel.objects.get(key)
        if item is not None:
            drift(kernel, item, data)
    settle(kernel, desired)
    assert is_as(kernel, desired)


def drift(kernel: Kernel, item: AnyObject, data: st.DataObject) -> None:
    """Somebody changes an object of ours as the kernel lets them."""
    changed = spoilt(item) if data.draw(st.booleans()) else None
    with contextlib.suppress(Refused):
        if changed is None or isinstance(item, Tunnel):
            kernel.apply(Remove(item))
        if changed is not None:
            kernel.apply(Put(changed))


def spoilt(item: AnyObject) -> AnyObject | None:
    """The same object with another content."""
    match item:
        case Tunnel():
            return replace(item, tunnel_key=item.tunnel_key + 1)
        case Route(device=str()):
            return replace(item, is_onlink=not item.is_onlink, gateway=None)
        case Neighbour():
            return replace(item, link_address="192.168.80.99")
        case Sysctl():
            return replace(item, value="9")
        case Table(_, (first, *rest)):
            return replace(item, chains=(replace(first, rules=(UnknownRule("-j ACCEPT"), *first.rules)), *rest))
        case _:
            return None


@given(changes())
@effort(60)
def test_a_plan_names_only_what_is_desired_or_was_observed_as_ours(change: tuple[Scene, Scene]) -> None:
    """What others made is in no scene, so it can be in no plan, and it is there afterwards."""
    before, after = change
    kernel = kernel_with(before)
    observed = kernel.observe()
    for operation in plan(after, observed):
        match operation:
            case Put(item):
                assert after.objects[item.key] == item
            case Remove(item):
                assert observed.objects[item.key] == item
            case ChangeSet(name, added, removed):
                wanted, found = after.objects["set", name], observed.objects["set", name]
                assert isinstance(wanted, AddressSet)
                assert isinstance(found, AddressSet)
                assert added == wanted.members - found.members
                assert removed == found.members - wanted.members
            case MakeNamespace(name) | RemoveNamespace(name):
                assert name == after.namespace
                assert name is not None
                assert name.startswith("pp-")
        kernel.apply(operation)
    assert tuple(kernel.foreign.values()) == FOREIGN


@given(changes())
@effort(60)
def test_in_a_new_namespace_no_packet_passes_before_the_filter_stands(change: tuple[Scene, Scene]) -> None:
    """Tables before links."""
    _, after = change
    if after.namespace is None or not after.exists:
        return
    put = [operation.item for operation in plan(after, Scene.absent(after.namespace)) if isinstance(operation, Put)]
    first_link = next(index for index, item in enumerate(put) if isinstance(item, Eni | Tunnel))
    last_table = max(index for index, item in enumerate(put) if isinstance(item, Table))
    assert last_table < first_link


def test_a_renumbered_card_takes_its_routes_along_and_gets_them_back() -> None:
    """The kernel flushes a device's routes with its last address."""
    card, old = Eni("eni0", "eth1"), Address("eni0", IPv4Interface("172.16.101.11/24"))
    new = Address("eni0", IPv4Interface("172.16.101.12/24"))
    route = Route(IPv4Network("10.8.0.0/16"), device="eni0", gateway=IPv4Address("172.16.101.1"))
    kernel = kernel_with(Scene.of("pp-s1", (card, old, route)))
    desired = Scene.of("pp-s1", (card, new, route))
    settle(kernel, desired)
    assert is_as(kernel, desired)


def test_another_card_gets_the_old_ones_address_before_a_new_route() -> None:
    """The address is as desired in both scenes, but went with the old card; a route by its gateway needs it."""
    old, new = Eni("eni0", "eth1"), Eni("eni0", "eth2")
    address = Address("eni0", IPv4Interface("172.16.101.11/24"))
    route = Route(IPv4Network("10.8.0.0/16"), device="eni0", gateway=IPv4Address("172.16.101.1"))
    kernel = kernel_with(Scene.of("pp-s1", (old, address)))
    desired = Scene.of("pp-s1", (new, address, route))
    settle(kernel, desired)
    assert is_as(kernel, desired)
