"""Edits of the pool: checked as a whole, atomic, and without races."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network

import msgspec
import pytest

from proxypool.adapters.zookeeper import LayoutTooNew, NotFound, PoolMissing, PoolStore
from proxypool.adapters.zookeeper import editing as editing_module
from proxypool.core.draining import Risk
from proxypool.core.errors import InvalidInput
from proxypool.core.model import TunnelKind
from proxypool.core.requests import PoolRequest, SubnetRequest
from tests.contract.conftest import Connect
from tests.contract.zk import PoolClient, pair_request, pool_request, subnet_request

replace = msgspec.structs.replace


def whats(changes: object) -> list[str]:
    assert isinstance(changes, list)
    return [change.what for change in changes]


def test_a_pool_that_is_not_there_is_said_to_be_missing(connect: Connect) -> None:
    """With what to do about it."""
    store = connect().store
    with pytest.raises(PoolMissing, match="pool init"):
        store.read_snapshot()
    with pytest.raises(PoolMissing):
        store.add_subnet(subnet_request())


def test_init_is_idempotent_and_keeps_what_it_is_not_told(connect: Connect) -> None:
    """Kind and range change only while there is no pair."""
    store = connect().store
    assert whats(store.init_pool(PoolRequest(tunnel=TunnelKind.VXLAN))) == ["added"]
    assert whats(store.init_pool(PoolRequest())) == ["unchanged"]
    narrower = IPv4Network("100.99.0.0/16")
    assert whats(store.init_pool(PoolRequest(tunnel_range=narrower))) == ["changed"]
    spec = store.read_snapshot().spec
    assert spec is not None
    assert (spec.tunnel, spec.tunnel_range) == (TunnelKind.VXLAN, narrower)
    store.apply(pool_request())
    with pytest.raises(InvalidInput, match="tunnel kind is vxlan and cannot become gre while pairs exist"):
        store.init_pool(PoolRequest(tunnel=TunnelKind.GRE))
    with pytest.raises(InvalidInput, match="tunnel range"):
        store.init_pool(PoolRequest(tunnel_range=IPv4Network("100.64.0.0/16")))
    store.pairs.remove("s1", "p1")
    assert whats(store.init_pool(PoolRequest(tunnel=TunnelKind.GRE))) == ["changed"]


def test_apply_makes_a_whole_pool_and_again_nothing(connect: Connect) -> None:
    """In one go; keys and VRRP ids are chosen once and kept."""
    store = connect().store
    assert set(whats(store.apply(pool_request(30)))) == {"added"}
    before = store.read_snapshot()
    assert set(whats(store.apply(pool_request(30)))) == {"unchanged"}
    assert store.read_snapshot() == before
    assert sorted(subnet.key for subnet in before.subnets.values()) == list(range(1, 31))
    assert sorted(pair.vrid for pair in before.all_pairs()) == list(range(1, 31))


def test_apply_changes_nothing_if_anything_is_wrong(operator: PoolClient) -> None:
    """The last subnet of the document collides with the first."""
    bad = pool_request(5)
    clash = SubnetRequest(id="clash", cidrs=(IPv4Network("172.16.1.0/25"),))
    before = operator.store.read_snapshot()
    with pytest.raises(InvalidInput, match="overlaps"):
        operator.store.apply(replace(bad, subnets=(*bad.subnets, clash)))
    assert operator.store.read_snapshot() == before


def test_a_change_of_a_subnet_is_checked_against_its_pairs(operator: PoolClient) -> None:
    """Also those that the document does not name: their cards would not reach the new CIDR."""
    with pytest.raises(InvalidInput, match="give the member node-a a gateway"):
        operator.store.apply(PoolRequest(subnets=(replace(subnet_request(), cidrs=(IPv4Network("10.1.0.0/24"),)),)))
    assert operator.store.read_snapshot().subnets["s1"].cidrs == (IPv4Network("172.16.1.0/24"),)


def test_a_dry_run_only_looks(connect: Connect) -> None:
    """Even where there is no pool yet."""
    store = connect().store
    assert set(whats(store.apply(pool_request(2), is_dry_run=True))) == {"added"}
    with pytest.raises(PoolMissing):
        store.read_snapshot()


def test_pairs_may_exchange_their_havips_in_one_document(operator: PoolClient) -> None:
    """The pool is checked as it will be, not on the way."""
    operator.store.apply(pool_request(2))
    first, second = (pair_request(number) for number in (1, 2))
    swapped = PoolRequest(
        subnets=(
            subnet_request(1, replace(first, havip=second.havip)),
            subnet_request(2, replace(second, havip=first.havip)),
        )
    )
    assert whats(operator.store.apply(swapped)) == ["unchanged", "unchanged", "changed", "unchanged", "changed"]
    assert operator.store.read_snapshot().pairs["s1"]["p1"].havip == second.havip


def test_a_document_too_large_for_one_transaction_is_written_in_parts(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is ZooKeeper's, 1 MiB; here it is made small."""
    monkeypatch.setattr(editing_module, "MAX_BYTES", 2000)
    store = connect().store
    store.apply(pool_request(20))
    assert len(store.read_snapshot().subnets) == 20


