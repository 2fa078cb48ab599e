"""Program a host's kind of objects in this network namespace. Run by test_confined.py."""

from __future__ import annotations

import sys
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from proxypool.adapters.netlink import Home
from proxypool.core.addressing import tunnel_device_of
from proxypool.core.node_scene import NodeFacts, root_scene
from proxypool.core.planner import plan
from proxypool.core.scene import GUARD_TABLE, Address, AnyObject, PolicyRule, Route, RouteKind, Scene, Sysctl
from proxypool.core.tunnels import reach, tunnel_of
from proxypool.daemons.executor import execute, observe
from tests.unit import builders as make

LOCAL, OWN, HAVIP = IPv4Address("127.0.0.1"), IPv4Address("100.64.0.1"), IPv4Address("192.168.4.100")
CIDR = IPv4Network("172.16.101.0/24")


def scene() -> Scene:
    """A set, a table of iptables, a tunnel and what belongs to it, and a sysctl that is right by itself."""
    device = tunnel_device_of("s1")
    objects: list[AnyObject] = [
        *root_scene(NodeFacts("n1", LOCAL, 1500), make.VXLAN, make.snapshot(hosts=[make.host()])).objects.values(),
        tunnel_of(make.VXLAN, make.subnet("s1"), local=LOCAL, own=OWN, underlay_mtu=1500),
        Address(device, IPv4Interface(OWN)),
        Route(CIDR, RouteKind.UNREACHABLE, table=GUARD_TABLE, metric=1000),
        Route(CIDR, device=device, gateway=HAVIP, is_onlink=True, table=GUARD_TABLE),
        PolicyRule(7700, target=GUARD_TABLE, source=IPv4Network("10.244.1.0/24")),
        Sysctl(f"ipv4/conf/{device}/forwarding", "1"),
        *reach(make.VXLAN, device, HAVIP, HAVIP),
    ]
    return Scene.of(None, objects)


def main() -> int:
    """Apply the whole plan, once: nothing of it may fail."""
    home, desired = Home(), scene()
    for operation in plan(desired, observe(home, desired)):
        execute(home, None, operation)
    return 1 if plan(desired, observe(home, desired)) else 0


if __name__ == "__main__":
    sys.exit(main())
