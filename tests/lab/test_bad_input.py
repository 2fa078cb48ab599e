"""What is wrong from the start, or goes wrong in ways nobody planned: it is refused or survived, and always said."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from proxypool.core.addressing import namespace_of
from proxypool.daemons.steerer import RETIREMENT_CHECK_S
from proxypool.lab import namespaces, network
from proxypool.lab.configs import COMMAND_DIR
from proxypool.lab.lab import Lab
from proxypool.lab.machine import end
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.prober import Prober
from proxypool.lab.topology import PAIR, Tunnel, fabric_port
from tests.lab.observe import (
    CLIENT_CONFIG,
    PATIENCE,
    PROBE_MS,
    another_subnet,
    fabric_pid,
    in_namespace,
    kill_daemon,
    master_of,
    masters,
    metrics,
    open_gates,
    other_of,
    python,
    said,
    spare_cards,
    status,
    tunnel_kind,
    unsettled,
    wait_gone,
    wait_until,
)

pytestmark = [pytest.mark.root]

USAGE, UNREACHABLE = 2, 6
PLANNED_LIMIT_MS = 300 * PATIENCE


@pytest.fixture
def subnet(lab: Lab) -> SubnetPlan:
    """The one that suffers."""
    return lab.topology.subnet_plans[0]


def member_in(document: dict[str, Any], subnet: str, node: str) -> dict[str, Any]:
    """A member in the document of `status`."""
    found = next(each for each in document["subnets"] if each["id"] == subnet)
    return next(member for pair in found["pairs"] for member in pair["members"] if member["node"] == node)


def problems_of(lab: Lab, node: str, on: str = "zk1") -> list[str]:
    """What a node says is wrong with it as a whole."""
    found = next(each for each in status(lab, on)["nodes"] if each["id"] == node)
    return [str(problem) for problem in found["problems"]]


@pytest.fixture(autouse=True)
def _client(lab: Lab) -> None:
    """So that zk1, which always lives here, can run the product's commands."""
    lab.machine("zk1").run(
        ["sh", "-c", "mkdir -p /etc/proxypool && cat >/etc/proxypool/proxypool.toml"], input=CLIENT_CONFIG
    )


# ---- cards -----------------------------------------------------------------------------------------------------------


def test_an_eni_that_does_not_exist(lab: Lab) -> None:
    """Its member is unfit and says why; the other one serves. When the card is plugged in all is well."""
    with spare_cards(lab, "spare0"), another_subnet(lab, "noeni", enis=("spare0", "late0")) as pair:
        good, bad = lab.topology.node_names
        wait_until(lambda: masters(lab, pair) == open_gates(lab, pair) == {good}, 15.0, f"{good} to serve")

        def reason() -> str:
            return " ".join(member_in(status(lab), pair.id, bad)["health"])

        wait_until(lambda: "ENI late0 is not on this machine" in reason(), 10.0, "the reason in status", interval_s=0.5)
        assert (seen := said(lab, bad, pair)) is None or not seen.fit
        lab.machine(bad).run(["ip", "link", "add", "late0", "type", "veth", "peer", "name", "late0-far"])
        lab.machine(bad).run(["ip", "link", "set", "late0-far", "up"])
        try:
            wait_until(lambda: not unsettled(lab, pair), 15.0, lambda: unsettled(lab, pair))
            assert masters(lab, pair) == {good}
        finally:
            lab.machine(bad).run(["ip", "link", "del", "late0-far"], check=False)
    wait_gone(lab, "noeni")


def test_an_eni_that_vanishes_under_traffic(lab: Lab, subnet: SubnetPlan) -> None:
    """The other member takes over; this one says why it cannot."""
    master = master_of(lab, subnet)
    heir = other_of(subnet, master)
    with Prober(lab, "pod1", subnet.database_ip, interval_ms=PROBE_MS, until_recovered_s=0.5) as prober:
        in_namespace(lab, master, subnet, "ip", "link", "del", "eni0")
        result = prober.wait(30 * PATIENCE)
    assert result["blackout_ms"] < 1000 * PATIENCE
    assert masters(lab, subnet) == open_gates(lab, subnet) == {heir}
    health = " ".join(member_in(status(lab), subnet.id, master)["health"])
    assert "ENI eni1 is not on this machine" in health
    assert not unsettled(lab, lab.topology.subnet_plans[1])
    plug_in(lab, master, "eni1")
    wait_until(lambda: not unsettled(lab, subnet), 15.0, lambda: unsettled(lab, subnet))
    assert masters(lab, subnet) == {heir}


