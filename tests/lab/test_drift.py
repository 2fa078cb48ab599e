"""Somebody changes what is ours in the kernel: it is put right within two seconds, and counted."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from proxypool.core.addressing import namespace_of, tunnel_device_of
from proxypool.core.keepalived import file_name, track_file
from proxypool.core.role import PRIORITY_ELECTED, PRIORITY_NORMAL
from proxypool.core.scene import PATH_TABLES
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.prober import Prober
from proxypool.lab.topology import PAIR, Tunnel
from tests.lab.observe import (
    PATIENCE,
    PROBE_MS,
    difference,
    gate,
    master_of,
    masters,
    other_of,
    picture,
    repairs,
    set_sysctl,
    stays,
    sysctl,
    tunnel_kind,
    unsettled,
    wait_until,
)

pytestmark = [pytest.mark.root]

REPAIR_LIMIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Damage:
    """A shell command, run where it hurts. `{tunnel}`, `{host}`, `{havip}`, `{cidr}`, `{address}`: of the first subnet."""

    name: str
    command: str
    vxlan_only: bool = False


IN_SUBNET = (
    Damage("nat flushed", "iptables-legacy -t nat -F"),
    Damage("nat flushed and chains deleted", "iptables-legacy -t nat -F; iptables-legacy -t nat -X"),
    Damage("filter flushed", "iptables-legacy -F"),
    Damage("filter flushed and open", "iptables-legacy -P FORWARD ACCEPT; iptables-legacy -F"),
    Damage("FORWARD policy", "iptables-legacy -P FORWARD ACCEPT"),
    Damage("INPUT policy", "iptables-legacy -P INPUT ACCEPT"),
    Damage("one rule of ours deleted", "iptables-legacy -D PP-FORWARD 1"),
    Damage("a rule inserted into a chain of ours", "iptables-legacy -I PP-FORWARD -j ACCEPT"),
    Damage("our jump deleted", "iptables-legacy -D FORWARD 1"),
    Damage("our jump twice", "iptables-legacy -A FORWARD -j PP-FORWARD"),
    Damage("route to a host deleted", "ip route del {host}/32"),
    Damage("route to a host changed", "ip route replace blackhole {host}/32 proto 177"),
    Damage("blackhole route deleted", "ip route del blackhole 100.64.0.0/10 proto 177 metric 4278198272"),
    Damage("neighbour deleted", "ip neigh del {host} dev {tunnel}"),
    Damage("neighbour changed", "ip neigh replace {host} lladdr {other_lladdr} dev {tunnel} nud permanent"),
    Damage("a neighbour too many", "ip neigh add 100.127.0.1 lladdr {other_lladdr} dev {tunnel} nud permanent"),
    Damage(
        "forwarding entry deleted",
        "set -- $(bridge fdb show dev {tunnel} | head -1); bridge fdb del $1 dev {tunnel} dst $3",
        vxlan_only=True,
    ),
    Damage("ENI's address deleted", "ip addr del {address}/24 dev eni0"),
    Damage("a second address on the ENI", "ip addr add {address}5/24 dev eni0"),
    Damage("ENI down", "ip link set eni0 down"),
    Damage("tunnel down", "ip link set {tunnel} down"),
    Damage("tunnel's MTU", "ip link set {tunnel} mtu 1300"),
    Damage("tunnel deleted", "ip link del {tunnel}"),
    Damage("rp_filter", "sysctl -qw net.ipv4.conf.eni0.rp_filter=1"),
)

ON_NODE = (
    Damage("raw flushed", "iptables-legacy -t raw -F"),
    Damage("set of hosts flushed", "ipset flush pp-peers"),
    Damage("a stranger put into the set of hosts", "ipset add pp-peers 192.168.2.1"),
)

ON_HOST = (
    Damage("raw flushed and chains deleted", "iptables-legacy -t raw -F; iptables-legacy -t raw -X"),
    Damage("nat flushed", "iptables-legacy -t nat -F"),
    Damage("filter flushed and chains deleted", "iptables-legacy -F; iptables-legacy -X"),
    Damage("mangle flushed and chains deleted", "iptables-legacy -t mangle -F; iptables-legacy -t mangle -X"),
    Damage("set of attached instances flushed", "ipset flush pp-attached"),
    Damage("an instance taken out of the set", "ipset del pp-attached {instance}"),
    Damage("a stranger put into the set", "ipset add pp-attached 10.244.1.99 skbmark {mark}"),
    Damage("an instance marked otherwise", "ipset -exist add pp-attached {instance} skbmark 0x3ff00000/0x7fff0000"),
    Damage("path's route deleted", "ip route del {cidr} table {table} via {havip} dev {tunnel} onlink"),
    Damage("route below a path's deleted", "ip route del {cidr} dev lo table {table} metric 4278198272"),
    Damage("path's table flushed", "ip route flush table {table}"),
    Damage(
        "path sent into the realm of the dead",
        "ip route replace {cidr} table {table} via {havip} dev {tunnel} onlink proto 177 realm 177",
    ),
    Damage("guard flushed", "ip route flush table 7700"),
    Damage("entry rule deleted", "ip rule del priority 7700"),
    Damage("path's rule deleted", "ip rule del fwmark {mark} lookup {table}"),
    Damage("all our rules deleted", "for p in $(ip rule | grep -o '^7[78][0-9]*'); do ip rule del priority $p; done"),
    Damage("neighbour deleted", "ip neigh del {havip} dev {tunnel}"),
    Damage(
        "forwarding entry deleted",
        "set -- $(bridge fdb show dev {tunnel} | head -1); bridge fdb del $1 dev {tunnel} dst $3",
        vxlan_only=True,
    ),
    Damage("tunnel deleted", "ip link del {tunnel}"),
    Damage("tunnel down", "ip link set {tunnel} down"),
    Damage("tunnel's address deleted", "ip addr flush dev {tunnel}"),
)


def name_of(damage: Damage) -> str:
    """For pytest's ids."""
    return damage.name


