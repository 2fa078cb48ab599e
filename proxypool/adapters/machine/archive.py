"""A support archive: files that are written as they are found, secrets taken out of each, and whole or not there."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from proxypool.core.errors import PermanentError
from proxypool.core.redaction import without

MAX_BYTES = 8 << 20
"""Of a file in it; more is cut, and said."""


class Archive:
    """A tar.gz at `path` once `finish` was called; before that, and without it, nothing is there.

    Nothing gets into it but through `add`, which takes known secrets, and what looks like one, out.
    """

    def __init__(self, path: Path, top: str, secrets: Collection[str], at: float) -> None:
        """Nothing is written yet. `top` is the one directory in it, `at` the time of its files.

        Raises:
            PermanentError: the file is there already.
        """
        if path.exists():
            raise PermanentError(f"{path} is there already: name another file with --output")
        self._path, self._partial = path, path.with_name(f".{path.name}.{os.getpid()}.partial")
        self._top, self._secrets, self._at = top, tuple(secrets), at
        self._file: BinaryIO | None = None
        self._tar: tarfile.TarFile | None = None
        self.count = 0

    def __enter__(self) -> Self:
        """Files can be added. Nothing is made here: whatever ends it from now on, nothing is left behind."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave nothing behind that is not finished."""
        if self._file is not None:
            self._file.close()
        self._partial.unlink(missing_ok=True)

    def _open(self) -> tarfile.TarFile:
        if self._tar is None:
            try:
                descriptor = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise PermanentError(f"cannot write into {self._path.parent}: {error.strerror}") from error
            self._file = os.fdopen(descriptor, "wb")
            self._tar = tarfile.TarFile.gzopen(self._path.name, "w", self._file)
        return self._tar

    def add(self, name: str, text: str) -> int:
        """Add a file; its size.

        Raises:
            PermanentError: the directory cannot be written, or the disk is full.
        """
        tar = self._open()
        data = without(text, self._secrets).encode(errors="replace")
        if len(data) > MAX_BYTES:
            data = data[:MAX_BYTES] + f"\n[cut: it has {len(data)} bytes]\n".encode()
        entry = tarfile.TarInfo(f"{self._top}/{name}")
        entry.size, entry.mtime, entry.mode = len(data), int(self._at), 0o600
        try:
            tar.addfile(entry, io.BytesIO(data))
        except OSError as error:
            raise PermanentError(f"cannot write {self._partial}: {error.strerror}") from error
        self.count += 1
        return len(data)

    def finish(self) -> int:
        """Close it and put it in its place; its size.

        Raises:
            PermanentError: the disk is full.
        """
        try:
            self._open().close()
            assert self._file is not None  # noqa: S101 - `_open` has made it
            self._file.flush()
            os.fsync(self._file.fileno())
            size = self._file.tell()
            os.replace(self._partial, self._path)
        except OSError as error:
            raise PermanentError(f"cannot write {self._path}: {error.strerror}") from error
        return size
