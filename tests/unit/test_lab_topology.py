"""What a lab consists of, and the text of its files: pure."""

import itertools
import tomllib

import pytest

from proxypool.core.access import AccessRole
from proxypool.core.config import ZooKeeperConfig
from proxypool.core.config_file import parse
from proxypool.core.errors import ProxypoolError
from proxypool.lab import configs, network
from proxypool.lab.errors import LabError
from proxypool.lab.topology import Kind, Topology, Tunnel, fabric_port, mac_of, number_of

SMALL = Topology(nodes=2, hosts=1, subnets=1)
LARGE = Topology(nodes=3, hosts=4, subnets=120, zk=3)
WIDE = Topology(nodes=26, hosts=3, subnets=200, pairs=13, pods=4)


def test_names_and_addresses_of_the_smallest_lab() -> None:
    assert {name: [card.address for card in spec.interfaces] for name, spec in SMALL.machines.items()} == {
        "zk1": ["192.168.2.1/16"],
        "node-a": ["192.168.4.11/16", None],
        "node-b": ["192.168.4.12/16", None],
        "host1": ["192.168.80.1/16", "10.244.1.1/32"],
        "pod1": ["10.244.1.2/32"],
        "db1": ["172.16.101.4/24"],
    }
    (subnet,) = SMALL.subnet_plans
    assert (subnet.id, subnet.tenant, subnet.cidr, subnet.key) == ("s1", "t1", "172.16.101.0/24", 101)
    assert (subnet.havip, subnet.database_ip) == ("192.168.4.100", "172.16.101.4")
    assert [(m.node, m.eni, m.address) for m in subnet.members] == [
        ("node-a", "eni1", "172.16.101.11/24"),
        ("node-b", "eni1", "172.16.101.12/24"),
    ]


def test_addresses_of_many_subnets() -> None:
    plans = LARGE.subnet_plans
    assert (plans[49].havip, plans[50].havip) == ("192.168.4.149", "192.168.5.1")
    assert (plans[99].cidr, plans[100].cidr) == ("172.16.200.0/24", "172.17.1.0/24")


@pytest.mark.parametrize("topology", [LARGE, WIDE, Topology(controllers=3, secure=True)])
def test_nothing_is_there_twice(topology: Topology) -> None:
    """Addresses, MACs, keys, the fabric's ports and the cards of a machine."""
    cards = [(spec.name, card) for spec in topology.machines.values() for card in spec.interfaces]
    # A host has the same gateway address on the cables to all its instances.
    addresses = [card.address for name, card in cards if card.address and not (name.startswith("host") and card.facing)]
    addresses += [f"{pair.havip}/16" for plan in topology.subnet_plans for pair in plan.pairs]
    addresses += [member.address for plan in topology.subnet_plans for member in plan.all_members]
    macs = [card.mac for _, card in cards]
    ports = [fabric_port(name, card.name) for name, card in cards if card.bridge]
    for things in (addresses, macs, ports, cards, [plan.key for plan in topology.subnet_plans]):
        assert len(things) == len(set(things))
    assert max(len(port) for port in [*ports, *(card.name for _, card in cards)]) <= 15


def test_macs_stay_the_same_and_are_unicast() -> None:
    assert mac_of("node-a", "eth0") == mac_of("node-a", "eth0")
    assert mac_of("node-a", "eth0").startswith("02:")


def test_pairs_are_spread_over_all_nodes() -> None:
    members = [member.node for plan in LARGE.subnet_plans for member in plan.members]
    assert {members.count(node) for node in LARGE.node_names} == {80}
    assert all(plan.members[0].node != plan.members[1].node for plan in LARGE.subnet_plans)


