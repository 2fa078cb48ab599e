"""Who may do what in a pool with access lists, against a real ZooKeeper: the table, the daemons' work, moving over."""

from __future__ import annotations

import itertools
import queue
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from kazoo.exceptions import NoAuthError, NotEmptyError

from proxypool.adapters.secret_file import make_secret
from proxypool.adapters.zookeeper import NameInUse, NotFound, Securing, forget_host, member_status_suffix
from proxypool.adapters.zookeeper.access_lists import acl_of
from proxypool.adapters.zookeeper.history import PoolHistory
from proxypool.adapters.zookeeper.subnet_hosts import join_subnet, leave_subnet
from proxypool.core import access
from proxypool.core.access import ALL, RULES, Access, AccessRole, digest_of
from proxypool.core.draining import Risk
from proxypool.core.errors import AccessDenied, InvalidInput
from proxypool.core.history import Kind, Record
from proxypool.core.model import Alive, FailoverMode, HostSpec, MemberSpec, NodeSpec, PairState
from proxypool.core.requests import PairRequest, PairSettings, PoolRequest
from proxypool.core.scaling.model import ScalingMode
from proxypool.core.scaling.requests import ScalingRequest
from proxypool.daemons.registrar import Registrar
from tests.contract.conftest import _serve
from tests.contract.controllers import Controller, Nodes, spares
from tests.contract.zk import (
    PoolClient,
    ZooKeeperServer,
    free_port,
    pair_request,
    pool_request,
    subnet_request,
    wait_until,
)

ADMIN, CONTROLLER, NODE, HOST, VIEWER = AccessRole
Members = Callable[..., PoolClient]


@pytest.fixture(scope="module")
def guarded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperServer]:
    """A server of our own: what all pools stand in belongs to the first administrator."""
    yield from _serve(ZooKeeperServer(tmp_path_factory.mktemp("zookeeper")))


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> dict[AccessRole, Path]:
    folder = tmp_path_factory.mktemp("secrets")
    for role in AccessRole:
        make_secret(folder / f"{role}.secret")
    return {role: folder / f"{role}.secret" for role in AccessRole}


@pytest.fixture(scope="module")
def everybody(secrets: dict[AccessRole, Path]) -> Access:
    return Access(digests=tuple(digest_of(role, path.read_text().strip()) for role, path in secrets.items()))


@pytest.fixture
def as_role(
    guarded_server: ZooKeeperServer,
    pool: str,
    secrets: dict[AccessRole, Path],
    clients: list[PoolClient],
    tmp_path: Path,
) -> Members:
    """Another client of this role; None: of nobody. Hosts have a key each."""
    keys = itertools.count()

    def make(role: AccessRole | None, **options: Any) -> PoolClient:
        said = {"user": role, "secret_file": str(secrets[role])} if role else {}
        if role is HOST:
            options.setdefault("machine_key", tmp_path / f"key-{next(keys)}")
        client = PoolClient(guarded_server, pool, zookeeper=said, **options)
        clients.append(client)
        return client.start()

    return make


@pytest.fixture
def admin(as_role: Members, everybody: Access) -> PoolClient:
    """The administrator of a pool with access lists: s1/p1 of node-a and node-b."""
    client = as_role(ADMIN)
    client.store.apply(pool_request())
    Securing(client.session).secure(everybody)
    return client


def host_spec(client: PoolClient, name: str, number: int) -> tuple[HostSpec, Alive]:
    underlay = IPv4Address("192.168.80.0") + number
    address = client.registry.allocate_tunnel_address(name, IPv4Network("100.64.0.0/10"))
    owner = client.session.credentials.owner
    return HostSpec(id=name, underlay=underlay, tunnel_address=address, owner=owner), Alive(underlay=underlay)


def register_node(client: PoolClient, name: str, number: int) -> None:
    underlay = IPv4Address("192.168.9.0") + number
    client.registry.register_node(NodeSpec(id=name, underlay=underlay), Alive(underlay=underlay))


# ---- the table is what ZooKeeper does --------------------------------------------------------------------------------


def example(rule: access.Rule) -> str:
    return "/".join(part.strip("<>") if part.startswith("<") else part for part in rule.path.split("/"))


