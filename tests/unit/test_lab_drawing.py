"""The demo's drawing."""

from proxypool.lab.drawing import draw
from proxypool.lab.topology import Topology

EXPECTED = """\
    pod1     10.244.1.2               a function's instance
      │
    host1    192.168.80.1             a function host
      ║
      ║ tunnel: vxlan, key 101
      ▼
    HaVip    192.168.4.100            held by node-b
      ├─────────────────────────────────┐
    node-a   192.168.4.11             node-b   192.168.4.12
             stands by                         has the HaVip
    eni1     172.16.101.11            eni1     172.16.101.12
      │                                 │
    ──┴─ 172.16.101.0/24 ───────────────┴──  customer's subnet s1
      │
    db1      172.16.101.4             the customer's Redis"""


def test_drawing() -> None:
    topology = Topology()
    assert draw(topology, topology.subnet_plans[0], "node-b") == EXPECTED
    assert "held by nobody" in draw(topology, topology.subnet_plans[0], None)


def test_an_egress_address_is_drawn() -> None:
    topology = Topology(egress=True)
    line = "    egress   172.16.101.201           the source that servers see"
    assert line in draw(topology, topology.subnet_plans[0], "node-b").splitlines()
