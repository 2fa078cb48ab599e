"""An instance reaches the subnets it is attached to, and nothing else that is a customer's, whatever happens."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from proxypool.adapters.agent import Agent, AgentRefused
from proxypool.core.errors import TransientError
from proxypool.lab import agent
from proxypool.lab.agent import Attachment
from proxypool.lab.faults import Fault
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.prober import Connections, Prober
from tests.lab.instances import (
    REACHED,
    api,
    attached,
    detach_soon,
    detached,
    in_kernel,
    ip_of,
    no_leak,
    tracked,
    try_all,
    try_tcp,
)
from tests.lab.observe import PATIENCE, PROBE_MS, datagrams, kill_daemon, stays, wait_until

pytestmark = [pytest.mark.root]

KILLS = 6
PORT = 5001


def host_command(lab: Lab, *words: str, code: int = 0) -> str:
    """`proxypool host …` on host1, and what it says."""
    done = lab.proxypool("host", *words, on="host1", check=False, timeout=30 * PATIENCE)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def states(text: str) -> dict[Attachment, str]:
    """Of a document with items."""
    document: dict[str, Any] = json.loads(text)
    assert document["apiVersion"] == "proxypool/v1"
    return {(item["address"], item["subnet"]): item["state"] for item in document["items"]}


@pytest.fixture
def subnet(wide: Lab) -> SubnetPlan:
    """One that all instances are attached to at first."""
    return wide.topology.subnet_plans[0]


def test_the_command_detaches_attaches_and_lists(wide: Lab, subnet: SubnetPlan) -> None:
    """Each is idempotent and says what became of it; the listings agree with the kernel."""
    mine = ip_of(wide, "pod1-2")
    words = ("--address", mine, "--subnet", subnet.id, "-o", "json")
    assert states(host_command(wide, "detach", *words)) == {(mine, subnet.id): "detached"}
    assert states(host_command(wide, "detach", *words)) == {(mine, subnet.id): "absent"}
    assert try_tcp(wide, "pod1-2", subnet.database_ip).is_refusal
    listed = json.loads(host_command(wide, "list", "--attachments", "-o", "json"))
    assert {(item["address"], item["subnet"]) for item in listed["items"]} == attached(wide)
    assert (mine, subnet.id) not in attached(wide)
    assert states(host_command(wide, "attach", *words)) == {(mine, subnet.id): "attached"}
    assert try_tcp(wide, "pod1-2", subnet.database_ip).what == REACHED
    assert states(host_command(wide, "attach", *words)) == {(mine, subnet.id): "unchanged"}
    (item,) = [one for one in agent.attachments(api(wide)) if (one["address"], one["subnet"]) == (mine, subnet.id)]
    assert item["since"] == pytest.approx(time.time(), abs=30 * PATIENCE)
    table = host_command(wide, "attachments", "--address", mine)
    assert table.splitlines()[0].split() == ["ADDRESS", "SUBNET", "SINCE", "OWNER"]
    assert len(table.splitlines()) == 3, table
    assert {ip_of(wide, "pod1"), mine} == in_kernel(wide).keys()


@pytest.mark.parametrize(
    ("address", "subnet_id", "sentence"),
    [
        ("10.244.1.3", "s11", "did you mean s1?"),
        ("10.244.2.2", "s1", "host.instance_cidrs: 10.244.1.0/24"),
        ("10.244.1.255", "s1", "first or last address"),
        ("10.244.1.300", "s1", "10.244.1.300"),
    ],
)
def test_what_cannot_be_attached_is_refused_in_a_sentence(
    wide: Lab, address: str, subnet_id: str, sentence: str
) -> None:
    before = attached(wide)
    said = host_command(wide, "attach", "--address", address, "--subnet", subnet_id, code=1)
    assert sentence in said
    assert len(said.splitlines()) == 1
    assert attached(wide) == before


def test_a_batch_is_attached_as_a_whole_or_not_at_all(wide: Lab, subnet: SubnetPlan) -> None:
    """One bad attachment among many: nothing of the batch is there, in the list or in the kernel."""
    before, entries = attached(wide), in_kernel(wide)
    good = [(f"10.244.1.{last}", subnet.id) for last in range(100, 150)]
    for bad, code in (("10.9.9.9", "not-an-instance"), ("10.244.1.0", "not-an-instance")):
        with pytest.raises(AgentRefused) as refused:
            agent.attach(api(wide), *good, (bad, subnet.id))
        assert refused.value.code == code
    with pytest.raises(AgentRefused) as refused:
        agent.attach(api(wide), *good, ("10.244.1.200", "nowhere"))
    assert refused.value.code == "unknown-subnet"
    assert (attached(wide), in_kernel(wide)) == (before, entries)
    assert set(agent.attach(api(wide), *good).values()) == {"attached"}
    assert attached(wide) == before | set(good)
    assert len(in_kernel(wide)) == len(entries) + len(good)
    assert set(agent.detach(api(wide), *good).values()) == {"detached"}
    assert (attached(wide), in_kernel(wide)) == (before, entries)


def test_an_instance_attached_to_nothing_reaches_nothing(wide: Lab) -> None:
    """It is told so at once, whatever it tries, and nothing of it leaves the host towards any customer."""
    with detached(wide, "pod1"), no_leak(wide, "pod1"):
        for each in wide.topology.subnet_plans:
            for what, outcome in try_all(wide, "pod1", each.database_ip).items():
                assert outcome.is_refusal, (what, outcome)
                assert outcome.after_s < 0.5 * PATIENCE, (what, outcome)
    for outcome in try_all(wide, "pod1", wide.topology.subnet_plans[0].database_ip).values():
        assert outcome.what == REACHED


def test_an_unattached_instance_is_refused_however_often_it_tries(wide: Lab, subnet: SubnetPlan) -> None:
    """The kernel limits ICMP errors to a few in a second; a RST comes for each attempt."""
    with detached(wide, "pod1"):
        outcomes = [try_tcp(wide, "pod1", subnet.database_ip) for _ in range(30)]
    assert [one for one in outcomes if not one.is_refusal or one.after_s > 0.5 * PATIENCE] == []


def test_one_instance_is_attached_to_several_subnets(wide: Lab) -> None:
    """Of one tenant. What it loses one of is cut there, and goes on with the other."""
    first, second = wide.topology.subnet_plans
    for each in (first, second):
        assert try_tcp(wide, "pod1", each.database_ip).what == REACHED
    with (
        Connections(wide, "pod1", first.database_ip, count=20) as cut,
        Connections(wide, "pod1", second.database_ip, count=20) as kept,
    ):
        with detached(wide, "pod1", first.id):
            began = time.monotonic()
            assert try_tcp(wide, "pod1", first.database_ip).is_refusal
            wait_until(lambda: not established(wide, "pod1", first.database_ip), 5.0, "the connections to be gone")
            assert try_tcp(wide, "pod1", second.database_ip).what == REACHED
        ended = cut.result()
        going_on = kept.result()
    assert (ended["alive"], ended["hanging"]) == (0, 0), ended["broken"]
    assert max(record["over"] for record in ended["connections"]) - began < 2.0 * PATIENCE
    assert (going_on["alive"], going_on["broken"]) == (20, {})


def established(lab: Lab, pod: str, address: str) -> list[str]:
    """TCP connections of an instance to a server, as its own kernel has them."""
    found = lab.machine(pod).run(["ss", "-Htn", "state", "established", "dst", address]).stdout
    return found.splitlines()


def test_attachments_survive_the_agent(wide: Lab, subnet: SubnetPlan) -> None:
    """Killed and started again: the same attachments and entries, and no packet lost."""
    before = (attached(wide), in_kernel(wide))
    with Prober(wide, "pod1", subnet.database_ip, interval_ms=PROBE_MS) as prober:
        kill_daemon(wide, "host1")
        with pytest.raises(TransientError):
            agent.attachments(api(wide))
        wide.machine("host1").start("daemon")
        agent.wait_api(api(wide), 15.0 * PATIENCE)
        assert (attached(wide), in_kernel(wide)) == before
    assert prober.result()["lost"] == 0, prober.result()["gaps"]


def test_attachments_survive_a_power_cycle(wide: Lab, subnet: SubnetPlan) -> None:
    """The host comes back with nothing but its disk: traffic flows again, and nobody has attached anything."""
    before, entries = attached(wide, "host2"), in_kernel(wide, "host2")
    wide.fault(Fault.POWER_OFF, "host2")
    wide.fault(Fault.POWER_ON, "host2")
    assert "pp-attached" not in wide.machine("host2").run(["ipset", "-n", "list"]).stdout
    for pod in ("pod2", "pod2-2"):
        wait_until(lambda pod=pod: try_tcp(wide, pod, subnet.database_ip).what == REACHED, 20.0, f"{pod} to be served")  # type: ignore[misc]
    assert attached(wide, "host2") == before
    assert in_kernel(wide, "host2").keys() == entries.keys()


# ---- customers with the same addresses -------------------------------------------------------------------------------


@contextlib.contextmanager
def counted(lab: Lab) -> Iterator[dict[str, list[str]]]:
    """Datagrams that each customer's database gets, by subnet; they are counted as long as this lasts."""
    got: dict[str, list[str]] = {subnet.id: [] for subnet in lab.topology.subnet_plans}
    stop = threading.Event()

    def listen(subnet: SubnetPlan) -> None:
        with datagrams(lab, subnet.database, PORT, timeout_s=0.1 / PATIENCE) as server:
            ready.release()
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    got[subnet.id].append(server.recv(64).decode())

    ready = threading.Semaphore(0)
    threads = [threading.Thread(target=listen, args=(subnet,)) for subnet in lab.topology.subnet_plans]
    for thread in threads:
        thread.start()
    for _ in threads:
        ready.acquire()
    try:
        yield got
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.datapath
def test_an_instance_moves_from_one_customer_to_another(overlap_lab: Lab) -> None:
    """With `replace`, while it talks: from the answer on not one packet comes to the first customer, who has the same
    addresses, and no connection of before goes on. Without `replace` it is refused.
    """
    lab = overlap_lab
    first, second = lab.topology.subnet_plans
    assert first.database_ip == second.database_ip
    mine, place = ip_of(lab, "pod1"), api(lab)
    with pytest.raises(AgentRefused) as refused:
        agent.attach(place, (mine, second.id))
    assert refused.value.code == "attached-elsewhere"
    said = host_command(lab, "attach", "--address", mine, "--subnet", second.id, code=1)
    assert "--replace" in said
    with (
        counted(lab) as got,
        Connections(lab, "pod1", first.database_ip, count=20) as connections,
        datagrams(lab, "pod1") as link,
    ):
        target = (first.database_ip, PORT)
        link.sendto(b"before", target)
        wait_until(lambda: got[first.id] == ["before"], 3.0, "the first customer to get it")
        assert agent.attach(place, (mine, second.id), replace=True) == {(mine, second.id): "attached"}
        told = time.monotonic()
        for number in range(200):
            link.sendto(f"after {number}".encode(), target)
            time.sleep(0.005)
        wait_until(lambda: "after 199" in got[second.id], 3.0, "the second customer to get what comes now")
        result = connections.result()
    assert got[first.id] == ["before"], "a packet came to the customer that the instance had left"
    assert (result["alive"], result["hanging"]) == (0, 0), result["broken"]
    assert max(record["over"] for record in result["connections"]) - told < 2.0 * PATIENCE
    assert not [line for line in tracked(lab, "host1", mine) if "dport=7007" in line and "ESTABLISHED" in line]
    with contextlib.suppress(AgentRefused):
        agent.attach(place, (mine, first.id), replace=True)


