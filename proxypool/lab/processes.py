"""Find and end the processes of a lab.

Nothing is remembered: every process of a lab carries the lab's name, its machine and, if it is one, its service in
its environment, and /proc shows them. So a crashed lab can be cleaned by anybody, and a pid that was used again is
never taken for ours: processes are killed through a pidfd, after looking at the environment behind it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from proxypool.lab.errors import LabError, LabTimeout

LAB = "PROXYPOOL_LAB"
MACHINE = "PROXYPOOL_LAB_MACHINE"
SERVICE = "PROXYPOOL_LAB_SERVICE"
INIT = "init"
"""The service name of a machine's pid 1."""
OWN_SERVICES = {"conntrackd": "conntrackd"}
"""Programs that outlive the service that started them: they are services of their own, by their name."""
EMPTY_LOOKS, LOOK_INTERVAL_S = 2, 0.02
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""Before a command: the kernel kills it when the thread that starts it ends, in whatever way."""


@dataclass(frozen=True, slots=True)
class Process:
    """A live process of a lab. Pids are this computer's, not the machine's own."""

    pid: int
    parent: int
    start: int
    """Clock ticks after boot: with the pid, names one process for ever."""
    name: str
    stopped: bool
    machine: str
    service: str


def environment(lab: str, machine: str, service: str = "") -> dict[str, str]:
    """The marks of a process."""
    marks = {LAB: lab, MACHINE: machine}
    return {**marks, SERVICE: service} if service else marks


def find(lab: str) -> list[Process]:
    """Every live process of the lab, oldest first. Zombies have no environment, so they are not among them."""
    found = [process for pid in _pids() if (process := _look(pid, lab))]
    return sorted(found, key=lambda process: (process.start, process.pid))


def labs() -> set[str]:
    """Names of all labs that have a process."""
    names = (_marks(pid).get(LAB) for pid in _pids())
    return {name for name in names if name}


def inside_lab() -> str:
    """The lab whose machine this process runs in, or nothing."""
    return os.environ.get(LAB, "")


def alive(process: Process) -> bool:
    """Whether this very process still runs."""
    now = _stat(process.pid)
    return now is not None and now.start == process.start


def pid_inside(process: Process) -> int:
    """Its pid as its own machine counts. `LabError` if it has ended."""
    try:
        with open(f"/proc/{process.pid}/status", "rb") as file:
            line = next(line for line in file if line.startswith(b"NSpid:"))
    except (OSError, StopIteration):
        raise LabError(f"{process.service or process.name} on {process.machine} has just ended") from None
    return int(line.split()[-1])


def has_in_environment(process: Process, text: str) -> bool:
    """Whether a text occurs in the environment it was started with."""
    try:
        with open(f"/proc/{process.pid}/environ", "rb") as file:
            return text.encode() in file.read()
    except OSError:
        return False


def send(process: Process, number: signal.Signals) -> bool:
    """Signal this very process; False if it has ended."""
    try:
        with _pidfd(process.pid) as fd:
            if not alive(process):
                return False
            signal.pidfd_send_signal(fd, number)
            return True
    except ProcessLookupError:
        return False


def kill(processes: Iterable[Process], timeout_s: float = 10.0) -> None:
    """SIGKILL them and wait until they are gone. `LabTimeout` if one stays."""
    with contextlib.ExitStack() as stack:
        fds: dict[int, Process] = {}
        for process in processes:
            try:
                fd = stack.enter_context(_pidfd(process.pid))
                if alive(process):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
                    fds[fd] = process
            except ProcessLookupError:
                continue
        _await_exit(fds, timeout_s)


def kill_lab(lab: str, timeout_s: float = 20.0) -> int:
    """End every process of the lab; how many there were.

    Repeats until two looks in a row found none: some may just be forking, and in the middle of an exec a process has
    no environment.
    """
    deadline = time.monotonic() + timeout_s
    count = empty = 0
    while empty < EMPTY_LOOKS:
        if found := find(lab):
            count, empty = count + len(found), 0
            # Inits first: the kernel ends the rest of a machine, or the whole lab, together with its init.
            kill([p for p in found if p.service == INIT], deadline - time.monotonic())
            kill(find(lab), deadline - time.monotonic())
        else:
            empty += 1
            time.sleep(LOOK_INTERVAL_S)
    return count


def descendants(pid: int) -> list[int]:
    """Pids of the live children of `pid`, their children and so on. What `nsenter` started is among them."""
    parents = {child: stat.parent for child in _pids() if (stat := _stat(child))}
    found = [pid]
    for known in found:
        found += [child for child, parent in parents.items() if parent == known]
    return found[1:]


def wait_until(
    condition: Callable[[], bool], timeout_s: float, what: Callable[[], str] | str, interval_s: float = 0.02
) -> None:
    """Poll until the condition holds. `LabTimeout` says what was waited for."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            text = what if isinstance(what, str) else what()
            raise LabTimeout(f"waited {timeout_s:.0f} s in vain: {text}")
        time.sleep(interval_s)


@dataclass(frozen=True, slots=True)
class _Stat:
    name: str
    parent: int
    state: str
    start: int


def _pids() -> Iterator[int]:
    own = os.getpid()
    names = os.listdir("/proc")
    return (int(name) for name in names if name.isdigit() and int(name) != own)


def _look(pid: int, lab: str) -> Process | None:
    marks = _marks(pid)
    if marks.get(LAB) != lab or (stat := _stat(pid)) is None:
        return None
    machine, service = marks.get(MACHINE, ""), OWN_SERVICES.get(stat.name, marks.get(SERVICE, ""))
    return Process(pid, stat.parent, stat.start, stat.name, stat.state in "Tt", machine, service)


def _marks(pid: int) -> dict[str, str]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            raw = file.read()
    except OSError:
        return {}
    if LAB.encode() not in raw:
        return {}
    pairs = (entry.partition("=") for entry in raw.decode(errors="replace").split("\0"))
    return {name: value for name, _, value in pairs if name.startswith(LAB)}


def _stat(pid: int) -> _Stat | None:
    """None for a process that has ended, reaped or not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            head, _, tail = file.read().rpartition(b") ")
    except OSError:
        return None
    fields, name = tail.split(), head.partition(b" (")[2].decode(errors="replace")
    state = fields[0].decode()
    return None if state in "ZX" else _Stat(name, int(fields[1]), state, int(fields[19]))


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    fd = os.pidfd_open(pid)
    try:
        yield fd
    finally:
        os.close(fd)


def _await_exit(fds: dict[int, Process], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    left = dict(fds)
    while left:
        ready = poller.poll(max(0.0, deadline - time.monotonic()) * 1000)
        if not ready:
            names = ", ".join(f"{p.machine} {p.service or 'process'} (pid {p.pid})" for p in left.values())
            raise LabTimeout(f"not ended by SIGKILL: {names}")
        for fd, _ in ready:
            poller.unregister(fd)
            del left[fd]


def require_outside() -> None:
    """`LabError` inside a machine: a lab command there would end its own caller."""
    if name := inside_lab():
        machine = os.environ.get(MACHINE, "?")
        raise LabError(f"this is {machine} of lab {name!r}; use `proxypool lab` outside of its machines")
