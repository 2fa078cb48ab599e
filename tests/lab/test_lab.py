"""The lab itself: it comes up, does what it is told, and leaves nothing behind. Machines are real."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxypool.lab import preflight, processes, state
from proxypool.lab.application import Application
from proxypool.lab.errors import LabError, LabTimeout
from proxypool.lab.lab import Lab, remove
from proxypool.lab.prober import Connections, Flows, Prober
from proxypool.lab.processes import wait_until
from proxypool.lab.services import INSIDE
from proxypool.lab.topology import REDIS_PORT, UNDERLAY, Topology, fabric_port
from tests.unit.documents import require_valid

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

NAME = f"t{os.getpid()}"
TOPOLOGY = Topology(name=NAME)
NODE_A_ENI = "172.16.101.11"
CLI = [sys.executable, "-c", "from proxypool.cli.lab import app; app()"]


def cli(*words: str) -> subprocess.CompletedProcess[str]:
    """Run `proxypool lab …`."""
    return subprocess.run([*CLI, *words], text=True, capture_output=True, check=False, timeout=200)


def bare(topology: Topology = TOPOLOGY) -> Lab:
    """A lab without keepalived and daemons: these tests are about machines and cables."""
    return Lab.up(topology, start_daemons=False, apply=False)


def traces(name: str, namespaces: set[str]) -> list[str]:
    """What is left of a lab on this computer, where other things may go on at the same time."""
    links = (path for kind in ("net", "mnt") for path in Path("/proc").glob(f"[0-9]*/ns/{kind}"))
    ports = {
        fabric_port(machine.name, card.name) for machine in TOPOLOGY.machines.values() for card in machine.interfaces
    }
    return [
        *(f"process {process}" for process in processes.find(name)),
        *(f"file {path}" for path in [state.ROOT / name] if path.exists()),
        *(f"interface {path.name}" for path in Path("/sys/class/net").iterdir() if path.name in {*ports, UNDERLAY}),
        *(f"mount {line}" for line in Path("/proc/mounts").read_text().splitlines() if f"proxypool-lab/{name}" in line),
        *(f"namespace of {link}" for link in links if _target(link) in namespaces),
    ]


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


@pytest.fixture
def clean() -> Iterator[str]:
    """Nothing of the lab before, and nothing after: no process, namespace, interface, mount or file."""
    remove(NAME)
    yield NAME
    inits = [process for process in processes.find(NAME) if process.service == processes.INIT]
    own = {link for kind in ("net", "mnt", "pid", "uts", "ipc") for link in {_target(Path("/proc/self/ns") / kind)}}
    namespaces = {_target(path) for init in inits for path in Path(f"/proc/{init.pid}/ns").iterdir()} - own
    remove(NAME)
    wait_until(lambda: not traces(NAME, namespaces), 5.0, lambda: "\n".join(traces(NAME, namespaces)))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """One bare lab with two subnets for the tests that only use it."""
    topology = Topology(name=f"{NAME}-m", nodes=3, hosts=2, subnets=2)
    with bare(topology) as lab:
        yield lab


def test_up_exec_down_leaves_nothing(clean: str) -> None:
    lab = bare()
    assert all(machine.is_on for machine in lab.machines.values())
    shown = json.loads(cli("status", "--name", clean, "-o", "json").stdout)
    assert [machine["name"] for machine in shown["machines"]] == ["zk1", "node-a", "node-b", "host1", "pod1", "db1"]
    assert {machine["state"] for machine in shown["machines"]} == {"on"}
    assert cli("exec", "--name", clean, "node-a", "--", "hostname").stdout == "node-a\n"
    assert cli("exec", "--name", clean, "node-a", "--", "sh", "-c", "exit 7").returncode == 7
    assert cli("down", "--name", clean).returncode == 0
    assert processes.find(clean) == []
    assert cli("exec", "--name", clean, "node-a", "--", "true").returncode == 1


def test_up_twice_changes_nothing(clean: str) -> None:
    first = bare()
    before = {(p.pid, p.start) for p in processes.find(clean)}
    second = bare()
    assert {(p.pid, p.start) for p in processes.find(clean)} == before
    assert second.machine("node-a").pid == first.machine("node-a").pid


def test_up_with_another_topology_is_refused(clean: str) -> None:
    bare()
    with pytest.raises(LabError, match=r"nodes 2 → 3.*lab down"):
        bare(Topology(name=NAME, nodes=3))
    assert Lab.attach(NAME).machine("node-a").is_on


def test_up_brings_back_what_is_missing(clean: str) -> None:
    lab = bare()
    processes.kill([process for process in processes.find(clean) if process.machine == "db1"])
    assert not lab.machine("db1").is_on
    assert bare().machine("db1").service_running("responder")


def test_instances_of_one_host(clean: str) -> None:
    """Each behind a cable of its own; they reach each other through the host, also after all sorts of power-offs."""
    topology = Topology(name=NAME, pods=3)
    lab = bare(topology)
    for off in (["host1", "pod1-2"], ["pod1", "pod1-3"], ["pod1-2"]):
        for name in off:
            lab.fault("power-off", name)
        bare(topology)
        for one, other in itertools.permutations(topology.instances, 2):
            lab.machine(one.name).run(["ping", "-c1", "-W2", other.address])
        addresses = lab.machine("host1").run(["ip", "-o", "-4", "addr"]).stdout
        assert addresses.count("10.244.1.1 peer") == 3


@pytest.mark.parametrize("after_s", [0.02, 0.06, 0.12, 0.2, 0.35])
def test_killed_half_way_and_run_again(clean: str, after_s: float) -> None:
    """SIGKILL of the command that builds the lab, at several moments: the next one starts afresh."""
    program = (
        "import sys; from proxypool.lab.lab import Lab; from proxypool.lab.topology import Topology\n"
        f"print(flush=True); Lab.up(Topology(name={clean!r}), start_daemons=False, apply=False)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as builder:
        assert builder.stdout is not None
        builder.stdout.readline()
        time.sleep(after_s)  # not a wait for a condition: the moment of the kill is what varies
        builder.kill()
    lab = bare()
    assert all(machine.is_on for machine in lab.machines.values())
    counts = [process.machine for process in processes.find(clean) if process.service == processes.INIT]
    assert sorted(counts) == sorted([*lab.machines, "fabric"])


@pytest.mark.parametrize("moment", ["starting services", "filling the pool"])
def test_interrupted_up_cleans_up(clean: str, moment: str) -> None:
    """Ctrl-C while the lab is being built, and while it is being put to use."""

    def interrupt_when(line: str) -> None:
        if line.startswith(moment):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Lab.up(TOPOLOGY, interrupt_when)
    assert processes.find(clean) == []
    assert not (state.ROOT / clean).exists()


def test_two_ups_at_the_same_time_make_one_lab(clean: str) -> None:
    pids: list[int] = []
    threads = [threading.Thread(target=lambda: pids.append(bare().machine("node-a").pid)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 2
    assert len(set(pids)) == 1


def test_attach_to_a_lab_that_is_not_there(clean: str) -> None:
    with pytest.raises(LabError, match=f"no lab {NAME!r} is up"):
        Lab.attach(clean)


def test_wrong_machine_name(lab: Lab) -> None:
    done = cli("exec", "--name", lab.name, "node-x", "--", "true")
    assert done.returncode == 1
    assert "did you mean node-" in done.stderr
    assert "zk1, node-a, node-b" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_root_one_sentence_says_so() -> None:
    """For every command that needs it."""
    for words in (["up"], ["status"], ["down"], ["demo"], ["exec", "node-a", "--", "true"]):
        as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        done = subprocess.run([*as_nobody, *CLI, *words], text=True, capture_output=True, check=False, timeout=60)
        assert done.returncode == 1, done.stderr
        assert done.stderr.count("\n") == 1
        assert "needs root" in done.stderr


def test_a_missing_program_is_named_with_its_package() -> None:
    with pytest.raises(LabError, match=r"apt-get install keepalived$"):
        preflight.require({"ip": "iproute2", "no-such-program": "keepalived"})


def test_a_machine_has_its_own_files(lab: Lab) -> None:
    """/etc and /run are the machine's: neither this computer nor another machine sees what is written there."""
    node = lab.machine("node-a")
    node.run(["sh", "-c", "echo own >/etc/proxypool/mark; echo own >/run/mark; echo own >/var/lib/mark"])
    assert (
        lab.machine("node-b").run(["sh", "-c", "cat /etc/proxypool/mark /run/mark /var/lib/mark"], check=False).stdout
        == ""
    )
    assert not any(Path(path).exists() for path in ("/etc/proxypool/mark", "/run/mark", "/var/lib/mark"))
    assert node.run(["ls", "/etc/keepalived"]).stdout.split() == ["conf.d", "keepalived.conf"]