@pytest.fixture
def subnet(lab: Lab) -> SubnetPlan:
    """The one that is damaged."""
    return lab.topology.subnet_plans[0]


Measured = Callable[[str, float], None]


@pytest.fixture
def repair(
    lab: Lab,
    subnet: SubnetPlan,
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
) -> Callable[[str, str | None, Damage], None]:
    """Do the damage in a machine's namespace; it must be undone in time, and counted."""

    def act(name: str, namespace: str | None, damage: Damage) -> None:
        if damage.vxlan_only and tunnel_kind() is not Tunnel.VXLAN:
            pytest.skip("GRE has no forwarding entries")
        machine = lab.machine(name)
        before, count = picture(machine, namespace, with_identity=False), repairs(lab, name)
        where = ["ip", "netns", "exec", namespace] if namespace else []
        script = damage.command.format(**facts(lab, subnet, name))
        began = time.monotonic()
        machine.run([*where, "sh", "-ec", script])

        def now() -> dict[str, tuple[str, ...]]:
            return {name: picture(machine, namespace, with_identity=False)}

        # Without a change the test would prove nothing; but a repair can be quicker than a look.
        # It is counted a moment after it was done.
        wait_until(
            lambda: bool(difference({name: before}, now())) or repairs(lab, name) > count,
            2.0,
            "the damage to do anything",
        )
        wait_until(
            lambda: now()[name] == before,
            4 * REPAIR_LIMIT_S,
            lambda: f"{damage.name} to be repaired: {difference({name: before}, now())}",
        )
        took_s = time.monotonic() - began
        record_property("repaired after s", took_s)
        with capsys.disabled():
            print(f" [{damage.name}: {took_s:.1f} s]", end="")  # noqa: T201
        wait_until(lambda: repairs(lab, name) > count, 3.0, "the repair to be counted")
        assert took_s < REPAIR_LIMIT_S * PATIENCE + LOOK_S

    return act


LOOK_S = 0.3
"""What it takes to see that all is well again, on a busy computer."""


