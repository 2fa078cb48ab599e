"""What others made is never changed or removed, whatever we do beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from proxypool.core.addressing import namespace_of
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.topology import PAIR
from tests.lab.conftest import Keeper
from tests.lab.observe import (
    PATIENCE,
    another_subnet,
    difference,
    gate,
    kill_daemon,
    master_of,
    masters,
    other_of,
    spare_cards,
    unsettled,
    wait_gone,
    wait_subnet_settled,
    wait_until,
)

pytestmark = [pytest.mark.root]

FOREIGN_VIP = "192.168.9.9"
KEEPALIVED = f"""
vrrp_instance foreign {{
    version 3
    state MASTER
    interface eth0
    virtual_router_id 250
    priority 150
    advert_int 0.2
    unicast_src_ip %s
    unicast_peer {{
        192.168.2.99
    }}
    virtual_ipaddress {{
        {FOREIGN_VIP}/32 dev eth0
    }}
}}
"""

EVERYWHERE = """
ipset create foreign hash:ip
ipset add foreign 198.51.100.7
iptables-legacy -t nat -A POSTROUTING -s 198.51.100.0/24 -o eth0 -m comment --comment foreign-1 -j MASQUERADE
iptables-legacy -N FOREIGN
iptables-legacy -A FOREIGN -p tcp --dport 8080 -m comment --comment foreign-2 -j ACCEPT
iptables-legacy -I FORWARD -m comment --comment foreign-3 -j FOREIGN
iptables-legacy -A INPUT -m set --match-set foreign src -m comment --comment foreign-4 -j DROP
iptables-legacy -t raw -I PREROUTING -s 198.51.100.0/24 -m comment --comment foreign-5 -j DROP
iptables-legacy -t raw -A OUTPUT -d 198.51.100.0/24 -m comment --comment foreign-6 -j CT --notrack
iptables-legacy -t mangle -A FORWARD -d 198.51.100.0/24 -m comment --comment foreign-7 -j MARK --set-mark 7
ip route add 198.51.100.0/24 via 192.168.2.1 proto static
ip route add 198.51.100.0/24 via 192.168.2.1 proto static table 100
ip route add blackhole 198.51.101.0/24 proto static table 7700
ip rule add from 198.51.100.0/24 lookup 100 priority 7600
ip rule add from 198.51.100.0/24 lookup 100 priority 7700
ip neigh add 192.168.2.250 lladdr 02:00:00:00:00:fa dev eth0 nud permanent
ip netns add pp-foreign
ip link add foreign0 type veth peer name foreign1
ip link set foreign1 netns pp-foreign
ip link set foreign0 up
ip -n pp-foreign addr add 198.51.102.1/24 dev foreign1
ip -n pp-foreign link set foreign1 up
ip netns exec pp-foreign iptables-legacy -A FORWARD -m comment --comment foreign-8 -j DROP
ip netns add pp-empty
"""
IN_NAMESPACE = """
iptables-legacy -A FORWARD -m comment --comment foreign-10 -j DROP
iptables-legacy -I FORWARD -s 198.51.100.0/24 -m comment --comment foreign-11 -j DROP
iptables-legacy -I INPUT -s 198.51.100.0/24 -m comment --comment foreign-12 -j DROP
iptables-legacy -N FOREIGN
iptables-legacy -A FOREIGN -m comment --comment foreign-13 -j RETURN
iptables-legacy -t nat -A POSTROUTING -s 198.51.100.0/24 -m comment --comment foreign-14 -j MASQUERADE
ip route add blackhole 198.51.100.0/24 proto static
ip link add foreign2 type veth peer name foreign3
ip link set foreign2 up
"""
LOOK = """
iptables-legacy-save | grep -i foreign
ipset save foreign
ip route show table all | grep -E 'proto static|198.51'
ip rule | grep 198.51
ip neigh show nud permanent dev eth0
ip -o link show dev foreign0 2>/dev/null; ip -o link show dev foreign2 2>/dev/null
ip -o addr show eth0 | grep 192.168.9.9
cat /etc/keepalived/conf.d/foreign.conf 2>/dev/null
"""
INSIDE = r"""
for name in pp-foreign pp-empty; do
  echo "$name $(stat -L -c %i /run/netns/$name)"
  ip netns exec $name sh -c 'ip -4 -o addr; ip -o link; iptables-legacy-save' | sed -e 's/\[[0-9]*:[0-9]*\]//' -e '/^#/d'
