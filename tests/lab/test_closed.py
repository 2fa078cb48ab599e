"""A closed pool at work: ZooKeeper by mutual TLS, and every daemon with its own role's secret and no more."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxypool.core.errors import TransientError
from proxypool.lab import agent, identities
from proxypool.lab.configs import SESSION_TIMEOUT_S, STABLE_S
from proxypool.lab.faults import Fault
from proxypool.lab.lab import Lab, remove
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.prober import Prober
from proxypool.lab.topology import OPERATOR, PAIR, ZOOKEEPER_PORT, Topology
from tests.lab.instances import api, wait_shared
from tests.lab.observe import (
    PATIENCE,
    PROBE_MS,
    kill_daemon,
    master_of,
    other_of,
    tunnel_kind,
    wait_subnet_settled,
    wait_until,
)
from tests.lab.scaling import is_still, left_over, scale, wait_size

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(300)]

DENIED = 8
"""Exit code of a command that ZooKeeper refuses."""
_LOOK = """
import json, sys
from proxypool.cli.settings import Settings
with Settings().session() as session:
    for path in map(session.layout.path, sys.argv[1:]):
        names, stat = session.wait(session.client.get_children_async(path, include_data=True))
        print(json.dumps({"names": sorted(names), "changed": stat.mzxid}))
"""


@pytest.fixture(scope="module")
def closed() -> Iterator[Lab]:
    """Four nodes, two hosts, a subnet with one pair and cards for another, a controller, and the operator's machine."""
    topology = Topology(
        f"closed-{os.getpid()}", nodes=4, hosts=2, pairs=2, controllers=1, tunnel=tunnel_kind(), secure=True
    )
    try:
        with Lab.up(topology, timeout_s=60 * PATIENCE) as lab:
            # What the tests send is no reason to add pairs.
            lab.proxypool("scale", "set", "s1", "--mode", "observe", timeout=30 * PATIENCE)
            yield lab
    finally:
        remove(topology.name)


@pytest.fixture
def subnet(closed: Lab) -> Iterator[SubnetPlan]:
    """Through its first pair, which has a master and a backup. Afterwards no access list is another than it ought to
    be, and nobody was refused anything.
    """
    plan = closed.topology.subnet_plans[0].through(PAIR)
    wait_subnet_settled(closed, plan, 30.0)
    yield plan
    dry_run = ("pool", "secure", identities.ALL_SECRETS, "--dry-run")
    wait_until(
        lambda: closed.proxypool(*dry_run, timeout=30 * PATIENCE).stdout == "unchanged\n",
        10.0,
        lambda: closed.proxypool(*dry_run, timeout=30 * PATIENCE).stdout,
        interval_s=0.5,
    )
    for name, machine in closed.machines.items():
        log = machine.log("daemon")
        assert not re.search("refuses access|Traceback", log), (name, log[-3000:])


def level(lab: Lab, on: str) -> str:
    """In `status` on this machine; empty while it cannot say."""
    done = lab.proxypool("status", "-o", "json", on=on, check=False, timeout=30 * PATIENCE)
    return str(json.loads(done.stdout)["level"]) if done.stdout else ""


def ask(lab: Lab, *words: str, on: str | None = None) -> Any:
    """A command's document."""
    return json.loads(lab.proxypool(*words, "-o", "json", on=on, check=False, timeout=30 * PATIENCE).stdout)


def look(lab: Lab, *suffixes: str) -> list[dict[str, Any]]:
    """At nodes in ZooKeeper, as the operator: the names below, and when the data last changed."""
    done = lab.machine(OPERATOR).run([sys.executable, "-c", _LOOK, *suffixes], timeout=30 * PATIENCE)
    return [json.loads(line) for line in done.stdout.splitlines()]


def children(lab: Lab, suffix: str) -> list[str]:
    """The names below a node."""
    names: list[str] = look(lab, suffix)[0]["names"]
    return names


def documents(lab: Lab, subnet: SubnetPlan) -> list[int]:
    """When what operators say was last changed, and by whom it may be."""
    spec = f"subnets/{subnet.id}"
    return [node["changed"] for node in look(lab, "version", "spec", "access", spec, f"{spec}/pairs/{PAIR}")]


