"""Documents of scaling in a real ZooKeeper: written without races, read where they are needed, and shown."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from proxypool.adapters.zookeeper import Extent, NotFound, PoolHistory, PoolMirror, PoolSession
from proxypool.adapters.zookeeper.layout import action_suffix
from proxypool.cli.main import app
from proxypool.core.config import ZooKeeperConfig
from proxypool.core.documents import encode
from proxypool.core.draining import Risk
from proxypool.core.errors import InvalidInput
from proxypool.core.history import Record
from proxypool.core.model import Alive, MemberSpec, NodeSpec, PairState, Snapshot
from proxypool.core.requests import PoolRequest
from proxypool.core.scaling.documents import Action, ActionKind, NodeOrders, Report, Spares, Step, SubnetVerdict
from proxypool.core.scaling.model import ScalingMode
from proxypool.core.scaling.requests import ScalingRequest, SparesRequest, card_of
from tests.contract.conftest import Connect
from tests.contract.zk import PoolClient, ZooKeeperServer, pair_request, subnet_request, wait_until

replace = msgspec.structs.replace
Follow = Callable[..., tuple[PoolMirror, list[Snapshot]]]


def card(node: str, address: str, eni: str = "eni9") -> MemberSpec:
    return MemberSpec(node=node, eni=eni, address=IPv4Interface(address))


SPARES = SparesRequest(
    members=(card("node-c", "172.16.1.21/24"), card("node-d", "172.16.1.22/24")), havips=(IPv4Address("192.168.4.200"),)
)


@pytest.fixture
def nodes(operator: PoolClient) -> PoolClient:
    """node-a and node-b are registered."""
    for number, name in enumerate(("node-a", "node-b"), 1):
        spec = NodeSpec(id=name, underlay=IPv4Address("192.168.5.0") + number)
        operator.registry.register_node(spec, Alive(underlay=spec.underlay))
    return operator


@pytest.fixture
def cli(shared_server: ZooKeeperServer, pool: str, tmp_path: Path) -> Callable[..., str]:
    """The command; what it prints. It must end with the code that is asked for."""
    (tmp_path / "empty.toml").touch()
    environment = {
        "PROXYPOOL_ZOOKEEPER": shared_server.address,
        "PROXYPOOL_POOL": pool,
        "PROXYPOOL_CONFIG": str(tmp_path / "empty.toml"),
        "SUDO_USER": "ann",
    }

    def run(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, words, env=environment, prog_name="proxypool")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert result.exit_code == code, result.output
        return result.stderr if code else result.stdout

    return run


def controller(client: PoolClient, **subnets: SubnetVerdict) -> None:
    """What a leading controller leaves in ZooKeeper."""
    report = Report(leader="ctl-1:7", at=time.time(), round_s=0.2, provider="spare", subnets=subnets)
    for suffix in ("controller", "controller/election", "controller/election/c-0000000000", "controller/actions"):
        client.make(suffix)
    client.make("controller/report", encode(report))


def an_action(**fields: object) -> Action:
    now = time.time()
    values: dict[str, object] = {
        "id": "1-s1",
        "kind": ActionKind.ADD,
        "subnet": "s1",
        "pair": "p2",
        "step": Step.READY,
        "reason": "load",
        "began": now - 20,
        "step_since": now - 8,
        **fields,
    }
    return Action(**values)  # type: ignore[arg-type]  # fields of the document


# ---- the size of a subnet --------------------------------------------------------------------------------------------


def test_a_size_is_set_kept_and_changed(operator: PoolClient) -> None:
    """By `set`; what is not named stays, also when the subnet is described again."""
    edits = operator.store.scaling
    spec, is_changed = edits.set("s1", ScalingRequest(min_pairs=2))
    assert (spec.min_pairs, spec.max_pairs, spec.mode, is_changed) == (2, 8, ScalingMode.OBSERVE, True)
    assert edits.set("s1", ScalingRequest(min_pairs=2)) == (spec, False)
    planned, _ = edits.plan("s1", ScalingRequest(mode=ScalingMode.ENFORCE))
    assert planned.mode is ScalingMode.ENFORCE
    assert operator.store.read_snapshot().subnets["s1"].scaling == spec, "a plan writes nothing"
    operator.store.apply(PoolRequest(subnets=(subnet_request(1),)))
    operator.store.pairs.add("s1", pair_request())
    assert operator.store.read_snapshot().subnets["s1"].scaling == spec
    with pytest.raises(InvalidInput, match="at least 9 pairs and at most 8: raise the maximum"):
        edits.set("s1", ScalingRequest(min_pairs=9))
    with pytest.raises(NotFound, match="did you mean s1"):
        edits.set("s11", ScalingRequest(min_pairs=1))


def test_apply_carries_a_size_and_spares(operator: PoolClient) -> None:
    """Spares that it names are all the subnet has; without that field they stay."""
    wanted = replace(subnet_request(1), scaling=ScalingRequest(min_pairs=1, max_pairs=3), spares=SPARES)
    changes = operator.store.apply(PoolRequest(subnets=(wanted,)))
    assert [(change.kind, change.what) for change in changes][1:] == [("subnet", "changed"), ("spares", "added")]
    assert {change.what for change in operator.store.apply(PoolRequest(subnets=(wanted,)))} == {"unchanged"}
    operator.store.apply(PoolRequest(subnets=(subnet_request(1),)))
    found, _ = operator.store.scaling.spares("s1")["s1"]
    assert found == Spares(members=SPARES.members, havips=SPARES.havips)
    operator.store.apply(PoolRequest(subnets=(replace(wanted, spares=SparesRequest()),)))
    assert operator.store.scaling.spares("s1")["s1"][0] == Spares()


def test_apply_makes_a_pool_with_spares_from_nothing(connect: Connect) -> None:
    """Pool, subnet and spares in one transaction."""
    client = connect()
    wanted = replace(subnet_request(1), scaling=ScalingRequest(min_pairs=1), spares=SPARES)
    assert {change.what for change in client.store.apply(PoolRequest(subnets=(wanted,)))} == {"added"}
    assert client.store.scaling.spares("s1")["s1"][0].havips == SPARES.havips


def test_what_a_later_version_wrote_into_a_size_stays(operator: PoolClient) -> None:
    """A field inside `scaling` that we do not know survives our edits."""
    document = json.loads(operator.get("subnets/s1"))
    document["scaling"] = {"min_pairs": 1, "max_pairs": 4, "colour": "blue"}
    operator.put("subnets/s1", json.dumps(document).encode())
    operator.store.scaling.set("s1", ScalingRequest(max_pairs=5))
    assert json.loads(operator.get("subnets/s1"))["scaling"] == {
        "min_pairs": 1,
        "max_pairs": 5,
        "mode": "observe",
        "paused_since": None,
        "colour": "blue",
    }


def test_a_pause_is_of_one_subnet_or_of_all_that_are_managed(operator: PoolClient) -> None:
    """Doing it again keeps the first moment."""
    edits = operator.store.scaling
    with pytest.raises(InvalidInput, match=r"not managed.*scale set s1 --min N"):
        edits.pause(("s1",), 5.0)
    assert edits.pause(None, 5.0) == ()
    operator.store.add_subnet(subnet_request(2))
    edits.set("s1", ScalingRequest(min_pairs=1))
    assert [(change.name, change.what) for change in edits.pause(None, 5.0)] == [("s1", "changed")]
    assert [change.what for change in edits.pause(("s1",), 9.0)] == ["unchanged"]
    scaling = operator.store.read_snapshot().subnets["s1"].scaling
    assert scaling is not None
    assert scaling.paused_since == 5.0
    assert [change.what for change in edits.resume(("s1",))] == ["changed"]


# ---- orders and spares -----------------------------------------------------------------------------------------------


def test_orders_of_a_node_say_who_and_why(nodes: PoolClient) -> None:
    """The first one's moment, author and reason stay; a drain is a cordon too; taking it back ends both."""
    edits = nodes.store.scaling
    assert edits.cordon("node-a", 5.0, "ann@ops", "new kernel").what == "added"
    assert edits.cordon("node-a", 6.0, "bob@ops", "me too").what == "unchanged"
    assert nodes.store.read_view().orders == {
        "node-a": NodeOrders(cordoned_since=5.0, who="ann@ops", reason="new kernel")
    }
    edits.drain("node-a", 7.0, "bob@ops", "it is on fire")
    assert nodes.store.read_view().orders["node-a"] == NodeOrders(
        cordoned_since=5.0, draining_since=7.0, who="bob@ops", reason="it is on fire"
    )
    edits.uncordon("node-a", "ann@ops", "")
    assert nodes.store.read_view().orders["node-a"] == NodeOrders(who="ann@ops")
    assert edits.uncordon("node-b", "ann@ops", "").what == "unchanged"
    assert not nodes.exists("nodes/node-b/orders")
    with pytest.raises(NotFound, match="did you mean node-"):
        edits.cordon("node-x", 5.0, "", "")


