"""The attachments of a host in a file: a line for each change, written again as a whole now and then.

A line is one JSON document: an `Attachment`, with `"gone": true` where it ended. The file survives the agent and a
reboot. A line that was cut short by a crash is left out and told of; the last word on an attachment counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from ipaddress import IPv4Address
from pathlib import Path

from msgspec import Struct

from proxypool.core.attachments import Attachment
from proxypool.core.documents import decode, encode
from proxypool.core.errors import InvalidInput, TransientError

SPARE_LINES = 10_000
"""Lines beyond those of living attachments before the file is written again."""
Key = tuple[IPv4Address, str]


class _Line(Struct, frozen=True, kw_only=True):
    address: IPv4Address
    subnet: str
    owner: str = ""
    since: float = 0.0
    gone: bool = False


class AttachmentLog:
    """Owner of the file. Not safe for several threads at a time."""

    def __init__(self, path: Path) -> None:
        """Nothing is opened."""
        self._path = path
        self._fd: int | None = None
        self._lines = 0
        self._is_dirty = False

    def load(self) -> tuple[dict[Key, Attachment], list[str]]:
        """What the file tells, and which lines it was not understood in.

        Raises:
            TransientError: the file is there and cannot be read.
        """
        try:
            lines = self._path.read_bytes().split(b"\n") if self._path.exists() else []
        except OSError as error:
            raise TransientError(f"cannot read {self._path}: {error.strerror}") from error
        found: dict[Key, Attachment] = {}
        problems = []
        for number, text in enumerate(lines, 1):
            if not text.strip():
                continue
            try:
                line = decode(text, _Line, what=f"{self._path} line {number}")
            except InvalidInput as error:
                problems.append(str(error))
                continue
            found.pop((line.address, line.subnet), None)
            if not line.gone:
                found[line.address, line.subnet] = Attachment(
                    address=line.address, subnet=line.subnet, owner=line.owner, since=line.since
                )
        self._lines = len(lines)
        return found, problems

    def append(self, begun: Iterable[Attachment], ended: Iterable[Attachment]) -> None:
        """Add lines. They are the kernel's business when this returns: a crash of the agent loses none.

        Raises:
            TransientError: the disk is full or gone; nothing counts as written.
        """
        lines = [_line(item, gone=True) for item in ended] + [_line(item, gone=False) for item in begun]
        data = b"".join(lines)
        try:
            fd = self._opened()
            before = os.fstat(fd).st_size
            if os.write(fd, data) != len(data):
                os.ftruncate(fd, before)
                raise TransientError(f"cannot write {self._path}: the disk is full")
        except OSError as error:
            raise TransientError(f"cannot write {self._path}: {error.strerror}") from error
        self._lines += len(lines)
        self._is_dirty = True

    def sync(self, living: Iterable[Attachment]) -> None:
        """Bring what was written to the disk; write the file again when most of its lines are history, or it is gone.

        Raises:
            TransientError: it cannot be written now.
        """
        is_lost = self._is_lost()
        if not self._is_dirty and not is_lost:
            return
        items = list(living)
        try:
            if is_lost or self._lines > 2 * len(items) + SPARE_LINES:
                self._rewrite(items)
            else:
                os.fdatasync(self._opened())
        except OSError as error:
            raise TransientError(f"cannot write {self._path}: {error.strerror}") from error
        self._is_dirty = False

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _is_lost(self) -> bool:
        """Whether somebody removed or replaced the file that is open."""
        if self._fd is None:
            return False
        try:
            there, ours = os.stat(self._path), os.fstat(self._fd)
        except OSError:
            return True
        return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)

    def _opened(self) -> int:
        if self._fd is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._fd = os.open(self._path, flags, 0o600)
            self._end_last_line(self._fd)
        return self._fd

    @staticmethod
    def _end_last_line(fd: int) -> None:
        """A line that a crash cut short must not swallow the next one."""
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            os.write(fd, b"\n")

    def _rewrite(self, items: list[Attachment]) -> None:
        new = self._path.with_suffix(".new")
        fd = os.open(new, os.O_WRONLY | os.O_TRUNC | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(b"".join(_line(item, gone=False) for item in items))
            file.flush()
            os.fsync(fd)
        os.rename(new, self._path)
        self.close()
        self._lines = len(items)


def _line(item: Attachment, *, gone: bool) -> bytes:
    line = _Line(address=item.address, subnet=item.subnet, owner=item.owner, since=item.since, gone=gone)
    return encode(line) + b"\n"
