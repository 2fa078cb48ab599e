"""Two real conntrackds in two namespaces, looked after as on two nodes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from proxypool.adapters.conntrackd import NICE
from proxypool.core.state_sync import SyncConfig
from proxypool.core.sync_link import SyncLink
from proxypool.core.sync_supervision import CALM_S, SyncReport, SyncState
from proxypool.daemons.messages import SyncSeen
from proxypool.daemons.state_sync import StateSync, Wanted
from tests.orphans import left_namespaces

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("conntrackd"), reason="needs conntrackd: apt-get install conntrackd"),
]

SERVER, EGRESS = "172.16.101.4", "172.16.101.200"
ENDS = {"a": ("169.254.77.1", "169.254.77.2"), "b": ("169.254.77.2", "169.254.77.1")}
WAIT_S = 20.0


@dataclass
class Side:
    """One member."""

    subnet: str
    link: SyncLink
    run_dir: Path
    sync: StateSync = field(init=False)
    reports: list[SyncReport] = field(default_factory=list)
    is_master: bool = False

    def __post_init__(self) -> None:
        self.restart_daemon()

    def restart_daemon(self) -> None:
        """Another daemon, that knows nothing."""
        self.sync = StateSync(self.run_dir, self._saw, time.monotonic)
        self.be(is_master=self.is_master)

    def _saw(self, seen: SyncSeen) -> None:
        self.reports.append(seen.report)

    def be(self, *, is_master: bool, was_planned: bool = False) -> None:
        """Have this role from now on."""
        self.is_master = is_master
        config = SyncConfig(self.link, (IPv4Address("172.16.101.11"),), 4096)
        self.sync.want({self.subnet: Wanted(config, is_master, was_planned)})

    def inside(self, *command: str) -> str:
        """Run a program in the namespace."""
        return run("ip", "netns", "exec", f"pp-{self.subnet}", *command)

    def connect(self, port: int, protocol: str = "tcp", timeout_s: int = 1000) -> None:
        """A connection that was rewritten to the egress address, as the kernel would have it."""
        where = self._tuple(port)
        state = ["--state", "ESTABLISHED"] if protocol == "tcp" else []
        nat = ["--src-nat", f"{EGRESS}:{port + 10000}", "--status", "ASSURED,SEEN_REPLY", "-t", str(timeout_s)]
        self.inside("conntrack", "-I", "-p", protocol, *where, *state, *nat)

    def reset(self, port: int) -> None:
        """The kernel saw a RST: the entry is closed, and goes soon."""
        self.inside("conntrack", "-U", "-p", "tcp", *self._tuple(port), "--state", "CLOSE", "-t", "1")

    def _tuple(self, port: int) -> list[str]:
        return ["-s", "100.64.0.5", "-d", SERVER, "--sport", str(port), "--dport", "5432"]

    def ports(self) -> set[int]:
        """Source ports of the connections in the kernel that are rewritten."""
        lines = self.inside("conntrack", "-L").splitlines()
        words = [dict(word.split("=") for word in line.split() if "=" in word) for line in lines]
        found = [
            line.split("sport=")[1].split()[0]
            for line, last in zip(lines, words, strict=True)
            if last.get("dst") == EGRESS
        ]
        return {int(port) for port in found}

    def pids(self) -> list[int]:
        """Of its conntrackds."""
        prefix = f"{self.run_dir}/conntrackd/"
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdigit() and prefix in (entry / "cmdline").read_text().replace("\0", " "):
                    found.append(int(entry.name))
        return found


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def sides(tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    """Master and backup, joined by a cable."""
    made: list[Side] = []
    for left in left_namespaces("pp-ct"):
        run("ip", "netns", "del", left)
    names = [f"ct{os.getpid()}{end}" for end in ENDS]
    try:
        for name in names:
            run("ip", "netns", "add", f"pp-{name}")
        cable = ["ip", "link", "add", "ppts1", "netns", f"pp-{names[0]}", "type", "veth", "peer", "name", "ppts1"]
        run(*cable, "netns", f"pp-{names[1]}")
        for name, (own, peer) in zip(names, ENDS.values(), strict=True):
            inside = ("ip", "-n", f"pp-{name}")
            run(*inside, "addr", "add", f"{own}/30", "dev", "ppts1")
            run(*inside, "link", "set", "lo", "up")
            run(*inside, "link", "set", "ppts1", "up")
            link = SyncLink("ppts1", IPv4Address(own), IPv4Address(peer), IPv4Address("192.168.4.2"))
            side = Side(name, link, tmp_path / name)
            made.append(side)
            # Loads conntrack into the namespace, as our rules do.
            side.inside("iptables-legacy", "-A", "INPUT", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP")
            side.inside(
                "sysctl", "-qw", "net.netfilter.nf_conntrack_events=1", "net.netfilter.nf_conntrack_tcp_loose=0"
            )
        master, backup = made
        master.be(is_master=True)
        settle(master, backup)
        yield master, backup
    finally:
        for side in made:
            # One that is stopped ends by force; all are reaped.
            side.sync.want({})
            side.sync.work()
            assert not side.pids()
        for name in names:
            subprocess.run(["ip", "netns", "del", f"pp-{name}"], check=False, capture_output=True)


def settle(*sides: Side) -> None:
    """Until all is well."""
    until(lambda: all(side.reports and side.reports[-1].state is SyncState.OK for side in sides), *sides)


def until(look: Callable[[], bool], *sides: Side) -> None:
    """Let the daemons work until something is so."""
    deadline = time.monotonic() + WAIT_S
    while not look():
        assert time.monotonic() < deadline, [side.reports[-1:] for side in sides]
        for side in sides:
            side.sync.work()
        time.sleep(0.05)


def work(sides: tuple[Side, Side], seconds: float) -> None:
    """Let the daemons work for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for side in sides:
            side.sync.work()
        time.sleep(0.1)


