"""What an instance sends to a customer leaves its host by that customer's tunnel, or not at all.

The lab's hosts have no default route: here they get one, to a machine that everything would come to that leaks.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import pytest

from proxypool.lab import agent
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.prober import Connections
from proxypool.lab.topology import RESPONDER_PORT
from tests.lab.instances import REACHED, Leaks, api, detached, ip_of, no_leak, shares, try_all, try_tcp, tunnel_of
from tests.lab.observe import ACCEPT_ALL, PATIENCE, inside, kill_daemon, repairs, wait_settled, wait_until

pytestmark = [pytest.mark.root]

REPAIRED_S = 2.0
HAMMER_S = 0.002
DELETE_RULES = "for p in $(ip rule | grep -o '^7[78][0-9]*'); do ip rule del priority $p; done"


@dataclass(frozen=True, slots=True)
class Damage:
    """A shell command on the host. `{tunnel}`: of the first subnet."""

    name: str
    command: str


DAMAGES = (
    Damage("tunnel deleted", "ip link del {tunnel}"),
    Damage("tunnel down", "ip link set {tunnel} down"),
    Damage("mangle flushed", "iptables-legacy -t mangle -F; iptables-legacy -t mangle -X"),
    Damage("filter flushed", "iptables-legacy -F; iptables-legacy -X"),
    Damage("set flushed", "ipset flush pp-attached"),
    Damage(
        "tables of paths flushed",
        r"for t in $(ip rule | sed -n 's/.*lookup \(77[0-9]\{{5\}}\).*/\1/p' | sort -u); do ip route flush table $t; done",
    ),
)


@pytest.fixture
def subnet(wide: Lab) -> SubnetPlan:
    """The one that instances talk to."""
    return wide.topology.subnet_plans[0]


class Hammer:
    """Sends datagrams of an instance to an address all the time, each from a port of its own and one from the same."""

    def __init__(self, lab: Lab, pod: str, address: str) -> None:
        self._lab, self._pod, self._place = lab, pod, (address, RESPONDER_PORT)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: inside(lab.machine(pod), None, self._run), name="hammer")
        self.sent = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as old:
            while not self._stop.wait(HAMMER_S):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as new:
                    for link in (old, new):
                        with contextlib.suppress(OSError):
                            link.sendto(b"hammer", self._place)
                            self.sent += 1


@contextlib.contextmanager
def hammered(lab: Lab, subnet: SubnetPlan) -> Iterator[Leaks]:
    """An attached instance, and one that is attached to nothing, send without a pause; nothing may leak.

    At the end the host forgets their flows: thousands of ports that may have had no path would be used again soon.
    """
    with (
        detached(lab, "pod1-2"),
        no_leak(lab, "pod1") as leaks,
        Hammer(lab, "pod1", subnet.database_ip) as one,
        Hammer(lab, "pod1-2", subnet.database_ip) as two,
    ):
        yield leaks
        wait_until(lambda: min(one.sent, two.sent) > 50, 5.0, lambda: f"50 datagrams of each; {one.sent}, {two.sent}")
    for pod in ("pod1", "pod1-2"):
        lab.machine("host1").run(["conntrack", "-D", "-p", "udp", "-s", ip_of(lab, pod)], check=False)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_damage_leaks_nothing_and_is_repaired(wide: Lab, subnet: SubnetPlan, damage: Damage) -> None:
    """While it lasts instances are refused; what was established goes on afterwards."""
    host = wide.machine("host1")
    with Connections(wide, "pod1", subnet.database_ip, count=30) as connections, hammered(wide, subnet):
        count = repairs(wide, "host1")
        host.run(["sh", "-ec", damage.command.format(tunnel=tunnel_of(subnet))])
        began = time.monotonic()
        wait_until(lambda: repairs(wide, "host1") > count, 4 * REPAIRED_S, "the repair")
        wait_until(lambda: try_tcp(wide, "pod1", subnet.database_ip).what == REACHED, 3.0, "traffic")
        took_s = time.monotonic() - began
        assert try_tcp(wide, "pod1-2", subnet.database_ip).is_refusal
        result = connections.result()
    assert (result["alive"], result["broken"]) == (30, {})
    assert took_s < REPAIRED_S * PATIENCE + 0.5


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_damage_leaks_nothing_without_the_agent(wide: Lab, subnet: SubnetPlan, damage: Damage) -> None:
    """Nobody repairs it: whatever does not get through by a tunnel gets nowhere."""
    host = wide.machine("host1")
    with hammered(wide, subnet):
        kill_daemon(wide, "host1")
        host.run(["sh", "-ec", damage.command.format(tunnel=tunnel_of(subnet))])
        for _ in range(3):
            assert try_tcp(wide, "pod1-2", subnet.database_ip).what != REACHED
            if "tunnel" in damage.name or "paths" in damage.name:
                assert try_tcp(wide, "pod1", subnet.database_ip).is_refusal
        time.sleep(0.2)  # the hammer goes on


def test_without_the_agent_traffic_flows_as_before(wide: Lab, subnet: SubnetPlan) -> None:
    """New connections, too; and who is attached to nothing is refused."""
    with hammered(wide, subnet):
        kill_daemon(wide, "host1")
        assert shares(wide, "pod1", subnet, 30).keys() == {"p1", "p2", "p3"}
        assert try_tcp(wide, "pod1-2", subnet.database_ip).is_refusal


def test_without_the_agent_an_unattached_instance_is_told_so(wide: Lab, subnet: SubnetPlan) -> None:
    """Whatever it tries."""
    with detached(wide, "pod1-2"):
        kill_daemon(wide, "host1")
        wait_until(lambda: refused_all(wide, "pod1-2", subnet), 8.0, "errors whatever it tries")


def refused_all(lab: Lab, pod: str, subnet: SubnetPlan) -> bool:
    """Whether TCP, UDP and ICMP each get an error at once. Of ICMP errors the kernel sends one in a second, and what
    tests before this one sent may have used it up.
    """
    outcomes = try_all(lab, pod, subnet.database_ip)
    return all(one.is_refusal and one.after_s < 0.5 * PATIENCE for one in outcomes.values())


def test_all_rules_of_the_routing_policy_are_deleted(wide: Lab, subnet: SubnetPlan) -> None:
    """As some network managers do when they start. Without these rules the host's own routes lead everywhere, so only
    connections that have a path are held back; a new one may leave until the rules are back.
    """
    host = wide.machine("host1")

    def rules() -> list[str]:
        return sorted(host.run(["ip", "rule"]).stdout.splitlines())

    before, count = rules(), repairs(wide, "host1")
    with Connections(wide, "pod1", subnet.database_ip, count=30) as connections:
        host.run(["sh", "-ec", DELETE_RULES])
        began = time.monotonic()
        # The last of them may go after a first repair.
        wait_until(lambda: rules() == before, REPAIRED_S, "the repair")
        print(f" [repaired after {(time.monotonic() - began) * 1e3:.0f} ms]", end="")  # noqa: T201
        wait_until(lambda: repairs(wide, "host1") > count, 3.0, "the repair to be counted")
        result = connections.result()
    assert (result["alive"], result["broken"]) == (30, {})
    with no_leak(wide, "pod1"):
        assert try_tcp(wide, "pod1", subnet.database_ip).what == REACHED


def test_a_subnet_without_a_pair_leads_nowhere(wide: Lab, subnet: SubnetPlan) -> None:
    """All pairs of a subnet are removed: instances that are attached to it are refused at once, and nothing leaks."""
    try:
        with (
            Connections(wide, "pod1", subnet.database_ip, count=30) as connections,
            no_leak(wide, "pod1"),
        ):
            with Hammer(wide, "pod1", subnet.database_ip):
                for pair in subnet.pairs:
                    wide.proxypool("pair", "remove", subnet.id, pair.id, "--yes", *ACCEPT_ALL)
            wait_until(lambda: try_tcp(wide, "pod1", subnet.database_ip).is_refusal, 5.0, "the instance to be refused")
            wait_until(lambda: refused_all(wide, "pod1", subnet), 8.0, "errors whatever it tries")
            wait_until(lambda: cut(connections), 5.0, "every connection to be cut")
            # Of a subnet that nobody can reach, an instance may be told so when it starts, not later.
            assert agent.attach(api(wide), ("10.244.1.100", subnet.id)) == {("10.244.1.100", subnet.id): "attached"}
            other = wide.topology.subnet_plans[1]
            assert try_tcp(wide, "pod1", other.database_ip).what == REACHED
    finally:
        wide.apply_pool()
        wait_settled(wide)
    wait_until(lambda: try_tcp(wide, "pod1", subnet.database_ip).what == REACHED, 10.0, "traffic again")


def cut(connections: Connections) -> bool:
    """Whether no connection of an instrument's machine to its target is established any more."""
    target = connections.target.partition(":")[0]
    words = ["ss", "-Htn", "state", "established", "dst", target]
    return not connections.machine.run(words).stdout.strip()


@pytest.mark.parametrize("damage", ["-t nat -F", "-t mangle -F", "-F"])
def test_a_flow_that_began_while_rules_were_missing_gets_through_in_the_end(
    wide: Lab, subnet: SubnetPlan, damage: str
) -> None:
    """With the socket that it began with: what conntrack remembers of that moment must not last as long as the flow."""
    count = repairs(wide, "host1")
    with inside(wide.machine("pod1"), None, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as flow:
        flow.settimeout(0.05)
        flow.connect((subnet.database_ip, RESPONDER_PORT))
        wide.machine("host1").run(["sh", "-ec", f"iptables-legacy {damage}"])

        def is_answered() -> bool:
            with contextlib.suppress(OSError):
                flow.send(b"anybody there?")
            try:
                return bool(flow.recv(64)) and repairs(wide, "host1") > count
            except OSError:
                return False

        wait_until(is_answered, 5.0, "an answer after the repair")