def test_spares_are_added_once_and_not_removed_while_they_are_used(operator: PoolClient) -> None:
    """By a pair, or by an action that has just acquired them."""
    edits = operator.store.scaling
    assert edits.add_spares("s1", SPARES).what == "added"
    assert edits.add_spares("s1", SPARES).what == "unchanged"
    used = pair_request()
    edits.add_spares("s1", SparesRequest(members=used.members, havips=(used.havip,)))
    found, users = edits.spares("s1")["s1"]
    assert len(found.members) == 4
    assert users.cards[card_of("node-a", "ENI1")] == "s1/p1"
    with pytest.raises(InvalidInput, match="card eni1 of node node-a is in use by s1/p1"):
        edits.remove_spares("s1", {card_of("node-a", "eni1")}, ())
    for suffix in ("controller", "controller/actions"):
        operator.make(suffix)
    operator.make(action_suffix(("s1", "p2")), encode(an_action(havip=SPARES.havips[0], members=SPARES.members[:1])))
    with pytest.raises(InvalidInput, match=r"address 192.168.4.200 is in use by add of s1/p2"):
        edits.remove_spares("s1", (), SPARES.havips)
    with pytest.raises(InvalidInput, match="no spare of subnet s1"):
        edits.remove_spares("s1", {card_of("node-z", "eni1")}, ())
    operator.delete(action_suffix(("s1", "p2")))
    edits.remove_spares("s1", {card_of("node-c", "eni9")}, SPARES.havips)
    left, _ = edits.spares("s1")["s1"]
    assert [member.node for member in left.members] == ["node-d", "node-a", "node-b"]
    assert left.havips == (used.havip,)