def test_pairs_of_a_subnet_share_no_node() -> None:
    """Nor an ENI: a node has one per subnet. The first pair is where it is without the others."""
    topology = Topology(nodes=6, subnets=4, pairs=3)
    for plan, alone in zip(topology.subnet_plans, Topology(nodes=6, subnets=4).subnet_plans, strict=True):
        assert [pair.id for pair in plan.pairs] == ["p1", "p2", "p3"]
        assert {member.node for member in plan.all_members} == set(topology.node_names)
        assert {member.eni for member in plan.all_members} == {f"eni{plan.number}"}
        assert (plan.havip, plan.members) == (alone.havip, alone.members)
    first = topology.subnet_plans[0]
    assert [pair.havip for pair in first.pairs] == ["192.168.4.100", "192.168.12.1", "192.168.13.1"]
    assert [(m.node, m.address) for m in first.pairs[2].members] == [
        ("node-e", "172.16.101.15/24"),
        ("node-f", "172.16.101.16/24"),
    ]
    assert [card.name for card in topology.machines["node-f"].interfaces] == ["eth0", "eni1", "eni2", "eni3", "eni4"]


def test_a_subnet_through_one_pair() -> None:
    """Whatever looks at a subnet's first pair can look at another one."""
    plan = Topology(nodes=4, pairs=2).subnet_plans[0]
    assert plan.through("p2").pairs == plan.pairs[1:]
    assert (plan.through("p2").havip, plan.through("p1").havip) == ("192.168.12.1", "192.168.4.100")
    with pytest.raises(LabError, match="no pair 'p3'; it has p1, p2"):
        plan.through("p3")


def test_the_pair_with_an_eni_s_address() -> None:
    plan = Topology(nodes=4, pairs=2).subnet_plans[0]
    assert [plan.pair_with(f"172.16.101.{last}") for last in (11, 12, 13, 14)] == ["p1", "p1", "p2", "p2"]
    with pytest.raises(LabError, match=r"172\.16\.101\.1$"):
        plan.pair_with("172.16.101.1")


def test_instances_of_a_host() -> None:
    topology = Topology(hosts=2, pods=3)
    assert [(pod.name, pod.host, pod.number, pod.address) for pod in topology.instances] == [
        ("pod1", 1, 1, "10.244.1.2"),
        ("pod1-2", 1, 2, "10.244.1.3"),
        ("pod1-3", 1, 3, "10.244.1.4"),
        ("pod2", 2, 4, "10.244.2.2"),
        ("pod2-2", 2, 5, "10.244.2.3"),
        ("pod2-3", 2, 6, "10.244.2.4"),
    ]
    assert [topology.machines[pod.name].ip for pod in topology.instances] == [pod.address for pod in topology.instances]
    assert network.configure(topology.machines["pod1-2"].interfaces) == [
        "addr replace 10.244.1.3 peer 10.244.1.1/32 dev eth0",
        "link set eth0 up",
        "route replace default via 10.244.1.1",
    ]
    assert network.configure(topology.machines["host1"].interfaces[2:3]) == [
        "addr replace 10.244.1.1 peer 10.244.1.3/32 dev pod1-2",
        "link set pod1-2 up",
    ]


def test_every_pod_reaches_every_database() -> None:
    paths = {(pod, plan.id) for pod, plan in LARGE.paths()}
    assert paths == set(itertools.product(["pod1", "pod2", "pod3", "pod4"], [plan.id for plan in LARGE.subnet_plans]))
    assert Topology(subnets=2, pods=2, hosts=2).attachments() == {
        "host1": [("10.244.1.2", "s1"), ("10.244.1.2", "s2"), ("10.244.1.3", "s1"), ("10.244.1.3", "s2")],
        "host2": [("10.244.2.2", "s1"), ("10.244.2.2", "s2"), ("10.244.2.3", "s1"), ("10.244.2.3", "s2")],
    }
    assert Topology(subnets=0).attachments() == {}


def test_overlap_gives_all_customers_the_same_addresses_and_each_instance_one_of_them() -> None:
    topology = Topology(hosts=3, subnets=2, overlap=True)
    assert {plan.cidr for plan in topology.subnet_plans} == {"172.16.101.0/24"}
    assert {plan.database_ip for plan in topology.subnet_plans} == {"172.16.101.4"}
    assert [(pod, plan.id) for pod, plan in topology.paths()] == [("pod1", "s1"), ("pod2", "s2"), ("pod3", "s1")]
    shared = Topology(hosts=2, subnets=3, pods=2, overlap=True)
    assert [(pod, plan.id) for pod, plan in shared.paths()] == [
        ("pod1", "s1"),
        ("pod1-2", "s2"),
        ("pod2", "s3"),
        ("pod2-2", "s1"),
    ]
    assert shared.attachments()["host2"] == [("10.244.2.2", "s3"), ("10.244.2.3", "s1")]