def plug_in(lab: Lab, node: str, card: str) -> None:
    """A new card in the place of one that is gone."""
    spec = lab.topology.machines[node]
    lines = network.cables_to_fabric(spec, lab.machine(node).pid)
    (line,) = [line for line in lines if f" {fabric_port(node, card)} " in line]
    namespaces.ip_batch(fabric_pid(lab), [line], {})
    lab.machine(node).run(["ip", "link", "set", card, "up"])


def test_a_namespace_of_somebody_else_has_the_name(lab: Lab) -> None:
    """It is left alone; the member says so and the other one serves."""
    bad, good = lab.topology.node_names
    furnish = "ip netns add pp-taken; ip -n pp-taken link add theirs type veth peer name theirs2"
    lab.machine(bad).run(["sh", "-ec", furnish])
    try:
        with spare_cards(lab, "spare0"), another_subnet(lab, "taken", enis=("spare0", "spare0")) as pair:
            wait_until(lambda: masters(lab, pair) == open_gates(lab, pair) == {good}, 15.0, f"{good} to serve")

            def reason() -> str:
                return " ".join(member_in(status(lab), pair.id, bad)["health"])

            wait_until(lambda: "pp-taken exists and is not ours" in reason(), 10.0, "the reason", interval_s=0.5)
            assert "theirs" in lab.machine(bad).run(["ip", "-n", "pp-taken", "-br", "link"]).stdout
    finally:
        lab.machine(bad).run(["ip", "netns", "del", "pp-taken"], check=False)


# ---- ZooKeeper -------------------------------------------------------------------------------------------------------

WRITE = """
import sys
from kazoo.client import KazooClient
zookeeper = KazooClient("192.168.2.1:2181")
zookeeper.start()
before, _ = zookeeper.get(sys.argv[1])
zookeeper.set(sys.argv[1], bytes.fromhex(sys.argv[2]))
zookeeper.stop()
print(before.hex())
"""


@pytest.mark.parametrize(
    ("document", "garbage"),
    [
        ("subnets/{id}", "{"),
        ("subnets/{id}", '{"v": 1, "id": "s1", "cidrs": ["not an address"], "key": 101}'),
        ("subnets/{id}/pairs/p1", ""),
        ("subnets/{id}/pairs/p1", '{"v": 1, "id": "p1"}'),
        ("spec", "\0"),
        ("spec", '{"v": 1, "tunnel": "carrier pigeon"}'),
    ],
)
def test_a_malformed_document(lab: Lab, subnet: SubnetPlan, document: str, garbage: str) -> None:
    """Everybody goes on with the last good one, and status and metrics say which document it is."""
    path = "/proxypool/lab/" + document.format(id=subnet.id)
    master = master_of(lab, subnet)
    with Prober(lab, "pod1", subnet.database_ip, interval_ms=PROBE_MS) as prober:
        before = python(lab, "zk1", WRITE, path, garbage.encode().hex()).strip()
        try:
            for name in (*lab.topology.node_names, "host1"):
                wait_until(
                    lambda name=name: metrics(lab, name).get("proxypool_malformed_documents") == 1,  # type: ignore[misc]
                    5.0,
                    f"{name} to count it",
                )
            found = status(lab)
            malformed = [check for check in found["checks"] if check["code"] == "PP009"]
            assert len(malformed) == 1
            assert malformed[0]["subject"].endswith(path.removeprefix("/proxypool/lab/"))
            assert masters(lab, subnet) == open_gates(lab, subnet) == {master}
        finally:
            python(lab, "zk1", WRITE, path, before)
        wait_until(lambda: metrics(lab, "node-a").get("proxypool_malformed_documents") == 0, 5.0, "it to be well again")
    assert prober.result()["lost"] == 0