@pytest.mark.datapath
def test_instances_of_two_customers_on_one_host_each_talk_to_their_own(overlap_lab: Lab) -> None:
    """Also when one of them is attached to nothing: the other's path is not his."""
    lab = overlap_lab
    first, second = lab.topology.subnet_plans
    with counted(lab) as got, datagrams(lab, "pod1") as one, datagrams(lab, "pod1-2") as two:
        for number in range(20):
            one.sendto(f"pod1 {number}".encode(), (first.database_ip, PORT))
            two.sendto(f"pod1-2 {number}".encode(), (second.database_ip, PORT))
        wait_until(lambda: len(got[first.id]) == len(got[second.id]) == 20, 3.0, lambda: f"40 datagrams: {got}")
        assert {word.split()[0] for word in got[first.id]} == {"pod1"}
        assert {word.split()[0] for word in got[second.id]} == {"pod1-2"}
        with detached(lab, "pod1"):
            outcomes = try_all(lab, "pod1", first.database_ip)
            assert all(outcome.is_refusal for outcome in outcomes.values()), outcomes
        assert len(got[first.id]) + len(got[second.id]) == 40


# ---- faults ----------------------------------------------------------------------------------------------------------


def test_killed_again_and_again_while_instances_are_attached(wide: Lab, subnet: SubnetPlan) -> None:
    """Whoever got an answer finds the attachment afterwards, and the kernel's set is just what the list says."""
    stop, answered, unsure = threading.Event(), set[Attachment](), set[Attachment]()
    interrupted: list[Attachment] = []

    def keep_attaching() -> None:
        number = 0
        while not stop.is_set():
            item = (f"10.244.1.{4 + number % 250}", subnet.id)
            is_leaving = bool(number // 250 % 2 and number % 2)
            number += 1
            try:
                if is_leaving:
                    agent.detach(api(wide), item)
                    answered.discard(item)
                else:
                    agent.attach(api(wide), item)
                    answered.add(item)
                unsure.discard(item)
            except TransientError:
                interrupted.append(item)
                if is_leaving or item not in answered:
                    answered.discard(item)
                    unsure.add(item)
                stop.wait(0.02)

    chance = random.Random()
    seed = chance.randrange(1 << 32)
    chance.seed(seed)
    before = attached(wide)
    thread = threading.Thread(target=keep_attaching)
    thread.start()
    try:
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.0, 0.3))
            agent.wait_api(api(wide), 15.0 * PATIENCE)
            time.sleep(chance.uniform(0.0, 0.3))
            kill_daemon(wide, "host1")
            wide.machine("host1").start("daemon")
        agent.wait_api(api(wide), 15.0 * PATIENCE)
    finally:
        stop.set()
        thread.join()
    now = attached(wide)
    assert len(answered) > 50, "hardly anything was attached: nothing was tested"
    assert len(interrupted) >= KILLS, "hardly any request was interrupted: nothing was tested"
    assert before | answered <= now, f"seed {seed}: answered and lost: {sorted(answered - now)[:5]}"
    assert now <= before | answered | unsure, f"seed {seed}: nobody asked for {sorted(now - answered)[:5]}"
    wait_until(
        lambda: in_kernel(wide).keys() == {address for address, _ in attached(wide)},
        10.0,
        lambda: f"the set to be as the list (seed {seed})",
    )
    detach_soon(wide, "host1", *sorted(now - before))


