"""Seeing a pool from the command line, against a real ZooKeeper: topology, explain, events, waiting for a status."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from typing import Any

import pytest
from msgspec.structs import replace

from proxypool.adapters.zookeeper import PoolFollower, PoolHistory
from proxypool.core.documents import encode
from proxypool.core.event_changes import events_between, moment
from proxypool.core.history import Record
from proxypool.core.model import Alive, HostSpec
from tests.contract.conftest import Connect
from tests.contract.test_zookeeper_cli import Cli, cli, living, publish
from tests.contract.zk import PoolClient, ZooKeeperServer, wait_until

__all__ = ["cli", "living"]


def failover(at: float, pair: str = "p1") -> Record:
    return Record(kind="failover", reason="silent", subnet="s1", pair=pair, from_node="node-a", to_node="node-b", at=at)


# ---- topology and explain --------------------------------------------------------------------------------------------


def test_the_topology_of_a_pool(cli: Cli, living: tuple[PoolClient, PoolClient]) -> None:
    lines = cli.ok("topology", "s1").splitlines()
    assert [line.lstrip(" │├└─").split()[0] for line in lines] == [
        *("pool", "subnet", "1", "host1", "tunnel", "pair", "master", "ENI", "backup", "ENI"),
    ]
    assert "did you mean s1?" in cli("topology", "s2").err


def test_a_pipe_that_cannot_show_lines_gets_others(cli: Cli, living: tuple[PoolClient, PoolClient]) -> None:
    """As when the output is ASCII."""
    environment = {**os.environ, **cli.environment, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "proxypool", "topology"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "`- " in done.stdout
    assert done.stdout.isascii()


def test_explain_finds_what_is_meant(cli: Cli, operator: PoolClient, living: tuple[PoolClient, PoolClient]) -> None:
    """A subnet, a pair in both ways, a node and a host in both ways, a member."""
    PoolHistory(operator.session).write([failover(time.time() - 60)])
    assert cli.ok("explain", "s1").startswith("subnet s1: ok\n\n1 host uses it. Its pairs: p1 is ok, served by node-a.")
    text = cli.ok("explain", "s1/p1")
    assert text.startswith("pair s1/p1: ok\n\nPair s1/p1 carries traffic to 172.16.1.0/24")
    assert "a failover from node-a to node-b" in text
    assert cli.ok("explain", "s1", "p1").splitlines()[0] == "pair s1/p1: ok"
    assert cli.ok("explain", "s1/p1/node-b").splitlines()[0] == "pair s1/p1: ok"
    assert cli.ok("explain", "node-b") == cli.ok("explain", "nodes/node-b")
    assert cli.ok("explain", "node-b").startswith("node node-b: ok\n\nNode node-b is there")
    assert cli.ok("explain", "host1") == cli.ok("explain", "hosts/host1")
    assert cli.ok("explain", "host1").startswith("host host1: ok\n\nHost host1 is there: its agent")
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("s2", "there is no subnet, pair, node or host 's2': did you mean s1"),
        ("nod-a", "did you mean node-a or node-b?"),
        ("p1", "did you mean s1/p1"),
        ("s1/p2", "there is no pair 'p2' in subnet s1: did you mean p1?"),
        ("nodes/node-c", "did you mean "),
        ("host2", "did you mean host1"),
        ("hosts/host2", "did you mean "),
        ("", "there is no subnet, pair, node or host ''"),
    ],
)
def test_explain_of_a_wrong_name(cli: Cli, living: tuple[PoolClient, PoolClient], name: str, message: str) -> None:
    """One line with what is alike."""
    done = cli("explain", name)
    assert (done.code, done.out) == (1, "")
    assert message in done.err
    assert len(done.err.splitlines()) == 1


def test_what_is_wrong_is_explained_with_what_to_run(
    cli: Cli, operator: PoolClient, living: tuple[PoolClient, PoolClient]
) -> None:
    """But not to run what was just run."""
    trouble = Alive(underlay=IPv4Address("192.168.80.1"), problems=("this host does not forward",))
    operator.put("hosts/host1/alive", encode(trouble))
    text = cli.ok("explain", "host1")
    assert text.startswith("host host1: degraded\n")
    assert "degraded PP029 host-problem hosts/host1: host1: this host does not forward" in text
    assert "next:" not in text
    assert "next: proxypool explain hosts/host1" in cli.ok("status")
    living[1].end(close_session=True)
    text = cli.ok("explain", "s1/p1")
    assert "degraded PP003 no-backup s1/p1" in text
    assert "next: proxypool explain s1/p1" not in text
    assert "next, on node-b: systemctl status proxypool-node" in text
    assert "next: proxypool explain s1/p1" in cli.ok("explain", "node-b") + cli.ok("status")


# ---- waiting for a status --------------------------------------------------------------------------------------------


def test_waiting_ends_when_all_is_well(cli: Cli, living: tuple[PoolClient, PoolClient]) -> None:
    """What is wrong meanwhile goes to standard error, so that a script's output stays clean."""
    publish(living[1], "node-b", role="fault", health=("the ENI is gone",))
    wait_until(lambda: "PP006" in cli.ok("status"), "unfit")
    process = cli.start("status", "s1", "--wait", "--timeout", "60", "-o", "json")
    assert process.stderr is not None
    waiting = process.stderr.readline()
    assert re.search(r"waiting, \d+ s left: degraded: PP003 no-backup s1/p1, and 1 more", waiting)
    publish(living[1], "node-b", role="backup")
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, json.loads(out)["level"]) == (0, "ok")