def test_zookeeper_is_absent_when_daemons_start(lab: Lab, subnet: SubnetPlan) -> None:
    """They keep trying and say so, traffic flows; the command line says in a sentence what is wrong, and ends with 6."""
    machines = (*lab.topology.node_names, "host1")
    with Prober(lab, "pod1", subnet.database_ip, interval_ms=PROBE_MS) as prober:
        lab.fault("power-off", "zk1")
        marks = {name: len(lab.machine(name).log("daemon")) for name in machines}
        for name in machines:
            kill_daemon(lab, name)
            lab.machine(name).start("daemon")
        for name in machines:
            wait_until(
                lambda name=name: (  # type: ignore[misc]
                    "ZooKeeper cannot be reached at 192.168.2.1:2181; still trying"
                    in lab.machine(name).log("daemon")[marks[name] :]
                ),
                10.0,
                f"{name} to say so",
            )
        done = lab.proxypool("status", on="node-a", check=False, timeout=60 * PATIENCE)
        assert done.returncode == UNREACHABLE
        assert "ZooKeeper cannot be reached at 192.168.2.1:2181" in done.stderr
        assert "Traceback" not in done.stderr
    assert prober.result()["lost"] == 0
    with Prober(lab, "pod1", subnet.database_ip, interval_ms=PROBE_MS) as prober:
        lab.fault("power-on", "zk1")
        wait_until(lambda: not unsettled(lab, subnet), 20.0, lambda: unsettled(lab, subnet))
    # Sessions may have ended meanwhile: then there is an election, and its winner becomes master, as planned.
    assert prober.result()["blackout_ms"] < PLANNED_LIMIT_MS
    assert metrics(lab, "node-a")["proxypool_zookeeper_connected"] == 1


# ---- keepalived ------------------------------------------------------------------------------------------------------


def test_keepalived_is_too_old(lab: Lab, subnet: SubnetPlan) -> None:
    """A program of that name in front of the real one: the node says what it needs, and what runs goes on."""
    master = master_of(lab, subnet)
    fake = f"{COMMAND_DIR}/keepalived"
    script = "#!/bin/sh\\necho 'Keepalived v1.3.5 (03/19,2017), git commit v1.3.5-6' >&2\\n"
    machine = lab.machine(master)
    with Prober(lab, "pod1", subnet.database_ip, interval_ms=PROBE_MS) as prober:
        machine.run(["sh", "-ec", f'printf "{script}" >{fake}; chmod +x {fake}'])
        try:
            kill_daemon(lab, master)
            machine.start("daemon")
            wait_until(
                lambda: "keepalived 1.3.5 is too old: install 2.2.3 or newer" in problems_of(lab, master),
                15.0,
                lambda: f"the problem in status: {problems_of(lab, master)}",
                interval_s=0.5,
            )
            assert len(masters(lab, subnet)) == len(open_gates(lab, subnet)) == 1
        finally:
            machine.run(["rm", "-f", fake])
            kill_daemon(lab, master)
            machine.start("daemon")
        wait_until(lambda: not unsettled(lab, subnet), 15.0, lambda: unsettled(lab, subnet))
    # On a very busy computer two starts take longer than a session lives; then the mastership moves, as planned.
    assert prober.result()["blackout_ms"] < PLANNED_LIMIT_MS


def run_beside(lab: Lab, node: str, environment: list[str], *arguments: str) -> Any:
    """A daemon started by hand on a machine whose own one has ended; ends it afterwards."""
    command = ["env", *environment, sys.executable, "-m", "proxypool", *arguments]
    return lab.machine(node).popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def lines_until(process: subprocess.Popen[str], is_last: Callable[[str], bool], count: int = 200) -> list[str]:
    """What it wrote up to a line, or its end."""
    assert process.stderr is not None
    found: list[str] = []
    for line in process.stderr:
        found.append(line)
        if is_last(line) or len(found) >= count:
            break
    return found


