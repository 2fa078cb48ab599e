"""A machine with nothing but Debian and what the package depends on, made by debootstrap and kept in the user's cache.

A test gets a copy that it may spoil: an overlay, in namespaces of its own. Its network is its own loopback device only.
"""

from __future__ import annotations

import fcntl
import filecmp
import hashlib
import os
import platform
import re
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

ADDED = ("ca-certificates", "man-db", "python3-venv", "systemd-sysv")
"""What a machine has beside the package's dependencies: tests look at pages, and make an environment as pipx does."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOME = "/tmp"  # noqa: S108 - of a machine that ends with the test
"""Where files are put, and where everybody may write."""
DPKGS = (
    "etc/ld.so.cache",
    "root",
    "tmp",
    "usr/share/man/index.db",
    "var/cache/debconf",
    "var/cache/ldconfig",
    "var/cache/man",
    "var/lib/dpkg",
    "var/lib/systemd/deb-systemd-helper-enabled",
    "var/log",
)
"""Where dpkg and those that it calls keep their books."""
BACKUPS = re.compile(r"etc/(passwd|group|shadow|gshadow|subuid|subgid)-")
FORGOTTEN_S = 14 * 86400
"""Other roots that nobody has used for so long are removed."""
_START = """
set -e
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
mount -t proc proc "$2/root/proc"
ip link set lo up
exec chroot "$2/root" sh -c 'echo ready; exec env --ignore-signal=CHLD sleep infinity < /dev/null > /dev/null 2>&1'
"""


class CannotMake(Exception):
    """There can be no clean root here; the text says why."""


def codename() -> str:
    """Of this machine's Debian."""
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "")


def mirror() -> str:
    """Where apt gets this machine's packages from.

    Raises:
        CannotMake: nowhere, or this is no Debian.
    """
    if platform.freedesktop_os_release()["ID"] != "debian":
        raise CannotMake("a clean root is made of the release that this machine has, and this is no Debian")
    words = ["apt-get", "indextargets", "--format", "$(CODENAME) $(SITE)", "Created-By: Packages"]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    for line in told.splitlines():
        release, _, site = line.partition(" ")
        if release == codename():
            return site
    raise CannotMake(f"apt names no mirror of {codename()}")


def packages_of(deb: Path) -> tuple[str, ...]:
    """Names of everything that a package depends on or recommends."""
    words = ["dpkg-deb", "--show", "--showformat", "${Depends}, ${Recommends}", str(deb)]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return tuple(sorted({re.split(r"[ (|]", name.strip())[0] for name in told.split(",")}))


def clean_root(packages: tuple[str, ...]) -> Path:
    """The directory with Debian and these packages, none of which was started; made if it is not in the cache.

    Raises:
        CannotMake: not here, or not now.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "proxypool", "clean-roots")
    names = (*packages, *ADDED)
    key = hashlib.sha256(" ".join((codename(), platform.machine(), *sorted(names))).encode()).hexdigest()[:12]
    folder = cache / f"{codename()}-{key}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _make(folder, names)
        os.utime(folder)
        for old in cache.glob("*-*"):
            if time.time() - old.stat().st_mtime > FORGOTTEN_S:
                shutil.rmtree(old)
    return folder


def _make(folder: Path, packages: tuple[str, ...]) -> None:
    if shutil.which("debootstrap") is None:
        raise CannotMake("debootstrap is not installed: apt-get install debootstrap")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="new-") as text:
        new = Path(text)
        log = folder.parent / "log"
        site = mirror()
        with log.open("w") as out:
            words = ["debootstrap", "--variant=minbase", codename(), str(new), site]
            if subprocess.run(words, stdout=out, stderr=out, stdin=subprocess.DEVNULL, check=False).returncode:
                raise CannotMake(f"debootstrap could not get {codename()} from the mirror of this machine; see {log}")
            (new / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
            (new / "usr/sbin/policy-rc.d").chmod(0o755)
            options = ["-q", "-y", "--no-install-recommends", "install"]
            with _mounted(new):
                done = _apt(new, out, *options, *packages)
            if done:
                raise CannotMake(f"apt could not install {' '.join(packages)} in a clean root; see {log}")
            (new / "usr/sbin/policy-rc.d").unlink()
            for spent in (*new.glob("var/cache/apt/archives/*.deb"), *new.glob("var/cache/apt/*.bin")):
                spent.unlink()
        new.chmod(0o755)
        new.rename(folder)
        new.mkdir()  # for what made it, to be removed


def _apt(root: Path, out: TextIO, *words: str) -> int:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "PATH": PATH, "LC_ALL": "C"}
    command = ["chroot", str(root), "apt-get", *words]
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False)
    return done.returncode


@contextmanager
def _mounted(root: Path) -> Iterator[None]:
    """With /proc, as some packages' scripts want it."""
    subprocess.run(["mount", "-t", "proc", "proc", str(root / "proc")], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(root / "proc")], check=True)