def test_a_machine_has_its_own_network_and_processes(lab: Lab) -> None:
    node = lab.machine("node-a")
    assert set(node.run(["ls", "/sys/class/net"]).stdout.split()) >= {"lo", "eth0", "eni1"}
    assert node.run(["sh", "-c", "ip netns add x && ip netns exec x ip -br link && ip netns del x"]).stdout.startswith(
        "lo"
    )
    assert node.run(["sh", "-c", "echo /proc/[0-9]*"]).stdout.split()[0] == "/proc/1"
    assert node.run(["ping", "-c1", "-W2", "host1"]).returncode == 0


def test_orphans_are_reaped(lab: Lab) -> None:
    node = lab.machine("node-a")
    node.run(["sh", "-c", "(true & ) ; (sleep 0.01 & )"])
    zombies = ["sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z '"]
    wait_until(lambda: node.run(zombies, check=False).stdout.strip() == "0", 5.0, "no zombies")


def test_run_ends_the_command_on_timeout(lab: Lab) -> None:
    node = lab.machine("node-a")
    with pytest.raises(subprocess.TimeoutExpired):
        node.run(["sleep", "4242"], timeout=0.3)
    assert [process.service for process in node.processes()] == [processes.INIT]


def test_power_off_and_on(lab: Lab) -> None:
    """All processes end; after power-on, disk, addresses and services are as before, and the cables fit."""
    node, other = lab.machine("node-b"), lab.machine("node-c")
    old, mac = node.pid, node.run(["cat", "/sys/class/net/eth0/address"]).stdout
    node.run(["sh", "-c", "echo kept >/etc/proxypool/mark; echo lost >/run/mark"])
    lab.fault("power-off", "node-b")
    assert not node.is_on
    assert node.processes() == []
    assert other.run(["ping", "-c1", "-W1", "node-b"], check=False).returncode != 0
    with pytest.raises(LabError, match="power-on node-b"):
        node.run(["true"])
    lab.fault("power-on", "node-b")
    assert node.pid != old
    assert node.run(["cat", "/sys/class/net/eth0/address"]).stdout == mac
    assert node.run(["cat", "/etc/proxypool/mark"]).stdout == "kept\n"
    assert node.run(["test", "-e", "/run/mark"], check=False).returncode == 1
    other.run(["ping", "-c1", "-W2", "node-b"])