done
"""


def look(lab: Lab, name: str, subnet: SubnetPlan) -> dict[str, tuple[str, ...]]:
    """All that is not ours on a machine."""
    machine = lab.machine(name)
    scripts = {"root": ["sh", "-c", LOOK], "namespaces": ["sh", "-c", INSIDE]}
    if name in lab.topology.node_names:
        scripts[subnet.id] = ["ip", "netns", "exec", namespace_of(subnet.id), "sh", "-c", LOOK]
    return {
        where: tuple(machine.run(script, check=False, timeout=30 * PATIENCE).stdout.splitlines())
        for where, script in scripts.items()
    }


@pytest.fixture(scope="module", autouse=True)
def _clean(lab_keeper: Keeper) -> Iterator[None]:
    """What these tests put into the machines goes with the lab."""
    yield
    lab_keeper.drop()


@pytest.fixture
def subnet(lab: Lab) -> SubnetPlan:
    """The one whose namespaces others have put something into."""
    return lab.topology.subnet_plans[0]


@contextlib.contextmanager
def untouched(lab: Lab, subnet: SubnetPlan, *names: str) -> Iterator[None]:
    """What is foreign on these machines (by default nodes and a host) is the same after the block."""
    places = names or (*lab.topology.node_names, "host1")
    before = {name: look(lab, name, subnet) for name in places}
    for name in places:
        count = sum("foreign" in line for lines in before[name].values() for line in lines)
        assert count > 10, f"nothing foreign on {name}"
    yield
    for name in places:
        assert difference(before[name], look(lab, name, subnet)) == [], name


@pytest.fixture
def furnished(lab: Lab, subnet: SubnetPlan) -> Lab:
    """The lab with foreign objects wherever we work, and time for the daemons to dislike them."""
    for name in (*lab.topology.node_names, "host1"):
        machine = lab.machine(name)
        if machine.run(["ip", "netns", "list"]).stdout.count("pp-foreign"):
            continue
        machine.run(["sh", "-ec", EVERYWHERE], timeout=30 * PATIENCE)
        if name in lab.topology.node_names:
            machine.run(["ip", "netns", "exec", namespace_of(subnet.id), "sh", "-ec", IN_NAMESPACE])
            text = KEEPALIVED % machine.spec.ip
            machine.run(["sh", "-c", "cat >/etc/keepalived/conf.d/foreign.conf; pkill -o -HUP keepalived"], input=text)
            wait_until(
                lambda machine=machine: FOREIGN_VIP in machine.run(["ip", "-o", "addr"]).stdout,  # type: ignore[misc]
                10.0,
                "the foreign VRRP instance to be master",
            )
    wait_until(lambda: not unsettled(lab, subnet), 10.0, lambda: unsettled(lab, subnet))
    # The daemons have seen it all and have put their own jumps first again.
    for node in lab.topology.node_names:
        wait_until(lambda node=node: is_jump_first(lab, node, subnet), 5.0, "our jump to be the first rule")  # type: ignore[misc]
    return lab


def is_jump_first(lab: Lab, node: str, subnet: SubnetPlan) -> bool:
    """Whether a foreign rule before our jump was passed over."""
    words = ["ip", "netns", "exec", namespace_of(subnet.id), "iptables-legacy", "-S", "FORWARD"]
    return "PP-FORWARD" in lab.machine(node).run(words).stdout.splitlines()[1]


def foreign_transitions(lab: Lab, node: str) -> int:
    """How often keepalived changed the foreign instance's state."""
    return lab.machine(node).log("keepalived").count("(foreign) Entering")


