"""Text of others as one line that a terminal, a log or a message can show. Pure.

What is in a document or comes over a socket may hold line ends, which forge lines of a log, and sequences that move a
terminal's cursor or its title.
"""

from __future__ import annotations

import re

MOST = 2000
"""Characters of a message."""
_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")
"""Our own colours: all that a sequence of others can do in this form is to paint."""


def one_line(text: str, most: int = MOST) -> str:
    """The text with what cannot be printed escaped as Python does, and cut after so many characters."""
    if len(text) > most:
        text = f"{text[:most]}… ({len(text) - most} more characters)"
    return text if text.isprintable() else "".join(map(_shown, text))


def for_terminal(text: str) -> str:
    """Text of any length for a terminal: line ends and colours stay, everything else that is not printed is escaped."""
    if "\x1b" not in text and text.replace("\n", "").isprintable():
        return text
    parts = _COLOUR.split(text)
    return "".join(
        part if at % 2 else "".join(each if each == "\n" else _shown(each) for each in part)
        for at, part in enumerate(parts)
    )


def for_cell(text: str) -> str:
    """Text for a cell of a table: as `for_terminal`, and line ends are escaped too."""
    return text if text.isprintable() else for_terminal(text).replace("\n", "\\n")


def _shown(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