@contextlib.contextmanager
def without_zookeeper(lab: Lab) -> Iterator[None]:
    """Its server is stopped: connections stay open and nothing answers."""
    lab.fault(Fault.PAUSE, "zk1")
    try:
        yield
    finally:
        lab.fault(Fault.RESUME, "zk1")


@pytest.mark.timed
def test_without_zookeeper_known_subnets_are_attached_and_others_are_refused_soon(
    wide: Lab, subnet: SubnetPlan
) -> None:
    """The cold-start path does not ask ZooKeeper. What needs it says so within seconds, and traffic flows."""
    wide.proxypool("subnet", "add", "late", "--cidr", "172.20.7.0/24", "--tenant", "late")
    stranger = ("10.244.1.90", "late")
    try:
        wait_until(lambda: knows(wide, stranger), 5.0, "the agent to hear of the subnet")
        with (
            Prober(wide, "pod1", subnet.database_ip, interval_ms=PROBE_MS) as prober,
            without_zookeeper(wide),
        ):
            took_s = []
            with contextlib.closing(Agent(api(wide))) as client:
                for last in range(100, 120):
                    began = time.monotonic()
                    client.attach([(f"10.244.1.{last}", subnet.id)])
                    took_s.append(time.monotonic() - began)
            assert max(took_s) < 0.05 * PATIENCE, took_s
            began = time.monotonic()
            with pytest.raises(TransientError, match="ZooKeeper"):
                agent.attach(api(wide), stranger)
            assert time.monotonic() - began < 7.0 * PATIENCE
            assert stranger not in attached(wide)
        assert prober.result()["lost"] == 0, prober.result()["gaps"]
        assert agent.attach_soon(api(wide), [stranger], 10.0 * PATIENCE) < 5.0 * PATIENCE
    finally:
        agent.detach(api(wide), (stranger[0], None))
        wide.proxypool("subnet", "remove", "late", "--yes")