def permissions_of(client: PoolClient, path: str) -> str:
    """What ZooKeeper lets a client do with a node, found out by doing it."""
    kazoo = client.session.client
    attempts: dict[str, Callable[[], Any]] = {
        "c": lambda: kazoo.create_async(f"{path}/tried"),
        "d": lambda: kazoo.delete_async(f"{path}/doomed"),
        "r": lambda: kazoo.get_async(path),
        "w": lambda: kazoo.set_async(path, b"tried"),
    }
    allowed = "".join(letter for letter, attempt in attempts.items() if _is_allowed(attempt()))
    kazoo_acls = kazoo.get_acls_async
    return allowed + ("a" if _changes_list(kazoo, kazoo_acls, path) else "")


def _is_allowed(result: Any) -> bool:
    try:
        result.get(timeout=10)
    except NoAuthError:
        return False
    return True


def _changes_list(kazoo: Any, read: Callable[[str], Any], path: str) -> bool:
    try:
        acls, _ = read(path).get(timeout=10)
    except NoAuthError:
        return False
    return _is_allowed(kazoo.set_acls_async(path, acls))


def test_the_table_is_what_zookeeper_does(admin: PoolClient, as_role: Members, everybody: Access) -> None:
    """Every role tries everything on a node of every rule. Owners' rules are tried as of a host without a key."""
    root = admin.session.layout.root
    raw = admin.session.client
    tops = [f"{root}/table-{number}" for number in range(len(RULES))]
    expected, found = {}, {}
    for rule, top in zip(RULES, tops, strict=True):
        raw.create_async(top, acl=acl_of(access.grants_of(rule, everybody))).get(timeout=10)
    for role in (*AccessRole, None):
        client = as_role(role)
        for rule, top in zip(RULES, tops, strict=True):
            for child in ("tried", "doomed"):
                if raw.exists_async(f"{top}/{child}").get(timeout=10) is not None:
                    raw.delete_async(f"{top}/{child}").get(timeout=10)
            raw.create_async(f"{top}/doomed").get(timeout=10)
            grants = access.grants_of(rule, everybody)
            mine = [one.permissions for one in grants if role and one.who.startswith(f"{role}:")]
            expected[role, rule.path] = set("".join(mine))
            found[role, rule.path] = set(permissions_of(client, top))
    assert found == expected
    assert {role for role, path in found if found[role, path] == set(ALL)} == {ADMIN}


def test_everything_that_a_pool_consists_of_is_in_the_table(admin: PoolClient, as_role: Members) -> None:
    """After a day's work of every daemon there is no node that the table does not know."""
    work(admin, as_role)
    securing = Securing(admin.session)
    paths = [path for path in securing._walk(None) if path != "/proxypool"]
    unknown = [path for path in paths if access.rule_of(securing._suffix(path)) is access.UNKNOWN]
    assert unknown == []
    wanted = securing.read()
    assert wanted is not None
    assert securing.differences(wanted) == [], "whoever makes a node gives it the list that it ought to have"


def work(admin: PoolClient, as_role: Members) -> tuple[PoolClient, PoolClient, PoolClient]:
    """What two nodes and a host do, and an operator."""
    nodes = as_role(NODE), as_role(NODE)
    for number, (node, name) in enumerate(zip(nodes, ("node-a", "node-b"), strict=True), 1):
        register_node(node, name, number)
        node.presence.contend("s1", "p1", name)
        node.presence.want(member_status_suffix("s1", "p1", name), b"{}")
        wait_until(lambda name=name: name in admin.nodes_of(), f"{name} stands")  # type: ignore[misc]
    host = as_role(HOST)
    host.registry.register_host(*host_spec(host, "host-1", 1))
    assert join_subnet(host.session, "host-1", "s1") is not None
    PoolHistory(nodes[0].session).write(
        [Record(kind=Kind.FAILOVER, reason="", subnet="s1", pair="p1", to_node="node-a", at=1.0, by="node-a")]
    )
    admin.store.elections.switchover(admin.store.read_snapshot(), "s1", "p1", "node-b")
    wait_until(lambda: admin.elected() == "node-b", "the operator's choice")
    admin.store.scaling.cordon("node-a", 1.0, "somebody", "")
    return (*nodes, host)