def test_cables_have_two_ends() -> None:
    """A card with a peer is that peer's peer, and faces its address."""
    machines = WIDE.machines
    for spec in machines.values():
        for card in spec.interfaces:
            assert bool(card.bridge) != bool(card.peer)
            if card.peer:
                far = {c.name: c for c in machines[card.peer[0]].interfaces}[card.peer[1]]
                assert far.peer == (spec.name, card.name)
                assert far.address == f"{card.facing}/32"


def test_topology_survives_json() -> None:
    for topology in (SMALL, LARGE, WIDE, Topology(name="x", tunnel=Tunnel.GRE, overlap=True, attach=False)):
        assert Topology.from_json(topology.to_json()) == topology


def test_difference_names_what_changed() -> None:
    assert SMALL.difference(SMALL) == ""
    assert SMALL.difference(Topology(nodes=3, tunnel=Tunnel.GRE)) == "nodes 2 → 3, tunnel vxlan → gre"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"nodes": 1}, "2 to 26 nodes, not 1"),
        ({"nodes": 27}, "not 27"),
        ({"hosts": -1}, "hosts"),
        ({"subnets": 201}, "0 to 200 subnets"),
        ({"zk": 2}, "1 or 3 ZooKeeper servers"),
        ({"pods": 0}, "1 to 253 instances per host"),
        ({"pairs": 0}, "1 to 13 pairs per subnet"),
        ({"nodes": 5, "pairs": 3}, "3 pairs per subnet need 6 nodes, not 5: a node is in one pair"),
        ({"subnets": 2, "overlap": True, "attach_all": True}, "attached to one of them"),
        ({"name": "Lab"}, "lower-case"),
        ({"name": "../x"}, "lower-case"),
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(LabError, match=message) as caught:
        Topology(**wrong)  # type: ignore[arg-type]
    assert isinstance(caught.value, ProxypoolError)


def test_pool_document() -> None:
    document = SMALL.pool_document()
    assert document["tunnel"] == "vxlan"
    assert document["subnets"] == [
        {
            "id": "s1",
            "tenant": "t1",
            "cidrs": ["172.16.101.0/24"],
            "key": 101,
            "pairs": [
                {
                    "id": "p1",
                    "havip": "192.168.4.100",
                    "members": [
                        {"node": "node-a", "eni": "eni1", "address": "172.16.101.11/24"},
                        {"node": "node-b", "eni": "eni1", "address": "172.16.101.12/24"},
                    ],
                }
            ],
        }
    ]


def test_pairs_with_egress_addresses() -> None:
    """In the customer's subnet, and of nobody else there: nodes and servers have smaller ones, whatever the lab's size."""
    topology = Topology(nodes=4, subnets=2, pairs=2, egress=True)
    found = [pair for subnet in topology.pool_document()["subnets"] for pair in subnet["pairs"]]
    assert [pair["egress_address"] for pair in found] == [
        *("172.16.101.201", "172.16.101.202"),
        *("172.16.102.201", "172.16.102.202"),
    ]
    assert topology.subnet_plans[0].pair_with("172.16.101.202") == "p2"
    assert Topology.from_json(topology.to_json()) == topology
    assert all("egress_address" not in pair for pair in Topology().pool_document()["subnets"][0]["pairs"])
    largest = Topology(nodes=26, subnets=1, pairs=13, egress=True).subnet_plans[0]
    own = {member.address.partition("/")[0] for member in largest.all_members} | {largest.database_ip}
    assert not own & {pair.egress_address for pair in largest.pairs}


def test_pool_document_with_some_of_the_pairs() -> None:
    """Subnets of which no pair is wanted are left out."""
    topology = Topology(nodes=4, subnets=2, pairs=2)
    document = topology.pool_document(lambda subnet, pair: subnet.id == "s2" and pair.id == "p2")
    assert [(entry["id"], [pair["id"] for pair in entry["pairs"]]) for entry in document["subnets"]] == [("s2", ["p2"])]
    assert [len(entry["pairs"]) for entry in topology.pool_document()["subnets"]] == [2, 2]