def test_waiting_in_vain_ends_with_5(cli: Cli, living: tuple[PoolClient, PoolClient]) -> None:
    """It shows how it is all the same."""
    living[1].end(close_session=True)
    done = cli("status", "--wait", "--timeout", "0.5")
    assert done.code == 5
    assert "PP008 node-not-alive" in done.out
    assert done.err.splitlines()[-1].startswith("error: not all is well after 0.5 s: degraded: PP003 no-backup s1/p1")
    assert cli("status", "--wait", "-w").err.startswith("error: give --watch or --wait, not both")


def test_waiting_outlasts_an_absent_zookeeper(
    own_server: ZooKeeperServer, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that does not answer for a while."""
    environment = {**cli.environment, "PROXYPOOL_ZOOKEEPER": own_server.address}
    there = Cli(environment)
    there.ok("pool", "init")
    there.ok("subnet", "add", "s1", "--cidr", "10.0.0.0/24")
    process = there.start("status", "--wait", "--timeout", "30")
    assert process.stderr is not None
    assert "PP014 no-pair s1" in process.stderr.readline()
    own_server.stop()
    own_server.start()
    there.ok("subnet", "remove", "s1", "--yes")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert ": ok - 0 subnets" in out


# ---- events ----------------------------------------------------------------------------------------------------------


def test_past_events_are_the_historys_and_the_documents(
    cli: Cli, operator: PoolClient, living: tuple[PoolClient, PoolClient]
) -> None:
    """In the order of their times; so many, so old, of one subnet or pair."""
    now = time.time()
    PoolHistory(operator.session).write([failover(now - 7200), failover(now - 60, "gone")])
    cli.ok("pair", "pause", "s1", "p1")

    def found(*words: str) -> list[tuple[str, str]]:
        documents = [json.loads(line) for line in cli.ok("events", *words, "-o", "json").splitlines()]
        assert [one["at"] for one in documents] == sorted(one["at"] for one in documents)
        return [(one["type"], one["subject"]) for one in documents]

    assert found() == [
        ("failover", "s1/p1"),
        *[("daemon", "nodes/node-a"), ("daemon", "nodes/node-b")],
        ("failover", "s1/gone"),
        ("pause", "s1/p1"),
    ]
    assert found("-n", "1") == [("pause", "s1/p1")]
    assert found("-n", "0") == []
    assert found("--since", "5m") == [("failover", "s1/gone"), ("pause", "s1/p1")]
    assert found("s1/p1") == [("failover", "s1/p1"), ("pause", "s1/p1")]
    assert found("s1/gone") == [("failover", "s1/gone")], "what was removed has a past"
    assert "did you mean s1?" in cli("events", "s2").err
    assert "give 0 or more" in cli("events", "-n", "-1").err
    line = cli.ok("events", "s1/p1", "-n", "1")
    assert re.fullmatch(r"\d\d-\d\d \d\d:\d\d:\d\d  pause       s1/p1             is paused, by \S+@\S+\n", line)
    yaml = cli.ok("events", "s1/p1", "-o", "yaml")
    assert yaml.startswith("---\napiVersion: proxypool/v1\nkind: Event\n")


@contextmanager
def following(cli: Cli, *words: str) -> Iterator[subprocess.Popen[str]]:
    """`events -f`, as a process; killed at the end if it still runs."""
    process = cli.start("events", "-f", *words)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], wanted: set[tuple[str, str]]) -> list[dict[str, Any]]:
    """Events as they come, until all wanted (type, subject) were there. pytest-timeout ends it if they do not come."""
    assert process.stdout is not None
    found, missing = [], set(wanted)
    while missing:
        line = process.stdout.readline()
        assert line, f"it ended without {missing}"
        found.append(json.loads(line))
        missing.discard((found[-1]["type"], found[-1]["subject"]))
    return found


def test_events_are_told_as_they_happen(cli: Cli, operator: PoolClient, living: tuple[PoolClient, PoolClient]) -> None:
    """One document per line: a failover, a drain, a change of the pool; until Ctrl-C, which is quiet."""
    PoolHistory(operator.session).write([failover(1000.0)])
    with following(cli, "-o", "json") as process:
        read_until(process, {("daemon", "nodes/node-b")})
        # What happens from the last word of the past on is told, even before it follows.
        cli.ok("subnet", "add", "s9", "--cidr", "10.9.0.0/24")
        read_until(process, {("spec", "s9"), ("check", "s9")})
        living[0].end(close_session=True)
        publish(living[1], "node-b", role="master")
        PoolHistory(operator.session).write([failover(time.time())])
        found = read_until(
            process,
            {
                *[("role", "s1/p1/node-a"), ("role", "s1/p1/node-b"), ("elected", "s1/p1"), ("failover", "s1/p1")],
                *[("daemon", "nodes/node-a"), ("check", "s1/p1/node-a")],
            },
        )
        assert [one["record"]["at"] for one in found if one["type"] == "failover"] != [1000.0]
        cli.ok("pair", "drain", "s1", "p1", "--accept-risk", "stop-new-connections")
        read_until(process, {("drain", "s1/p1"), ("check", "s1")})
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (130, "")


def test_of_hosts_it_is_told_that_they_come_and_go(
    cli: Cli, connect: Connect, operator: PoolClient, living: tuple[PoolClient, PoolClient]
) -> None:
    """Their daemons, that is; not that one was there before, and nothing of what they say every few seconds."""
    comer = connect()
    host = HostSpec(id="host2", underlay=IPv4Address("192.168.80.2"), tunnel_address=IPv4Address("100.64.0.2"))
    alive = Alive(underlay=host.underlay, since=time.time(), version="0.1.0")
    with following(cli, "-o", "json") as process:
        read_until(process, {("daemon", "nodes/node-b")})
        comer.registry.register_host(host, alive)
        found = read_until(process, {("spec", "hosts/host2"), ("daemon", "hosts/host2")})
        comer.registry.register_host(host, replace(alive, at=time.time(), attachments=7))
        cli.ok("subnet", "add", "s9", "--cidr", "10.9.0.0/24")
        found += read_until(process, {("spec", "s9")})
        comer.end(close_session=True)
        found += read_until(process, {("daemon", "hosts/host2")})
    told = [(one["subject"], one["message"]) for one in found if one["subject"].startswith("hosts/")]
    assert {("hosts/host2", "host is added"), ("hosts/host2", "is there")} == set(told[:2])
    assert told[2:] == [("hosts/host2", "is gone: its session ended")]


def _has_line(process: subprocess.Popen[str], within_s: float) -> bool:
    assert process.stdout is not None
    return bool(select.select([process.stdout], [], [], within_s)[0])


def test_following_outlasts_a_restart_of_zookeeper(own_server: ZooKeeperServer, cli: Cli) -> None:
    """It says that it waits, and tells what happened meanwhile, records too."""
    there = Cli({**cli.environment, "PROXYPOOL_ZOOKEEPER": own_server.address})
    there.ok("pool", "init")
    there.ok("subnet", "add", "s1", "--cidr", "10.0.0.0/24")
    with following(there, "-o", "json") as process:
        assert process.stderr is not None
        wait_until(lambda: _grew(there, process), "it follows", 30.0)
        own_server.stop()
        assert process.stderr.readline() == "waiting: ZooKeeper does not answer\n"
        own_server.start()
        there.ok("subnet", "add", "s9", "--cidr", "10.9.0.0/24")
        client = PoolClient(own_server, there.environment["PROXYPOOL_POOL"]).start()
        PoolHistory(client.session).write([failover(time.time())])
        found = read_until(process, {("spec", "s9"), ("failover", "s1/p1")})
        client.end(close_session=True)
        assert len([one for one in found if one["type"] == "failover"]) == 1


def _grew(cli: Cli, process: subprocess.Popen[str]) -> bool:
    """Whether a change of the pool was told: another subnet, of another customer."""
    name = f"t{time.monotonic_ns()}"
    cli.ok("subnet", "add", name, "--cidr", "10.1.0.0/24", "--tenant", name)
    return _has_line(process, 0.5)


def test_events_end_when_the_reader_does(cli: Cli, operator: PoolClient, living: tuple[PoolClient, PoolClient]) -> None:
    """`| head -1` is no traceback."""
    PoolHistory(operator.session).write([failover(float(at)) for at in range(1, 2000)])
    shell = f"{sys.executable} -m proxypool events -n 5000 | head -1"
    done = subprocess.run(
        ["sh", "-c", shell],
        env={**os.environ, **cli.environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_a_terminal_gets_colour_and_a_pipe_none(cli: Cli, operator: PoolClient) -> None:
    PoolHistory(operator.session).write([failover(1000.0)])
    assert "\x1b[" not in cli.ok("events") + cli.ok("topology") + cli.ok("explain", "s1")
    ours, theirs = pty.openpty()
    environment = {**os.environ, **cli.environment, "NO_COLOR": "", "TERM": "xterm", "COLUMNS": "80"}
    command = [sys.executable, "-m", "proxypool", "events"]
    process = subprocess.Popen(command, env=environment, stdout=theirs)
    assert process.wait(30) == 0
    os.close(theirs)
    text = os.read(ours, 65536).decode()
    os.close(ours)
    assert "\x1b[1;31mfailover\x1b[0m" in text


def test_a_follower_sees_every_change_of_a_status(operator: PoolClient, living: tuple[PoolClient, PoolClient]) -> None:
    """Published documents are in no snapshot; they are followed all the same."""
    follower = PoolFollower(operator.session)
    follower.start()
    try:
        wait_until(lambda: follower.view() is not None, "read")
        before = follower.view()
        assert before is not None
        publish(living[1], "node-b", role="fault", health=("x",))

        def roles() -> list[str]:
            seen = follower.view()
            assert seen is not None
            found = events_between(moment(before, time.time()), moment(seen, time.time()))
            return [event.message for event in found if event.type == "role"]

        wait_until(lambda: roles() == ["backup -> fault: x"], "told")
        assert list(follower.new_records()) == []
        PoolHistory(operator.session).write([failover(5.0)])
        wait_until(lambda: [one.at for one in follower.new_records()] == [5.0], "the record came")
        assert list(follower.new_records()) == []
    finally:
        follower.stop()