def test_keepalived_is_missing(lab: Lab, subnet: SubnetPlan) -> None:
    """The daemon runs, says which package to install, and touches nothing that runs."""
    node = other_of(subnet, master_of(lab, subnet))
    kill_daemon(lab, node)
    process = run_beside(lab, node, ["PATH=/nonexistent"], "run", "node")
    try:
        said_it = lines_until(
            process, lambda line: "keepalived is not installed: install the package keepalived" in line
        )
        assert "is not installed" in said_it[-1]
        assert not any("Traceback" in line for line in said_it)
    finally:
        end(process)
        process.communicate()


# ---- names and addresses ---------------------------------------------------------------------------------------------


def test_two_nodes_with_one_name(lab: Lab, subnet: SubnetPlan) -> None:
    """The second one serves nothing and says why; the first does not notice."""
    master = master_of(lab, subnet)
    intruder = other_of(subnet, master)
    machine = lab.machine(intruder)
    config = machine.run(["cat", "/etc/proxypool/proxypool.toml"]).stdout.replace(intruder, master)
    machine.run(["sh", "-c", "cat >/run/twin.toml"], input=config)
    kill_daemon(lab, intruder)
    with Prober(lab, "pod1", subnet.database_ip, interval_ms=PROBE_MS) as prober:
        process = run_beside(lab, intruder, [], "--config", "/run/twin.toml", "run", "node")
        try:
            said_it = lines_until(process, lambda line: "is used by" in line)
            text = "".join(said_it)
            assert lab.machine(master).spec.ip in text, text
            assert "registered as" not in text
            assert masters(lab, subnet) == open_gates(lab, subnet) == {master}
        finally:
            end(process)
            process.communicate()
    assert prober.result()["lost"] == 0
    found = next(each for each in status(lab, "zk1")["nodes"] if each["id"] == master)
    assert found["underlay"] == lab.machine(master).spec.ip


def refused(lab: Lab, *words: str) -> str:
    """The one sentence with which the command line refuses; nothing is changed."""
    before = lab.proxypool("pool", "show", "-o", "json", on="zk1").stdout
    done = lab.proxypool(*words, on="zk1", check=False, timeout=60 * PATIENCE)
    assert done.returncode in (1, USAGE), done
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert lab.proxypool("pool", "show", "-o", "json", on="zk1").stdout == before
    return done.stderr.strip()


MEMBERS = ("--member=node-a,eni=x0,address=172.16.101.21/24", "--member=node-b,eni=x0,address=172.16.101.22/24")


def test_a_havip_that_cannot_be(lab: Lab) -> None:
    """One of another pair, one of a machine, and none at all."""
    sentences = {
        "192.168.4.101": "in use by pair s2/p1",
        "192.168.4.11": "underlay address of node node-a",
        "192.168.80.1": "underlay address of host host1",
        "192.168.4": "192.168.4",
    }
    lab.proxypool("subnet", "add", "more", "--cidr", "172.16.101.0/24", "--tenant", "more", on="zk1")
    try:
        for havip, sentence in sentences.items():
            assert sentence in refused(lab, "pair", "add", "more", "p1", "--havip", havip, *MEMBERS)
    finally:
        lab.proxypool("subnet", "remove", "more", "--yes", on="zk1")


@pytest.mark.long
@pytest.mark.skipif(tunnel_kind() is Tunnel.GRE, reason="this kernel makes both kinds of tunnels")
def test_a_kind_of_tunnel_that_the_kernel_lacks(lab: Lab, subnet: SubnetPlan) -> None:
    """Nodes and hosts name the module and the alternative, what runs goes on; after a change of mind all is well."""
    path = "/proxypool/lab/spec"
    with Prober(lab, "pod1", subnet.database_ip, interval_ms=PROBE_MS) as prober:
        before = python(lab, "zk1", WRITE, path, b'{"v": 1, "tunnel": "gre"}'.hex()).strip()
        try:
            for node in lab.topology.node_names:
                wait_until(
                    lambda node=node: "modprobe ip_gre" in " ".join(problems_of(lab, node)),  # type: ignore[misc]
                    10.0,
                    f"{node} to name the module",
                    interval_s=0.5,
                )
            assert "--tunnel vxlan" in " ".join(problems_of(lab, "node-a"))
            # A host works everything out anew now and then by itself.
            time.sleep(RETIREMENT_CHECK_S + 1.0)
        finally:
            python(lab, "zk1", WRITE, path, before)
        wait_until(lambda: not unsettled(lab, subnet), 10.0, lambda: unsettled(lab, subnet))
    # The members learn of it one after the other, so that the HaVip may move: in a planned way, and that is all.
    assert prober.result()["blackout_ms"] < PLANNED_LIMIT_MS


