"""Program a host in this network namespace. Run by test_confined.py."""

from __future__ import annotations

import sys
from dataclasses import replace
from ipaddress import IPv4Address

from proxypool.adapters.netlink import Home
from proxypool.core.planner import plan
from proxypool.core.scene import Scene
from proxypool.daemons.executor import KernelDriver, batches
from tests.unit import builders as make


def scene() -> Scene:
    """Of a host that uses one subnet with two pairs: a set, tables, a tunnel and all that belongs to it."""
    facts = replace(make.host_facts(), underlay=IPv4Address("127.0.0.1"))
    pairs = [make.pair(), make.pair("p2", havip="192.168.4.101")]
    return make.host_scene_of(make.snapshot(pairs=pairs), [("s1",)], facts=facts, spec=make.VXLAN)


def main() -> int:
    """Apply the whole plan, once: nothing of it may fail."""
    kernel, desired = KernelDriver(Home()), scene()
    for batch in batches(plan(desired, kernel.observe(desired))):
        for error in kernel.execute(None, batch):
            if error is not None:
                raise error
    return 1 if plan(desired, kernel.observe(desired)) else 0


if __name__ == "__main__":
    sys.exit(main())
