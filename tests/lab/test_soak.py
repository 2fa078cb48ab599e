"""A short soak, so that it works when it is needed. The long one is `make soak`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from proxypool.lab.lab import Lab, remove
from tests.lab.observe import wait_settled
from tests.soak import runner

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(900)]


def test_two_cycles_leave_nothing_behind(tmp_path: Path) -> None:
    """Objects of the kernel, files and znodes are as many after the second cycle as after the first."""
    topology = runner.topology_of(f"soak-{os.getpid()}")
    try:
        lab = Lab.up(topology)
        wait_settled(lab, 30.0)
        run = runner.run(lab, "make test/1", 2.0 * runner.CYCLE_S, print)
    finally:
        remove(topology.name)
    assert len(run.samples) > 1
    assert run.faults > 3
    assert sum(run.acts.values()) > 3
    first, last = run.samples[0][1], run.samples[-1][1]
    counted = [name for name in last if name.endswith((" namespaces", " rules", " sets", " files", " znodes"))]
    assert {name.partition(" ")[0] for name in counted} >= {*topology.node_names, "host1", "pool"}
    assert {name: last[name] for name in counted} == {name: first[name] for name in counted}
    assert any(name.startswith("node-a daemon") and name.endswith(" rss_kib") for name in last)
    run.write(tmp_path / "soak.json")
    assert len(json.loads((tmp_path / "soak.json").read_text())["samples"]) == len(run.samples)