@pytest.mark.parametrize(
    ("spares", "message"),
    [
        (SparesRequest(havips=(IPv4Address("192.168.4.2"),)), "HaVip 192.168.4.2 is in use by pair s2/p1"),
        (SparesRequest(havips=(IPv4Address("100.64.0.9"),)), "in the range of the hosts' tunnel addresses"),
        (SparesRequest(havips=(IPv4Address("192.168.4.77"),)), "a spare of subnet s2"),
        (SparesRequest(members=(card("node-c", "172.16.1.0/24"),)), "not a host address"),
        (SparesRequest(members=(card("node-c", "10.9.9.9/24"),)), "give the spare of node node-c a gateway"),
        (SparesRequest(members=(card("node-a", "172.16.2.50/24", "eni2"),)), "gateway|in use by pair s2/p1"),
        (SparesRequest(members=(card("node-a", "172.16.1.99/24", "eni1"),)), "not as this spare says"),
        (
            SparesRequest(members=(card("c", "172.16.1.9/24"), card("d", "172.16.1.9/24"))),
            "address 172.16.1.9 stands twice",
        ),
    ],
)
def test_spares_that_cannot_be_are_refused(operator: PoolClient, spares: SparesRequest, message: str) -> None:
    """With the reason, and nothing is written."""
    operator.store.apply(PoolRequest(subnets=(subnet_request(2, pair_request(2)),)))
    operator.store.scaling.add_spares("s2", SparesRequest(havips=(IPv4Address("192.168.4.77"),)))
    with pytest.raises(InvalidInput, match=message):
        operator.store.scaling.add_spares("s1", spares)
    assert not operator.exists("subnets/s1/spares")


