"""The probes of `proxypool doctor` on this machine: they agree with what other programs say, and none can hang it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from proxypool.adapters.machine import kernel, place, process, programs
from proxypool.adapters.machine.limits import Seen, gather
from proxypool.core.doctor.facts import DaemonRole, Program, Tri
from proxypool.core.errors import TransientError
from tests.contract.zk import free_port, wait_until


def test_a_probe_that_hangs_holds_up_nobody() -> None:
    """Those that answer come first; the one that does not is told as such, as is one that fails."""
    never = threading.Event()

    def fails() -> None:
        raise TransientError("no luck")

    found = {one.name: one for one in gather({"hangs": never.wait, "fails": fails, "works": lambda: 5}, 0.3)}
    never.set()
    assert found == {
        "works": Seen("works", 5),
        "fails": Seen("fails", why_not="no luck"),
        "hangs": Seen("hangs", why_not="no answer within 0.3 s"),
    }


def test_a_program_that_hangs_is_ended() -> None:
    with pytest.raises(TransientError, match="did not end within"):
        programs.run(["sleep", "60"], 0.1)


def test_a_program_that_is_not_there() -> None:
    assert programs.examine("no-such-program") == Program()
    with pytest.raises(TransientError, match="not installed"):
        programs.run(["no-such-program"], 1)


def test_a_program_says_its_version() -> None:
    found = programs.examine("flock")
    assert found.path == shutil.which("flock")
    assert "util-linux" in found.version


def test_a_port_that_nobody_listens_on() -> None:
    assert place.why_unreachable(f"127.0.0.1:{free_port()}") == "Connection refused"


def test_a_card_is_as_the_kernel_has_it() -> None:
    card = place.underlay("lo")
    assert not card.is_there, "the loopback is no underlay"
    for name in card.known:
        found = place.underlay(name)
        assert found.mtu == int(Path(f"/sys/class/net/{name}/mtu").read_text())


def test_the_clock_can_be_asked_by_anybody() -> None:
    assert place.clock().error_s >= 0


def test_the_mode_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.touch(0o640)
    found = place.file(str(file), "secret")
    assert (found.mode, found.owner) == (0o640, os.getuid())
    assert place.file(str(tmp_path / "none"), "secret").mode is None


def test_our_capabilities_are_those_that_the_kernel_says() -> None:
    expected = {name for name, number in process.NUMBERS.items() if _mask() >> number & 1}
    assert process.capabilities() == expected


def _mask() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff"))
    return int(line.split()[1], 16)


def test_a_lock_of_a_daemon_that_has_ended_is_no_daemon(tmp_path: Path) -> None:
    assert process.daemon_pid(DaemonRole.NODE, tmp_path) is None
    ended = subprocess.Popen(["true"])
    ended.wait()
    for holder in (f"node, pid {ended.pid}\n", f"node, pid {os.getpid()}\n", "nonsense"):
        (tmp_path / "daemon.lock").write_text(holder)
        assert process.daemon_pid(DaemonRole.NODE, tmp_path) is None


def test_a_daemon_is_found_by_its_lock(tmp_path: Path) -> None:
    """And by its words: its number may be another process' by now."""
    program = tmp_path / "proxypool"
    program.write_text("input()\n")
    with subprocess.Popen([sys.executable, str(program), "run", "node"], stdin=subprocess.PIPE) as daemon:
        assert daemon.stdin is not None
        wait_until(lambda: Path(f"/proc/{daemon.pid}/cmdline").read_bytes().endswith(b"run\0node\0"), "it runs")
        (tmp_path / "daemon.lock").write_text(f"node, pid {daemon.pid}\n")
        assert process.daemon_pid(DaemonRole.NODE, tmp_path) == daemon.pid
        assert process.daemon_pid(DaemonRole.HOST, tmp_path) is None
        daemon.communicate(b"\n")
    assert process.daemon_pid(DaemonRole.NODE, tmp_path) is None


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_the_kernel_can_do_is_tried() -> None:
    """Whatever this one can: each feature is there or missing, and the lab's own needs are there."""
    found = kernel.kernel_facts()
    assert set(found.features.values()) <= {Tri.THERE, Tri.MISSING}
    for name in ("namespaces", "ip_set", "ip_tables", "nf_nat", "nf_conntrack", "notrack"):
        assert found.features[name] is Tri.THERE, found.remarks


@pytest.mark.parametrize(
    ("loaded", "known", "state"),
    [
        ({"ip_set"}, None, Tri.THERE),
        (set(), {"ip_set"}, Tri.THERE),
        (set(), {"other"}, Tri.MISSING),
        (set(), None, Tri.UNKNOWN),
    ],
)
def test_without_root_lists_of_modules_tell(loaded: set[str], known: set[str] | None, state: Tri) -> None:
    have = None if known is None else frozenset(known)
    assert kernel.modules_state(("ip_set",), lambda: frozenset(loaded), lambda: have) is state


def test_sysctls_that_the_kernel_has_not_are_none() -> None:
    found = kernel.read_sysctls(["kernel/ostype", "net/no/such"])
    assert found == {"kernel/ostype": "Linux", "net/no/such": None}
