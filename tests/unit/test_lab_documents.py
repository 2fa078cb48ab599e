"""What the lab prints as documents, without a lab."""

from __future__ import annotations

import pytest
from msgspec import ValidationError, convert

from proxypool.cli.output import single
from proxypool.core.detection import Profile
from proxypool.lab.application import Seen
from proxypool.lab.documents import LabDemo, LabMachine, LabStatus, Service
from proxypool.lab.report import table
from proxypool.lab.topology import Topology
from tests.unit.documents import printed, require_valid

TOPOLOGY = Topology("demo", detection=Profile.BALANCED)
NODE = LabMachine(
    name="node-a",
    kind="node",
    state="on",
    pid=12,
    addresses={"eth0": "192.168.4.10/16", "eni1": None},
    services=(Service(name="daemon", running=True), Service(name="keepalived", running=False)),
    cut=("eni1",),
)
ZOOKEEPER = LabMachine(name="zk1", kind="zookeeper", state="off", pid=None, addresses={}, services=(), cut=(), mode="")
TOUR = {
    "topology": TOPOLOGY.to_json(),
    "machines": {spec.name: spec.ip for spec in TOPOLOGY.machines.values()},
    "up_s": 7.5,
    "traffic": {"set": "OK", "get": "hello"},
    "status": {"before": {"kind": "PoolStatus"}, "after_power_off": None},
    "failover": {
        "powered_off": "node-a",
        "new_master": "node-b",
        "blackout_ms": 0.0,
        "first_answer_after_ms": 165.2,
        "requests": {"sent": 900, "received": 800, "lost": 100},
        "prober_stall_ms": 0.1,
        "application": Seen().to_json(),
    },
    "repair": {"powered_on": "node-a", "blackout_ms": 0, "master": "node-b"},
    "duration_s": 31.0,
}


def test_the_status_of_a_lab_is_as_its_schema_says_and_a_table_for_people() -> None:
    status = LabStatus(name="demo", topology=TOPOLOGY, machines=(NODE, ZOOKEEPER))
    document = printed(single("LabStatus", status))
    require_valid(document)
    assert document["topology"]["detection"] == "balanced"
    assert ["mode" in machine for machine in document["machines"]] == [False, True]
    assert table(status).splitlines()[1].split() == [
        *("node-a", "node", "on", "192.168.4.10/16", "daemon:up", "keepalived:down", "eni1"),
    ]


def test_what_the_demo_has_seen_is_as_its_schema_says() -> None:
    require_valid(printed(single("LabDemo", convert(TOUR, LabDemo))))


def test_a_tour_that_left_something_out_is_no_document() -> None:
    with pytest.raises(ValidationError, match="repair"):
        convert({key: value for key, value in TOUR.items() if key != "repair"}, LabDemo)