# ---- who reads what --------------------------------------------------------------------------------------------------


@pytest.fixture
def follow(shared_server: ZooKeeperServer, pool: str) -> Iterator[Follow]:
    """Start mirrors; they end with the test."""
    made: list[tuple[PoolMirror, PoolSession]] = []

    def start(**options: object) -> tuple[PoolMirror, list[Snapshot]]:
        seen: list[Snapshot] = []
        session = PoolSession(ZooKeeperConfig(hosts=(shared_server.address,)), pool)
        mirror = PoolMirror(session, seen.append, **options)  # type: ignore[arg-type]  # passed on
        made.append((mirror, session))
        session.start()
        session.connect(10)
        mirror.start()
        wait_until(mirror.loaded.is_set, "loaded")
        return mirror, seen

    yield start
    for mirror, session in made:
        mirror.stop()
        session.stop(close_session=True)


def test_a_controller_follows_orders_and_spares(nodes: PoolClient, follow: Follow) -> None:
    """And which nodes live; each change is told."""
    mirror, seen = follow(extent=Extent.PLACING)
    assert mirror.placing.nodes_alive == {"node-a", "node-b"}
    nodes.store.scaling.add_spares("s1", SPARES)
    wait_until(lambda: "s1" in mirror.placing.spares, "spares")
    count = len(seen)
    nodes.store.scaling.cordon("node-b", 5.0, "", "")
    wait_until(lambda: mirror.placing.orders.get("node-b") == NodeOrders(cordoned_since=5.0), "orders")
    assert len(seen) > count
    nodes.delete("nodes/node-b/alive")
    wait_until(lambda: mirror.placing.nodes_alive == {"node-a"}, "a node is gone")
    nodes.store.pairs.remove("s1", "p1")
    nodes.store.remove_subnet("s1")
    wait_until(lambda: not mirror.placing.spares, "spares go with their subnet")


def test_a_controller_sees_nodes_come_and_go(nodes: PoolClient, follow: Follow) -> None:
    """Daemons that end and come back, and a node that is removed and registers again."""
    mirror, _ = follow(extent=Extent.PLACING)
    spec = mirror.snapshot.nodes["node-b"]
    alive = Alive(underlay=spec.underlay, since=1.0)
    for _ in range(2):
        nodes.delete("nodes/node-b/alive")
        wait_until(lambda: mirror.placing.nodes_alive == {"node-a"}, "it is gone")
        nodes.registry.register_node(spec, alive)
        wait_until(lambda: mirror.placing.nodes_alive == {"node-a", "node-b"}, "it is back")
    for _ in range(2):
        nodes.delete("nodes/node-b/alive")
        nodes.delete("nodes/node-b")
        wait_until(lambda: "node-b" not in mirror.snapshot.nodes, "it is removed")
        assert mirror.placing.nodes_alive == {"node-a"}
        nodes.registry.register_node(spec, alive)
        wait_until(lambda: mirror.placing.nodes_alive == {"node-a", "node-b"}, "it is back")


