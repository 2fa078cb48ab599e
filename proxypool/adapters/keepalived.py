"""keepalived as a program on this machine: its files, its process, its notify fifo.

Owns `conf.d/proxypool*.conf` and nothing else of keepalived's configuration. Whether a configuration is good is asked
of keepalived itself (`keepalived -t`) before it is told to read it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

from proxypool.adapters.keepalived_process import KeepalivedProcess, ProcView
from proxypool.core.errors import PermanentError, TransientError
from proxypool.core.keepalived import FILE_PREFIX, MIN_VERSION, parse_version

CHECK_TIMEOUT_S = 10.0
REAL_TIME_PRIORITY = 10
"""Of 1-99: above all ordinary processes, below the kernel's own threads."""
_REAL_TIME = (os.SCHED_RR, os.SCHED_FIFO)
_INCLUDE = re.compile(r"^\s*include\s+\S*conf\.d/", re.MULTILINE)


class Keepalived:
    """The keepalived of this machine."""

    def __init__(self, config_dir: Path, process: KeepalivedProcess | None = None) -> None:
        """`config_dir` is usually /etc/keepalived. `process`: who sees it run; None: we do, in /proc."""
        self.process: KeepalivedProcess = process or ProcView()
        self._config_dir = config_dir
        self._conf_d = config_dir / "conf.d"

    @property
    def main_file(self) -> Path:
        """keepalived.conf, which must include conf.d."""
        return self._config_dir / "keepalived.conf"

    def check_program(self) -> None:
        """keepalived is installed, new enough, and reads conf.d.

        Raises:
            PermanentError: it is not; the text says what to do.
        """
        program = shutil.which("keepalived")
        if program is None:
            raise PermanentError("keepalived is not installed: install the package keepalived")
        try:
            answer = subprocess.run(
                [program, "--version"],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=CHECK_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PermanentError(f"keepalived does not run: {error}") from error
        version = parse_version(answer.stderr + answer.stdout)
        if version < MIN_VERSION:
            have, need = (".".join(map(str, numbers)) for numbers in (version, MIN_VERSION))
            raise PermanentError(f"keepalived {have} is too old: install {need} or newer")
        self._check_include()

    def _check_include(self) -> None:
        include = f"include {self._conf_d}/*.conf"
        try:
            text = _text(self.main_file)
        except FileNotFoundError:
            self._conf_d.mkdir(parents=True, exist_ok=True)
            _write_atomically(self.main_file, f"{include}\n")
            return
        if not _INCLUDE.search(text):
            raise PermanentError(f"{self.main_file} does not read our files: add the line `{include}`")

    def includes_ours(self) -> bool:
        """Whether its configuration includes conf.d. Nothing is changed; where there is none, the daemon writes one.

        Raises:
            OSError: it cannot be read.
        """
        try:
            return _INCLUDE.search(_text(self.main_file)) is not None
        except FileNotFoundError:
            return True

    def installed(self) -> dict[str, str]:
        """Our files as they are: name -> text."""
        found = {}
        for path in sorted(self._conf_d.glob(f"{FILE_PREFIX}*.conf")):
            try:
                found[path.name] = _text(path)
            except OSError as error:
                raise TransientError(f"read {path}: {error.strerror}") from error
        return found

    def traces(self) -> tuple[tuple[str, int, int, int], ...]:
        """What changes when somebody touches our files, without reading them: name, inode, size, time of change."""
        found = []
        for path in sorted(self._conf_d.glob(f"{FILE_PREFIX}*.conf")):
            try:
                file = path.stat()
            except OSError:
                continue
            found.append((path.name, file.st_ino, file.st_size, file.st_mtime_ns))
        return tuple(found)

    def install(self, wanted: Mapping[str, str]) -> bool:
        """Make our files be as wanted, after keepalived has checked them; True if something changed.

        Raises:
            PermanentError: keepalived refuses the configuration; the old files are back in place.
            TransientError: the files cannot be written.
        """
        before = self.installed()
        if before == dict(wanted):
            return False
        try:
            self._write(before, wanted)
            problem = self._problem()
            if problem is not None:
                self._write(dict(wanted), before)
                raise PermanentError(f"keepalived refuses its configuration: {problem}")
        except OSError as error:
            raise TransientError(f"write {self._conf_d}: {error.strerror}") from error
        return True

    def _write(self, before: Mapping[str, str], wanted: Mapping[str, str]) -> None:
        self._conf_d.mkdir(parents=True, exist_ok=True)
        for name in before.keys() - wanted.keys():
            (self._conf_d / name).unlink(missing_ok=True)
        for name, text in wanted.items():
            if before.get(name) != text:
                _write_atomically(self._conf_d / name, text)

    def _problem(self) -> str | None:
        """What `keepalived -t` says, None if it is content."""
        try:
            answer = subprocess.run(
                ["keepalived", "-t", "-f", str(self.main_file)],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=CHECK_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TransientError(f"keepalived -t: {error}") from error
        if answer.returncode == 0:
            return None
        lines = [line for line in (answer.stderr + answer.stdout).splitlines() if line.strip()]
        return "; ".join(lines[-3:]) or f"exit status {answer.returncode}"

    def reload(self) -> None:
        """Tell keepalived to read its files (SIGHUP): instances that did not change keep their state.

        Raises:
            TransientError: it does not run; it will read the files when it starts.
        """
        pid = self.process.pid()
        if pid is None:
            raise TransientError("keepalived is not running: start it with `systemctl start keepalived`")
        try:
            os.kill(pid, signal.SIGHUP)
        except ProcessLookupError as error:
            raise TransientError("keepalived has just ended") from error


def make_real_time(pid: int) -> bool:
    """Give a process real-time scheduling, unless it has some; False: we may not, or it has ended.

    What it starts does not inherit it: a hundred notify lines at once would keep it from going on.
    """
    try:
        if os.sched_getscheduler(pid) & ~os.SCHED_RESET_ON_FORK not in _REAL_TIME:
            os.sched_setscheduler(pid, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(REAL_TIME_PRIORITY))
    except (PermissionError, ProcessLookupError):
        return False
    return True


def _text(path: Path) -> str:
    """In whatever encoding an operator's comments are; keepalived minds as little."""
    return path.read_text(encoding="utf-8", errors="replace")


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    os.replace(temporary, path)


_MAX_TRACK_BYTES = 32


class TrackFile:
    """The file keepalived adds to the priority of one instance."""

    def __init__(self, path: str) -> None:
        """Nothing is created: keepalived does (`init_file`), or the first write."""
        self._path = Path(path)

    def read(self) -> int | None:
        """The value, None if there is none."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return int(os.read(fd, _MAX_TRACK_BYTES))
        except (OSError, ValueError):
            return None
        finally:
            os.close(fd)

    def write(self, value: int) -> None:
        """Set the value. Written in place: keepalived watches the file, and a rename would look like two changes.

        Raises:
            TransientError: the file cannot be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(f"{value}\n")
        except OSError as error:
            raise TransientError(f"write {self._path}: {error.strerror}") from error

    def remove(self) -> None:
        """Remove it; absent is fine."""
        self._path.unlink(missing_ok=True)


_MAX_LINE = 4096
"""Bytes. Ours have at most 110."""
_MAX_READS = 16


class NotifyFifo:
    """The reader's end of the notify fifo. Opened for reading and writing, so that it never reports an end."""

    def __init__(self, path: str) -> None:
        """Make the fifo if need be and open it.

        Raises:
            PermanentError: something else has its name.
        """
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.mkfifo(path, 0o600)
        except FileExistsError:
            if not stat.S_ISFIFO(os.stat(path).st_mode):
                raise PermanentError(f"{path} is not a fifo: remove it") from None
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._rest = b""
        self._is_endless = False
        """Whether the line that `_rest` begins was too long already: the rest of it is nobody's."""

    def fileno(self) -> int:
        """For selectors."""
        return self._fd

    def lines(self) -> list[str]:
        """Whole lines that have arrived, up to a megabyte at one time; the rest is there to be read still. A line
        longer than any of keepalived's is left out.
        """
        found: list[bytes] = []
        for _ in range(_MAX_READS):
            try:
                data = os.read(self._fd, 65536)
            except BlockingIOError:
                break
            if not data:
                break
            found += self._whole(data)
        return [line.decode(errors="replace") for line in found]

    def _whole(self, data: bytes) -> list[bytes]:
        """The lines that end in what was read now."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        if whole and self._is_endless:
            del whole[0]
            self._is_endless = False
        if len(self._rest) > _MAX_LINE:
            self._rest, self._is_endless = b"", True
        return [line for line in whole if len(line) <= _MAX_LINE]

    def close(self) -> None:
        """Close it; the fifo itself stays for keepalived."""
        os.close(self._fd)