@dataclass(frozen=True)
class Machine:
    """A copy of a clean root, switched on."""

    base: Path
    disk: Path
    pid: int
    """Of its first process."""

    def run(
        self, *words: str, user: str = "root", network: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in it; without a `network` of its own it has that of the test."""
        there = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--uts", "--ipc", "--root"]
        there += ["--net"] if network else []
        who = ["setpriv", f"--reuid={user}", f"--regid={user if user == 'root' else 'nogroup'}", "--clear-groups"]
        return subprocess.run(
            [*there, "env", "--chdir=/", *who, *words],
            env={"PATH": PATH, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "HOME": HOME, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def ok(self, *words: str, **options: Any) -> str:
        """What a program prints that must not fail."""
        done = self.run(*words, **options)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def read(self, path: str) -> str:
        """The text of a file."""
        return self.ok("cat", path)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file, as the machine's owner does."""
        subprocess.run(
            ["nsenter", f"--target={self.pid}", "--mount", "--root", "sh", "-ec", text_into(mode), path],
            input=text,
            env={"PATH": PATH},
            text=True,
            check=True,
        )

    def has(self, path: str) -> bool:
        """Whether there is such a file; a link may lead nowhere."""
        return self.run("sh", "-c", 'test -e "$0" || test -L "$0"', path).returncode == 0

    def changes(self) -> set[str]:
        """Paths that are not as they were when it was switched on, but for the books of dpkg."""
        return {path for path in self._changes() if not path.startswith(DPKGS) and not BACKUPS.fullmatch(path)}

    def _changes(self) -> Iterator[str]:
        upper = self.disk / "upper"
        for folder, folders, files in os.walk(upper):
            for name in (*folders, *files):
                new = Path(folder, name)
                path = str(new.relative_to(upper))
                if _differ(self.base / path, new):
                    yield path

    def put(self, source: Path) -> str:
        """Copy a file into it; where it is there."""
        shutil.copy(source, Path(f"/proc/{self.pid}/root{HOME}"))
        return f"{HOME}/{source.name}"


def text_into(mode: int) -> str:
    """The script that writes its standard input into the file that is its argument."""
    return f'cd /; mkdir -p "$(dirname "$0")"; cat > "$0"; chmod {mode:o} "$0"'


def _differ(old: Path, new: Path) -> bool:
    if not os.path.lexists(old):
        # A lone whiteout hides nothing.
        return not _is_whiteout(new)
    before, after = old.lstat(), new.lstat()
    if (before.st_mode, before.st_uid, before.st_gid) != (after.st_mode, after.st_uid, after.st_gid):
        return True
    if stat.S_ISREG(after.st_mode):
        return not filecmp.cmp(old, new, shallow=False)
    return stat.S_ISLNK(after.st_mode) and os.readlink(old) != os.readlink(new)


def _is_whiteout(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


@contextmanager
def machine(base: Path, disk: Path) -> Iterator[Machine]:
    """A copy of a clean root that is switched on, until the end of the block."""
    for name in ("upper", "work", "root"):
        (disk / name).mkdir(parents=True)
    words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--net", "--uts", "--ipc", "sh", "-c", _START]
    with subprocess.Popen([*words, "sh", str(base), str(disk)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", "no overlay, or no namespaces"
            child = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]
            yield Machine(base, disk, int(child))
        finally:
            process.kill()