def test_what_is_seldom_written_is_allowed_too(admin: PoolClient, as_role: Members, tmp_path: Path) -> None:
    """Machines whose predecessors' sessions still live, another range of tunnel addresses, proofs of candidates, a choice in
    mode strict, records brought up to date, what operators do to pairs; and every list is as it ought to be.
    """
    node, other, _ = work(admin, as_role)
    successor = as_role(NODE)
    register_node(successor, "node-a", 1)
    successor.presence.contend("s1", "p1", "node-a")
    successor.presence.want(member_status_suffix("s1", "p1", "node-a"), b'{"v": 1}')
    wait_until(lambda: successor.presence.is_settled, "the successor has taken its place")
    node.presence.stop()
    key = tmp_path / "key-of-host-2"
    for number in range(2):
        host = as_role(HOST, machine_key=key)
        spec, alive = host_spec(host, "host-2", 2)
        assert host.registry.register_host(spec, alive), number
        assert join_subnet(host.session, "host-2", "s1") is not None
    moved = host.registry.allocate_tunnel_address("host-2", IPv4Network("100.80.0.0/16"))
    assert moved != spec.tunnel_address
    assert not admin.exists(f"tunnel-addresses/{spec.tunnel_address}")
    _, proven = other.presence.prove_candidates([("s1", "p1")], "node-b")
    assert proven == {("s1", "p1")}
    admin.store.pairs.set("s1", "p1", PairSettings(mode=FailoverMode.STRICT))
    admin.store.elections.switchover(admin.store.read_snapshot(), "s1", "p1", "node-a")
    log = PoolHistory(other.session)
    for reason in ("", "silent"):
        log.write([Record(kind=Kind.FAILOVER, reason=reason, subnet="s1", pair="p1", to_node="node-b", at=2.0, by="b")])
    admin.store.pairs.set_egress("s1", "p1", IPv4Address("172.16.1.200"), frozenset(Risk))
    admin.store.pairs.pause("s1", "p1", 1.0)
    admin.store.pairs.resume("s1", "p1")
    admin.store.scaling.uncordon("node-a", "somebody", "")
    admin.store.pairs.drain("s1", "p1", 1.0, frozenset(Risk))
    securing = Securing(admin.session)
    assert securing.differences(_access_of(admin)) == []
    admin.store.pairs.remove("s1", "p1", frozenset(Risk))
    leave_subnet(host.session, "host-2", "s1")
    admin.store.remove_subnet("s1")
    assert not admin.exists("subnets/s1")


def _access_of(client: PoolClient) -> Access:
    found = Securing(client.session).read()
    assert found is not None
    return found


# ---- what each role cannot do ----------------------------------------------------------------------------------------


def refused(act: Callable[[], object]) -> None:
    with pytest.raises(AccessDenied, match="ZooKeeper refuses access"):
        act()


def test_a_host_changes_no_pair_and_no_other_host(admin: PoolClient, as_role: Members) -> None:
    """It has its own entries, and no other host's: not even to delete them."""
    node, _, victim = work(admin, as_role)
    attacker = as_role(HOST)
    for suffix in ("version", "spec", "access", "subnets/s1", "subnets/s1/pairs/p1", "hosts/host-1"):
        refused(lambda suffix=suffix: attacker.put(suffix, b"{}"))  # type: ignore[misc]
    refused(lambda: attacker.put("hosts/host-1/alive", b"{}"))
    refused(lambda: attacker.delete("hosts/host-1/alive"))
    refused(lambda: attacker.delete("hosts/host-1"))
    refused(lambda: attacker.make("subnets/s1/pairs/p2"))
    refused(lambda: attacker.make("subnets/s1/pairs/p1/election/node-x-0000000009"))
    refused(lambda: attacker.delete("subnets/s1/pairs/p1"))
    refused(lambda: attacker.delete("subnets/s1/pairs/p1/status/node-a"))
    refused(lambda: attacker.make("nodes/host-1"))
    refused(lambda: attacker.delete("subnets/s1/hosts/host-1/held"))
    refused(lambda: leave_subnet(attacker.session, "host-1", "s1"))
    (address,) = victim.session.client.get_children(victim.session.layout.path("tunnel-addresses"))
    for suffix in ("subnets/s1/hosts/host-1", f"tunnel-addresses/{address}"):
        assert victim.exists(suffix)
        with pytest.raises(NotEmptyError):
            attacker.delete(suffix)
    refused(lambda: attacker.registry.register_host(*host_spec(victim, "host-1", 1)))
    leave_subnet(victim.session, "host-1", "s1")
    assert not victim.exists("subnets/s1/hosts/host-1"), "its own it may"
    del node


