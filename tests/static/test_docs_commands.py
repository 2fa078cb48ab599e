"""Commands in the documentation are commands that there are."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from proxypool.cli.main import app
from tests.docs_pages import DOCS, HOW_TO, TUTORIAL, commands, languages, pattern_of

RUNBOOKS = tuple(sorted((DOCS / "runbooks").rglob("*.md")))
ROOT_COMMAND = typer.main.get_command(app)
CALL = re.compile(r"(?:^|[;&|(\s])(?:\.venv/bin/)?proxypool (?P<words>[^;&|>)]+)")


def calls() -> Iterator[tuple[str, str]]:
    """(page, what stands behind `proxypool`) of every command on the pages that people type from."""
    for page in (*TUTORIAL, *HOW_TO):
        for command in commands((page,)):
            for call in CALL.finditer(command.text):
                yield page.name, call["words"].strip()
    for page in RUNBOOKS:
        for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            for line in block.splitlines():
                if not line.startswith("#"):
                    for call in CALL.finditer(line):
                        yield page.name, call["words"].strip()


@pytest.mark.parametrize(("page", "words"), sorted(set(calls())))
def test_a_command_of_the_pages_exists_with_its_options(page: str, words: str) -> None:
    """Parsed as the command line does it, but not run."""
    command, rest = ROOT_COMMAND, shlex.split(words, comments=True)
    while hasattr(command, "resolve_command"):
        context = command.make_context("proxypool", rest, resilient_parsing=True)
        rest = [*context._protected_args, *context.args]
        assert rest, f"{page}: {words}: no command"
        _, command, rest = command.resolve_command(context, rest)
    with command.make_context(words, rest):
        pass


@pytest.mark.parametrize("page", [*TUTORIAL, *HOW_TO], ids=lambda page: page.stem)
def test_what_people_type_stands_where_the_lab_test_finds_it(page: Path) -> None:
    assert not languages(page) & {"sh", "bash", "shell", ""}, "use a block `console`, with prompts"


def test_all_how_to_pages_are_run() -> None:
    assert {page.name for page in (DOCS / "how-to").glob("*.md")} == {page.name for page in HOW_TO}


def test_lines_are_compared_without_what_differs_from_run_to_run() -> None:
    first = pattern_of("11-24 18:32:01  s1/p1  failover    node-a  162 ms")
    assert first == pattern_of("12-01 08:00:59 s1/p1  failover node-a  1.2 s")
    assert first != pattern_of("12-01 08:00:59 s1/p1  failover node-b  1.2 s")
