"""The commands that the documentation shows, read from its pages.

A command stands in a fenced block `console`, behind the prompt of the machine where it is typed: `root@node-a# …` in a
lab's machine, `$ …` in the checkout. What follows until the next prompt is what it prints, as far as that is shown. A block
that cannot be run in a lab has a comment before it that says why: `<!-- lab: no: reason -->`. Where what is printed is
not always the same there is `<!-- lab: varies -->`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
TUTORIAL = (DOCS / "tutorial/lab.md",)
HOW_TO = tuple(
    DOCS / "how-to" / f"{name}.md"
    for name in (
        "index",
        "install",
        "services",
        "first-subnet",
        "night",
        "add-a-pair",
        "drain",
        "replace-a-node",
        "upgrade",
        "secure-the-control-plane",
    )
)
"""In the order in which somebody would read them; each goes on where the one before has left the lab."""
FENCE = re.compile(
    r"(?:^<!-- lab: (?:no: (?P<why>[^\n]+?)|(?P<varies>varies)) -->\n)?"
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<body>.*?)^ *```",
    re.MULTILINE | re.DOTALL,
)
PROMPT = re.compile(r"^(?:root@(?P<machine>[a-z][a-z0-9-]*)#|\$) (?P<text>.*)$")
ANYTHING = "…"
"""A line of what is shown that stands for any others."""


@dataclass(frozen=True)
class Command:
    """One command of a page."""

    page: str
    machine: str
    """Where it is typed; empty: in the checkout."""
    text: str
    shown: tuple[str, ...]
    """What the page shows of its output, as far as it is always the same."""
    why_not: str
    """Why it is not run; empty: it is."""

    def __str__(self) -> str:
        """As it stands on the page."""
        return f"{self.page}: {f'root@{self.machine}#' if self.machine else '$'} {self.text}"


def commands(pages: tuple[Path, ...], language: str = "console") -> Iterator[Command]:
    """The commands of pages, in order."""
    for page in pages:
        for block in FENCE.finditer(page.read_text()):
            if block["language"] == language:
                for command in _in_block(page, block["body"], block["why"] or ""):
                    yield replace(command, shown=()) if block["varies"] else command


def _in_block(page: Path, body: str, why_not: str) -> Iterator[Command]:
    lines = iter(body.replace("\\\n", " ").splitlines())
    found: list[tuple[re.Match[str], list[str]]] = []
    for line in lines:
        prompt = PROMPT.match(line)
        if prompt is not None:
            found.append((prompt, []))
        elif found and line.strip():
            found[-1][1].append(line)
    for prompt, shown in found:
        text = re.sub(r"\s+#\s.*$", "", prompt["text"])
        yield Command(page.name, prompt["machine"] or "", " ".join(text.split()), tuple(shown), why_not)


def languages(page: Path) -> set[str]:
    """Of the fenced blocks of a page."""
    return {block["language"] for block in FENCE.finditer(page.read_text())}


def pattern_of(line: str) -> str:
    """A line with what differs from run to run taken out: numbers, units' prefixes, how wide columns are, the tunnel."""
    text = re.sub(r"\d+([.,:-]\d+)*", "N", line.replace("tunnel gre", "tunnel vxlan"))
    text = re.sub(r"\bN ?(ms|s|m|h|kB|MB|B|days?)\b(/s)?", "N", text)
    return " ".join(text.split())