@pytest.mark.parametrize("name", ["host1", "pod1", "db1", "zk1"])
def test_every_kind_of_machine_comes_back(lab: Lab, name: str) -> None:
    lab.fault("power-off", name)
    lab.fault("power-on", name)
    machine = lab.machine(name)
    for service in machine.service_names(products=False):
        machine.wait_service(service)
    lab.machine("pod1").run(["ping", "-c1", "-W2", "192.168.80.1"])


def test_zookeeper_keeps_its_data_over_a_power_cycle(lab: Lab) -> None:
    lab.fault("power-off", "zk1")
    lab.fault("power-on", "zk1")
    wait_until(lambda: lab.zookeeper_mode("zk1") == "standalone", 20.0, "ZooKeeper")
    assert "version-2" in lab.machine("zk1").run(["ls", "/var/lib/zookeeper"]).stdout


def test_power_on_heals_cuts_and_services(lab: Lab) -> None:
    db = lab.machine("db1")
    process = db.service_process("responder")
    assert process
    processes.kill([process])
    lab.fault("cut-underlay", "node-c")
    lab.fault("power-on", "node-c")
    lab.fault("power-on", "db1")
    db.wait_service("responder")
    lab.machine("node-c").run(["ping", "-c1", "-W2", "node-a"])


def test_cut_cables_lose_their_carrier(lab: Lab) -> None:
    node = lab.machine("node-a")

    def carrier(card: str) -> str:
        return node.run(["cat", f"/sys/class/net/{card}/carrier"]).stdout.strip()

    lab.fault("cut-eni", "node-a", subnet="s1")
    assert (carrier("eth0"), carrier("eni1")) == ("1", "0")
    shown = json.loads(cli("status", "--name", lab.name, "-o", "json").stdout)
    require_valid(shown)
    assert next(m for m in shown["machines"] if m["name"] == "node-a")["cut"] == ["eni1"]
    lab.fault("heal-eni", "node-a")
    lab.fault("cut-underlay", "node-a")
    assert (carrier("eth0"), carrier("eni1")) == ("0", "1")
    lab.fault("heal-underlay", "node-a")
    assert (carrier("eth0"), carrier("eni1")) == ("1", "1")