def test_a_node_changes_no_spec(admin: PoolClient, as_role: Members) -> None:
    node, _, _ = work(admin, as_role)
    for suffix in (
        "version",
        "spec",
        "access",
        "subnets/s1",
        "subnets/s1/pairs/p1",
        "hosts/host-1",
        "nodes/node-a/orders",
    ):
        refused(lambda suffix=suffix: node.put(suffix, b"{}"))  # type: ignore[misc]
    refused(lambda: node.make("subnets/s2"))
    refused(lambda: node.make("subnets/s1/pairs/p1/switchover2"))
    refused(lambda: node.delete("subnets/s1/hosts/host-1"))
    refused(lambda: node.make("controller/actions/s1_p9"))
    with pytest.raises(NotEmptyError):
        node.delete("nodes/node-a/orders")
    refused(lambda: node.store.scaling.uncordon("node-a", "node-a", ""))
    refused(lambda: node.store.elections.switchover(node.store.read_snapshot(), "s1", "p1", "node-a"))


def test_a_viewer_sees_all_and_changes_nothing(admin: PoolClient, as_role: Members) -> None:
    work(admin, as_role)
    viewer = as_role(VIEWER)
    view = viewer.store.read_view()
    assert (list(view.snapshot.subnets), sorted(view.nodes_alive)) == (["s1"], ["node-a", "node-b"])
    refused(lambda: viewer.store.pairs.pause("s1", "p1", 1.0))
    refused(lambda: viewer.put("history", b""))


def test_nobody_and_a_wrong_secret_see_nothing(admin: PoolClient, as_role: Members, tmp_path: Path) -> None:
    nobody = as_role(None)
    refused(nobody.store.read_snapshot)
    wrong = tmp_path / "wrong"
    make_secret(wrong)
    client = PoolClient(
        _server_of(nobody), nobody.session.layout.pool, zookeeper={"user": ADMIN, "secret_file": str(wrong)}
    )
    client.session.connect(10)
    try:
        refused(client.store.read_snapshot)
        refused(lambda: Securing(client.session).secure(Access(digests=(client.session.credentials.digest,))))
    finally:
        client.session.stop(close_session=True)


def _server_of(client: PoolClient) -> Any:
    class Server:
        address = client.session._hosts[0]

    return Server()


def test_the_controller_makes_pairs_and_no_subnets(admin: PoolClient, as_role: Members) -> None:
    controller = as_role(CONTROLLER)
    refused(lambda: controller.put("subnets/s1", b"{}"))
    refused(lambda: controller.make("subnets/s9"))
    refused(lambda: controller.put("spec", b"{}"))
    members = tuple(
        MemberSpec(node=name, eni="eni2", address=IPv4Interface(f"172.16.1.{at}/24"))
        for at, name in enumerate(("node-c", "node-d"), 21)
    )
    controller.store.pairs.add("s1", PairRequest(id="p2", havip=IPv4Address("192.168.4.2"), members=members))
    node = as_role(NODE)
    node.presence.contend("s1", "p2", "node-c")
    wait_until(lambda: admin.elected("s1/p2") == "node-c", "a node stands in a pair that the controller made")
    controller.store.pairs.remove("s1", "p2")
    assert not admin.exists("subnets/s1/pairs/p2")


def test_what_a_node_may_not_make_again_keeps_nothing_else_from_it(admin: PoolClient, as_role: Members) -> None:
    """Somebody has deleted a pair's election and statuses by hand: of the node's other pairs all is as ever."""
    admin.store.apply(PoolRequest(subnets=(subnet_request(2, pair_request(2)),)))
    for container in ("election", "status"):
        admin.delete(f"subnets/s1/pairs/p1/{container}")
    node = as_role(NODE)
    for subnet in ("s1", "s2"):
        node.presence.contend(subnet, "p1", "node-a")
        node.presence.want(member_status_suffix(subnet, "p1", "node-a"), b"{}")
    wait_until(lambda: admin.elected("s2/p1") == "node-a", "it stands in the other pair")
    wait_until(lambda: admin.exists("subnets/s2/pairs/p1/status/node-a"), "and says how it is")
    assert not node.presence.is_settled
    for container in ("election", "status"):
        admin.make(f"subnets/s1/pairs/p1/{container}")
    Securing(admin.session).secure(_access_of(admin))
    wait_until(lambda: node.presence.is_settled, "all of it, once the administrator has made them again")


