"""The old way: every instance of a host reaches every subnet, and an ip-masq-agent's configuration is taken over."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator

import pytest

from proxypool.adapters.agent import Agent
from proxypool.lab import agent
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.prober import Prober
from tests.lab.conftest import Keeper, keep, lend
from tests.lab.instances import REACHED, api, attached, ip_of, try_tcp, try_udp
from tests.lab.observe import PATIENCE, PROBE_MS, datagrams, kill_daemon, stays, wait_until

pytestmark = [pytest.mark.root]

CONFIG = "/etc/proxypool/proxypool.toml"
MASQ_AGENT = "/etc/config/ip-masq-agent"
PORT = 5001
TAKEN_UP_S = 5.0


@pytest.fixture(scope="module")
def old_keeper(lab_keeper: Keeper) -> Iterator[Keeper]:
    """For the lab whose hosts serve everybody."""
    yield from keep(Keeper(f"{lab_keeper.name}-m", attach_all=True))


@pytest.fixture
def old_way(old_keeper: Keeper, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Two hosts with an instance each, two subnets; `attach_all = true`."""
    yield from lend(old_keeper, request)


@pytest.fixture
def subnet(old_way: Lab) -> SubnetPlan:
    """The first."""
    return old_way.topology.subnet_plans[0]


def restart_agent(lab: Lab) -> None:
    """So that it reads its configuration."""
    kill_daemon(lab, "host1")
    lab.machine("host1").start("daemon")
    agent.wait_api(api(lab), 15.0 * PATIENCE)


def write(lab: Lab, path: str, text: str) -> None:
    """A file on host1, put there in one step, as a mounted ConfigMap is."""
    script = f'mkdir -p "$(dirname {path})" && cat >{path}.new && mv {path}.new {path}'
    lab.machine("host1").run(["sh", "-ec", script], input=text)


@contextlib.contextmanager
def masq_agent(lab: Lab, text: str) -> Iterator[None]:
    """host1 does the work of an ip-masq-agent with this configuration."""
    before = lab.machine("host1").run(["cat", CONFIG]).stdout
    write(lab, MASQ_AGENT, text)
    write(lab, CONFIG, before.replace("[host]\n", f'[host]\nip_masq_agent = "{MASQ_AGENT}"\n'))
    try:
        restart_agent(lab)
        wait_until(lambda: status(lab)["ready"], 10.0, "the agent to be ready")
        yield
    finally:
        write(lab, CONFIG, before)
        restart_agent(lab)


def status(lab: Lab) -> dict[str, object]:
    """What the agent says of itself."""
    with contextlib.closing(Agent(api(lab), 10.0 * PATIENCE)) as client:
        return client.ask("GET", "/v1/status")


def problems(lab: Lab) -> str:
    """In `proxypool host show`, which reads them from ZooKeeper."""
    said = lab.proxypool("host", "show", "host1", "-o", "json", timeout=30 * PATIENCE).stdout
    found: list[str] = json.loads(said)["problems"]
    return "; ".join(found)


def source_seen(lab: Lab, pod: str, server: str) -> str:
    """The source that a machine of the underlay sees of a datagram of an instance."""
    with datagrams(lab, server, PORT) as there, datagrams(lab, pod) as client:
        client.sendto(b"who am I?", (lab.topology.machines[server].ip, PORT))
        return str(there.recvfrom(64)[1][0])