def test_pause_stops_processes_and_resume_goes_on(lab: Lab) -> None:
    lab.fault("pause", "zk1")
    shown = json.loads(cli("status", "--name", lab.name, "-o", "json").stdout)
    assert shown["machines"][0]["state"] == "paused"
    lab.fault("resume", "zk1")
    wait_until(lambda: lab.zookeeper_mode("zk1") == "standalone", 20.0, "ZooKeeper")


@pytest.mark.parametrize(
    ("kind", "machine", "message"),
    [
        ("cut-underlay", "pod1", "not on the underlay"),
        ("cut-eni", "host1", "has no ENI"),
        ("kill-daemon", "db1", "no service 'daemon'"),
        ("kill-daemon", "node-a", "does not run"),
    ],
)
def test_faults_that_make_no_sense_are_refused(lab: Lab, kind: str, machine: str, message: str) -> None:
    with pytest.raises(LabError, match=message):
        lab.fault(kind, machine)


@pytest.fixture
def wired(lab: Lab) -> str:
    """node-a can talk to db1: the shortest path there is, for testing the instruments."""
    lab.machine("node-a").run(["ip", "addr", "replace", f"{NODE_A_ENI}/24", "dev", "eni1"])
    return "172.16.101.4"


def test_prober_measures_a_blackout(lab: Lab, wired: str) -> None:
    """A cable cut for 300 ms: the prober says so, and when it was."""
    with Prober(lab, "node-a", wired, until_recovered_s=0.3, gap_ms=150) as prober:
        cut = lab.fault("cut-eni", "node-a")
        time.sleep(0.3)  # the length of the outage is what is measured
        lab.fault("heal-eni", "node-a")
        healed = time.monotonic()
        result = prober.wait(20.0)
    assert 250 <= result["blackout_ms"] <= (healed - cut) * 1000 + 1500
    assert cut - 0.02 <= result["longest"]["start"] <= cut + 0.2
    assert result["answering_at_end"]
    assert result["sent"] == result["received"] + result["lost"]


def test_prober_without_an_answer_says_so(lab: Lab, wired: str) -> None:
    with pytest.raises(LabTimeout, match=r"no answer from 172\.16\.101\.99:7007 to node-a"):
        Prober(lab, "node-a", "172.16.101.99", answer_timeout_s=0.5).start()
    assert not [p for p in lab.machine("node-a").processes() if p.service != processes.INIT]


def test_connections_live_through_a_short_cut(lab: Lab, wired: str) -> None:
    with Connections(lab, "node-a", wired, count=50) as connections:
        lab.fault("cut-eni", "node-a")
        time.sleep(0.3)  # see above
        lab.fault("heal-eni", "node-a")
        wait_until(lambda: lab.machine("node-a").run(["ping", "-c1", "-W1", wired]).returncode == 0, 10.0, "ping")
        time.sleep(1.5)  # TCP's own retransmission timer
        result = connections.result()
    assert (result["wanted"], result["established"], result["alive"]) == (50, 50, 50)
    assert result["broken"] == {}
    assert 250 <= result["stall_ms"]["p50"] <= 3000


def test_connections_that_are_reset_are_broken(lab: Lab, wired: str) -> None:
    db = lab.machine("db1")
    with Connections(lab, "node-a", wired, count=20) as connections:
        process = db.service_process("responder")
        assert process
        processes.kill([process])
        until: Callable[[], bool] = lambda: not [p for p in db.processes() if p.service == "responder"]  # noqa: E731
        wait_until(until, 5.0, "the responder to end")
        time.sleep(0.3)  # several rounds of talk
        result = connections.result()
    lab.fault("power-on", "db1")
    assert result["alive"] == 0
    assert set(result["broken"]) <= {"reset", "closed"}
    assert sum(result["broken"].values()) == 20