def facts(lab: Lab, subnet: SubnetPlan, name: str) -> dict[str, str]:
    """What commands may name."""
    address = next((m.address.partition("/")[0] for m in subnet.members if m.node == name), "")
    host = lab.machine("host1").run(["sh", "-c", "ip -o addr | grep -m1 -o '100[.0-9]*'"]).stdout.strip()
    route = f"ip route show table all | grep -m1 '^{subnet.cidr} via {subnet.havip} '"
    path = re.search(r"table (\d+)", lab.machine("host1").run(["sh", "-c", route]).stdout)
    table = int(path[1]) if path else 0
    return {
        "table": str(table),
        "mark": f"{(table - PATH_TABLES) << 16:#x}/0x7fff0000",
        "instance": lab.topology.machines["pod1"].ip,
        "tunnel": tunnel_device_of(subnet.id),
        "host": host,
        "havip": subnet.havip,
        "cidr": subnet.cidr,
        "address": address,
        "other_lladdr": "192.168.2.1" if tunnel_kind() is Tunnel.GRE else "02:00:00:00:00:01",
    }


Repair = Callable[[str, "str | None", Damage], None]


@pytest.mark.parametrize("damage", IN_SUBNET, ids=name_of)
def test_damage_in_the_masters_namespace(lab: Lab, subnet: SubnetPlan, repair: Repair, damage: Damage) -> None:
    """Traffic flows again, too: the fixture waits for it."""
    repair(master_of(lab, subnet), namespace_of(subnet.id), damage)


@pytest.mark.parametrize(
    "damage", [d for d in IN_SUBNET if d.name in ("nat flushed", "neighbour deleted", "tunnel deleted")], ids=name_of
)
def test_damage_in_the_backups_namespace(lab: Lab, subnet: SubnetPlan, repair: Repair, damage: Damage) -> None:
    """It is kept as ready as the master, and traffic does not notice."""
    with Prober(lab, "pod1", subnet.database_ip, interval_ms=PROBE_MS) as prober:
        repair(other_of(subnet, master_of(lab, subnet)), namespace_of(subnet.id), damage)
    assert prober.result()["lost"] == 0


@pytest.mark.parametrize("damage", ON_NODE, ids=name_of)
def test_damage_on_the_node_itself(lab: Lab, subnet: SubnetPlan, repair: Repair, damage: Damage) -> None:
    repair(master_of(lab, subnet), None, damage)


@pytest.mark.parametrize("damage", ON_HOST, ids=name_of)
def test_damage_on_a_host(lab: Lab, repair: Repair, damage: Damage) -> None:
    repair("host1", None, damage)


@pytest.mark.parametrize("who", ["master", "backup"])
def test_the_gate_is_put_right(lab: Lab, subnet: SubnetPlan, who: str) -> None:
    """Closed by hand on the master, opened by hand on the backup: at once the other way round again, and counted."""
    master = master_of(lab, subnet)
    node = master if who == "master" else other_of(subnet, master)
    wanted, count = who == "master", repairs(lab, node)
    began = time.monotonic()
    set_sysctl(lab.machine(node), namespace_of(subnet.id), "ipv4/ip_forward", "0" if wanted else "1")
    wait_until(lambda: gate(lab, node, subnet) is wanted, REPAIR_LIMIT_S, "the gate to be put right", interval_s=0.001)
    took_s = time.monotonic() - began
    assert took_s < REPAIR_LIMIT_S * PATIENCE
    wait_until(lambda: repairs(lab, node) > count, 3.0, "the repair to be counted")