def test_every_instance_reaches_every_subnet_and_one_that_is_attached_is_confined(old_way: Lab) -> None:
    """Nobody attached anything. Whoever is attached has just that; detached again, it has everything."""
    first, second = old_way.topology.subnet_plans
    assert attached(old_way) == attached(old_way, "host2") == set()
    for pod, each in old_way.topology.paths():
        assert try_tcp(old_way, pod, each.database_ip).what == REACHED
    mine = ip_of(old_way, "pod1")
    assert agent.attach(api(old_way), (mine, second.id)) == {(mine, second.id): "attached"}
    try:
        assert try_tcp(old_way, "pod1", second.database_ip).what == REACHED
        assert try_tcp(old_way, "pod1", first.database_ip).is_refusal
        assert try_tcp(old_way, "pod2", first.database_ip).what == REACHED
    finally:
        agent.detach(api(old_way), (mine, None))
    assert try_tcp(old_way, "pod1", first.database_ip).what == REACHED


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_open_destinations_see_the_instance_and_others_see_the_host(old_way: Lab, form: str) -> None:
    """As with the agent itself; traffic to customers does not notice."""
    first, then = (
        json.dumps({"nonMasqueradeCIDRs": [cidr]}) if form == "json" else f"nonMasqueradeCIDRs:\n  - {cidr}\n"
        for cidr in ("192.168.80.2/32", "192.168.81.0/24")
    )
    # host2 knows the way back to the instances of host1, as the fabric of a platform does.
    way_back = ["10.244.1.0/24", "via", old_way.topology.machines["host1"].ip]
    old_way.machine("host2").run(["ip", "route", "add", *way_back])
    try:
        with masq_agent(old_way, first):
            assert source_seen(old_way, "pod1", "host2") == ip_of(old_way, "pod1")
        with masq_agent(old_way, then):
            assert source_seen(old_way, "pod1", "host2") == old_way.topology.machines["host1"].ip
            for each in old_way.topology.subnet_plans:
                assert try_tcp(old_way, "pod1", each.database_ip).what == REACHED
                assert try_udp(old_way, "pod1", each.database_ip).what == REACHED
    finally:
        old_way.machine("host2").run(["ip", "route", "del", *way_back])


def test_a_subnet_in_open_cidrs_is_refused_with_the_reason(old_way: Lab, subnet: SubnetPlan) -> None:
    """In the old set-up its packets were not rewritten, and no answer came back. The other one is served."""
    other = old_way.topology.subnet_plans[1]
    with masq_agent(old_way, f"nonMasqueradeCIDRs: ['{subnet.cidr}']\n"):
        wait_until(lambda: "is an open CIDR here" in problems(old_way), 10.0, "the reason in `host show`")
        assert f"subnet {subnet.id} is not served to all instances" in problems(old_way)
        assert try_tcp(old_way, "pod1", other.database_ip).what == REACHED
        assert try_tcp(old_way, "pod1", subnet.database_ip).what != REACHED
    wait_until(lambda: try_tcp(old_way, "pod1", subnet.database_ip).what == REACHED, 10.0, "it to be served again")
    wait_until(lambda: not problems(old_way), 10.0, lambda: f"no problem any more: {problems(old_way)}")


@pytest.mark.long
def test_a_malformed_file_is_told_of_and_the_last_good_one_stays(old_way: Lab, subnet: SubnetPlan) -> None:
    """Nothing dies, no packet is lost, and the file is taken up when it is right again."""
    good = "nonMasqueradeCIDRs: ['192.168.80.2/32']\n"
    with (
        masq_agent(old_way, good),
        Prober(old_way, "pod1", subnet.database_ip, interval_ms=PROBE_MS) as prober,
    ):
        rules = nat_rules(old_way)
        assert "192.168.80.2" in rules
        for nonsense in ("nonMasqueradeCIDRs: [", "nonMasqueradeCIDRs: ['10.0.0.0/33']", "- just\n- a list\n"):
            write(old_way, MASQ_AGENT, nonsense)
            wait_until(lambda: MASQ_AGENT in told(old_way), TAKEN_UP_S, "the problem to be told")
            write(old_way, MASQ_AGENT, good)
            wait_until(lambda: MASQ_AGENT not in told(old_way), TAKEN_UP_S, lambda: f"it to be well: {told(old_way)}")
        old_way.machine("host1").run(["rm", MASQ_AGENT])
        wait_until(lambda: MASQ_AGENT in told(old_way), TAKEN_UP_S, "the missing file to be told of")
        stays(lambda: nat_rules(old_way) == rules, 1.5, "the last good file counts")
        began = time.monotonic()
        write(old_way, MASQ_AGENT, "nonMasqueradeCIDRs: ['192.168.80.2/32', '192.168.2.0/24']\n")
        wait_until(lambda: "192.168.2.0/24" in nat_rules(old_way), TAKEN_UP_S, "the new file to be taken up")
        assert time.monotonic() - began < TAKEN_UP_S * PATIENCE
        assert prober.result()["lost"] == 0, prober.result()["gaps"]


def told(lab: Lab) -> str:
    """Problems that the agent tells."""
    return str(status(lab)["problems"])


def nat_rules(lab: Lab) -> str:
    """Ours."""
    return lab.machine("host1").run(["iptables-legacy", "-t", "nat", "-S", "PP-POSTROUTING"]).stdout