def test_a_connection_appears_on_the_other_member_with_its_nat(sides: tuple[Side, Side]) -> None:
    master, backup = sides
    for port in (4001, 4002):
        master.connect(port)
    until(lambda: backup.ports() == {4001, 4002}, *sides)
    assert f"dst={EGRESS}" in backup.inside("conntrack", "-L")


def test_its_end_is_told(sides: tuple[Side, Side]) -> None:
    master, backup = sides
    for port in (4001, 4002):
        master.connect(port)
    until(lambda: backup.ports() == {4001, 4002}, *sides)
    master.inside("conntrack", "-D", "-p", "tcp", "--sport", "4001")
    until(lambda: backup.ports() == {4002}, *sides)


def test_one_that_was_killed_is_started_again_and_has_all(sides: tuple[Side, Side]) -> None:
    """On the backup: also what came meanwhile. On the master: it tells what came while it was dead."""
    master, backup = sides
    for number, dead in enumerate((backup, master)):
        (pid,) = dead.pids()
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
        master.connect(4001 + number)
        dead.reports.clear()
        settle(dead)
        assert dict(dead.reports[-1].restarts) == {"died": 1}
        assert dead.pids() != [pid]
        until(lambda: backup.ports() == set(range(4001, 4002 + number)), *sides)  # noqa: B023 - used in here only


def test_what_runs_out_on_the_backup_does_not_end_on_the_master(sides: tuple[Side, Side]) -> None:
    """A restarted conntrackd takes all it finds for its own, until it is told otherwise."""
    master, backup = sides
    master.connect(4001, "udp")
    until(lambda: backup.ports() == {4001}, *sides)
    (pid,) = backup.pids()
    os.kill(pid, signal.SIGKILL)
    backup.reports.clear()
    settle(backup)
    backup.inside("conntrack", "-D", "-p", "udp")
    work(sides, 1.0)
    assert master.ports() == {4001}


def test_there_and_back(sides: tuple[Side, Side]) -> None:
    """A new master has what it was told in its list for the member that returns, with nothing in its kernel."""
    first, second = sides
    first.connect(4001)
    until(lambda: second.ports() == {4001}, *sides)
    for pid in first.pids():
        os.kill(pid, signal.SIGKILL)
    first.inside("conntrack", "-F")
    second.be(is_master=True)
    work((second, second), 1.0)
    first.is_master = False
    first.restart_daemon()
    until(lambda: first.ports() == {4001}, *sides)


