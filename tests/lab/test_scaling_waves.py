"""Many pairs go at a time, and still no connection notices."""

from __future__ import annotations

import json
import os
import time

import pytest

from proxypool.lab.configs import STABLE_S
from proxypool.lab.lab import Lab, remove
from proxypool.lab.topology import Topology
from tests.lab.observe import PATIENCE, tunnel_kind, wait_until
from tests.lab.scaling import is_still, left_over, long_lived, wait_size

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(600)]

MOST = 6
"""With two for what little load there is, four are too many."""


def test_all_that_is_too_much_drains_together() -> None:
    """All 500 connections live, however long that takes, and nothing is left of what went."""
    topology = Topology(
        f"waves-{os.getpid()}", nodes=2 * MOST, hosts=1, subnets=1, pairs=MOST, controllers=1, tunnel=tunnel_kind()
    )
    subnet = topology.subnet_plans[0]
    try:
        with Lab.up(topology, timeout_s=60 * PATIENCE) as lab:
            lab.proxypool("scale", "set", subnet.id, "--min-pairs", str(MOST), timeout=30 * PATIENCE)
            wait_size(lab, lambda size: size["active"] == MOST and is_still(size), 60.0, f"{MOST} pairs")
            with long_lived(lab, subnet):
                lab.proxypool("scale", "set", subnet.id, "--min-pairs", "1", timeout=30 * PATIENCE)
                seen = wait_size(lab, lambda size: size["active"] < MOST, 4 * STABLE_S, "pairs that drain")
                assert (seen["active"], seen["draining"]) == (2, MOST - 2), seen
                time.sleep(STABLE_S)
                seen = wait_size(lab, bool, 1.0, "a status")
                assert {one["step"] for one in seen["actions"]} == {"wait"}, "they wait for their connections"
            wait_size(lab, lambda size: size["active"] == 1 and is_still(size), 10 * STABLE_S, "one pair")
            wait_until(lambda: not left_over(lab, subnet), 20.0, lambda: f"nothing left over: {left_over(lab, subnet)}")
            records = json.loads(lab.proxypool("scale", "history", "-o", "json", timeout=30 * PATIENCE).stdout)["items"]
            assert all(not record["error"] for record in records), records
    finally:
        remove(topology.name)
