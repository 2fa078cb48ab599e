"""Runbooks as HTML: of Markdown what they are written in, and nothing that could be an element of its own. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from proxypool.core.checks import Code
from proxypool.web.markup import Child, Markup, join, tag

_CODES = frozenset(code.value[0] for code in Code)
_HEADING = re.compile(r"(#{1,6}) +(.+)")
_ITEM = re.compile(r"(?P<mark>[-*]|\d+\.) +(?P<text>.*)")
_INLINE = re.compile(
    r"`(?P<code>[^`]+)`|\*\*(?P<bold>[^*]+)\*\*|\[(?P<text>[^\]]+)\]\((?P<link>[^)\s]+)\)|(?P<check>\bPP\d{3}\b)"
)
_FENCE = "```"


def markdown(text: str) -> Markup:
    """Headings, paragraphs, lists of one level, code. What it does not know stays as it was written."""
    return join([_block(block) for block in _blocks(text.splitlines())])


def _blocks(lines: Sequence[str]) -> Iterator[list[str]]:
    """Lines that belong together: up to an empty line, and fenced code with all that is in it."""
    block: list[str] = []
    is_code = False
    for line in lines:
        is_fence = line.startswith(_FENCE)
        if is_code:
            block.append(line)
            if is_fence:
                yield block
                block, is_code = [], False
            continue
        if block and (is_fence or not line.strip() or _HEADING.fullmatch(line)):
            yield block
            block = []
        if line.strip():
            block.append(line)
        is_code = is_fence
    if block:
        yield block


def _block(lines: list[str]) -> Markup:
    first = lines[0]
    if first.startswith(_FENCE):
        inside = lines[1:-1] if lines[-1].startswith(_FENCE) and len(lines) > 1 else lines[1:]
        return tag("pre", tag("code", "\n".join(inside)), tabindex="0")
    heading = _HEADING.fullmatch(first)
    if heading is not None:
        return join(tag(f"h{len(heading[1])}", heading[2]), _block(lines[1:]) if lines[1:] else None)
    if first.startswith("|"):
        return tag("pre", "\n".join(lines), tabindex="0")
    item = _ITEM.fullmatch(first)
    if item is not None:
        return tag("ol" if item["mark"][0].isdigit() else "ul", [tag("li", _inline(text)) for text in _items(lines)])
    return tag("p", _inline(" ".join(line.strip() for line in lines)))


def _items(lines: Sequence[str]) -> Iterator[str]:
    starts = [at for at, line in enumerate(lines) if _ITEM.fullmatch(line)]
    for start, end in pairwise([*starts, len(lines)]):
        head = _ITEM.fullmatch(lines[start])
        words = [head["text"] if head else "", *(line.strip() for line in lines[start + 1 : end])]
        yield " ".join(words)


def _inline(text: str) -> list[Child]:
    parts: list[Child] = []
    at = 0
    for found in _INLINE.finditer(text):
        parts += [text[at : found.start()], _special(found)]
        at = found.end()
    return [*parts, text[at:]]


def _special(found: re.Match[str]) -> Markup:
    if found["code"]:
        return tag("code", found["code"])
    if found["bold"]:
        return tag("b", found["bold"])
    if found["check"]:
        return _link(found["check"], found["check"])
    return _link(found["text"], found["link"])


def _link(text: str, target: str) -> Markup:
    """To another check's runbook; what else there is in the documentation is not served here, so its name has to do."""
    words = text if text in _CODES else _inline(text)
    name = target.partition("#")[0].rpartition("/")[2].removesuffix(".md")
    if name in _CODES:
        return tag("a", words, href=name)
    return tag("a", words, href=target) if target.startswith("https://") else join(words)
