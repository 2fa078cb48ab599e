"""Start, enter and leave the namespaces of a machine.

A machine is one `sleep` that is pid 1 of its own PID namespace, with its own network, mounts, host name and IPC. It
ignores SIGCHLD, so the kernel reaps orphans for it. Its death ends everything in the machine: that is power-off.

The fabric has a network, a mount and a PID namespace. Machines are made inside the latter, so the end of the fabric's
init ends the whole lab at once. Its mounts hold a tmpfs with the machines' disks: a machine's /etc and /var/lib are
overlays whose changes survive its power-off and vanish with the lab.
"""

from __future__ import annotations

import os
import queue
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from errno import EINVAL, ENOENT
from pathlib import Path
from typing import TypeVar

from proxypool.adapters import netns
from proxypool.lab.configs import COMMAND_DIR, OWNED, PACKAGE_ROOT
from proxypool.lab.errors import LabError
from proxypool.lab.processes import INIT, environment, find, wait_until
from proxypool.lab.topology import FABRIC

T = TypeVar("T")
START_TIMEOUT_S = 10.0
OVERLAYS = ("/etc", "/var/lib")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Run by a shell whose first child is pid 1 of a new PID namespace; standard output closes when all is done.
_BECOME_INIT = "echo ready; exec env --ignore-signal=CHLD sleep infinity </dev/null >/dev/null 2>&1"
_FABRIC = f"""{{ set -e; mount -t tmpfs -o mode=700 proxypool-lab "$0"; {_BECOME_INIT}; }} &"""
_MACHINE = f"""{{ set -e; echo "$0" >/proc/sys/kernel/hostname; mount -a -T "$1"; {_BECOME_INIT}; }} &"""


def start_fabric(lab: str, disks: Path) -> int:
    """Make the fabric; its pid. `disks` must be an empty directory."""
    command = ["unshare", "--net", "--mount", "--pid", "sh", "-c", _FABRIC, str(disks)]
    return _start(command, lab, FABRIC)


def start_machine(lab: str, name: str, fabric_pid: int, disks: Path) -> int:
    """Make a machine whose disk exists; the pid of its init."""
    inside_fabric = ["nsenter", f"--target={fabric_pid}", "--mount", "--pid"]
    new = ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid"]
    pid = _start([*inside_fabric, *new, "sh", "-c", _MACHINE, name, str(disks / name / "fstab")], lab, name)
    for directory in ("netns", "lock"):
        Path(f"/proc/{pid}/root/run/{directory}").mkdir()
    return pid


