"""Dry runs, risks and interrupts of commands, against a real ZooKeeper: what is said, and that nothing is changed."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys

import pytest

from proxypool.cli.confirm import unbroken
from proxypool.core.draining import RiskNotAccepted
from proxypool.core.model import PairSpec
from proxypool.core.requests import parse_pool_request
from tests.contract.test_zookeeper_cli import Cli, cli, living
from tests.contract.zk import PoolClient, pool_request, wait_until

__all__ = ["cli", "living"]

EGRESS = "172.16.1.50"


def tree(client: PoolClient) -> str:
    """All that a dry run must leave alone."""
    return str(client.store.read_view())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("pool", "init"), "unchanged"),
        (
            ("subnet", "add", "s2", "--cidr", "172.16.2.0/24"),
            "subnet s2 would be added: 172.16.2.0/24, tenant default, tunnel key 2",
        ),
        (("subnet", "add", "s1", "--cidr", "172.16.1.0/24"), "subnet s1 is there already"),
        (
            ("subnet", "spare", "add", "s1", "--havip", "192.168.4.200"),
            "would add 1 address to the spares of subnet s1",
        ),
        (("pair", "set", "s1", "p1", "--weight", "3", "--mode", "strict"), "weight 1 -> 3"),
        (("pair", "set", "s1", "p1", "--egress-address", EGRESS), f"egress address none -> {EGRESS}"),
        (("pair", "set", "s1", "p1", "--weight", "1"), "pair s1/p1 has all that: unchanged"),
        (("pair", "undrain", "s1", "p1"), "pair s1/p1 is not draining"),
        (("pair", "switchover", "s1", "p1"), "nobody cannot take s1/p1 over"),
        (("pair", "pause", "s1", "p1", "--reason", "x"), "would pause pair s1/p1"),
    ],
)
def test_a_dry_run_says_what_would_be_and_changes_nothing(
    cli: Cli, operator: PoolClient, words: tuple[str, ...], said: str
) -> None:
    before = tree(operator)
    if words[1] == "switchover":
        said = "cannot take s1/p1 over: it is not ready"
    assert said in cli.ok(*words, "--dry-run")
    assert tree(operator) == before


def test_a_dry_run_fails_as_the_real_one_would(cli: Cli, operator: PoolClient) -> None:
    for words in (
        ("subnet", "remove", "s1"),
        ("subnet", "remove", "s9"),
        ("subnet", "add", "s2", "--cidr", "172.16.1.0/24"),
        ("subnet", "spare", "remove", "s1", "--havip", "192.168.4.77"),
        ("pair", "set", "s1", "p1", "--probe", "10.9.9.9"),
        ("pair", "undrain", "s1", "p9"),
        ("pair", "switchover", "s1", "p9"),
    ):
        done = cli(*words, "--dry-run")
        assert (done.code, done.out) == (1, ""), words
        assert done.err.startswith("error: ")


def test_the_first_pool_can_be_rehearsed(cli: Cli) -> None:
    assert cli.ok("pool", "init", "--dry-run").startswith("would be added pool")
    assert cli("pool", "show").code == 1


def test_an_empty_subnet_is_removed_and_before_that_rehearsed(cli: Cli, operator: PoolClient) -> None:
    cli.ok("subnet", "add", "s2", "--cidr", "172.16.2.0/24")
    assert cli.ok("subnet", "remove", "s2", "--dry-run") == "would remove subnet s2: its tunnel key 2 becomes free\n"
    assert "s2" in cli.ok("subnet", "list")


def test_undraining_says_who_is_affected(cli: Cli, operator: PoolClient) -> None:
    cli.ok("pair", "drain", "s1", "p1", "--accept-risk", "stop-new-connections")
    assert "it gets 100 % of the new connections to s1 again" in cli.ok("pair", "undrain", "s1", "p1", "--dry-run")


@pytest.mark.usefixtures("living")
def test_a_switchover_says_whether_connections_go_on(cli: Cli, operator: PoolClient) -> None:
    """Without an egress address they break."""
    told = cli.ok("pair", "switchover", "s1", "p1", "--dry-run")
    assert told == (
        "would make node-b the master of s1/p1 instead of node-a: its connections, 120 tracked now, break, as the pair has "
        "no egress address\n"
    )
    assert "is the elected member of s1/p1 already" in cli.ok(
        "pair", "switchover", "s1", "p1", "--to", "node-a", "--dry-run"
    )
    path = "subnets/s1/pairs/p1"
    operator.put(path, json.dumps({**json.loads(operator.get(path)), "egress_address": EGRESS}).encode())
    assert "not in sync, so connections may break" in cli.ok("pair", "switchover", "s1", "p1", "--dry-run")
    cli.ok("pair", "pause", "s1", "p1")
    assert "is paused: it would be refused" in cli.ok("pair", "switchover", "s1", "p1", "--dry-run")


@pytest.mark.usefixtures("living")
def test_on_a_terminal_a_switchover_that_breaks_connections_is_asked_for(cli: Cli, operator: PoolClient) -> None:
    """No is no; scripts are not asked (other tests), and --yes answers."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "proxypool", "pair", "switchover", "s1", "p1", "--no-wait"],
        env={**os.environ, **cli.environment},
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.write(ours, b"n\n")
    _, err = process.communicate(timeout=30)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 7
    assert "break, as the pair has no egress address. Do it? [y/N]" in err
    assert operator.elected() == "node-a"


