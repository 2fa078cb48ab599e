"""conntrackd as a program on this machine: one process for each subnet that has an egress address.

The processes outlive the daemon. Which are ours, and what each was started with, is read from /proc: the command line
names a configuration file of ours, and the file's name is the fingerprint of its content.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from proxypool.core.errors import PermanentError, TransientError
from proxypool.core.state_sync import SyncConfig, config_text, paths_of, subnet_of_config
from proxypool.core.sync_supervision import SyncProcess

PROGRAM = "conntrackd"
STOP_S = 2.0
NICE = -10
"""Before everybody's programs, after keepalived."""
LOG_BYTES = 1 << 20
"""A log is cut when it is longer: it lies in memory."""


class Silent(TransientError):
    """It runs and does not answer."""


class NotReady(TransientError):
    """It runs and does not listen yet."""


class Conntrackd:
    """The conntrackds of this node. Everything here may take seconds: not for the main loop."""

    def __init__(self, run_dir: Path) -> None:
        """Nothing is started. `run_dir` is the daemon's, usually /run/proxypool."""
        self._directory = run_dir / PROGRAM
        self._watched: dict[int, int] = {}
        """Process id -> pidfd."""

    # ---- processes -----------------------------------------------------------------------------------------------

    def find(self) -> dict[str, list[SyncProcess]]:
        """All that run with a configuration of ours, by subnet. Reads the whole of /proc."""
        found: dict[str, list[SyncProcess]] = {}
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            with suppress(OSError):
                known = self._examine(pid)
                if known is not None and self._watch(pid):
                    found.setdefault(known[0], []).append(known[1])
        return found

    def _examine(self, pid: int) -> tuple[str, SyncProcess] | None:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        if len(command) < 3 or Path(command[0]).name != PROGRAM or command[1] != "-C" or command[3:] not in ([], [""]):  # noqa: PLR2004
            return None
        subnet = subnet_of_config(command[2], str(self._directory))
        if subnet is None:
            return None
        fingerprint = Path(command[2]).stem.removeprefix(f"{subnet}_")
        return subnet, SyncProcess(pid, fingerprint, os.stat(f"/proc/{pid}/ns/net").st_ino)

    def _watch(self, pid: int) -> bool:
        if pid not in self._watched:
            try:
                self._watched[pid] = os.pidfd_open(pid)
            except OSError:
                return False
        return self.is_alive(pid)

    def is_alive(self, pid: int) -> bool:
        """Whether this very process still runs."""
        fd = self._watched.get(pid)
        if fd is None:
            return False
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        if not poller.poll(0):
            return True
        os.close(self._watched.pop(pid))
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        return False

    def start(self, subnet: str, config: SyncConfig, namespace_path: str) -> SyncProcess:
        """Start one in a namespace, in a session of its own. It is not awaited.

        Raises:
            PermanentError: conntrackd is not installed.
            TransientError: it cannot be started; the text says why.
        """
        program = shutil.which(PROGRAM)
        if program is None:
            raise PermanentError("conntrackd is not installed: install the package conntrackd")
        paths = paths_of(str(self._directory), subnet, config.fingerprint)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.clean(subnet)
            Path(paths.config).write_text(config_text(config, paths))
            namespace = os.stat(namespace_path).st_ino
            with self._log(subnet).open("ab") as log:
                process = subprocess.Popen(
                    ["nsenter", f"--net={namespace_path}", program, "-C", paths.config],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    start_new_session=True,
                )
        except OSError as error:
            raise TransientError(f"start conntrackd: {error}") from error
        self._watch(process.pid)
        # It is reaped when it is seen to have ended; Python must not warn that it still runs.
        process.returncode = 0
        return SyncProcess(process.pid, config.fingerprint, namespace)

    def calm(self, pid: int) -> None:
        """Make it an ordinary process; see `core.state_sync`. Where that is not allowed it stays what it is."""
        with suppress(OSError):
            if os.sched_getscheduler(pid) != os.SCHED_OTHER:
                os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))
                os.setpriority(os.PRIO_PROCESS, pid, NICE)

    def stop(self, pid: int) -> None:
        """End a process, by force if it does not by itself.

        Raises:
            TransientError: it stays.
        """
        fd = self._watched.get(pid)
        if fd is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, number)
            if select.select([fd], [], [], STOP_S)[0]:
                self.is_alive(pid)
                return
        raise TransientError(f"conntrackd (pid {pid}) does not end")

    def clean(self, subnet: str) -> None:
        """Remove the files of one that has ended; the log stays for who wants to know why."""
        for path in self._files(subnet):
            if path.suffix != ".log":
                path.unlink(missing_ok=True)

    def forget(self, subnet: str) -> None:
        """Remove the log too."""
        self.clean(subnet)
        self._log(subnet).unlink(missing_ok=True)

    def _files(self, subnet: str) -> Iterator[Path]:
        for path in self._directory.glob(f"{subnet}*"):
            is_config = path.suffix == ".conf" and subnet_of_config(str(path), str(self._directory)) == subnet
            if is_config or path.name in {f"{subnet}.lock", f"{subnet}.ctl", f"{subnet}.log"}:
                yield path

    # ---- what they say -------------------------------------------------------------------------------------------

    def ask(self, subnet: str, fingerprint: str, *arguments: str, timeout_s: float) -> str:
        """What a conntrackd answers to its command line, such as `-s`.

        Raises:
            NotReady: it does not listen.
            Silent: it does not answer in time.
        """
        paths = paths_of(str(self._directory), subnet, fingerprint)
        if not os.path.exists(paths.socket):
            raise NotReady("conntrackd does not listen yet")
        try:
            answer = subprocess.run(
                [PROGRAM, "-C", paths.config, *arguments],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired as error:
            raise Silent(f"conntrackd does not answer within {timeout_s:g} s") from error
        except OSError as error:
            raise NotReady(f"ask conntrackd: {error}") from error
        if answer.returncode != 0:
            raise NotReady(f"ask conntrackd: {answer.stderr.strip() or answer.returncode}")
        return answer.stdout

    def last_words(self, subnet: str) -> str:
        """The last line of a subnet's log."""
        try:
            lines = self._log(subnet).read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def trim_log(self, subnet: str) -> None:
        """Cut a log that has become long; conntrackd goes on writing at its end, wherever that is."""
        with suppress(OSError):
            if self._log(subnet).stat().st_size > LOG_BYTES:
                os.truncate(self._log(subnet), 0)

    def _log(self, subnet: str) -> Path:
        return self._directory / f"{subnet}.log"
