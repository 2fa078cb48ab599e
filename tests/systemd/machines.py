"""Machines with a real systemd as their first process, made of this computer's own root file system, or of another.

Each has namespaces of its own (network, mounts, processes, control groups, host name) and an overlay over the root file
system, whose changes last over its reboots and vanish with the test. All of them hang on one process, the fabric, whose
network has the bridge between them. It dies with the test, and everything with it; what a crash may leave are empty
control groups, and the next run removes those.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from proxypool.lab.processes import DIES_WITH_US
from tests.contract.zk import wait_until
from tests.systemd.disks import LIBRARIES, TREE, write, write_program, write_system

CONTROL_GROUP = "proxypool-systemd-test"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BOOT_S = 60.0
_FABRIC = """
mount --make-rprivate /
mount -t tmpfs -o mode=755 proxypool-test "$1"
ip link set lo up
for bridge in underlay customer; do
    ip link add $bridge type bridge
    ip link set $bridge up
done
echo ready
exec cat > /dev/null
"""

_FIRST_PROCESS = """
set -e
disk=$1 root=$1/root
cat "$disk/etc-hostname" > /proc/sys/kernel/hostname
mount --make-rprivate /
mkdir -p "$root" "$disk/upper" "$disk/work"
mount -t overlay proxypool-test -o "lowerdir=$2,upperdir=$disk/upper,workdir=$disk/work" "$root"
if [ -e "$disk/files" ]; then
    cd "$root"
    rm -rf usr/lib/systemd/system/*.target.wants usr/lib/systemd/system-generators/* etc/systemd/system/* etc/fstab \
        etc/proxypool etc/keepalived etc/zookeeper opt/proxypool var/lib/proxypool var/lib/zookeeper etc/machine-id
    cp -a "$disk/files/." .
    rm -rf "$disk/files"
fi
if [ -n "$3" ]; then
    mkdir -p "$root/opt/proxypool-python" "$root/opt/proxypool-site" "$root/opt/proxypool-src"
    mount --bind "$3" "$root/opt/proxypool-python"
    mount --bind "$4" "$root/opt/proxypool-site"
    mount --bind "$5" "$root/opt/proxypool-src"
fi
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
cd "$root/dev"
mknod -m 666 null c 1 3; mknod -m 666 zero c 1 5; mknod -m 666 full c 1 7
mknod -m 666 random c 1 8; mknod -m 666 urandom c 1 9; mknod -m 666 tty c 5 0
mkdir shm pts
ln -s pts/ptmx ptmx
cd "$root"
mkdir -p .old
pivot_root . .old
umount -l .old
# As systemd itself does, but not where it takes the machine for a container.
mount --make-rshared /
exec env -i container=proxypool-test PATH="$PATH" /lib/systemd/systemd --log-target=journal
"""


def cgroup_mount() -> Path | None:
    """Where the unified hierarchy of control groups is mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.startswith("cgroup2 "):
            return Path(left.split()[4])
    return None


def missing() -> str | None:
    """What this computer lacks for such machines."""
    if os.geteuid() != 0:
        return "needs root"
    if not os.path.exists("/lib/systemd/systemd") or shutil.which("systemctl") is None:
        return "systemd is not installed"
    return None if cgroup_mount() is not None else "the unified hierarchy of control groups is not mounted"


class Fabric:
    """What all machines hang on."""

    def __init__(self, directory: Path) -> None:
        mount = cgroup_mount()
        assert mount is not None
        for left in mount.glob(f"{CONTROL_GROUP}-*"):
            if not Path(f"/proc/{left.name.rpartition('-')[2]}").exists():
                _remove_groups(left)
        self.groups = mount / f"{CONTROL_GROUP}-{os.getpid()}"
        self.directory = directory
        # It has nothing of ours to read: it ends when this process does, by whatever way.
        self.process = subprocess.Popen(
            [
                *(*DIES_WITH_US, "unshare", "--mount", "--net"),
                *("sh", "-ec", _FABRIC, "fabric", directory),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"
        self.machines: list[Machine] = []

    def inside(self, *command: str | Path) -> list[str]:
        """The words of a command that is run in the fabric's namespaces."""
        return ["nsenter", f"--target={self.process.pid}", "--mount", "--net", "--", *map(str, command)]

    def run(self, *command: str | Path) -> str:
        """What a command prints there."""
        return subprocess.run(self.inside(*command), check=True, capture_output=True, text=True).stdout

    def machine(self, name: str, files: Mapping[str, str], units: tuple[str, ...], base: Path | None = None) -> Machine:
        """A new one, switched off.

        Args:
            name: its host name.
            files: path -> text.
            units: those that are enabled.
            base: a root file system, which is what it has; None: this computer's, with our units and program in place.
        """
        machine = Machine(self, name, files, units, base)
        self.machines.append(machine)
        return machine

    def close(self) -> None:
        """Remove everything."""
        for machine in self.machines:
            machine.power_off()
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        _remove_groups(self.groups)


@contextmanager
def running_fabric(disks: Path) -> Iterator[Fabric]:
    """A fabric in a directory that it makes, and nothing left of it afterwards."""
    disks.mkdir(parents=True)
    fabric = Fabric(disks)
    try:
        yield fabric
    finally:
        fabric.close()


class Machine:
    """One of them."""

    def __init__(
        self, fabric: Fabric, name: str, files: Mapping[str, str], units: tuple[str, ...], base: Path | None
    ) -> None:
        self.fabric, self.name, self._base = fabric, name, base
        self.disk = fabric.directory / name
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0
        # The disk is written in the fabric's mounts, which are seen through /proc.
        disk = Path(f"/proc/{fabric.process.pid}/root{self.disk}")
        (disk / "files").mkdir(parents=True)
        (disk / "etc-hostname").write_text(f"{name}\n")
        write_system(disk / "files", name, units)
        if base is None:
            write_program(disk / "files")
        for path, text in files.items():
            write(disk / "files" / path.lstrip("/"), text)

    def boot(self) -> None:
        """Switch it on, and wait until systemd answers. Its network is not there yet: see `plug`."""
        group = self.fabric.groups / self.name
        group.mkdir(parents=True, exist_ok=True)
        lent = (sys.base_prefix, sysconfig.get_path("purelib"), str(TREE)) if self._base is None else ("", "", "")
        new = ["--pid", "--net", "--uts", "--ipc", "--mount", "--cgroup", "--fork", "--kill-child"]
        words = ["unshare", *new, "sh", "-c", _FIRST_PROCESS, self.name, str(self.disk), str(self._base or "/"), *lent]
        join = f"echo $$ > {shlex.quote(str(group / 'cgroup.procs'))}; exec {shlex.join(self.fabric.inside(*words))}"
        log = self.fabric.directory.parent / f"{self.name}.log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [*DIES_WITH_US, "sh", "-c", join], stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        process = self._process
        wait_until(lambda: process.poll() is not None or self._find_init(), "the first process", BOOT_S)
        assert process.poll() is None, log.read_text()
        wait_until(lambda: process.poll() is not None or self._answers(), f"systemd of {self.name} answers", BOOT_S)
        assert process.poll() is None, log.read_text()

    def _find_init(self) -> bool:
        assert self._process is not None
        pid = self._process.pid
        with suppress(OSError, IndexError):
            self._pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
            return "systemd" in Path(f"/proc/{self._pid}/comm").read_text()
        return False

    def _answers(self) -> bool:
        return subprocess.run(
            self.inside("systemctl", "is-system-running"), capture_output=True, check=False
        ).stdout in {
            b"running\n",
            b"degraded\n",
            b"starting\n",
        }

    def plug(self, device: str, bridge: str, address: str = "") -> None:
        """Give it a card at one of the fabric's bridges, with an address if need be."""
        outer = f"{self.name}-{device}"[:15]
        self.fabric.run("ip", "link", "add", outer, "type", "veth", "peer", "name", device, "netns", str(self._pid))
        self.fabric.run("ip", "link", "set", outer, "master", bridge, "up")
        if address:
            self.run("ip", "address", "add", address, "dev", device)
        self.run("ip", "link", "set", device, "up")

    def inside(self, *command: str) -> list[str]:
        """The words of a command that is run in the machine."""
        libraries = (LIBRARIES,) if self._base is None else ()
        spaces = ("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup")
        return ["nsenter", f"--target={self._pid}", *spaces, "--", "env", "-i", f"PATH={PATH}", *libraries, *command]

    def path(self, path: str) -> Path:
        """A file of it, as this computer sees it. It must be switched on."""
        return Path(f"/proc/{self._pid}/root{path}")

    def run(self, *command: str, check: bool = True, within_s: float = 60.0) -> str:
        """What a command prints there, both ways.

        Raises:
            AssertionError: it failed.
        """
        done = subprocess.run(
            self.inside(*command),
            capture_output=True,
            text=True,
            check=False,
            timeout=within_s,
            stdin=subprocess.DEVNULL,
        )
        assert not check or done.returncode == 0, (
            f"{shlex.join(command)}: {done.returncode}: {done.stdout}{done.stderr}"
        )
        return done.stdout + (done.stderr if not check else "")

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit."""
        text = self.run("systemctl", "show", unit, f"--property={','.join(names)}")
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def main_pid(self, unit: str) -> int:
        """Of a unit, as the machine counts; 0: it does not run."""
        return int(self.show(unit, "MainPID")["MainPID"])

    def wait_active(self, unit: str, within_s: float = 60.0) -> None:
        """Wait until a unit is ready."""

        def is_active() -> bool:
            return self.show(unit, "ActiveState")["ActiveState"] == "active"

        self.wait(is_active, f"{unit} is active", within_s)

    def wait(self, condition: Callable[[], object], what: str, within_s: float = 60.0) -> None:
        """Wait for a condition; what the machine's journal says last is part of the failure."""
        deadline = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {within_s} s: {what}\n{self.journal()}")
            time.sleep(0.05)

    def journal(self, *more: str, lines: int = 60) -> str:
        """The last lines of the journal."""
        return self.run("journalctl", "--no-pager", "--output=short-monotonic", f"--lines={lines}", *more, check=False)

    def reboot(self) -> None:
        """As an operator does, and wait until systemd answers again."""
        assert self._process is not None
        self.run("systemctl", "reboot", check=False)
        self._process.wait(BOOT_S)
        self.boot()

    def power_off(self) -> None:
        """Pull the plug."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _remove_groups(top: Path) -> None:
    for directory, _, _ in os.walk(top, topdown=False):
        # A process that was killed is in its group for a moment.
        with suppress(AssertionError):
            wait_until(functools.partial(_removed, directory), f"{directory} is empty", 5.0)


def _removed(directory: str) -> bool:
    with suppress(OSError):
        os.rmdir(directory)
    return not os.path.exists(directory)