def test_a_subnet_that_a_host_may_not_join_keeps_it_from_no_other(admin: PoolClient, as_role: Members) -> None:
    """Somebody has changed the list of the first one by hand; it joins that one when it may again."""
    admin.store.apply(PoolRequest(subnets=(subnet_request(2, pair_request(2)),)))
    closed_path = admin.session.layout.path("subnets/s1/hosts")
    only_admin = acl_of(access.grants_of(access.rule_of("spec"), _access_of(admin)))
    admin.session.wait(admin.session.client.set_acls_async(closed_path, only_admin))
    host, joined = as_role(HOST), queue.SimpleQueue[str]()
    registrar = Registrar(host.session, "host-1", joined.put)
    registrar.start()
    try:
        registrar.want({"s1": (), "s2": ()}, {})
        assert joined.get(timeout=10) == "s2"
        wait_until(lambda: "refuses access" in (registrar.problem or ""), "it says why")
        Securing(admin.session).secure(_access_of(admin))
        assert joined.get(timeout=10) == "s1"
        wait_until(lambda: registrar.problem is None, "nothing is wrong any more")
    finally:
        registrar.stop()


# ---- moving over -----------------------------------------------------------------------------------------------------


def test_a_pool_at_work_is_secured_and_opened_again(as_role: Members, everybody: Access) -> None:
    """Daemons that know their secrets notice nothing; what they make from then on has lists."""
    admin = as_role(ADMIN)
    admin.store.apply(pool_request())
    node, other, host = work(admin, as_role)
    nobody = as_role(None)
    assert nobody.store.read_snapshot().subnets, "everybody sees it"
    epoch = admin.mirror.snapshot.elections["s1/p1"][0].epoch
    securing = Securing(admin.session)
    assert securing.read() is None
    found = securing.differences(everybody)
    assert {one.path.removeprefix(admin.session.layout.root) for one in found} >= {"/subnets/s1", "/nodes/node-a/alive"}
    changed = securing.secure(everybody)
    assert changed >= len(found)
    assert (securing.secure(everybody), securing.differences(everybody)) == (0, []), "twice is once"
    assert admin.mirror.snapshot.elections["s1/p1"][0].epoch == epoch, "no election was moved"
    refused(nobody.store.read_snapshot)
    attacker = as_role(HOST)
    refused(lambda: attacker.put("hosts/host-1", b"{}"))
    host.put("hosts/host-1/alive", b"{}")
    leave_subnet(host.session, "host-1", "s1")
    node.presence.withdraw("s1", "p1", "node-a")
    other.presence.withdraw("s1", "p1", "node-b")
    wait_until(lambda: admin.nodes_of() == [], "they withdraw")
    node.presence.contend("s1", "p1", "node-a")
    wait_until(lambda: admin.elected() == "node-a", "and stand again")
    assert securing.differences(everybody) == []
    securing.open()
    assert nobody.store.read_snapshot().subnets
    assert securing.read() is None
    other.presence.contend("s1", "p1", "node-b")
    wait_until(lambda: admin.nodes_of() == ["node-a", "node-b"], "it goes on")
    assert securing.differences(None) == []


def test_secrets_are_changed_one_after_the_other(
    admin: PoolClient, as_role: Members, everybody: Access, tmp_path: Path, clients: list[PoolClient]
) -> None:
    """Both sets are good until the old one is taken back."""
    new = {role: tmp_path / f"new-{role}" for role in AccessRole}
    fresh = Access(digests=tuple(digest_of(role, make_secret(path)) for role, path in new.items()))
    old_node, securing = as_role(NODE), Securing(admin.session)
    with pytest.raises(InvalidInput, match="lock itself out"):
        securing.secure(fresh)
    securing.secure(Access(digests=(*fresh.digests, *everybody.digests)))
    said = {"user": ADMIN, "secret_file": str(new[ADMIN])}
    successor = PoolClient(_server_of(admin), admin.session.layout.pool, zookeeper=said)
    clients.append(successor.start())
    register_node(old_node, "node-a", 1)
    Securing(successor.session).secure(fresh)
    refused(old_node.store.read_snapshot)
    refused(admin.store.read_snapshot)
    assert successor.store.read_snapshot().nodes


