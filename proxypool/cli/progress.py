"""A line that says how far something is: redrawn on a terminal, written every few seconds elsewhere."""

from __future__ import annotations

import shutil
from typing import TextIO

EVERY_S = 5.0
"""In a file or a pipe a line is written at most this often."""
CLEAR_LINE = "\r\x1b[2K"


class ProgressLine:
    """The line. Times are monotonic seconds."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._is_terminal = out, out.isatty()
        self._due = float("-inf")
        self._shown = ""

    def show(self, text: str, now: float) -> None:
        """The line as it is now. A terminal's is cut to its width: one that wraps could not be redrawn."""
        if self._is_terminal:
            width = shutil.get_terminal_size().columns - 1
            self._write(f"{CLEAR_LINE}{text[:width]}")
        elif now >= self._due and text != self._shown:
            self._due = now + EVERY_S
            self._write(f"{text}\n")
        self._shown = text

    def end(self) -> None:
        """Leave a clean line behind for what is said next."""
        if self._is_terminal and self._shown:
            self._write(CLEAR_LINE)
        self._shown = ""

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