def test_a_whole_namespace_is_deleted(lab: Lab, subnet: SubnetPlan) -> None:
    """The other member takes over; this one makes it anew, with the card that the kernel gives back, and is fit again.

    The kernel gives a real card back to the machine; a veth it would destroy, so the test moves it.
    """
    master = master_of(lab, subnet)
    heir = other_of(subnet, master)
    script = f"""
        exec 9</run/netns/{namespace_of(subnet.id)}
        ip netns del {namespace_of(subnet.id)}
        nsenter --net=/proc/self/fd/9 ip link set eni0 netns 1
    """
    with Prober(lab, "pod1", subnet.database_ip, interval_ms=PROBE_MS, until_recovered_s=0.5) as prober:
        began = time.monotonic()
        lab.machine(master).run(["sh", "-ec", script])
        result = prober.wait(30 * PATIENCE)
    assert result["blackout_ms"] < 1000 * (REPAIR_LIMIT_S + 1.0) * PATIENCE
    wait_until(lambda: not unsettled(lab, subnet), 10.0, lambda: unsettled(lab, subnet))
    assert time.monotonic() - began < 10.0 * PATIENCE
    assert masters(lab, subnet) <= {master, heir}


def file_text(lab: Lab, node: str, path: str) -> str:
    """Of a machine; empty if there is no such file."""
    return lab.machine(node).run(["cat", path], check=False).stdout


DAMPED_S = 62.0
"""The longest that damping holds a member, and a moment."""


@pytest.mark.parametrize("damage", ["rm {}", "echo nonsense >{}", "echo 99 >{}", "echo -254 >{}"])
def test_the_track_file_is_put_right(lab: Lab, subnet: SubnetPlan, damage: str) -> None:
    """Whatever is in it for a moment: in the end the elected member is master, and each has its own value in the file.

    A value below the other member's moves the mastership within milliseconds, and the election with it: nobody takes
    the HaVip back from a living master.
    """
    master = master_of(lab, subnet)
    path = track_file("/run/proxypool", subnet.id, PAIR)
    wrong = damage.partition(" ")[2].partition(" ")[0]
    assert file_text(lab, master, path).strip() == str(PRIORITY_ELECTED)
    began = time.monotonic()
    lab.machine(master).run(["sh", "-ec", damage.format(path)])
    wait_until(
        lambda: file_text(lab, master, path).strip() in {str(PRIORITY_ELECTED), str(PRIORITY_NORMAL)},
        2 * REPAIR_LIMIT_S,
        f"no {wrong} in the file",
    )
    assert time.monotonic() - began < REPAIR_LIMIT_S * PATIENCE + LOOK_S
    wait_until(lambda: not unsettled(lab, subnet), 10.0, lambda: unsettled(lab, subnet))
    now = master_of(lab, subnet)

    def texts() -> dict[str, str]:
        return {node: file_text(lab, node, path).strip() for node in (now, other_of(subnet, now))}

    # A member that what came before made unfit again and again is held back for up to a minute.
    expected = {now: str(PRIORITY_ELECTED), other_of(subnet, now): str(PRIORITY_NORMAL)}
    wait_until(lambda: texts() == expected, DAMPED_S, lambda: f"{expected}; there is {texts()}")


@pytest.mark.parametrize("damage", ["rm {}", "echo '# nothing' >{}", "sed -i s/priority.1$/priority.10/ {}"])
def test_keepalived_s_file_is_put_right(lab: Lab, subnet: SubnetPlan, damage: str) -> None:
    """And keepalived goes on as it was: nobody had told it to read the damage."""
    master = master_of(lab, subnet)
    path = f"/etc/keepalived/conf.d/{file_name(subnet.id, PAIR)}"
    before = file_text(lab, master, path)
    assert "vrrp_instance" in before
    began = time.monotonic()
    lab.machine(master).run(["sh", "-ec", damage.format(path)])
    wait_until(lambda: file_text(lab, master, path) == before, 4 * REPAIR_LIMIT_S, "the file to be as before")
    assert time.monotonic() - began < REPAIR_LIMIT_S * PATIENCE + LOOK_S
    stays(lambda: masters(lab, subnet) == {master}, 1.0, f"{master} is master")


def test_a_sysctl_is_seen_as_it_is(lab: Lab, subnet: SubnetPlan) -> None:
    """The control of the repairs above: what the tests read is the namespace's own value."""
    node = master_of(lab, subnet)
    assert sysctl(lab.machine(node), namespace_of(subnet.id), "ipv4/conf/eni0/send_redirects") == "0"
    assert sysctl(lab.machine(node), None, "ipv4/ip_forward") == "0"