def records(lab: Lab, since: float, kind: str, on: str) -> list[dict[str, Any]]:
    """Of the history, from a wall time on."""
    found = ask(lab, "history", on=on)["items"]
    return [record for record in found if record["kind"] == kind and record["at"] >= since]


def test_everybody_has_what_is_theirs_and_no_more(closed: Lab, subnet: SubnetPlan) -> None:
    """Secrets lie where only root reads them; ZooKeeper says nothing to who speaks without TLS; doctor finds no fault."""
    secret = {name: _secrets(closed, name) for name in ("node-a", "node-b", "host1", "ctl1", OPERATOR)}
    assert secret["node-a"] == secret["node-b"]
    assert len({*secret["node-a"], *secret["host1"], *secret["ctl1"]}) == 3
    assert secret[OPERATOR] > secret["node-a"] | secret["host1"] | secret["ctl1"]
    plain = f"exec 3<>/dev/tcp/{closed.topology.zookeeper_ips[0]}/{ZOOKEEPER_PORT}; echo srvr >&3; timeout 2 cat <&3"
    assert "Mode" not in closed.machine("node-a").run(["bash", "-c", plain], check=False).stdout
    for name, role in (("node-a", "node"), ("host1", "host"), ("ctl1", "controller"), (OPERATOR, "controller")):
        found = {one["code"]: one for one in ask(closed, "doctor", "--role", role, on=name)["findings"]}
        assert not {"PD006", "PD007", "PD050", "PD053", "PD054", "PD055"} & found.keys(), (name, found)
    levels = {name: level(closed, name) for name in ("node-a", "host1", "ctl1", OPERATOR)}
    assert set(levels.values()) == {"ok"}, levels


def _secrets(lab: Lab, name: str) -> frozenset[str]:
    """All that lie in the machine's configuration; their modes are looked at."""
    machine = lab.machine(name)
    found = machine.run(
        ["sh", "-c", "find /etc/proxypool -name '*.secret' -o -name '*.key' | xargs stat -c '%a %u %n'"]
    )
    lines = [line.split() for line in found.stdout.splitlines()]
    assert {(mode, owner) for mode, owner, _ in lines} == {("600", "0")}
    paths = [path for _, _, path in lines if path.endswith(".secret")]
    return frozenset(machine.run(["cat", *paths]).stdout.split())


def test_an_instance_is_attached_and_taken_away(closed: Lab, subnet: SubnetPlan) -> None:
    """With its host's first attachment the host joins the subnet, with the last one it leaves, each time by itself."""
    wanted = (closed.topology.machines["pod2"].ip, subnet.id)
    place, joined = api(closed, "host2"), f"subnets/{subnet.id}/hosts"
    assert sorted(children(closed, joined)) == ["host1", "host2"]
    _linger(closed, "host2", 1)
    wait_until(lambda: _is_detached(place, wanted), 20.0, "an agent that knows the pool")
    wait_until(lambda: children(closed, joined) == ["host1"], 30.0, "host2 to leave", interval_s=0.5)
    agent.attach(place, wanted)
    closed.wait_ready(10 * PATIENCE)
    assert sorted(children(closed, joined)) == ["host1", "host2"]


def _linger(lab: Lab, host: str, seconds: int) -> None:
    """Have a host leave a subnet so soon after the last attachment."""
    machine = lab.machine(host)
    machine.run(["sed", "-i", f"s/^subnets = .*/&\\nlinger_s = {seconds}/", "/etc/proxypool/proxypool.toml"])
    kill_daemon(lab, host)
    machine.start("daemon")


def _is_detached(place: Path, wanted: agent.Attachment) -> bool:
    """False: the agent has just been started."""
    try:
        agent.detach(place, wanted)
    except TransientError:
        return False
    return True


