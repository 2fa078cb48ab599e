"""The lab's directory /run/proxypool-lab/<name>: the lock, the remembered topology, logs and the disks' mount point.

What is remembered here is only what nobody can observe: what was asked for. Which machines run is read from /proc.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from proxypool.lab.errors import LabError
from proxypool.lab.topology import Topology

ROOT = Path("/run/proxypool-lab")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for at `lab up`."""

    topology: Topology
    start_daemons: bool = True
    apply: bool = True
    applied: bool = False
    """Whether the pool has been filled."""
    built: bool = False
    """Whether `lab up` came to its end; if not, what is there is a ruin."""


class StateDirectory:
    """The directory of one lab."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = ROOT / name
        self.disks = self.path / "disks"
        self.identities = self.path / "identities"

    def log(self, machine: str, service: str) -> Path:
        """Where a service of a machine writes; survives the machine's power-off."""
        return self.path / "logs" / machine / f"{service}.log"

    def logs(self, machine: str) -> list[Path]:
        """All logs of a machine."""
        return sorted((self.path / "logs" / machine).glob("*.log"))

    def read(self) -> Wanted | None:
        """None when there is no lab, or only a ruin without a readable topology."""
        try:
            document = json.loads((self.path / "state.json").read_text())
            return Wanted(**{**document, "topology": Topology.from_json(document["topology"])})
        except (OSError, ValueError, KeyError, TypeError, LabError):
            return None

    def write(self, wanted: Wanted) -> None:
        """Replace what is remembered, in one step."""
        document = {**asdict(wanted), "topology": wanted.topology.to_json()}
        new = self.path / "state.json.new"
        new.write_text(json.dumps(document, indent=1))
        new.rename(self.path / "state.json")

    def clear(self) -> None:
        """Empty the directory, keep the lock."""
        for entry in self.path.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def prepare(self) -> None:
        """Make the empty directories a new lab needs."""
        self.disks.mkdir()
        (self.path / "logs").mkdir()

    @contextlib.contextmanager
    def locked(self, timeout_s: float = 0.0) -> Iterator[None]:
        """Hold the lab: no second `up`, `down` or `fault` at the same time. `LabError` if another holds it too long."""
        fd = self._lock(time.monotonic() + timeout_s)
        try:
            yield
        finally:
            self._remove_if_empty()
            os.close(fd)

    def _lock(self, deadline: float) -> int:
        while True:
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(fd).st_nlink and self._is_current(fd):
                    return fd
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(fd)
                    problem = f"lab {self.name!r} is being changed by another `proxypool lab` command"
                    raise LabError(f"{problem}; try again when it is done") from None
                time.sleep(0.05)
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def _is_current(self, fd: int) -> bool:
        """Whether the locked directory is still the one with that name; the last holder may have removed it."""
        try:
            return os.path.samestat(os.fstat(fd), self.path.stat())
        except FileNotFoundError:
            return False

    def _remove_if_empty(self) -> None:
        for directory in (self.path, ROOT):
            with contextlib.suppress(OSError):
                directory.rmdir()


def known() -> list[str]:
    """Names of labs that have a directory."""
    return sorted(entry.name for entry in ROOT.iterdir() if entry.is_dir()) if ROOT.is_dir() else []
