"""Files that an operator names: read up to a limit, as a device or the wrong file may have no end."""

from __future__ import annotations

import sys

from proxypool.core.errors import InvalidInput

MAX_CONFIG = 1 << 20
"""Bytes of a configuration."""
STANDARD_INPUT = "-"


def read_bytes(path: str, most: int, what: str = "") -> bytes:
    """What is in a file, or comes from standard input (`-`). `what` is in front of its name in errors.

    Raises:
        InvalidInput: it cannot be read, or has more than `most` bytes.
    """
    try:
        if path == STANDARD_INPUT:
            data = sys.stdin.buffer.read(most + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(most + 1)
    except (OSError, ValueError) as error:
        # A path with a zero byte in it is a ValueError.
        raise InvalidInput(f"cannot read {what}{path}: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > most:
        raise InvalidInput(f"cannot read {what}{path}: it has more than {most >> 20} MB; is it the right file?")
    return data


def read_text(path: str, most: int, what: str = "") -> str:
    """As `read_bytes`, as text.

    Raises:
        InvalidInput: see there; or it is no text in UTF-8.
    """
    try:
        return read_bytes(path, most, what).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"cannot read {what}{path}: it is no text in UTF-8: {error}") from None