def test_connections_come_and_go_at_a_rate(lab: Lab, wired: str) -> None:
    """At most so many at the same time, each for so long, one for each that ended; all of them from node-a's ENI."""
    with Connections(
        lab, "node-a", wired, count=20, interval_ms=10.0, rate=100.0, lifetime_s=0.5, replace=True, ready=5
    ) as connections:
        began = time.monotonic()
        wait_until(lambda: time.monotonic() > began + 1.5, 5.0, "three generations")
        result = connections.result()
    assert 40 <= result["opened"] <= 100
    assert result["broken"] == {}
    assert result["sources"] == {NODE_A_ENI: result["established"]}
    ended = [one for one in result["connections"] if one["state"] == "ended"]
    assert len(ended) == result["ended"] >= 20
    assert all(0.5 <= one["over"] - one["opened"] < 1.5 for one in ended)
    opened = [one["opened"] for one in result["connections"]]
    assert opened == sorted(opened)
    # At the rate, and not all at once: the twentieth comes 0.2 s after the first.
    assert opened[19] - opened[0] > 0.05
    moments = [(one["opened"], 1) for one in result["connections"]] + [(one["over"], -1) for one in ended]
    assert max(itertools.accumulate(change for _, change in sorted(moments))) <= 20


def test_broken_connections_are_replaced(lab: Lab, wired: str) -> None:
    db = lab.machine("db1")
    with Connections(lab, "node-a", wired, count=10, interval_ms=10.0, rate=200.0, replace=True) as connections:
        process = db.service_process("responder")
        assert process
        processes.kill([process])
        lab.fault("power-on", "db1")
        wait_until(lambda: db.service_running("responder"), 5.0, "the responder to be back")
        time.sleep(0.5)  # some rounds of talk
        result = connections.result()
    assert result["alive"] == 10
    assert result["opened"] == 10 + sum(result["broken"].values())
    assert sum(result["broken"].values()) >= 10


@pytest.mark.parametrize("udp", [False, True])
def test_flows_are_counted_by_the_source_that_the_server_sees(lab: Lab, wired: str, *, udp: bool) -> None:
    lab.machine("node-a").run(["ip", "addr", "add", "172.16.101.77/24", "dev", "eni1"])
    with Flows(lab, "node-a", wired, count=2000, udp=udp) as flows:
        result = flows.wait()
    assert (result["answered"], result["failed"], result["sources"]) == (2000, {}, {NODE_A_ENI: 2000})
    lab.machine("node-a").run(["ip", "route", "add", f"{wired}/32", "dev", "eni1", "src", "172.16.101.77"])
    with Flows(lab, "node-a", wired, count=500, udp=udp, first_port=30000) as flows:
        assert flows.wait()["sources"] == {"172.16.101.77": 500}
    lab.machine("node-a").run(["ip", "route", "del", f"{wired}/32", "dev", "eni1"])
    lab.machine("node-a").run(["ip", "addr", "del", "172.16.101.77/24", "dev", "eni1"])


@pytest.mark.parametrize(
    ("target", "protocol", "why"),
    [
        ("172.16.101.4:9", [], {"refused"}),
        # The server's kernel limits the rate of its refusals.
        ("172.16.101.4:9", ["--udp"], {"refused", "timeout"}),
        ("172.16.101.99:9", [], {"timeout"}),
    ],
)
def test_flows_without_an_answer_have_failed(
    lab: Lab, wired: str, target: str, protocol: list[str], why: set[str]
) -> None:
    words = ["proxypool.lab.inside.spread", target, "--count=50", "--timeout=0.3", *protocol]
    result = json.loads(lab.machine("node-a").run([*INSIDE, *words]).stdout)
    assert (result["answered"], result["sources"]) == (0, {})
    assert set(result["failed"]) == why
    assert sum(result["failed"].values()) == 50


def test_application_survives_a_restart_of_its_server(lab: Lab, wired: str) -> None:
    """It notices the reset, connects again and goes on."""
    with Application(lab.machine("node-a"), (wired, REDIS_PORT)) as application:
        application.wait_answers(10, 10.0)
        lab.fault("power-off", "db1")
        lab.fault("power-on", "db1")
        application.wait_answers(10, 20.0)
        seen = application.seen
    assert seen.connections >= 2
    assert seen.resets + seen.timeouts >= 1
    assert seen.longest_wait_s > 0.01


