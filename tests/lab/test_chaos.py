"""A short run of chaos with a fixed seed, so that it works when it is needed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxypool.lab.lab import Lab, remove
from tests.chaos import runner
from tests.chaos.checker import check, timeline
from tests.chaos.history import History
from tests.chaos.schedule import make
from tests.lab.observe import wait_settled

pytestmark = [pytest.mark.root, pytest.mark.faults]

SEED, DURATION_S = "make test/49", 20.0


@pytest.mark.long
def test_a_short_schedule_violates_nothing(tmp_path: Path) -> None:
    """And its record, read again, says the same."""
    topology = runner.topology_of(f"chaos-{os.getpid()}")
    try:
        lab = Lab.up(topology)
        wait_settled(lab, 30.0)
        history = runner.run(lab, SEED, make(SEED, topology, DURATION_S), DURATION_S, print)
    finally:
        remove(topology.name)
    told = [line for violation in check(history) for line in timeline(history, violation)]
    assert not told, "\n".join(told)
    assert len(history.faults) > 5
    assert sum(probes.sent for probes in history.probes) > 1000
    assert {change.node for change in history.gates}
    assert {span.address for span in history.holders} == {pair.havip for pair in history.pairs}
    assert history.said
    history.write(tmp_path / "history.json")
    assert check(History.read(tmp_path / "history.json")) == []
