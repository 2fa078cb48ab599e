"""Draining and removing pairs against a real ZooKeeper: edits that cannot race, and what a user sees."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from ipaddress import IPv4Interface
from typing import Self

import msgspec
import pytest

from proxypool.adapters.zookeeper import NotFound, member_status_suffix
from proxypool.core.documents import encode
from proxypool.core.draining import Risk, RiskNotAccepted
from proxypool.core.errors import InvalidInput
from proxypool.core.model import MemberStatus, PairState
from proxypool.core.requests import PairSettings, PoolRequest
from tests.contract.conftest import Connect
from tests.contract.test_zookeeper_cli import Cli, cli
from tests.contract.zk import PoolClient, pair_request, pool_request, subnet_request, wait_until

__all__ = ["cli"]
ACCEPT = ("--accept-risk", "stop-new-connections")
replace = msgspec.structs.replace


def second_request() -> PoolRequest:
    """s1 with a second pair, of two other nodes."""
    second = pair_request(1, "p2", ("node-c", "node-d"))
    addresses = (IPv4Interface("172.16.1.21/24"), IPv4Interface("172.16.1.22/24"))
    members = tuple(replace(one, address=at) for one, at in zip(second.members, addresses, strict=True))
    second = replace(second, havip=second.havip + 100, members=members)
    return PoolRequest(subnets=(subnet_request(1, pair_request(), second),))


@pytest.fixture
def two_pairs(operator: PoolClient) -> PoolClient:
    """s1 with the pairs p1 and p2, and a host that uses it."""
    operator.store.apply(second_request())
    operator.make("subnets/s1/hosts/host1")
    return operator


def state(client: PoolClient, pair: str = "p1") -> tuple[PairState, float | None]:
    """Of a pair of s1, and since when it drains."""
    spec = client.store.read_snapshot().pairs["s1"][pair]
    return spec.state, spec.draining_since


def count(client: PoolClient, connections: int | None, *, age_s: float = 0.0) -> None:
    """What the master of s1/p1 has published."""
    say(client, connections, age_s)
    wait_until(lambda: client.presence.is_settled, "published")


def say(client: PoolClient, connections: int | None, age_s: float = 0.0) -> None:
    """What the master of s1/p1 would publish now."""
    document = MemberStatus(
        node="node-a",
        role="master",
        vrrp="master",
        gate=True,
        has_havip=True,
        at=time.time() - age_s,
        conntrack=120,
        connections=connections,
    )
    client.presence.want(member_status_suffix("s1", "p1", "node-a"), encode(document))


class Counting:
    """A master that goes on publishing a number, as the daemon does."""

    def __init__(self, client: PoolClient, connections: int | None) -> None:
        self.connections = connections
        self._client, self._stop = client, threading.Event()
        self._thread = threading.Thread(target=self._run, name="counting")

    def __enter__(self) -> Self:
        count(self._client, self.connections)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            say(self._client, self.connections)


# ---- edits -----------------------------------------------------------------------------------------------------------


def test_draining_twice_is_draining_once(two_pairs: PoolClient) -> None:
    """The first moment stays; undoing it leaves nothing."""
    store = two_pairs.store
    assert store.pairs.drain("s1", "p1", 100.0).what == "changed"
    assert store.pairs.drain("s1", "p1", 200.0).what == "unchanged"
    assert state(two_pairs) == (PairState.DRAINING, 100.0)
    assert store.pairs.undrain("s1", "p1").what == "changed"
    assert store.pairs.undrain("s1", "p1").what == "unchanged"
    assert state(two_pairs) == (PairState.ACTIVE, None)


def test_the_last_active_pair_drains_only_when_the_risk_is_accepted(two_pairs: PoolClient) -> None:
    """Draining what drains already asks for nothing."""
    store = two_pairs.store
    store.pairs.drain("s1", "p1", 100.0)
    with pytest.raises(RiskNotAccepted, match="--accept-risk=stop-new-connections"):
        store.pairs.drain("s1", "p2", 100.0)
    with pytest.raises(RiskNotAccepted):
        store.pairs.drain("s1", "p2", 100.0, (Risk.DROP_CONNECTIONS,))
    assert state(two_pairs, "p2") == (PairState.ACTIVE, None)
    store.pairs.drain("s1", "p2", 100.0, (Risk.STOP_NEW_CONNECTIONS,))
    store.pairs.drain("s1", "p2", 200.0)
    assert state(two_pairs, "p2") == (PairState.DRAINING, 100.0)


def test_two_operators_cannot_drain_the_last_two_pairs(connect: Connect, two_pairs: PoolClient) -> None:
    """Each sees the other pair active at first. Many rounds: the commands must meet."""
    rivals = [connect() for _ in range(2)]
    for round_number in range(10):
        outcomes: list[str] = []
        barrier = threading.Barrier(2)

        def drain(client: PoolClient, pair: str) -> None:
            barrier.wait()  # noqa: B023 - the threads end with the round
            try:
                client.store.pairs.drain("s1", pair, 1.0)
                outcomes.append("drained")  # noqa: B023
            except RiskNotAccepted:
                outcomes.append("refused")  # noqa: B023

        threads = [
            threading.Thread(target=drain, args=(client, pair))
            for client, pair in zip(rivals, ("p1", "p2"), strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["drained", "refused"], round_number
        for pair in ("p1", "p2"):
            two_pairs.store.pairs.undrain("s1", pair)


def test_edits_of_different_kinds_at_the_same_time_are_all_there(connect: Connect, two_pairs: PoolClient) -> None:
    """Draining, weighing and applying each keep what the others wrote."""
    acts: tuple[Callable[[PoolClient], object], ...] = (
        lambda client: client.store.pairs.drain("s1", "p1", 7.0),
        lambda client: client.store.pairs.set("s1", "p1", PairSettings(weight=9)),
        lambda client: client.store.apply(second_request()),
        lambda client: client.store.pairs.set("s1", "p2", PairSettings(weight=3)),
    )
    clients = [connect() for _ in acts]
    threads = [threading.Thread(target=act, args=(client,)) for act, client in zip(acts, clients, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pairs = two_pairs.store.read_snapshot().pairs["s1"]
    assert (pairs["p1"].state, pairs["p1"].draining_since, pairs["p1"].weight) == (PairState.DRAINING, 7.0, 9)
    assert (pairs["p2"].state, pairs["p2"].weight) == (PairState.ACTIVE, 3)


def test_apply_and_add_do_not_undo_a_drain(two_pairs: PoolClient) -> None:
    """Nor a weight that they do not name; one that they name is set."""
    store = two_pairs.store
    store.pairs.drain("s1", "p1", 100.0)
    store.pairs.set("s1", "p1", PairSettings(weight=5))
    assert {change.what for change in store.apply(second_request())} == {"unchanged"}
    assert store.pairs.add("s1", pair_request()).state is PairState.DRAINING
    (subnet,) = second_request().subnets
    heavier = replace(subnet, pairs=(replace(subnet.pairs[0], weight=8), *subnet.pairs[1:]))
    store.apply(PoolRequest(subnets=(heavier,)))
    assert state(two_pairs) == (PairState.DRAINING, 100.0)
    assert store.read_snapshot().pairs["s1"]["p1"].weight == 8
    with pytest.raises(InvalidInput, match="other settings"):
        store.pairs.add("s1", replace(pair_request(), weight=2))


def test_edits_keep_fields_that_they_do_not_know(two_pairs: PoolClient) -> None:
    """A later version wrote them."""
    path = "subnets/s1/pairs/p1"
    two_pairs.put(path, json.dumps({**json.loads(two_pairs.get(path)), "colour": "green"}).encode())
    two_pairs.store.pairs.drain("s1", "p1", 100.0)
    assert json.loads(two_pairs.get(path))["colour"] == "green"


@pytest.mark.parametrize(
    "act",
    [
        lambda store, subnet, pair: store.pairs.drain(subnet, pair, 1.0),
        lambda store, subnet, pair: store.pairs.undrain(subnet, pair),
        lambda store, subnet, pair: store.pairs.set(subnet, pair, PairSettings(weight=2)),
        lambda store, subnet, pair: store.pairs.remove(subnet, pair),
        lambda store, subnet, pair: store.pairs.read(subnet, pair),
    ],
)
def test_what_is_not_there_is_suggested(operator: PoolClient, act: Callable[..., object]) -> None:
    """Did you mean."""
    with pytest.raises(NotFound, match="did you mean p1"):
        act(operator.store, "s1", "p2")
    with pytest.raises(NotFound):
        act(operator.store, "s9", "p1")


def test_a_pair_that_cannot_be_read_is_not_edited(operator: PoolClient) -> None:
    """Most of it would be lost. It can be removed."""
    operator.put("subnets/s1/pairs/p1", b"garbage")
    with pytest.raises(InvalidInput, match="pool apply"):
        operator.store.pairs.drain("s1", "p1", 1.0)
    assert operator.get("subnets/s1/pairs/p1") == b"garbage"


def test_a_pair_is_removed_when_it_is_drained_and_empty(two_pairs: PoolClient) -> None:
    """Everything else has a name."""
    store = two_pairs.store
    count(two_pairs, None)
    with pytest.raises(RiskNotAccepted, match="is not draining"):
        store.pairs.remove("s1", "p1")
    store.pairs.drain("s1", "p1", time.time() - 60)
    with pytest.raises(RiskNotAccepted, match="nobody can say"):
        store.pairs.remove("s1", "p1")
    count(two_pairs, 3)
    with pytest.raises(RiskNotAccepted, match="still has 3 connections"):
        store.pairs.remove("s1", "p1")
    count(two_pairs, 0, age_s=11)
    with pytest.raises(RiskNotAccepted, match="not reported"):
        store.pairs.remove("s1", "p1")
    count(two_pairs, 0)
    store.pairs.remove("s1", "p1")
    with pytest.raises(RiskNotAccepted, match="last pair") as caught:
        store.pairs.remove("s1", "p2", (Risk.DROP_CONNECTIONS,))
    assert [refusal.risk for refusal in caught.value.refusals] == [Risk.STOP_NEW_CONNECTIONS]
    store.pairs.remove("s1", "p2", tuple(Risk))


# ---- commands --------------------------------------------------------------------------------------------------------


def test_drain_undrain_and_again(cli: Cli, two_pairs: PoolClient) -> None:
    """Each can be repeated, and says what is so."""
    assert cli.ok("pair", "drain", "s1", "p1") == (
        "pair s1/p1 is draining: new connections go to p2; those it has go on\n"
    )
    assert re.fullmatch(r"pair s1/p1 is draining already, for \d+s\n", cli.ok("pair", "drain", "s1", "p1"))
    assert cli.ok("pair", "undrain", "s1", "p1") == "pair s1/p1 takes new connections again\n"
    assert cli.ok("pair", "undrain", "s1", "p1") == "pair s1/p1 is not draining\n"


def test_the_last_pair_needs_the_name_of_the_risk(cli: Cli, operator: PoolClient) -> None:
    """Exit code 7, one line, nothing changed."""
    done = cli("pair", "drain", "s1", "p1")
    assert (done.code, done.out) == (7, "")
    assert re.fullmatch(
        r"error: pair s1/p1 is the last active pair [^\n]*--accept-risk=stop-new-connections\n", done.err
    )
    assert state(operator)[0] is PairState.ACTIVE
    assert "nowhere to go" in cli.ok("pair", "drain", "s1", "p1", *ACCEPT)
    assert "PP017 no-active-pair s1" in cli.ok("status")
    assert cli("pair", "drain", "s1", "p1", "--accept-risk", "any").code == 2


def test_a_dry_run_changes_nothing_and_says_who_is_affected(cli: Cli, two_pairs: PoolClient) -> None:
    """Of each command. A risk is named after the plan, with the exit code of the real thing."""
    before = two_pairs.store.read_snapshot()
    count(two_pairs, None)
    drain = cli.ok("pair", "drain", "s1", "p1", "--dry-run", "--wait")
    assert "120 tracked by node-a now" in drain
    assert "1 host, host1" in drain
    assert "10m at most" in drain
    removal = cli("pair", "remove", "s1", "p1", "--dry-run")
    assert removal.code == 7
    assert "its connections break" in removal.out
    assert "--accept-risk=drop-connections" in removal.err
    assert "  4. node-a and node-b leave" in cli.ok("pair", "remove", "s1", "p1", "--dry-run", "--drain")
    members = [f"node-{name},eni=eni9,address=172.16.1.9{at}/24" for at, name in enumerate("ef")]
    words = ("pair", "add", "s1", "p3", "--havip", "192.168.4.99", "--member", members[0], "--member", members[1])
    added = cli(*words, "--weight", "2", "--dry-run")
    assert added.code == 0
    assert "would add pair s1/p3: HaVip 192.168.4.99, VRRP id 1, node-e and node-f, weight 2" in added.out
    assert "it gets 50 % of the new connections" in added.out
    assert two_pairs.store.read_snapshot() == before
    assert cli(*words, "--weight", "2").out.endswith("node-e and node-f, weight 2\n")
    assert "is there already" in cli(*words, "--weight", "2", "--dry-run").out


def test_weights_are_set_and_refused(cli: Cli, operator: PoolClient) -> None:
    """1 to 16."""
    assert cli.ok("pair", "set", "s1", "p1", "--weight", "4") == "pair s1/p1: weight 4\n"
    assert cli.ok("pair", "set", "s1", "p1", "--weight", "4") == "pair s1/p1 has weight 4\n"
    assert operator.store.read_snapshot().pairs["s1"]["p1"].weight == 4
    for weight in ("0", "17"):
        done = cli("pair", "set", "s1", "p1", "--weight", weight)
        assert (done.code, done.err) == (1, f"error: weight {weight} is out of range: choose 1 to 16\n")


def test_an_egress_address_is_set_and_another_one_needs_the_name_of_the_risk(cli: Cli, operator: PoolClient) -> None:
    """What `pool apply` and `pair add` do not name stays."""

    def egress() -> str:
        return str(operator.store.read_snapshot().pairs["s1"]["p1"].egress_address)

    words = ("pair", "set", "s1", "p1", "--egress-address")
    members = operator.store.read_snapshot().pairs["s1"]["p1"].members
    first, second = (str(members[0].address.network[last]) for last in (200, 201))
    assert cli.ok(*words, first) == f"pair s1/p1: egress address {first}\n"
    assert cli.ok(*words, first) == f"pair s1/p1 has egress address {first}\n"
    operator.make("subnets/s1/hosts/host1")
    for new in (second, "none"):
        refused = cli(*words, new)
        assert (refused.code, refused.out) == (7, "")
        assert "--accept-risk=drop-connections" in refused.err
        assert egress() == first
    assert operator.store.pairs.add("s1", pair_request()).egress_address == members[0].address.network[200]
    assert cli.ok(*words, second, "--accept-risk=drop-connections") == f"pair s1/p1: egress address {second}\n"
    assert cli(*words, str(members[1].address.ip), "--accept-risk=drop-connections").code == 1
    assert cli.ok(*words, "none", "--accept-risk=drop-connections") == "pair s1/p1: egress address none\n"
    assert egress() == "None"
    assert cli("pair", "set", "s1", "p1").code == 1


@pytest.mark.parametrize("command", ["drain", "undrain", "remove"])
def test_commands_suggest_what_was_meant(cli: Cli, operator: PoolClient, command: str) -> None:
    """One line, exit code 1."""
    done = cli("pair", command, "s1", "p11")
    assert (done.code, done.out) == (1, "")
    assert done.err == "error: there is no pair 'p11' in subnet s1: did you mean p1?\n"


def test_what_is_left_shows_in_lists_and_documents(cli: Cli, two_pairs: PoolClient) -> None:
    """State and since, what is left, and the weight where there is room."""
    two_pairs.store.pairs.drain("s1", "p1", time.time() - 182)
    count(two_pairs, 118)
    row = cli.ok("pair", "list", "s1").splitlines()[1]
    assert re.search(r"  draining 3m\d+s, 118 left  ", row)
    assert "WEIGHT" in cli.ok("pair", "list", "-o", "wide").splitlines()[0]
    shown = json.loads(cli.ok("pair", "show", "s1", "p1", "-o", "json"))
    assert (shown["state"], shown["connections_left"], shown["weight"]) == ("draining", 118, 1)
    assert shown["draining_since"] == pytest.approx(time.time() - 182, abs=30)
    assert shown["members"][0]["connections"] == 118
    assert re.search(r"draining: +for 3m\d+s, 118 connections left", cli.ok("pair", "show", "s1", "p1"))
    assert re.search(r"draining s1/p1: for 3m\d+s, 118 connections left", cli.ok("status"))


def test_the_wait_ends_when_nothing_is_left(cli: Cli, connect: Connect, two_pairs: PoolClient) -> None:
    """Not before: what is not known is not zero, nor is what was true before."""
    with Counting(connect(), None) as master:
        process = cli.start("pair", "drain", "s1", "p1", "--wait", "--timeout", "60")
        assert process.stdout is not None
        assert process.stdout.readline().startswith("pair s1/p1 is draining: new connections go to p2")
        assert "not known yet (its master has not counted them yet)" in process.stdout.readline()
        master.connections = 7
        assert re.match(r"s1/p1: 7 connections left.*; waiting 5\ds more\n", process.stdout.readline())
        assert process.poll() is None
        master.connections = 0
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert re.fullmatch(r"pair s1/p1 is drained: no connection is left after \d+\.\d s\n", out)


def test_a_wait_that_is_over_is_exit_5_and_the_pair_stays_draining(
    cli: Cli, connect: Connect, two_pairs: PoolClient
) -> None:
    """And it says what to do. A master that went silent has not finished."""
    with Counting(connect(), 2):
        done = cli("pair", "drain", "s1", "p1", "--timeout", "0.5")
        assert done.code == 5
        assert done.err.startswith("error: pair s1/p1 still has 2 connections after 0.5 s and stays draining: ")
        assert state(two_pairs)[0] is PairState.DRAINING
    silent = connect()
    count(silent, 0, age_s=11)
    done = cli("pair", "drain", "s1", "p1", "--timeout", "0.5")
    assert done.code == 5
    assert "an unknown number of connections" in done.err


def test_a_wait_ends_when_somebody_undrains_or_removes(cli: Cli, connect: Connect, two_pairs: PoolClient) -> None:
    """It would never end."""
    with Counting(connect(), 2):
        process = cli.start("pair", "drain", "s1", "p1", "--wait")
        wait_until(lambda: state(two_pairs)[0] is PairState.DRAINING, "draining")
        assert process.stdout is not None
        process.stdout.readline()
        two_pairs.store.pairs.undrain("s1", "p1")
        _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (
            1,
            "error: pair s1/p1 was undrained meanwhile: it takes new connections again\n",
        )
        process = cli.start("pair", "drain", "s1", "p1", "--wait")
        assert process.stdout is not None
        process.stdout.readline()
        two_pairs.store.pairs.remove("s1", "p1", tuple(Risk))
        _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (1, "error: there is no pair 'p1' in subnet s1: did you mean p2?\n")


def test_ctrl_c_ends_the_wait_and_not_the_drain(cli: Cli, connect: Connect, two_pairs: PoolClient) -> None:
    """Exit 130, how to undo it, no traceback."""
    with Counting(connect(), 2):
        process = cli.start("pair", "drain", "s1", "p1", "--wait")
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert re.fullmatch(r"interrupted: pair s1/p1 stays draining: [^\n]*`proxypool pair undrain s1 p1`\n", err)
    assert state(two_pairs)[0] is PairState.DRAINING


def test_on_a_terminal_one_line_is_redrawn(cli: Cli, connect: Connect, two_pairs: PoolClient) -> None:
    """In place, and it is gone at the end."""
    ours, theirs = pty.openpty()
    with Counting(connect(), 4) as master:
        process = subprocess.Popen(
            [sys.executable, "-m", "proxypool", "pair", "drain", "s1", "p1", "--wait"],
            env={**os.environ, **cli.environment, "COLUMNS": "100"},
            stdout=theirs,
        )
        os.close(theirs)
        text = b""
        while b"4 connections left" not in text:
            text += os.read(ours, 65536)
        master.connections = 0
        try:
            while chunk := os.read(ours, 65536):
                text += chunk
        except OSError:
            pass  # the other end is closed
    os.close(ours)
    assert process.wait(30) == 0
    drawn = text.decode().split("\r\x1b[2K")
    assert len(drawn) > 3
    assert all("\n" not in line for line in drawn[1:-1])
    assert drawn[-1].startswith("pair s1/p1 is drained")


def test_remove_with_drain_waits_and_removes(cli: Cli, connect: Connect, two_pairs: PoolClient) -> None:
    """With --yes; without it nothing begins."""
    assert cli("pair", "remove", "s1", "p1", "--drain").code == 7
    assert state(two_pairs)[0] is PairState.ACTIVE
    with Counting(connect(), 0):
        out = cli.ok("pair", "remove", "s1", "p1", "--drain", "--yes", "--timeout", "30")
    assert out.splitlines()[0] == "pair s1/p1 is draining: new connections go to p2; those it has go on"
    assert out.endswith("removed pair s1/p1\n")
    assert not two_pairs.exists("subnets/s1/pairs/p1")


def test_remove_with_drain_gives_up_or_goes_on_as_accepted(cli: Cli, connect: Connect, two_pairs: PoolClient) -> None:
    """After the timeout the pair stays draining, unless breaking what is left was accepted."""
    words = ("pair", "remove", "s1", "p1", "--drain", "--yes", "--timeout", "0.3")
    with Counting(connect(), 1):
        done = cli(*words)
        assert done.code == 5
        assert "still has 1 connection after 0.3 s and stays draining" in done.err
        assert state(two_pairs)[0] is PairState.DRAINING
        assert cli(*words, "--accept-risk", "drop-connections").code == 0
    assert not two_pairs.exists("subnets/s1/pairs/p1")


def test_remove_with_drain_of_the_last_pair_is_refused_before_it_begins(cli: Cli, operator: PoolClient) -> None:
    """Hosts use the subnet. Nobody waits ten minutes to learn of it."""
    operator.make("subnets/s1/hosts/host1")
    done = cli("pair", "remove", "s1", "p1", "--drain", "--yes")
    assert done.code == 7
    assert "--accept-risk=stop-new-connections" in done.err
    assert state(operator)[0] is PairState.ACTIVE


def test_a_pool_of_one_document_takes_weights(cli: Cli, operator: PoolClient) -> None:
    """`pool apply` with and without; out of range is refused."""
    document = json.loads(encode(pool_request()))
    (pair,) = document["subnets"][0]["pairs"]
    pair["weight"] = 7
    cli.ok("pool", "apply", "-", stdin=json.dumps(document))
    del pair["weight"]
    assert cli.ok("pool", "apply", "-", stdin=json.dumps(document)) == "unchanged\n"
    assert operator.store.read_snapshot().pairs["s1"]["p1"].weight == 7
    pair["weight"] = 17
    done = cli("pool", "apply", "-", stdin=json.dumps(document))
    assert done.code == 1
    assert "weight" in done.err