class Listener(PoolMirror):
    """Remembers what it was told of."""

    def __init__(self, session: PoolSession) -> None:
        super().__init__(session, lambda _: None, extent=Extent.PLACING)
        self.told: list[str] = []

    def _on_event(self, event: Any) -> None:
        self.told.append(event.path)
        super()._on_event(event)


def test_a_controller_is_not_told_of_beats(nodes: PoolClient, connect: Connect) -> None:
    """A thousand nodes beat two hundred times a second; that they live is all that it wants to know."""
    listener = Listener(connect().session)
    listener.start()
    wait_until(listener.loaded.is_set, "loaded")
    for beat in range(3):
        nodes.put("nodes/node-a/alive", encode(Alive(underlay=IPv4Address("192.168.4.11"), at=float(beat))))
    nodes.delete("nodes/node-b/alive")
    wait_until(lambda: listener.placing.nodes_alive == {"node-a"}, "what came after them")
    listener.stop()
    assert {path.rpartition("/")[2] for path in listener.told} == {"node-b"}


@pytest.mark.parametrize("who", [{"node": "node-a"}, {"host": "host1"}])
def test_nodes_and_hosts_are_not_woken_by_scaling(nodes: PoolClient, follow: Follow, who: dict[str, str]) -> None:
    """A size, orders, spares, reports: nothing of it is news to them. Another tenant would be."""
    mirror, seen = follow(**who)
    spec, count = mirror.snapshot.subnets["s1"], len(seen)
    edits = nodes.store.scaling
    edits.set("s1", ScalingRequest(min_pairs=2))
    edits.pause(("s1",), 5.0)
    edits.add_spares("s1", SPARES)
    edits.cordon("node-a", 5.0, "", "")
    controller(nodes)
    nodes.store.add_subnet(subnet_request(2))
    wait_until(lambda: "s2" in mirror.snapshot.subnets, "what came after it")
    assert mirror.snapshot.subnets["s1"] is spec
    assert len(seen) == count + 1
    assert not mirror._tree.orders()
    assert not mirror._tree.spares()


def test_the_view_has_what_the_controller_says_and_does(nodes: PoolClient) -> None:
    """And reading sizes alone has it too, without the rest."""
    controller(nodes, s1=SubnetVerdict(active=1, wanted=2, asked=2, cause="load"))
    for pair in ("p2", "p3"):
        nodes.make(action_suffix(("s1", pair)), encode(an_action(pair=pair)))
    view, sizes = nodes.store.read_view(), nodes.store.read_scaling()
    assert (view.controllers, sizes.controllers) == (1, 1)
    assert view.report == sizes.report
    assert view.actions == sizes.actions
    assert [(one.pair, one.step) for one in view.actions] == [("p2", Step.READY), ("p3", Step.READY)]
    assert set(sizes.snapshot.pairs["s1"]) == {"p1"}
    assert not sizes.snapshot.nodes


@pytest.mark.parametrize(
    ("suffix", "hint"),
    [
        ("controller/report", "remove it, or upgrade"),
        ("controller/actions/s1_p2", "remove it, or upgrade"),
        ("nodes/node-a/orders", "proxypool node cordon"),
        ("subnets/s1/spares", "proxypool pool apply"),
    ],
)
def test_a_malformed_document_is_shown_and_stops_nobody(
    nodes: PoolClient, cli: Callable[..., str], suffix: str, hint: str
) -> None:
    """It counts as none; `status` names it and says what to do."""
    controller(nodes)
    if nodes.exists(suffix):
        nodes.put(suffix, b"{")
    else:
        nodes.make(suffix, b"{")
    lines = [line for line in cli("status").splitlines() if "PP009 malformed" in line]
    assert len(lines) == 1
    assert suffix in lines[0]
    assert hint in lines[0]
    cli("scale", "status")
    cli("explain", "s1")


# ---- commands --------------------------------------------------------------------------------------------------------