def test_cidrs_that_overlap_within_one_tenant(lab: Lab) -> None:
    """Between tenants they may; and with the tunnel addresses of the pool they never may."""
    said_it = refused(lab, "subnet", "add", "more", "--cidr", "172.16.101.128/25", "--tenant", "t1")
    assert "172.16.101.128/25 overlaps 172.16.101.0/24 of subnet s1" in said_it
    assert "tunnel range" in refused(lab, "subnet", "add", "more", "--cidr", "100.64.1.0/24", "--tenant", "t9")
    lab.proxypool("subnet", "add", "more", "--cidr", "172.16.101.128/25", "--tenant", "t9", on="zk1")
    lab.proxypool("subnet", "remove", "more", "--yes", on="zk1")


def test_a_pair_of_one_node_or_with_an_eni_in_use(lab: Lab) -> None:
    one = ("--member=node-a,eni=x0,address=172.16.101.21/24", "--member=node-a,eni=x1,address=172.16.101.22/24")
    assert "two different nodes" in refused(lab, "pair", "add", "s1", "p2", "--havip", "192.168.4.150", *one)
    taken = [word.replace("x0", "eni2").replace("p2", "p1") for word in MEMBERS]
    assert refused(lab, "pair", "add", "s1", "p2", "--havip", "192.168.4.150", *taken)


def test_an_unknown_key_in_the_configuration(lab: Lab) -> None:
    """The file, the key, and the one that was meant; from `config check` and from the daemon alike."""
    lab.machine("node-a").run(
        ["sh", "-c", "cat >/run/bad.toml"], input='[node]\nunderlay = "eth0"\nadvert_interval = 50\n'
    )
    for words in (("config", "check", "/run/bad.toml"), ("--config", "/run/bad.toml", "run", "node")):
        done = lab.proxypool(*words, on="node-a", check=False)
        assert done.returncode in (1, USAGE)
        assert (
            "/run/bad.toml: line 3: unknown key node.advert_interval: did you mean node.advert_interval_ms?"
            in done.stderr
        )
        assert "Traceback" not in done.stderr


# ---- a pair that is not whole ----------------------------------------------------------------------------------------


def test_a_pair_of_which_one_member_is_off_from_the_start(lab: Lab, subnet: SubnetPlan) -> None:
    """The other one serves, elected, and `status` calls the pair degraded."""
    first, second = lab.topology.node_names
    for node in (first, second):
        lab.fault("power-off", node)
    lab.fault("power-on", second)
    lab.wait_ready(30 * PATIENCE)
    assert masters(lab, subnet) == open_gates(lab, subnet) == {second}
    wait_until(lambda: (seen := said(lab, second, subnet)) and seen.elected, 15.0, f"{second} to be elected")
    found = status(lab, "zk1")
    pair = next(each for each in found["subnets"] if each["id"] == subnet.id)["pairs"][0]
    assert (pair["id"], pair["master"], pair["level"]) == (PAIR, second, "degraded")
    assert lab.proxypool("status", "--exit-code", on="zk1", check=False, timeout=60 * PATIENCE).returncode == 3


def test_the_document_of_status_is_json(lab: Lab) -> None:
    """The control of what these tests read."""
    text = lab.proxypool("status", "-o", "json", on="zk1").stdout
    assert {each["id"] for each in json.loads(text)["subnets"]} == {"s1", "s2"}
    assert namespace_of("s1") == "pp-s1"
