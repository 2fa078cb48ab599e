"""Start a guest, carry its output out, bring its exit status back, leave nothing behind.

Owns the processes and files of one guest on this machine. ``init.sh`` beside this module is what runs first inside.

How nothing stays behind, whatever ends the run: the kernel's processes live in a PID namespace whose first process dies
with us (``setpriv --pdeathsig``, ``unshare --kill-child``), so they cannot outlive it. That matters more than it seems:
the guest's user processes are traced processes of this machine, and one whose tracer is gone would go on by itself.
The guest's memory is a file in a tmpfs that only a private mount namespace sees.
"""

import os
import selectors
import shlex
import shutil
import subprocess
import tempfile
import termios
import time
import tty
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

KERNEL = Path("/usr/bin/linux.uml")
MODULES = Path("/usr/lib/uml/modules")
BUSYBOX = Path("/bin/busybox")
_PASSED_ON = frozenset({"PATH", "HOME", "TERM", "COLORTERM", "LANG", "LC_ALL", "NO_COLOR", "FORCE_COLOR", "COLUMNS"})
_PASSED_ON_PREFIXES = ("PROXYPOOL_", "PYTEST_")
_CHUNK_BYTES = 65536
_LOG_LINES_SHOWN = 30
# The first process of the PID namespace. It mounts the guest's memory where only its mount namespace sees it and waits;
# ``setsid``, because a halting kernel signals its process group.
_FIRST_PROCESS = 'mount -t tmpfs -o "size=$1" guest "$2" && shift 2 && setsid --wait "$@"; exit $?'

_BAD_REGISTERS = "put_fp_registers"
"""In the trace of the guest's first process where the kernel cannot give a process its registers back."""
UNSUPPORTED_PROCESSOR = (
    "no guest runs on this processor: it has registers (as AMX does) that the kernel of user-mode-linux cannot save; "
    "use another machine"
)


class GuestError(Exception):
    """The guest could not be started, or ended without an exit status. The text is for people."""