def test_a_subnet_with_min_pairs_is_the_controllers(operator: PoolClient, cli: Callable[..., str]) -> None:
    """`subnet add --min-pairs` says what follows, and that somebody has to run."""
    out = cli("subnet", "add", "s9", "--cidr", "10.9.0.0/24", "--min-pairs", "2")
    assert out.splitlines()[1].startswith(
        "size: 2 to 8 pairs, mode observe; the controller adds 2 pairs, once one runs"
    )
    status = cli("status")
    assert "PP021 no-controller" in status
    assert "PP014 no-pair s9: no pair serves it: the controller adds one" in status
    assert cli("subnet", "set", "s9", "--scaling", "enforce").startswith("subnet s9: 2 to 8 pairs, mode enforce; ")
    assert cli("subnet", "set", "s9", "--scaling", "enforce") == "subnet s9 has 2 to 8 pairs, mode enforce\n"
    assert "2 to 8 pairs, mode enforce" in cli("subnet", "show", "s9")
    assert "nothing to change: give --min-pairs" in cli("subnet", "set", "s9", code=1)
    assert "at least 5 pairs and at most 4" in cli("scale", "set", "s9", "--min", "5", "--max", "4", code=1)
    assert "out of range: choose 1 to 64" in cli("scale", "set", "s9", "--min", "65", code=1)


def test_scale_commands(operator: PoolClient, cli: Callable[..., str]) -> None:
    """Set, status, plan, explain, pause and resume, each also as a dry run and as a document where it has one."""
    assert "no subnet is managed" in cli("scale", "status")
    dry = cli("scale", "set", "s1", "--min", "1", "--max", "3", "--mode", "enforce", "--dry-run")
    assert dry.startswith("would give subnet s1: 1 to 3 pairs, mode enforce; ")
    assert "no subnet is managed" in cli("scale", "plan")
    cli("scale", "set", "s1", "--min", "1", "--max", "3", "--mode", "enforce")
    controller(
        operator,
        s1=SubnetVerdict(
            active=1, wanted=2, asked=2, cause="load", signal="bytes", load={"bytes": 0.93, "ports": None}
        ),
    )
    table = cli("scale", "status").splitlines()
    assert table[0] == "controller ctl-1:7, provider spare, round 200 ms"
    assert table[3].split() == ["s1", "enforce", "1/0/0", "2", "1-3", "bytes", "0.93", "load", "-"]
    assert "bytes=0.93,ports=?" in cli("scale", "status", "-o", "wide")
    document = json.loads(cli("scale", "status", "-o", "json"))
    assert (document["kind"], document["subnets"][0]["wanted"]) == ("ScaleStatus", 2)
    assert cli("scale", "plan") == "s1: add 1 pair: that is what its load asks for; bytes at 0.93 pairs\n"
    assert json.loads(cli("scale", "plan", "s1", "-o", "json"))["subnets"][0]["next"] == "add"
    assert "Next: 1 pair will be added." in cli("explain", "s1")
    assert json.loads(cli("explain", "s1", "-o", "json"))["subnet"]["cause"] == "load"
    assert "which subnet? Give its id, or --all" in cli("scale", "pause", code=1)
    assert cli("scale", "pause", "--all", "--dry-run") == "would pause scaling of subnet s1\n"
    assert cli("scale", "pause", "--all") == "scaling of subnet s1 is paused\n"
    assert cli("scale", "pause", "s1") == "scaling of subnet s1 is paused already\n"
    assert "PP025 scaling-paused s1" in cli("status")
    assert cli("scale", "status").splitlines()[3].split()[1] == "paused"
    assert cli("scale", "resume", "s1") == "scaling of subnet s1 is resumed\n"
    assert "did you mean s1?" in cli("scale", "status", "s2", code=1)
    assert "did you mean s1?" in cli("explain", "s2", code=1)


