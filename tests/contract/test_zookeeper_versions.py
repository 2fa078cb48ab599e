"""Documents of a later version: nobody overwrites or removes them, and everything else goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from ipaddress import IPv4Address

import pytest

from proxypool import __version__
from proxypool.adapters.zookeeper.leadership import Leadership
from proxypool.core.assembly import assemble
from proxypool.core.documents import DocumentTooNew, encode
from proxypool.core.draining import Risk
from proxypool.core.model import Alive, NodeSpec
from proxypool.core.requests import PairSettings, SubnetRequest
from proxypool.core.scaling.documents import Report, Spares
from proxypool.core.scaling.requests import ScalingRequest, SparesRequest
from tests.contract.conftest import Connect
from tests.contract.test_zookeeper_cli import Cli, cli, living
from tests.contract.zk import PoolClient, pair_request, pool_request, subnet_request, wait_until

__all__ = ["cli", "living"]

PAIR = "subnets/s1/pairs/p1"
NODE = NodeSpec(id="node-a", underlay=IPv4Address("192.168.4.11"), version="0.1.0")
ALL = tuple(Risk)


def later(client: PoolClient, suffix: str) -> bytes:
    """What is at a place becomes a document of a later version; its bytes."""
    data = json.dumps({"v": 2, "said": "in another way"}).encode()
    if client.exists(suffix):
        client.put(suffix, data)
    else:
        client.make(suffix, data)
    return data


EDITS: dict[str, tuple[str, Callable[[PoolClient], object]]] = {
    "set": (PAIR, lambda client: client.store.pairs.set("s1", "p1", PairSettings(weight=3))),
    "drain": (PAIR, lambda client: client.store.pairs.drain("s1", "p1", time.time(), ALL)),
    "pause": (PAIR, lambda client: client.store.pairs.pause("s1", "p1", time.time())),
    "remove pair": (PAIR, lambda client: client.store.pairs.remove("s1", "p1", ALL)),
    "add pair": (PAIR, lambda client: client.store.pairs.add("s1", pair_request())),
    "apply": ("subnets/s1", lambda client: client.store.apply(pool_request())),
    "scale": ("subnets/s1", lambda client: client.store.scaling.set("s1", ScalingRequest(min_pairs=1))),
    "remove subnet": ("subnets/s2", lambda client: client.store.remove_subnet("s2")),
    "spec": ("spec", lambda client: client.store.init_pool(pool_request())),
    "spares": (
        "subnets/s1/spares",
        lambda client: client.store.scaling.add_spares("s1", SparesRequest(havips=(IPv4Address("192.168.4.77"),))),
    ),
    "cordon": ("nodes/node-a/orders", lambda client: client.store.scaling.cordon("node-a", time.time(), "kim", "")),
}


@pytest.mark.parametrize("edit", list(EDITS))
def test_an_edit_of_a_later_document_is_refused_and_leaves_it(operator: PoolClient, edit: str) -> None:
    operator.store.add_subnet(subnet_request(2))
    operator.registry.register_node(NODE, Alive(underlay=NODE.underlay))
    suffix, act = EDITS[edit]
    data = later(operator, suffix)
    with pytest.raises(Exception, match="written by a later proxypool"):
        act(operator)
    assert operator.get(suffix) == data


def test_a_subnet_whose_spares_are_of_a_later_version_is_not_removed(operator: PoolClient) -> None:
    operator.store.add_subnet(subnet_request(2))
    data = later(operator, "subnets/s2/spares")
    with pytest.raises(DocumentTooNew):
        operator.store.remove_subnet("s2")
    assert operator.get("subnets/s2/spares") == data
    assert operator.exists("subnets/s2")


def test_everything_else_can_still_be_edited(operator: PoolClient) -> None:
    """A document that nobody here understands stops only what is about it."""
    later(operator, PAIR)
    operator.store.add_subnet(SubnetRequest(id="s3", cidrs=subnet_request(3).cidrs))
    assert "s3" in operator.store.read_snapshot().subnets


def test_daemons_go_on_with_the_last_version_that_they_could_read(operator: PoolClient, connect: Connect) -> None:
    """And say which it is; a daemon that starts knows that there is something that it does not know."""
    wait_until(lambda: operator.mirror.snapshot.pairs, "the pair is read")
    later(operator, PAIR)
    path = operator.session.layout.path(PAIR)
    wait_until(lambda: operator.mirror.snapshot.too_new == {path}, "the mirror sees it")
    assert "p1" in operator.mirror.snapshot.pairs["s1"]
    fresh = connect()
    wait_until(lambda: fresh.mirror.snapshot.too_new == {path}, "the new mirror sees it")
    assert fresh.mirror.snapshot.pairs == {}
    assert fresh.mirror.snapshot.unread_subnets == {"s1"}


def test_status_tells_it_from_a_document_that_is_broken(operator: PoolClient) -> None:
    later(operator, PAIR)
    operator.put("subnets/s1", b"{")
    found = {check.code: check for check in assemble(operator.store.read_view(), time.time()).checks}
    assert found["PP028"].subject.endswith(PAIR)
    assert found["PP009"].subject.endswith("subnets/s1")
    assert "upgrade" in found["PP028"].message


def test_a_machine_that_went_back_lives_and_leaves_its_later_document(operator: PoolClient) -> None:
    operator.registry.register_node(NODE, Alive(underlay=NODE.underlay))
    data = later(operator, "nodes/node-a")
    operator.registry.register_node(NODE, Alive(underlay=NODE.underlay, version="0.1.0"))
    assert operator.get("nodes/node-a") == data
    assert json.loads(operator.get("nodes/node-a/alive"))["version"] == "0.1.0"


def test_a_later_note_of_a_switchover_keeps_nobody_from_the_next(operator: PoolClient) -> None:
    """Who is master must not wait for an upgrade. The note stays."""
    for node in ("node-a", "node-b"):
        operator.presence.contend("s1", "p1", node)
    wait_until(lambda: len(operator.nodes_of()) == 2, "both stand")
    data = later(operator, f"{PAIR}/switchover")
    first = operator.elected()
    done = operator.store.elections.switchover(operator.store.read_snapshot(), "s1", "p1", None)
    assert (done.old, done.is_needed) == (first, True)
    assert operator.get(f"{PAIR}/switchover") == data


def test_controllers_say_their_version(operator: PoolClient, connect: Connect) -> None:
    """An older one wrote its name alone; that is no broken document."""
    leadership = Leadership(connect().session, "c1", lambda _: None)
    leadership.start()
    wait_until(lambda: leadership.leader is not None, "it leads")
    operator.make("controller/election/c0-0000000099", b"c0")
    found = assemble(operator.store.read_view(), time.time())
    assert {one.version: one.controllers for one in found.versions} == {"": ("c0",), __version__: ("c1",)}
    assert [check.code for check in found.checks if check.code == "PP009"] == []
    leadership.stop()


def test_unknown_fields_at_every_level_survive_edits_by_this_version(operator: PoolClient) -> None:
    """Of a pair and its members, of a subnet and its scaling, of spares, of what a node registers."""
    operator.store.scaling.set("s1", ScalingRequest(min_pairs=1))
    operator.store.scaling.add_spares("s1", SparesRequest(members=pair_request(1, "p9", ("node-c", "node-d")).members))
    operator.registry.register_node(NODE, Alive(underlay=NODE.underlay))
    for suffix in (PAIR, "subnets/s1", "subnets/s1/spares", "nodes/node-a"):
        document = json.loads(operator.get(suffix))
        document["colour"] = "blue"
        for part in (document.get("scaling"), *document.get("members", ())):
            if part is not None:
                part["colour"] = "green"
        operator.put(suffix, json.dumps(document).encode())
    operator.store.pairs.set("s1", "p1", PairSettings(weight=3))
    operator.store.scaling.set("s1", ScalingRequest(max_pairs=5))
    operator.store.scaling.add_spares("s1", SparesRequest(havips=(IPv4Address("192.168.4.77"),)))
    operator.registry.register_node(NODE, Alive(underlay=NODE.underlay, version="0.1.1"))
    pair, subnet, spares, node = (
        json.loads(operator.get(suffix)) for suffix in (PAIR, "subnets/s1", "subnets/s1/spares", "nodes/node-a")
    )
    assert [one["colour"] for one in (pair, subnet, spares, node)] == ["blue"] * 4
    assert [member["colour"] for member in (*pair["members"], *spares["members"])] == ["green"] * 4
    assert (subnet["scaling"]["colour"], subnet["scaling"]["max_pairs"], pair["weight"]) == ("green", 5, 3)


def test_what_says_how_things_are_is_written_whole() -> None:
    """A field of a report that nobody renews would be a lie."""
    assert "colour" not in json.loads(encode(Report(at=1.0)))
    assert encode(Spares()) == encode(Spares(), b"{}")


def test_upgrade_check_of_a_pool_that_is_well(cli: Cli, living: tuple[PoolClient, PoolClient]) -> None:
    """And its words for a version that is none, and a pool that there is not."""
    done = cli("upgrade-check", "--to", "later")
    assert (done.code, "is not a version" in done.err) == (1, True)
    found = json.loads(cli("upgrade-check", "-o", "json").out)
    assert "PU009" in {one["code"] for one in found["findings"]}
    missing = cli("--pool", "nowhere", "upgrade-check")
    assert (missing.code, "pool init" in missing.err) == (1, True)