def test_node_configuration() -> None:
    text = configs.files(LARGE, LARGE.machines["node-b"])["/etc/proxypool/proxypool.toml"]
    assert tomllib.loads(text) == {
        "pool": "lab",
        "zookeeper": {
            "hosts": ["192.168.2.1:2181", "192.168.2.2:2181", "192.168.2.3:2181"],
            "session_timeout_s": 4.0,
            "server_tick_s": 0.5,
        },
        "node": {"name": "node-b", "underlay": "eth0", "detection": "balanced", "labels": {"zone": "b"}},
        "metrics": {"listen": "0.0.0.0:9477"},
    }


@pytest.mark.parametrize(("overlap", "attach_all"), [(False, False), (True, False), (False, True)])
def test_host_configuration(*, overlap: bool, attach_all: bool) -> None:
    """A host serves every subnet; what an instance may reach is said by attaching it."""
    topology = Topology(hosts=2, subnets=2, overlap=overlap, attach_all=attach_all)
    text = configs.files(topology, topology.machines["host2"])["/etc/proxypool/proxypool.toml"]
    assert tomllib.loads(text)["host"] == {
        "name": "host2",
        "underlay": "eth0",
        "instance_cidrs": ["10.244.2.0/24"],
        "subnets": ["*"],
        **({"attach_all": True} if attach_all else {}),
    }


CLOSED = Topology(nodes=2, hosts=1, subnets=1, controllers=1, secure=True)


@pytest.mark.parametrize(
    ("machine", "user"), [("node-a", "node"), ("host1", "host"), ("ctl1", "controller"), ("ops", "admin")]
)
def test_configuration_of_a_closed_lab(machine: str, user: str) -> None:
    """Each machine says who it is, and speaks TLS. The file itself has no secret."""
    text = configs.files(CLOSED, CLOSED.machines[machine])["/etc/proxypool/proxypool.toml"]
    assert parse(text, what=machine).zookeeper == ZooKeeperConfig(
        hosts=("192.168.2.1:2181",),
        session_timeout_s=4.0,
        server_tick_s=0.5,
        user=AccessRole(user),
        secret_file="/etc/proxypool/zookeeper.secret",  # noqa: S106 - where it is
        tls_ca="/etc/proxypool/zookeeper-ca.pem",
        tls_cert="/etc/proxypool/zookeeper.crt",
        tls_key="/etc/proxypool/zookeeper.key",
    )


def test_zookeeper_of_a_closed_lab_takes_nothing_but_mutual_tls_from_the_network() -> None:
    lines = configs.files(CLOSED, CLOSED.machines["zk1"])["/etc/zookeeper/conf/zoo.cfg"].splitlines()
    values = dict(line.partition("=")[::2] for line in lines)
    assert (values["clientPortAddress"], values["secureClientPortAddress"]) == ("127.0.0.1", "192.168.2.1")
    assert values["ssl.clientAuth"] == "need"


def test_who_may_change_the_pool() -> None:
    assert (SMALL.operator, CLOSED.operator, "ops" in SMALL.machines) == ("node-a", "ops", False)


def test_zookeeper_ensemble() -> None:
    files = configs.files(LARGE, LARGE.machines["zk2"])
    assert "server.3=192.168.2.3:2888:3888" in files["/etc/zookeeper/conf/zoo.cfg"]
    assert files["/var/lib/zookeeper/myid"] == "2\n"
    assert "server." not in configs.files(SMALL, SMALL.machines["zk1"])["/etc/zookeeper/conf/zoo.cfg"]


def test_files_lie_on_the_machine_s_own_disk() -> None:
    paths = {path for spec in LARGE.machines.values() for path in configs.files(LARGE, spec)}
    assert all(path.startswith(("/etc/", "/var/lib/")) for path in paths)


def test_an_eni_is_up_without_an_address() -> None:
    node = SMALL.machines["node-a"]
    assert node.kind is Kind.NODE
    assert network.configure(node.interfaces) == [
        "addr replace 192.168.4.11/16 brd + dev eth0",
        "link set eth0 up",
        "link set eni1 up",
    ]


def test_number_of_a_machine() -> None:
    assert (number_of("host12"), number_of("zk1"), number_of("pod12-3")) == (12, 1, 12)