def moved(client: PoolClient) -> bytes:
    """The pool as it is, but for another HaVip of s1/p1."""
    pair: PairSpec = client.store.read_snapshot().pairs["s1"]["p1"]
    members = [{"node": one.node, "eni": one.eni, "address": str(one.address)} for one in pair.members]
    document = {"id": "p1", "havip": "192.168.4.99", "members": members}
    return json.dumps({"subnets": [{"id": "s1", "cidrs": ["172.16.1.0/24"], "pairs": [document]}]}).encode()


def test_a_description_that_breaks_connections_must_be_accepted(cli: Cli, operator: PoolClient) -> None:
    """Only where hosts use the subnet; a dry run says what would change, and then that it would be refused."""
    text = moved(operator).decode()
    operator.make("subnets/s1/hosts/host1")
    done = cli("pool", "apply", "-", stdin=text)
    assert done.code == 7
    assert "pair s1/p1 has another HaVip or other members then: every connection through it breaks" in done.err
    assert "pair drain s1 p1 --wait" in done.err
    rehearsed = cli("pool", "apply", "-", "--dry-run", stdin=text)
    assert (rehearsed.code, rehearsed.out) == (7, "changed pair s1/p1\n")
    assert str(operator.store.read_snapshot().pairs["s1"]["p1"].havip) != "192.168.4.99"
    assert cli.ok("pool", "apply", "-", "--accept-risk", "drop-connections", stdin=text) == "changed pair s1/p1\n"
    operator.delete("subnets/s1/hosts/host1")
    operator.store.apply(pool_request(), ())


def test_a_program_may_apply_what_it_likes(operator: PoolClient) -> None:
    """It accepts risks by name, as people do, or is asked for none."""
    operator.make("subnets/s1/hosts/host1")
    request = parse_pool_request(moved(operator), what="it")
    with pytest.raises(RiskNotAccepted):
        operator.store.apply(request, ())
    operator.store.apply(request)
    assert str(operator.store.read_snapshot().pairs["s1"]["p1"].havip) == "192.168.4.99"


def interrupted(times: int, done: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with unbroken("it is being written"):
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
        wait_until(lambda: "ends by itself" in capsys.readouterr().err, "it was told")
        done.append("whole")


def test_ctrl_c_waits_until_a_write_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """Then it counts; a second one does not wait."""
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(1, done, capsys)
    assert done == ["whole"]
    with pytest.raises(KeyboardInterrupt):
        interrupted(2, done, capsys)
    assert done == ["whole"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_while_waiting_says_what_goes_on(cli: Cli, operator: PoolClient) -> None:
    """`pair add --wait`: the pair is there, and nobody serves it."""
    member = (
        "--member",
        "node-c,eni=eni1,address=172.16.1.21/24",
        "--member",
        "node-d,eni=eni1,address=172.16.1.22/24",
    )
    process = cli.start("pair", "add", "s1", "p2", "--havip", "192.168.4.102", *member, "--wait")
    wait_until(lambda: "p2" in operator.store.read_snapshot().pairs["s1"], "it is added", 20)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "comes into service without us: see `proxypool status s1`" in err
    assert "Traceback" not in err