class GuestTimeoutError(GuestError):
    """The command was still running at its deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestJob:
    """One command in a guest of its own."""

    command: Sequence[str]
    cwd: Path
    memory_mib: int = 1536
    writable: Sequence[Path] = ()
    """Directories of this machine that the guest writes to for real; everything else it writes is thrown away."""
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float | None = None
    terminal: bool = False
    """Give the command our terminal, keyboard included. Otherwise its input is empty and its two outputs are apart."""


def select_environment(environ: Mapping[str, str], also: Iterable[str] = ()) -> dict[str, str]:
    """Return the variables of ``environ`` that mean the same in a guest, and those named in ``also``."""
    names = _PASSED_ON | set(also)
    return {k: v for k, v in environ.items() if k in names or k.startswith(_PASSED_ON_PREFIXES)}


def run(job: GuestJob, *, stdout: int = 1, stderr: int = 2) -> int:
    """Run the job and return its command's exit status.

    Output goes to the two file descriptors as it comes. Raises GuestError, GuestTimeoutError. A KeyboardInterrupt, or
    whatever else ends this call, ends the guest first.
    """
    _check_machine()
    # Not below /dev/shm or $TMPDIR: the guest must find the directory at the same path through the machine's root.
    with tempfile.TemporaryDirectory(prefix="proxypool-guest-", dir="/tmp") as directory:
        job_directory = Path(directory)
        _write_job(job, job_directory)
        return _Guest(job, job_directory).run(stdout, stderr)


def _check_machine() -> None:
    if not KERNEL.exists():
        msg = f"{KERNEL} is missing: the guest's kernel comes with the package user-mode-linux"
        raise GuestError(msg)
    if not BUSYBOX.exists():
        msg = f"{BUSYBOX} is missing: install the package busybox-static"
        raise GuestError(msg)
    if os.geteuid() != 0:
        msg = "a guest is started as root only: it sees the file system with the rights of who starts it"
        raise GuestError(msg)


def _write_job(job: GuestJob, directory: Path) -> None:
    columns, rows = shutil.get_terminal_size()
    settings = {
        "modules": MODULES,
        "directory": job.cwd,
        "terminal": "yes" if job.terminal else "no",
        "rows": rows,
        "columns": columns,
    }
    (directory / "settings").write_text("".join(f"{k}={shlex.quote(str(v))}\n" for k, v in settings.items()))
    (directory / "writable").write_text("".join(f"{path}\n" for path in job.writable))
    exports = "".join(f"export {k}={shlex.quote(v)}\n" for k, v in job.environment.items())
    (directory / "command").write_text(f"{exports}exec {shlex.join(job.command)}\n")
    init = directory / "init"
    init.write_bytes((Path(__file__).parent / "init.sh").read_bytes())
    init.chmod(0o700)
    (directory / "memory").mkdir()
    (directory / "consoles").mkdir()


class _Guest:
    def __init__(self, job: GuestJob, directory: Path) -> None:
        self._job = job
        self._directory = directory
        self._log = directory / "log"

    def run(self, stdout: int, stderr: int) -> int:
        deadline = None if self._job.timeout_s is None else time.monotonic() + self._job.timeout_s
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        in_read, in_write = os.pipe()
        try:
            process = self._start(in_read, out_write, err_write)
            try:
                for fd in (in_read, out_write, err_write):
                    os.close(fd)
                routes = {out_read: stdout, err_read: stderr}
                with _raw_terminal(enabled=self._job.terminal):
                    if self._job.terminal:
                        routes[0] = in_write
                    timed_out = not _carry(routes, end=(out_read, err_read), deadline=deadline)
            finally:
                process.kill()
                process.wait()
        finally:
            for fd in (out_read, err_read, in_write):
                os.close(fd)
        if timed_out:
            msg = f"the command was still running after {self._job.timeout_s:g} s"
            raise GuestTimeoutError(msg)
        return self._status()

    def _start(self, in_fd: int, out_fd: int, err_fd: int) -> subprocess.Popen[bytes]:
        memory = self._directory / "memory"
        keyboard = f"fd:{in_fd}" if self._job.terminal else "null"
        kernel = (
            *(str(KERNEL), f"mem={self._job.memory_mib}M", "rootfstype=hostfs", "rootflags=/", "ro", "quiet"),
            *(f"init={self._directory}/init", f"guestjob={self._directory}", "panic=-1"),
            *("con=null", "ssl=null", "con0=null,fd:1", f"con1={keyboard},fd:{out_fd}", f"con2=null,fd:{err_fd}"),
            *(f"uml_dir={self._directory}/consoles/", "umid=guest"),
        )
        # One CPU: the kernel hands every system call of a guest's process between two processes of ours, and with those
        # on different CPUs everything takes two to three times as long. Which one: several guests should not share it.
        cpus = sorted(os.sched_getaffinity(0))
        cpu = cpus[os.getpid() % len(cpus)]
        argv = (
            *("taskset", "--cpu-list", str(cpu), "setpriv", "--pdeathsig", "KILL"),
            *("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--", "sh", "-c", _FIRST_PROCESS, "guest"),
            *(f"{self._job.memory_mib + 64}m", str(memory), *kernel),
        )
        with self._log.open("wb") as log:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": str(memory), "HOME": str(memory)},
                pass_fds=(in_fd, out_fd, err_fd),
                start_new_session=True,
            )

    def _status(self) -> int:
        try:
            return int((self._directory / "status").read_text())
        except (FileNotFoundError, ValueError):
            text = self._log.read_text(errors="replace")
            if _BAD_REGISTERS in text:
                raise GuestError(UNSUPPORTED_PROCESSOR) from None
            log = text.splitlines()[-_LOG_LINES_SHOWN:]
            msg = "\n  ".join(["the guest ended without an exit status; the end of its log:", *log])
            raise GuestError(msg) from None


def _carry(routes: dict[int, int], *, end: Iterable[int], deadline: float | None) -> bool:
    """Copy each source to its target until all of ``end`` are at their end; False if the deadline came first."""
    waiting = set(end)
    with selectors.DefaultSelector() as selector:
        for source in routes:
            selector.register(source, selectors.EVENT_READ)
        while waiting:
            left_s = None if deadline is None else deadline - time.monotonic()
            if left_s is not None and left_s <= 0:
                return False
            for key, _ in selector.select(left_s):
                chunk = os.read(key.fd, _CHUNK_BYTES)
                if not chunk:
                    selector.unregister(key.fd)
                    waiting.discard(key.fd)
                _write_all(routes[key.fd], chunk)
    return True


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # somebody else made our output non-blocking
            time.sleep(0.001)


@contextmanager
def _raw_terminal(*, enabled: bool) -> Iterator[None]:
    if not (enabled and os.isatty(0)):
        yield
        return
    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