def make_disk(fabric_pid: int, disks: Path, name: str, files: Mapping[str, str], secrets: Mapping[str, str]) -> None:
    """Write a new machine's disk: files below its overlays, secrets for root alone, and the table of its mounts.

    Directories in `OWNED` are opaque: what this computer has there does not show through. Written below the overlay
    and not through it, because a symlink on this computer could lead out of the machine.
    """
    disk = Path(f"/proc/{fabric_pid}/root{disks}") / name
    for overlay in OVERLAYS:
        _layer(disk, overlay).mkdir(parents=True)
        _layer(disk, overlay, "work").mkdir()
    for directory in OWNED:
        path = _layer(disk, "/etc") / directory.removeprefix("/etc/")
        path.mkdir()
        os.setxattr(path, "trusted.overlay.opaque", b"y")
    for path_text, text in {**files, **secrets}.items():
        overlay = next(o for o in OVERLAYS if path_text.startswith(f"{o}/"))
        path = _layer(disk, overlay) / path_text.removeprefix(f"{overlay}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o600 if path_text in secrets else 0o666)
        path.write_text(text)
        if path_text.startswith(COMMAND_DIR):
            path.chmod(0o755)
    (disk / "fstab").write_text(_fstab(disks / name))


def base_environment(lab: str, machine: str, service: str = "") -> dict[str, str]:
    """What every process in a machine starts with: nothing of the caller's but the terminal and the language."""
    inherited = {key: os.environ[key] for key in ("TERM", "LANG", "LC_ALL", "NO_COLOR") if key in os.environ}
    path = f"{COMMAND_DIR}:{Path(sys.executable).parent}:{PATH}"
    return {
        **inherited,
        "PATH": path,
        "HOME": "/root",
        "PYTHONPATH": PACKAGE_ROOT,
        **environment(lab, machine, service),
    }


def enter(pid: int, *, network_only: bool = False) -> list[str]:
    """The words to put before a command so that it runs in the machine whose init is `pid`."""
    if network_only:
        return ["nsenter", f"--target={pid}", "--net", "--"]
    return ["nsenter", f"--target={pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--"]


def ip_batch(pid: int, lines: Iterable[str], marks: Mapping[str, str], *, tolerant: bool = False) -> None:
    """Run `ip` commands in the network namespace of `pid`. `LabError` with the command that failed.

    `tolerant`: run all of them, whatever fails (a device may already be gone).
    """
    batch("ip", pid, lines, marks, tolerant=tolerant)


def batch(program: str, pid: int, lines: Iterable[str], marks: Mapping[str, str], *, tolerant: bool = False) -> None:
    """As `ip_batch`, of `ip` or `tc`."""
    text = "".join(f"{line}\n" for line in lines)
    if not text:
        return
    command = [*enter(pid, network_only=True), program, *(["-force"] if tolerant else []), "-batch", "-"]
    done = subprocess.run(command, input=text, text=True, capture_output=True, check=False, env={"PATH": PATH, **marks})
    if done.returncode and not tolerant:
        raise LabError(f"{program} -batch in {marks.get('PROXYPOOL_LAB_MACHINE')}: {_blame(done.stderr, text)}")


def in_network_of(pid: int, act: Callable[[], T], name: str | None = None) -> T:
    """Call `act` in a thread of this process that has entered the network namespace of `pid`, or the one that the
    machine of `pid` has under a name.

    A socket made there stays there: the caller may use it afterwards. /proc/sys/net is that namespace's, too.

    Raises:
        FileNotFoundError: the machine has no namespace of that name.
    """
    results: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            _enter_network(f"/proc/{pid}/root/run/netns/{name}" if name else f"/proc/{pid}/ns/net")
            results.put((act(), None))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            results.put((None, error))

    thread = threading.Thread(target=run, name=f"netns of {pid}")
    thread.start()
    thread.join()
    value, failure = results.get()
    if failure is not None:
        raise failure
    return value  # type: ignore[return-value]


def has_address(pid: int, address: str) -> bool:
    """Whether an IPv4 address is local in the network namespace of `pid`: only then can a socket have it."""

    def bind() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))

    try:
        in_network_of(pid, bind)
    except OSError:
        return False
    return True


def _enter_network(path: str) -> None:
    with Path(path).open("rb") as file:
        try:
            netns.enter(file.fileno())
        except OSError as error:
            error.filename = path
            if error.errno == EINVAL:
                # A plain file: its namespace was never mounted on it, or was removed.
                raise FileNotFoundError(ENOENT, os.strerror(ENOENT), path) from error
            raise


def _layer(disk: Path, overlay: str, kind: str = "upper") -> Path:
    return disk / f"{overlay.strip('/').replace('/', '-')}.{kind}"


def _fstab(disk: Path) -> str:
    overlays = (
        f"overlay{o.replace('/', '-')} {o} overlay "
        f"lowerdir={o},upperdir={_layer(disk, o)},workdir={_layer(disk, o, 'work')} 0 0"
        for o in OVERLAYS
    )
    lines = (
        "lab-proc /proc proc nosuid,nodev,noexec 0 0",
        "lab-sys /sys sysfs nosuid,nodev,noexec 0 0",
        *overlays,
        "lab-run /run tmpfs mode=755,nosuid,nodev 0 0",
        # Programs name what they share by their pid, and machines have the same pids.
        "lab-shm /dev/shm tmpfs mode=1777,nosuid,nodev 0 0",
    )
    return "".join(f"{line}\n" for line in lines)


def _start(command: list[str], lab: str, name: str) -> int:
    program = shutil.which(command[0], path=PATH) or command[0]
    with subprocess.Popen(
        [program, *command[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=base_environment(lab, name, INIT),
        start_new_session=True,
        cwd="/",
    ) as process:
        out, err = process.communicate()
    if "ready" not in out.split():
        raise LabError(f"cannot start {name}: {err.strip() or 'its init ended'}")
    found: list[int] = []

    def look() -> bool:
        """It became `sleep` by exec, and in the middle of an exec a process has no environment."""
        found.extend(p.pid for p in find(lab) if p.machine == name and p.service == INIT and p.name == "sleep")
        return bool(found)

    wait_until(look, START_TIMEOUT_S, f"init of {name} to start", interval_s=0.001)
    return found[0]


def _blame(stderr: str, text: str) -> str:
    """`ip` names the line number: show the line."""
    problem = " ".join(stderr.split())
    _, _, tail = problem.rpartition("Command failed -:")
    if tail.strip().isdigit() and (number := int(tail)) <= len(text.splitlines()):
        return f"{problem.partition(' Command failed')[0]}, in: {text.splitlines()[number - 1]}"
    return problem