def test_a_subnet_comes_and_goes(furnished: Lab, subnet: SubnetPlan) -> None:
    """The other VRRP instance does not even notice the reloads."""
    lab = furnished
    before = {node: foreign_transitions(lab, node) for node in lab.topology.node_names}
    assert all(before.values())
    with untouched(lab, subnet), spare_cards(lab, "spare0"):
        with another_subnet(lab, "guest", enis=("spare0", "spare0")) as guest:
            wait_until(lambda: not unsettled(lab, guest), 15.0, lambda: unsettled(lab, guest))
        wait_gone(lab, "guest")
    assert {node: foreign_transitions(lab, node) for node in lab.topology.node_names} == before


def test_daemons_restart(furnished: Lab, subnet: SubnetPlan) -> None:
    """A daemon without memory removes what documents do not ask for, if it is ours: these are not."""
    lab = furnished
    with untouched(lab, subnet):
        for name in (*lab.topology.node_names, "host1"):
            kill_daemon(lab, name)
            lab.fault("power-on", name)
        for each in lab.topology.subnet_plans:
            wait_until(lambda each=each: not unsettled(lab, each), 15.0, lambda each=each: unsettled(lab, each))  # type: ignore[misc]


def test_tables_are_repaired_around_it(furnished: Lab, subnet: SubnetPlan) -> None:
    """Our part of a table is written anew, theirs is carried over."""
    lab = furnished
    with untouched(lab, subnet):
        for node in lab.topology.node_names:
            for table, chain in (("nat", "PP-POSTROUTING"), ("filter", "PP-FORWARD")):
                words = ["ip", "netns", "exec", namespace_of(subnet.id), "iptables-legacy", "-t", table]
                lab.machine(node).run([*words, "-F", chain])
                wait_until(
                    lambda node=node, words=words, chain=chain: (
                        "-A " + chain  # type: ignore[misc]
                        in lab.machine(node).run([*words, "-S", chain]).stdout
                    ),
                    4.0,
                    f"{chain} of {table} to be filled again",
                )
            lab.machine(node).run(["iptables-legacy", "-t", "raw", "-F", "PP-PREROUTING"])
            wait_until(
                lambda node=node: "pp-peers" in lab.machine(node).run(["iptables-legacy", "-t", "raw", "-S"]).stdout,  # type: ignore[misc]
                4.0,
                "PP-PREROUTING to be filled again",
            )


def test_the_master_changes(furnished: Lab, subnet: SubnetPlan) -> None:
    """Planned, and then because the other node is lost."""
    lab = furnished
    with untouched(lab, subnet):
        for _ in range(2):
            lab.proxypool("pair", "switchover", subnet.id, PAIR, timeout=60 * PATIENCE)
            wait_until(lambda: not unsettled(lab, subnet), 10.0, lambda: unsettled(lab, subnet))
    master = master_of(lab, subnet)
    survivor = other_of(subnet, master)
    with untouched(lab, subnet, survivor, "host1"):
        lab.fault("power-off", master)
        wait_until(lambda: masters(lab, subnet) == {survivor}, 5.0, f"{survivor} to take over")
        wait_until(lambda: gate(lab, survivor, subnet), 5.0, "its gate to be open")


def test_a_removed_subnet_can_be_added_again_at_once(lab: Lab) -> None:
    """Nothing of it is held on to: neither the card, nor the tunnel's key, nor the namespace."""
    with spare_cards(lab, "spare0"):
        for _ in range(3):
            with another_subnet(lab, "again", enis=("spare0", "spare0")) as again:
                wait_subnet_settled(lab, again, 15.0)
        wait_gone(lab, "again")
        for node in lab.topology.node_names:
            shown = lab.machine(node).run(["ip", "-br", "link"]).stdout
            assert "spare0@" in shown, "the card was not given back under its name"