def knows(lab: Lab, wanted: Attachment) -> bool:
    """Whether the agent has heard of a subnet: then its refusal of this batch is for another reason."""
    try:
        agent.attach(api(lab), wanted, ("10.9.9.9", wanted[1]))
    except AgentRefused as refusal:
        return refusal.code != "unknown-subnet"
    raise AssertionError("10.9.9.9 was attached")


def test_an_agent_that_starts_without_zookeeper_leaves_traffic_alone(wide: Lab, subnet: SubnetPlan) -> None:
    """It cannot attach, says why, lists what there is, and works as soon as ZooKeeper is back."""
    before = (attached(wide), in_kernel(wide))
    with Prober(wide, "pod1", subnet.database_ip, interval_ms=PROBE_MS) as prober:
        with without_zookeeper(wide):
            kill_daemon(wide, "host1")
            wide.machine("host1").start("daemon")
            agent.wait_api(api(wide), 15.0 * PATIENCE)
            with pytest.raises(TransientError, match="ZooKeeper"):
                agent.attach(api(wide), ("10.244.1.100", subnet.id))
            stays(lambda: (attached(wide), in_kernel(wide)) == before, 2.0, "attachments are as before")
            assert try_tcp(wide, "pod1-2", subnet.database_ip).what == REACHED
        agent.attach_soon(api(wide), [("10.244.1.100", subnet.id)], 15.0 * PATIENCE)
    assert prober.result()["lost"] == 0, prober.result()["gaps"]


def test_a_host_that_boots_without_zookeeper_guards_and_serves(wide: Lab, subnet: SubnetPlan) -> None:
    """Its disk says who is attached and what the pool was: who is attached is served, who is not is refused."""
    with detached(wide, "pod2-2"):
        with without_zookeeper(wide):
            wide.fault(Fault.POWER_OFF, "host2")
            wide.fault(Fault.POWER_ON, "host2")
            wait_until(lambda: try_tcp(wide, "pod2", subnet.database_ip).what == REACHED, 20.0, "pod2 to be served")
            assert try_tcp(wide, "pod2-2", subnet.database_ip).is_refusal
        agent.attach_soon(api(wide, "host2"), [(ip_of(wide, "pod2-2"), subnet.id)], 15.0 * PATIENCE)
        assert try_tcp(wide, "pod2-2", subnet.database_ip).what == REACHED