def test_adding_what_is_there_is_fine_and_something_else_of_that_name_is_not(operator: PoolClient) -> None:
    """Commands can be repeated."""
    operator.store.add_subnet(subnet_request())
    operator.store.pairs.add("s1", pair_request())
    with pytest.raises(InvalidInput, match="subnet s1 exists with other settings"):
        operator.store.add_subnet(replace(subnet_request(), cidrs=(IPv4Network("10.1.0.0/24"),)))
    with pytest.raises(InvalidInput, match="pair s1/p1 exists with other settings"):
        operator.store.pairs.add("s1", replace(pair_request(), havip=IPv4Address("192.168.9.9")))


def test_names_that_are_not_there_are_suggested(operator: PoolClient) -> None:
    """Did you mean."""
    store = operator.store
    with pytest.raises(NotFound, match="did you mean s1"):
        store.pairs.add("s11", pair_request())
    with pytest.raises(NotFound, match="did you mean s1"):
        store.remove_subnet("S1")
    with pytest.raises(NotFound, match="did you mean p1"):
        store.pairs.remove("s1", "p2")


def test_a_subnet_with_pairs_is_not_removed(operator: PoolClient) -> None:
    """The pairs go first; hosts that use it do not matter."""
    with pytest.raises(InvalidInput, match="still has the pairs p1"):
        operator.store.remove_subnet("s1")
    operator.presence.contend("s1", "p1", "node-a")
    operator.make("subnets/s1/hosts/host1")
    operator.store.pairs.remove("s1", "p1", tuple(Risk))
    operator.store.remove_subnet("s1")
    assert operator.store.read_snapshot().subnets == {}


def test_what_cannot_be_read_can_be_removed_or_written_again(operator: PoolClient) -> None:
    """A malformed pair and subnet."""
    operator.put("subnets/s1/pairs/p1", b"garbage")
    assert operator.store.read_snapshot().malformed
    assert "changed" in whats(operator.store.apply(pool_request()))
    assert not operator.store.read_snapshot().malformed
    operator.put("subnets/s1/pairs/p1", b"garbage")
    operator.store.pairs.remove("s1", "p1")
    operator.put("subnets/s1", b"garbage")
    operator.store.remove_subnet("s1")
    assert not operator.store.read_snapshot().malformed


def test_unknown_fields_are_kept(operator: PoolClient) -> None:
    """A later version wrote them; ours changes something else."""
    operator.put("subnets/s1", json.dumps({**json.loads(operator.get("subnets/s1")), "colour": "green"}).encode())
    changed = replace(subnet_request(1, pair_request()), cidrs=(IPv4Network("172.16.1.0/25"),))
    operator.store.apply(PoolRequest(subnets=(changed,)))
    after = json.loads(operator.get("subnets/s1"))
    assert (after["colour"], after["cidrs"]) == ("green", ["172.16.1.0/25"])


def test_a_later_layout_is_not_touched(operator: PoolClient) -> None:
    """Neither read nor written."""
    operator.put("version", b"2.0")
    for action in (
        operator.store.read_view,
        lambda: operator.store.apply(pool_request(2)),
        lambda: operator.store.pairs.remove("s1", "p1"),
    ):
        with pytest.raises(LayoutTooNew, match="upgrade"):
            action()
    assert operator.exists("subnets/s1/pairs/p1")


@pytest.mark.parametrize("rivals", [8])
def test_rivals_cannot_take_the_same_key_or_vrrp_id(connect: Connect, operator: PoolClient, rivals: int) -> None:
    """All add at the same moment; every number is given once."""
    clients = [connect() for _ in range(rivals)]
    errors = race(
        clients, lambda at, store: store.apply(PoolRequest(subnets=(subnet_request(10 + at, pair_request(10 + at)),)))
    )
    assert errors == []
    snapshot = operator.store.read_snapshot()
    keys = [subnet.key for subnet in snapshot.subnets.values()]
    vrids = [pair.vrid for pair in snapshot.all_pairs()]
    assert len(set(keys)) == len(keys) == rivals + 1
    assert len(set(vrids)) == len(vrids) == rivals + 1


def test_of_rivals_for_one_havip_one_wins(connect: Connect, operator: PoolClient) -> None:
    """The others are told who has it."""
    operator.store.apply(PoolRequest(subnets=tuple(subnet_request(number) for number in range(10, 14))))
    clients = [connect() for _ in range(4)]
    havip = IPv4Address("192.168.77.7")
    errors = race(
        clients, lambda at, store: store.pairs.add(f"s{10 + at}", replace(pair_request(10 + at), havip=havip))
    )
    assert len(errors) == 3
    assert all("HaVip 192.168.77.7 is in use by pair" in error for error in errors)
    assert [pair.havip for pair in operator.store.read_snapshot().all_pairs()].count(havip) == 1


def race(clients: list[PoolClient], act: Callable[[int, PoolStore], object]) -> list[str]:
    """All act at once; the errors they got."""
    errors: list[str] = []
    barrier = threading.Barrier(len(clients))

    def run(at: int, client: PoolClient) -> None:
        barrier.wait()
        try:
            act(at, client.store)
        except InvalidInput as error:
            errors.append(str(error))

    threads = [threading.Thread(target=run, args=item) for item in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors
