"""The references that are written from the code are what the code is, and say something of everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxypool.adapters.zookeeper.layout import facet_of
from proxypool.cli.exits import ExitCode
from proxypool.core.checks import Code
from tools import gen_check_docs, gen_config_docs, gen_detection_docs, gen_exit_docs, gen_zookeeper_docs

SECTIONS = ("## Looks like", "## Likely causes", "## What to type", "## Clears")


@pytest.mark.parametrize("tool", [gen_config_docs, gen_detection_docs, gen_exit_docs, gen_zookeeper_docs])
def test_a_page_is_not_stale(tool: object) -> None:
    name = str(getattr(tool, "__name__", "")).rpartition(".")[2]
    assert tool.TARGET.read_text() == tool.render(), f"write it again: python tools/{name}.py"  # type: ignore[attr-defined]


def test_the_pages_of_checks_are_not_stale() -> None:
    for path, text in gen_check_docs.pages().items():
        assert path.read_text() == text, "write it again: python tools/gen_check_docs.py"


def test_every_key_of_the_configuration_has_words() -> None:
    assert list(gen_config_docs.undocumented()) == []


def test_every_exit_code_has_words() -> None:
    assert set(gen_exit_docs.WORDS) == set(ExitCode)


def test_the_layout_page_has_every_path_that_is_read() -> None:
    """What `facet_of` does not know is not read, so the page would describe something that nobody looks at."""
    not_followed = {"history/<ms>_<subnet>_<pair>_<node>", "subnets/<subnet>/pairs/<pair>/switchover"}
    for path in gen_zookeeper_docs.paths():
        parts = tuple(path.split("/"))
        is_candidate = parts[:2] == ("controller", "election")
        assert (facet_of(parts) is None) == (path in not_followed or is_candidate), path


@pytest.mark.parametrize("code", list(Code), ids=lambda code: code.value[0])
def test_every_check_has_a_runbook_that_says_what_to_do(code: Code) -> None:
    number, name, level = code.value
    text = gen_check_docs.runbook_of(code).read_text()
    assert text.startswith(f"# {number} {name}\n\n")
    assert f"Level: **{level}**." in text
    places = [text.find(section) for section in SECTIONS]
    assert -1 not in places
    assert places == sorted(places)
    assert f"{level} {number} {name} " in text, "it shows the line that brought the reader here"


def test_every_runbook_has_a_check() -> None:
    known = {f"{code.value[0]}.md" for code in Code} | {"index.md"}
    assert {path.name for path in Path(gen_check_docs.RUNBOOKS).glob("*.md")} == known