def test_what_ends_just_after_a_planned_change_ends_on_both(sides: tuple[Side, Side]) -> None:
    """Although the new master has not read its kernel yet: a connection that ends has changed its state before."""
    first, second = sides
    for port in (4001, 4002):
        first.connect(port)
    until(lambda: second.ports() == {4001, 4002}, *sides)
    first.be(is_master=False)
    second.be(is_master=True, was_planned=True)
    began = time.monotonic()
    work(sides, 0.5)
    second.reset(4001)
    until(lambda: first.ports() == second.ports() == {4002}, *sides)
    assert time.monotonic() - began < CALM_S, "it was not that the kernel was read"
    # The one that is left is in the list of the new master some seconds later.
    first.inside("conntrack", "-F")
    until(lambda: first.ports() == {4002}, *sides)


def test_a_daemon_that_was_dead_during_the_takeover_makes_up_for_it(sides: tuple[Side, Side]) -> None:
    first, second = sides
    first.connect(4001)
    until(lambda: second.ports() == {4001}, *sides)
    first.be(is_master=False)
    work((first, first), 0.5)
    first.inside("conntrack", "-F")
    (pid,) = second.pids()
    second.is_master = True
    second.restart_daemon()
    until(lambda: first.ports() == {4001}, *sides)
    assert second.pids() == [pid], "adopted, not started again"


def test_it_does_not_stay_a_real_time_process(sides: tuple[Side, Side]) -> None:
    """A hundred of them would keep keepalived from every processor."""
    for side in sides:
        (pid,) = side.pids()
        assert (os.sched_getscheduler(pid), os.getpriority(os.PRIO_PROCESS, pid)) == (os.SCHED_OTHER, NICE)


def test_a_daemons_restart_changes_nothing(sides: tuple[Side, Side]) -> None:
    before = [side.pids() for side in sides]
    for side in sides:
        side.restart_daemon()
        side.reports.clear()
    settle(*sides)
    assert [side.pids() for side in sides] == before
    assert all(side.reports[-1].restarts == () for side in sides)


def test_one_whose_namespace_was_not_looked_at_yet_is_left_alone(sides: tuple[Side, Side]) -> None:
    """A daemon that has just started knows the subnet before it knows what is in the kernel."""
    for side in sides:
        before = side.pids()
        side.restart_daemon()
        side.sync.want({side.subnet: Wanted(None, None)})
        side.sync.work()
        assert side.pids() == before
        side.be(is_master=side.is_master)
        side.sync.work()
        assert side.pids() == before


def test_one_that_nobody_wants_ends_and_leaves_nothing(sides: tuple[Side, Side]) -> None:
    _, backup = sides
    backup.sync.want({})
    backup.sync.work()
    assert backup.pids() == []
    assert list((backup.run_dir / "conntrackd").iterdir()) == []


def test_it_ends_with_its_namespace(sides: tuple[Side, Side]) -> None:
    """Else it would keep the old one alive, and with it its tunnels' keys."""
    _, backup = sides
    run("ip", "netns", "del", f"pp-{backup.subnet}")
    until(lambda: not backup.pids(), backup)


def test_a_stopped_one_is_seen_and_replaced(sides: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers nobody, and would never end by itself."""
    monkeypatch.setattr("proxypool.daemons.state_sync.ANSWER_S", 0.3)
    monkeypatch.setattr("proxypool.core.sync_supervision.LOOK_S", 0.5)
    _, backup = sides
    backup.restart_daemon()
    settle(backup)
    (pid,) = backup.pids()
    os.kill(pid, signal.SIGSTOP)
    until(lambda: dict(backup.reports[-1].restarts) == {"hung": 1}, backup)
    until(lambda: pid not in backup.pids() and len(backup.pids()) == 1, backup)


def test_what_the_backup_lost_comes_back_with_the_next_renewal(
    sides: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries of UDP run out there while packets pass here: packets are no events."""
    monkeypatch.setattr("proxypool.core.sync_supervision.RENEW_S", 1.0)
    master, backup = sides
    master.connect(4001, "udp")
    until(lambda: backup.ports() == {4001}, *sides)
    master.restart_daemon()
    settle(*sides)
    backup.inside("conntrack", "-D", "-p", "udp")
    until(lambda: backup.ports() == {4001}, *sides)
    assert master.ports() == {4001}