def test_spare_commands(operator: PoolClient, cli: Callable[..., str]) -> None:
    """Add, list with users, remove."""
    member = "node-c,eni=eni9,address=172.16.1.21/24"
    added = cli("subnet", "spare", "add", "s1", "--member", member, "--havip", "192.168.4.200,192.168.4.201")
    assert added == "spares of subnet s1: 1 card on 1 node, 2 HaVips, 0 egress addresses\n"
    lines = cli("subnet", "spare", "list").splitlines()
    assert lines[0].split() == ["SUBNET", "KIND", "NODE", "ENI", "ADDRESS", "GATEWAY", "USED", "BY"]
    assert lines[1].split() == ["s1", "card", "node-c", "eni9", "172.16.1.21/24", "-", "-"]
    assert "spares:" in cli("subnet", "show", "s1")
    removed = cli("subnet", "spare", "remove", "s1", "--member", "node-c,eni=ENI9", "--havip", "192.168.4.200")
    assert removed == "spares of subnet s1: 0 cards on 0 nodes, 1 HaVip, 0 egress addresses\n"
    assert json.loads(cli("subnet", "spare", "list", "s1", "-o", "json"))["items"] == [
        {
            "subnet": "s1",
            "node": "",
            "eni": "",
            "gateway": "",
            "kind": "havip",
            "address": "192.168.4.201",
            "used_by": "",
        }
    ]
    assert "give --member, --havip or --egress-address" in cli("subnet", "spare", "add", "s1", code=1)
    assert "the form is NODE,eni=" in cli("subnet", "spare", "remove", "s1", "--member", "node-c", code=1)


def test_node_commands(nodes: PoolClient, cli: Callable[..., str]) -> None:
    """Cordon, drain and uncordon: who and why is kept and shown; a drain says what moves, and asks."""
    assert cli("node", "cordon", "node-a", "--dry-run") == "would cordon node node-a\n"
    said = cli("node", "cordon", "node-a", "--reason", "new kernel")
    assert said == "node node-a is cordoned: no new pair is placed on it\n"
    assert ", by ann@" in cli("node", "cordon", "node-a")
    assert "cordoned" in cli("node", "list")
    assert ": new kernel" in cli("node", "show", "node-a")
    dry = cli("node", "drain", "node-a", "--dry-run")
    assert "s1/p1 stays on node-a, as subnet s1 is not managed by the controller" in dry
    nodes.store.scaling.set("s1", ScalingRequest(min_pairs=1))
    dry = cli("node", "drain", "node-a", "--dry-run")
    assert "2. for s1/p1 a new pair is made on other nodes" in dry
    assert nodes.store.read_view().orders["node-a"].draining_since is None
    assert "not confirmed" in cli("node", "drain", "node-a", code=7)
    drained = cli("node", "drain", "node-a", "--yes", "--reason", "fire")
    assert drained.endswith("node node-a is draining\n")
    timed_out = cli("node", "drain", "node-a", "--timeout", "0.1", code=5)
    assert "still has s1/p1 after 0.1 s and stays draining" in timed_out
    nodes.store.scaling.set("s1", ScalingRequest(mode=ScalingMode.OFF))
    assert "s1/p1 stay, and are not the controller's to move" in cli("node", "drain", "node-a", "--wait")
    assert cli("node", "uncordon", "node-a", "--dry-run").startswith("would uncordon node node-a, draining for ")
    assert cli("node", "uncordon", "node-a", "--reason", "it is out") == "node node-a takes new pairs again\n"
    shown = next(line for line in cli("node", "show", "node-a").splitlines() if line.startswith("orders:"))
    assert "none, taken back by ann@" in shown
    assert shown.endswith(": it is out")
    assert cli("node", "uncordon", "node-a") == "node node-a is not cordoned\n"
    assert "did you mean node-a" in cli("node", "drain", "node-aa", code=1)


