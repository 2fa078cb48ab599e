"""The lab that most of these tests share. A test may break whatever it likes: everything is healed after it."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

import pytest

from proxypool.lab.faults import Fault
from proxypool.lab.lab import Lab, remove
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.preflight import choose_detection
from proxypool.lab.report import describe
from proxypool.lab.topology import Kind, Topology
from tests.lab.instances import restore_attachments, wait_shared
from tests.lab.observe import IN_GUEST, PATIENCE, EniWatch, tunnel_kind, wait_settled

LOG_LINES_SHOWN = 60
LOOK_AT_HOST = """
ip rule; ip route show table all proto 177; ipset save pp-attached
conntrack -L -p udp 2>/dev/null | grep -v ASSURED | tail -n 60
"""
REPORT = pytest.StashKey[pytest.TestReport]()


@dataclass
class Keeper:
    """A lab that is made when it is first asked for, and made anew when a test left it beyond repair."""

    name: str
    hosts: int = 1 if IN_GUEST else 2
    subnets: int = 2
    overlap: bool = False
    nodes: int = 2
    pairs: int = 1
    pods: int = 1
    attach_all: bool = False
    egress: bool = False
    zk: int = 1
    lab: Lab | None = None
    watch: EniWatch | None = None
    made: int = field(default=0)

    def get(self) -> tuple[Lab, EniWatch]:
        """The lab, with traffic flowing."""
        if self.lab is None or self.watch is None:
            self.made += 1
            topology = Topology(
                f"{self.name}-{self.made}",
                hosts=self.hosts,
                subnets=self.subnets,
                tunnel=tunnel_kind(),
                overlap=self.overlap,
                nodes=self.nodes,
                pairs=self.pairs,
                pods=self.pods,
                attach_all=self.attach_all,
                zk=self.zk,
                detection=choose_detection(),
                egress=self.egress,
            )
            try:
                self.lab = Lab.up(topology, timeout_s=60 * PATIENCE)
                wait_settled(self.lab)
                wait_shared(self.lab)
            except BaseException:
                # A lab in which traffic does not flow stays up: nobody is going to look at this one.
                self.lab = None
                remove(topology.name)
                raise
            self.watch = EniWatch(self.lab)
            self.watch.start()
        return self.lab, self.watch

    def drop(self) -> None:
        """Bring it down."""
        if self.watch is not None:
            self.watch.stop()
        if self.lab is not None:
            self.lab.down()
        self.lab = self.watch = None


def heal(lab: Lab) -> None:
    """Power on, resume, plug in, start and attach whatever is not as it should be, and wait until all is well."""
    troubled = lab.troubled()
    for machine in describe(lab).machines:
        is_whole = machine.state == "on" and all(service.running for service in machine.services)
        is_whole = is_whole and machine.name not in troubled
        if not is_whole or machine.cut:
            lab.fault(Fault.POWER_ON, machine.name)
    restore_attachments(lab)
    lab.wait_ready(30 * PATIENCE)
    wait_settled(lab, 30.0)
    wait_shared(lab)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Lets fixtures know how the test went."""
    report = yield
    if report.when == "call":
        item.stash[REPORT] = report
    return report


def show_logs(lab: Lab) -> None:
    """For the report of a failed test."""
    for name, machine in lab.machines.items():
        for service in machine.service_names():
            if service in ("daemon", "keepalived"):
                lines = machine.log(service).splitlines()[-LOG_LINES_SHOWN:]
                print(f"---- {service} on {name}", *lines, sep="\n")  # noqa: T201 - pytest shows it with the failure
        if machine.spec.kind is Kind.HOST and machine.is_on:
            text = machine.run(["sh", "-c", LOOK_AT_HOST], check=False).stdout
            print(f"---- kernel of {name}", text, sep="\n")  # noqa: T201


def keep(keeper: Keeper) -> Iterator[Keeper]:
    """Until the last test that needs its lab; then the lab goes down, whatever happened."""
    try:
        yield keeper
    finally:
        keeper.drop()


def lend(keeper: Keeper, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The lab for one test."""
    lab, watch = keeper.get()
    watch.seen()
    yield lab
    report = request.node.stash.get(REPORT, None)
    if report is not None and report.failed:
        show_logs(lab)
    try:
        heal(lab)
    except BaseException:
        show_logs(lab)
        keeper.drop()
        raise
    strange = watch.seen()
    assert not strange, f"frames left an ENI with a source that is not its own: {strange[:20]}"


@pytest.fixture(scope="session")
def lab_keeper() -> Iterator[Keeper]:
    """For the lab that most tests share."""
    yield from keep(Keeper(f"pool-{os.getpid()}"))


@pytest.fixture
def lab(lab_keeper: Keeper, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Two nodes, two hosts (one in a guest), two subnets, one ZooKeeper: whole, with traffic flowing, for each test."""
    yield from lend(lab_keeper, request)


@pytest.fixture(scope="session")
def wide_keeper() -> Iterator[Keeper]:
    """For the lab with several pairs."""
    yield from keep(Keeper(f"wide-{os.getpid()}", nodes=6, pairs=3, pods=2))


@pytest.fixture
def wide(wide_keeper: Keeper, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Six nodes, three pairs for each of two subnets of one tenant, two hosts with two instances each."""
    yield from lend(wide_keeper, request)


@pytest.fixture(scope="module")
def overlap_keeper(lab_keeper: Keeper) -> Iterator[Keeper]:
    """For the lab whose customers use the same addresses."""
    yield from keep(Keeper(f"{lab_keeper.name}-o", hosts=1, pods=2, overlap=True))


@pytest.fixture
def overlap_lab(overlap_keeper: Keeper, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Two customers with 172.16.101.0/24 each, and one host: pod1 is the first's, pod1-2 the second's."""
    yield from lend(overlap_keeper, request)


@pytest.fixture
def subnet(lab: Lab) -> SubnetPlan:
    """The one that is watched."""
    return lab.topology.subnet_plans[0]


@pytest.fixture
def measured(
    record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> Callable[[str, float], None]:
    """Tell a figure: in the report, and on the terminal."""

    def tell(what: str, value: float) -> None:
        record_property(what, value)
        with capsys.disabled():
            print(f" [{what}: {value:.0f}]", end="")  # noqa: T201

    return tell