def test_holder_of_an_address(lab: Lab) -> None:
    subnet = lab.topology.subnet_plans[0]
    assert lab.holder(subnet) is None
    lab.machine("node-b").run(["ip", "addr", "add", f"{subnet.havip}/32", "dev", "eth0"])
    assert lab.holder(subnet) == "node-b"
    lab.machine("node-b").run(["ip", "addr", "del", f"{subnet.havip}/32", "dev", "eth0"])


def test_logs(lab: Lab) -> None:
    done = cli("logs", "zk1", "--name", lab.name)
    assert "binding to port" in done.stdout
    assert cli("logs", "pod1", "--name", lab.name).returncode == 1
    assert "no service 'x'" in cli("logs", "zk1", "--service", "x", "--name", lab.name).stderr


def services(lab: str) -> set[tuple[int, int]]:
    """Pid and start of every program that an init started; what these start themselves may end at any time."""
    found = processes.find(lab)
    inits = {process.pid for process in found if process.service == processes.INIT}
    return {(process.pid, process.start) for process in found if process.parent in inits}


@pytest.mark.datapath
@pytest.mark.timeout(300)
def test_whole_pool_comes_up_and_traffic_flows(clean: str) -> None:
    """With three nodes, and again without doing anything."""
    words = ("up", "--nodes", "3", "--hosts", "2", "--subnets", "2", "--name", clean)
    done = cli(*words)
    assert done.returncode == 0, done.stderr
    before = services(clean)
    again = cli(*words)
    assert again.returncode == 0, again.stderr
    assert before <= services(clean)
    lab = Lab.attach(clean)
    assert lab.holder(lab.topology.subnet_plans[1]) in {"node-b", "node-c"}
    assert cli("exec", "--name", clean, "node-a", "--", "proxypool", "status").returncode == 0


def ping(lab: Lab, pod: str, last: int) -> bool:
    """Whether 172.16.101.`last` answers."""
    return lab.machine(pod).run(["ping", "-c1", "-W1", f"172.16.101.{last}"], check=False).returncode == 0


@pytest.mark.datapath
@pytest.mark.timeout(300)
@pytest.mark.long
def test_customers_with_the_same_addresses(clean: str) -> None:
    """An instance is attached to one of them, and reaches that one's server; its neighbours on the host another's."""
    topology = Topology(clean, hosts=2, pods=2, subnets=2, overlap=True, tunnel=preflight.choose_tunnel("auto")[0])
    lab = Lab.up(topology)
    for number in (1, 2):
        lab.machine(f"db{number}").run(["ip", "addr", "add", f"172.16.101.{40 + number}/24", "dev", "eth0"])
    for pod, subnet in topology.paths():
        reached, hidden = (41, 42) if subnet.id == "s1" else (42, 41)
        wait_until(lambda pod=pod, reached=reached: ping(lab, pod, reached), 20.0, f"{pod} to reach .{reached}")  # type: ignore[misc]
        assert not ping(lab, pod, hidden)


@pytest.mark.failover
@pytest.mark.timeout(240)
def test_demo_tells_what_happened(clean: str) -> None:
    """One document on standard output; nothing is left."""
    done = subprocess.run([*CLI, "demo", "-o", "json", "--name", clean], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    require_valid(document)
    require_valid(document["status"]["before"])
    assert document["traffic"]["get"] == "hello from an instance"
    failover = document["failover"]
    assert failover["powered_off"] != failover["new_master"]
    assert 0 < failover["blackout_ms"] < 10_000
    assert failover["application"]["connections"] >= 1
    assert [document["status"][moment]["level"] for moment in ("before", "after_power_off", "after_power_on")] == [
        "ok",
        "degraded",
        "ok",
    ]
    assert "attached pod1 (10.244.1.2) to s1 in " in done.stderr
    assert "power-off of" in done.stderr
    assert processes.find(clean) == []
    assert not (state.ROOT / clean).exists()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_demo_cleans_up(clean: str, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM in the middle."""
    with subprocess.Popen(
        [*CLI, "demo", "--name", clean], text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    ) as demo:
        assert demo.stderr is not None
        assert any("talks to the customer's Redis" in line for line in demo.stderr)
        demo.send_signal(number)
        demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert processes.find(clean) == []
    assert not (state.ROOT / clean).exists()
