"""Members say that they have seen a host when it gets answers, and not before."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxypool.core.addressing import namespace_of
from proxypool.lab.configs import POOL
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.topology import PAIR, ZOOKEEPER_PORT
from tests.lab.observe import python, wait_until

HOST, TUNNEL_ADDRESS, UNDERLAY = "visitor", "100.127.255.254", "192.168.80.250"
PROGRAM = f"""
import json, sys, time
from ipaddress import IPv4Address
from proxypool.adapters.zookeeper import PoolSession
from proxypool.adapters.zookeeper.layout import host_suffix
from proxypool.adapters.zookeeper.subnet_hosts import join_subnet, leave_subnet, wait_until_seen
from proxypool.adapters.zookeeper.writing import Create, Delete, write_all
from proxypool.core.config import ZooKeeperConfig
from proxypool.core.documents import encode
from proxypool.core.model import HostSpec

server, subnet, steps = sys.argv[1], sys.argv[2], sys.argv[3:]
session = PoolSession(ZooKeeperConfig(hosts=(server,), session_timeout_s=10.0), "{POOL}")
session.connect(10.0)
path = session.layout.path(host_suffix("{HOST}"))
spec = HostSpec(id="{HOST}", underlay=IPv4Address("{UNDERLAY}"), tunnel_address=IPv4Address("{TUNNEL_ADDRESS}"))
found = {{}}
for step in steps:
    if step == "register":
        write_all(session, [Create(path, encode(spec))])
    elif step == "join":
        zxid = join_subnet(session, "{HOST}", subnet)
    elif step == "seen":
        began = time.monotonic()
        found["seen"] = wait_until_seen(session, subnet, ("{PAIR}",), zxid, 10.0)
        found["after_s"] = time.monotonic() - began
    elif step == "seen soon":
        found["seen soon"] = wait_until_seen(session, subnet, ("{PAIR}",), zxid, 1.0)
    elif step == "leave":
        leave_subnet(session, "{HOST}", subnet)
        write_all(session, [Delete(path)])
session.stop(close_session=True)
print(json.dumps(found))
"""

pytestmark = pytest.mark.root


def do(lab: Lab, subnet: SubnetPlan, *steps: str) -> Any:
    """As a host agent would."""
    server = f"{lab.topology.zookeeper_ips[0]}:{ZOOKEEPER_PORT}"
    return json.loads(python(lab, "zk1", PROGRAM, server, subnet.id, *steps))


def neighbours(lab: Lab, node: str, subnet: SubnetPlan) -> str:
    command = ["ip", "-n", namespace_of(subnet.id), "neigh", "show", "nud", "permanent"]
    return lab.machine(node).run(command).stdout


def peers(lab: Lab, node: str) -> str:
    return lab.machine(node).run(["ipset", "list", "pp-peers"]).stdout


def is_programmed(lab: Lab, node: str, subnet: SubnetPlan) -> bool:
    return f"{TUNNEL_ADDRESS} " in neighbours(lab, node, subnet) and UNDERLAY in peers(lab, node).split()


def test_a_host_that_was_seen_is_programmed_on_both_nodes(lab: Lab) -> None:
    subnet = lab.topology.subnet_plans[0]
    try:
        said = do(lab, subnet, "register", "join", "seen")
        assert said["seen"]
        for member in subnet.members:
            assert is_programmed(lab, member.node, subnet)
    finally:
        do(lab, subnet, "leave")
    for member in subnet.members:
        wait_until(lambda node=member.node: not is_programmed(lab, node, subnet), 5.0, "it to be gone again")  # type: ignore[misc]


def test_a_host_whose_document_is_not_there_is_not_seen_until_it_is(lab: Lab) -> None:
    """The list and the documents are read apart: being in one of them is not enough."""
    subnet = lab.topology.subnet_plans[0]
    try:
        said = do(lab, subnet, "join", "seen soon", "register", "seen")
        assert not said["seen soon"]
        assert said["seen"]
        for member in subnet.members:
            assert is_programmed(lab, member.node, subnet)
    finally:
        do(lab, subnet, "leave")