def test_a_host_that_lost_its_key_is_told(admin: PoolClient, as_role: Members) -> None:
    """A machine that was installed anew has another key, and its old entries are not its own."""
    _, _, host = work(admin, as_role)
    host.session.stop(close_session=True)
    anew = as_role(HOST)
    refused(lambda: anew.registry.register_host(*host_spec(anew, "host-1", 1)))
    refused(lambda: forget_host(anew.session, "host-1"))
    gone = forget_host(admin.session, "host-1")
    root = admin.session.layout.root
    assert {path.removeprefix(root).rpartition("/")[0] for path in gone} == {
        *("/subnets/s1/hosts", "/tunnel-addresses", "/hosts"),
    }
    assert anew.registry.register_host(*host_spec(anew, "host-1", 1)), "the name is free"
    with pytest.raises(NameInUse, match="the agent of host host-1 lives"):
        forget_host(admin.session, "host-1")
    with pytest.raises(NotFound, match="did you mean host-1"):
        forget_host(admin.session, "host-2")


# ---- a daemon, whole -------------------------------------------------------------------------------------------------


def test_a_controller_with_its_own_secret_makes_and_removes_pairs(
    guarded_server: ZooKeeperServer,
    pool: str,
    admin: PoolClient,
    as_role: Members,
    secrets: dict[AccessRole, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Scaled out and in by a real process, with nodes that have only theirs; no node is left that is open."""
    admin.store.apply(PoolRequest(subnets=(subnet_request(7),)))
    admin.store.scaling.add_spares("s7", spares(7))
    nodes = Nodes(as_role(NODE))
    monkeypatch.setenv("PROXYPOOL_USER", "controller")
    monkeypatch.setenv("PROXYPOOL_SECRET_FILE", str(secrets[CONTROLLER]))
    controller = Controller(guarded_server, pool, tmp_path, "c1", free_port()).start()

    def pairs() -> list[PairState]:
        return [pair.state for pair in admin.mirror.snapshot.pairs.get("s7", {}).values()]

    def size(least: int) -> None:
        wanted = ScalingRequest(min_pairs=least, max_pairs=3, mode=ScalingMode.OBSERVE)
        admin.store.scaling.set("s7", wanted)

    try:
        controller.wait_to_lead()
        size(2)
        wait_until(lambda: pairs() == [PairState.ACTIVE] * 2, "two pairs", 60.0)
        size(1)
        leaving = next(iter(admin.mirror.snapshot.pairs["s7"]))
        admin.store.pairs.drain("s7", leaving, time.time())
        wait_until(lambda: pairs() == [PairState.ACTIVE], "one pair", 60.0)
        wait_until(lambda: admin.store.read_scaling().report is not None, "it reports", 20.0)
        history = PoolHistory(admin.session)
        found = {record.kind for record in history.read(history.names()).records}
        assert Kind.SCALE_OUT in found
        securing = Securing(admin.session)
        access_now = securing.read()
        assert access_now is not None
        assert securing.differences(access_now) == []
        assert not controller.said("refuses access")
    finally:
        nodes.stop()
        controller.kill()


def test_a_leading_controller_whose_secret_is_taken_back_says_so_and_goes_on_when_it_is_good_again(
    guarded_server: ZooKeeperServer,
    pool: str,
    admin: PoolClient,
    everybody: Access,
    secrets: dict[AccessRole, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It tries again each round, without a trace of a defect in the log."""
    monkeypatch.setenv("PROXYPOOL_USER", "controller")
    monkeypatch.setenv("PROXYPOOL_SECRET_FILE", str(secrets[CONTROLLER]))
    controller = Controller(guarded_server, pool, tmp_path, "c1", free_port()).start()
    securing = Securing(admin.session)
    others = Access(digests=tuple(who for who in everybody.digests if not who.startswith(f"{CONTROLLER}:")))

    def reported() -> tuple[str, ...]:
        report = admin.store.read_scaling().report
        return report.problems if report is not None else ()

    try:
        controller.wait_to_lead()
        securing.secure(others)
        wait_until(lambda: controller.said("trying again: ZooKeeper refuses access"), "it notices", 20.0)
        securing.secure(everybody)
        admin.make("controller/actions/s1_p9", b"{")
        wait_until(lambda: any("action of subnet s1" in said for said in reported()), "it goes on", 20.0)
        assert not controller.said("Traceback")
    finally:
        controller.kill()
