"""The references that are written from the code are what the code is, and say something of everything."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import ModuleType

import pytest

from proxypool.adapters.zookeeper.layout import facet_of
from proxypool.cli.exits import ExitCode
from proxypool.core import checks, machine_checks, upgrade
from proxypool.core.checks import Code
from proxypool.core.doctor import codes as doctor
from proxypool.core.doctor import machine as doctor_machine
from proxypool.core.doctor import pool as doctor_pool
from proxypool.core.doctor import report as doctor_report
from proxypool.core.scaling import checks as scaling_checks
from tools import gen_check_docs, gen_config_docs, gen_detection_docs, gen_exit_docs, gen_zookeeper_docs

CODES = (*Code, *doctor.Code, *upgrade.Code)
MODULES: dict[type[Enum], tuple[ModuleType, ...]] = {
    Code: (checks, machine_checks, scaling_checks),
    doctor.Code: (doctor_machine, doctor_pool, doctor_report),
    upgrade.Code: (upgrade,),
}
"""Where their messages are made."""
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
    not_followed = {"access", "history/<ms>_<subnet>_<pair>_<node>", "subnets/<subnet>/pairs/<pair>/switchover"}
    for path in gen_zookeeper_docs.paths():
        parts = tuple(path.split("/"))
        assert (facet_of(parts) is None) == (path in not_followed), path


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.value[0])
def test_every_code_has_a_runbook_that_says_what_to_do(code: gen_check_docs.AnyCode) -> None:
    number, name, level = code.value
    text = gen_check_docs.runbook_of(code).read_text()
    assert text.startswith(f"# {number} {name}\n\n")
    assert f"Level: **{level}**." in text
    places = [text.find(section) for section in SECTIONS]
    assert -1 not in places
    assert places == sorted(places)
    assert f"{level} {number} {name} " in text, "it shows the line that brought the reader here"


def fragments(module: ModuleType) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(name of the code, what never changes of a message), of every message that a module of checks can make."""
    for call in ast.walk(ast.parse(inspect.getsource(module))):
        match call:
            case ast.Call(
                func=ast.Attribute(attr="of"), args=[ast.Attribute(attr=name), _, ast.JoinedStr(values=values), *_]
            ):
                texts = [value.value for value in values if isinstance(value, ast.Constant)]
                yield name, tuple(str(text).strip() for text in texts)


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.value[0])
def test_a_runbook_shows_the_message_as_it_is_made(code: gen_check_docs.AnyCode) -> None:
    possible = [texts for module in MODULES[type(code)] for name, texts in fragments(module) if name == code.name]
    _, _, rest = gen_check_docs.runbook_of(code).read_text().partition("```text\n")
    shown = " ".join(rest.partition("```")[0].split())
    assert not possible or any(all(text in shown for text in texts) for texts in possible), (shown, possible)


def test_messages_are_found_in_the_code() -> None:
    """All but those of documents that cannot be read, which are made elsewhere."""
    found = {name for module in (checks, machine_checks, scaling_checks) for name, _ in fragments(module)}
    assert len(found) >= len(Code) - 3
    assert {name for name, _ in fragments(upgrade)} == {code.name for code in upgrade.Code}


def test_every_runbook_has_a_check() -> None:
    for codes, folder in gen_check_docs.FOLDERS.items():
        known = {f"{code.value[0]}.md" for code in codes} | {"index.md"}
        assert {path.name for path in Path(folder).glob("*.md")} == known