def test_masters_change_as_asked_and_when_they_die(closed: Lab, subnet: SubnetPlan) -> None:
    """Daemons and ZooKeeper come back, too. History and status say it, to everybody."""
    began, old = time.time(), master_of(closed, subnet)
    new = other_of(subnet, old)
    words = ("pair", "switchover", subnet.id, PAIR, "--reason", "a test", "--timeout", "30")
    closed.proxypool(*words, timeout=60 * PATIENCE)
    assert master_of(closed, subnet) == new
    (record,) = wait_until(lambda: records(closed, began, "switchover", new), 10.0, "a record", interval_s=0.5)
    assert (record["from"], record["to"], record["note"]) == (old, new, "a test")
    assert record["who"].endswith(f"@{OPERATOR}")
    wait_subnet_settled(closed, subnet, 30.0)
    began = time.time()
    with Prober(closed, "pod1", subnet.database_ip, interval_ms=PROBE_MS, until_recovered_s=0.3) as prober:
        closed.fault(Fault.POWER_OFF, new)
        assert prober.wait(20 * PATIENCE)["blackout_ms"] < 2000 * PATIENCE
    (record,) = wait_until(lambda: records(closed, began, "failover", OPERATOR), 15.0, "a record", interval_s=0.5)
    assert (record["from"], record["to"]) == (new, old)
    wait_until(lambda: level(closed, "host1") == "degraded", 10.0, "a host to say it", interval_s=0.5)
    closed.fault(Fault.POWER_ON, new)
    wait_subnet_settled(closed, subnet, 30.0)
    for name in (new, "host1", "ctl1"):
        kill_daemon(closed, name)
        closed.machine(name).start("daemon")
    wait_subnet_settled(closed, subnet, 30.0)
    closed.fault(Fault.POWER_OFF, "zk1")
    time.sleep(SESSION_TIMEOUT_S + 1)  # so long that daemons take their sessions for lost
    closed.fault(Fault.POWER_ON, "zk1")
    wait_until(lambda: level(closed, new) == "ok", 40.0, "all to register anew", interval_s=0.5)
    wait_subnet_settled(closed, subnet, 30.0)
    closed.wait_ready(10 * PATIENCE)


def test_a_pair_comes_and_drains(closed: Lab, subnet: SubnetPlan) -> None:
    """The controller makes it, hosts use it, and the controller removes it when it has drained."""
    wide = closed.topology.subnet_plans[0]
    closed.proxypool("scale", "set", wide.id, "--min-pairs", "2", timeout=30 * PATIENCE)
    wait_size(closed, lambda size: size["active"] == 2 and is_still(size), 60.0, "two pairs")
    wait_shared(closed)
    closed.proxypool("scale", "set", wide.id, "--min-pairs", "1", timeout=30 * PATIENCE)
    added = next(pair for pair in children(closed, f"subnets/{wide.id}/pairs") if pair != PAIR)
    closed.proxypool("pair", "drain", wide.id, added, timeout=30 * PATIENCE)
    wait_size(closed, lambda size: size["active"] == 1 and is_still(size), 4 * STABLE_S, "one pair")
    wait_until(lambda: not left_over(closed, wide), 20.0, lambda: f"nothing left: {left_over(closed, wide)}")
    kinds = {record["kind"] for record in ask(closed, "scale", "history")["items"]}
    assert "scale-out" in kinds, kinds
    assert scale(closed)["controller"]["leader"].startswith("ctl1")


@pytest.mark.parametrize("machine", ["host1", "node-c", "ctl1"])
def test_who_is_not_the_operator_is_refused(closed: Lab, subnet: SubnetPlan, machine: str) -> None:
    """By the machine's own command and secret. A controller may do with pairs what it does anyway."""
    before = documents(closed, subnet)
    tried = [
        ("scale", "set", subnet.id, "--max-pairs", "7"),
        ("node", "cordon", "node-c"),
        ("pool", "secure", "--open", "--yes"),
    ]
    if machine != "ctl1":
        tried += [
            ("pair", "drain", subnet.id, PAIR, "--accept-risk=stop-new-connections"),
            ("pair", "switchover", subnet.id, PAIR, "--yes"),
            ("pair", "pause", subnet.id, PAIR),
        ]
    for words in tried:
        done = closed.proxypool(*words, on=machine, check=False, timeout=30 * PATIENCE)
        assert done.returncode == DENIED, (words, done.stdout, done.stderr)
    assert documents(closed, subnet) == before