def test_history_shows_changes_of_size_and_of_masters(operator: PoolClient, cli: Callable[..., str]) -> None:
    """All of them in `history`, those of size in `scale history`; neither is taken for the other."""
    now = time.time()
    grown = Record(
        kind="scale-out",
        reason="load",
        subnet="s1",
        pair="p2",
        at=now - 5,
        signals={"bytes": 1.9, "ports": 0.1},
        pairs_before=1,
        pairs_after=2,
        took_s=9.4,
        by="ctl-1",
    )
    failed = Record(
        kind="scale-out", reason="load", subnet="s1", pair="p3", at=now, pairs_before=2, pairs_after=2, error="no room"
    )
    moved = Record(kind="replace", reason="dead-node", subnet="s1", pair="p2", from_node="p1", to_node="p2", at=now + 1)
    master = Record(kind="failover", reason="silent", subnet="s1", pair="p1", from_node="a", to_node="b", at=now)
    PoolHistory(operator.session).write([grown, failed, master, moved])
    lines = [line.split()[2:] for line in cli("history").splitlines()[1:]]
    assert lines[0] == ["s1/p2", "scale-out", "1", "pair", "2", "pairs", "load", "-", "-"]
    assert ["s1/p1", "failover", "a", "b", "silent", "-", "-"] in lines
    lines = [line.split()[2:] for line in cli("scale", "history", "s1").splitlines()[1:]]
    assert lines == [
        ["s1/p2", "scale-out", "1", "->", "2", "load", "bytes", "1.90", "9.4", "s", "done"],
        ["s1/p3", "scale-out", "2", "->", "2", "load", "-", "-", "no", "room"],
        ["s1/p2", "replace", "-", "dead-node", "-", "-", "done"],
    ]
    assert len(json.loads(cli("scale", "history", "-o", "json"))["items"]) == 3


def test_a_subnet_stays_while_something_is_done_to_it(operator: PoolClient, cli: Callable[..., str]) -> None:
    """What an action acquires would be for a subnet that is gone. Its name says enough, if it cannot be read."""
    controller(operator)
    operator.store.pairs.remove("s1", "p1", frozenset(Risk))
    operator.make(action_suffix(("s1", "p2")), b"{")
    operator.make(action_suffix(("s10", "p3")), encode(an_action()))
    told = cli("subnet", "remove", "s1", "--yes", code=1)
    assert "the controller is at work on subnet s1 (pair p2)" in told
    assert "`proxypool scale set s1 --mode off`" in told
    operator.delete(action_suffix(("s1", "p2")))
    assert cli("subnet", "remove", "s1", "--yes") == "removed subnet s1\n"


def test_a_pair_that_is_being_prepared(operator: PoolClient, cli: Callable[..., str]) -> None:
    """It is shown as that, is no fault while somebody works on it, and can be removed without a risk."""
    operator.make("subnets/s1/hosts/host1")
    document = json.loads(operator.get("subnets/s1/pairs/p1"))
    operator.put("subnets/s1/pairs/p1", json.dumps({**document, "state": "preparing", "provider": "spare"}).encode())
    controller(operator)
    operator.make(action_suffix(("s1", "p1")), encode(an_action(pair="p1")))
    status = cli("status")
    assert "PP001" not in status
    assert "PP017 no-active-pair s1: no pair is active yet" in status
    assert "preparing" in cli("pair", "list")
    assert "provider:" in cli("pair", "show", "s1", "p1")
    assert cli("pair", "undrain", "s1", "p1") == "pair s1/p1 is not draining\n"
    assert operator.store.read_snapshot().pairs["s1"]["p1"].state is PairState.PREPARING
    operator.delete(action_suffix(("s1", "p1")))
    assert "PP024 scaling-stuck s1/p1: is being prepared and nobody works on it" in cli("status")
    assert "it is being prepared: it has no connections" in cli("pair", "remove", "s1", "p1", "--dry-run")
    assert cli("pair", "remove", "s1", "p1", "--yes") == "removed pair s1/p1\n"
