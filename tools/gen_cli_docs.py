# ruff: noqa: INP001 - tools are no package
"""Write docs/reference/cli.md and the manual pages from the commands themselves: `python tools/gen_cli_docs.py`.

`tests/unit/test_cli_docs.py` fails when a file is stale, missing, or no longer wanted.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from proxypool.cli.exits import MEANINGS  # noqa: E402 - the checkout must be found first
from proxypool.cli.tree import Command, Parameter, whole  # noqa: E402
from proxypool.core.config import DEFAULT_PATH, PATH_VARIABLE  # noqa: E402
from proxypool.core.doctor.codes import Code  # noqa: E402

REFERENCE = ROOT / "docs" / "reference" / "cli.md"
MANUAL = ROOT / "docs" / "reference" / "man"
WIDTH = 118
HEAD = """# Command line

Written by `tools/gen_cli_docs.py` from the commands themselves; do not edit. The same is in the manual pages:
`man proxypool`, `man proxypool-pair` and so on for every command.

"""
OUTPUT = """## Output

`-o json` and `-o yaml` print a versioned document: `apiVersion` is `proxypool/v1`, `kind` says what it is. Fields are
added, and not renamed or given another meaning within a version; names that are not known are to be ignored. With `-w`
each change is one line of JSON. `-o table` is for people and may change; it is neither wrapped nor cut, and coloured
only on a terminal, unless `NO_COLOR` is set. Results go to standard output; progress, notes and errors to standard
error.

"""
VARIABLES = (
    (PATH_VARIABLE, f"The configuration file; else {DEFAULT_PATH}."),
    ("PROXYPOOL_ZOOKEEPER", "ZooKeeper servers, instead of the configuration's."),
    ("PROXYPOOL_POOL", "The pool, instead of the configuration's."),
    ("NO_COLOR", "If it is set and not empty, nothing is coloured."),
)
DOCTOR = """### Codes of its findings

They never change their meaning. The severity is the usual one; what matters less for a machine is told as less.

| code | name | severity |
| --- | --- | --- |
"""


def reference() -> str:
    """The page."""
    root = whole()
    parts = [HEAD, *_usage(root), "## Exit codes\n\n| code | meaning |\n| --- | --- |\n"]
    parts += [f"| {code.value} | {meaning} |\n" for code, meaning in MEANINGS.items()]
    parts += ["\n## Environment\n\n| variable | meaning |\n| --- | --- |\n"]
    parts += [f"| `{name}` | {meaning} |\n" for name, meaning in VARIABLES]
    parts += ["\n", OUTPUT, "## Commands\n\n"]
    parts += [_wrapped(f"- [`{one.name}`](#{_anchor(one)}): {one.summary}", "  ") + "\n" for one in root.commands]
    for command in root.commands:
        for one in command.walk():
            parts += ["\n", *_section(one)]
    return re.sub(r"\n{3,}", "\n\n", "".join(parts)).rstrip() + "\n"


def _anchor(command: Command) -> str:
    return command.name.replace(" ", "-")


def _section(command: Command) -> Iterator[str]:
    yield f"{'##' if len(command.path) == 1 else '###'} {command.name}\n\n"
    yield from _usage(command)
    if command.path == ("doctor",):
        yield DOCTOR
        for code in Code:
            number, name, severity = code.value
            yield f"| {number} | `{name}` | {severity.value} |\n"
        yield "\n"


def _usage(command: Command) -> Iterator[str]:
    yield f"    {synopsis(command)}\n\n"
    yield "\n\n".join(_wrapped(line) for line in command.help.splitlines()) + "\n\n"
    items = [*command.arguments, *command.options]
    for one in items:
        yield _wrapped(f"- {_term(one)}{_said(one)}", "  ") + "\n"
    if items:
        yield "\n"


def synopsis(command: Command) -> str:
    """One line: how it is called."""
    words = [command.name]
    words += ["[OPTIONS]"] if any(not one.is_required for one in command.options) else []
    words += [f"{one.names[0]} {one.metavar}" for one in command.options if one.is_required]
    words += [_argument(one) for one in command.arguments]
    return " ".join([*words, "COMMAND [ARGS]…"] if command.commands else words)


def _argument(one: Parameter) -> str:
    text = "KIND" if one.choices else one.metavar
    return text if one.is_required else f"[{text}]"


def _term(one: Parameter) -> str:
    names = ", ".join(f"`{name}`" for name in one.names) if one.is_option else f"`{_argument(one)}`"
    return f"{names} `{one.metavar}`" if one.is_option and one.metavar else names


def _said(one: Parameter) -> str:
    """Colon, help, and what typer would add."""
    facts = []
    if one.is_required and one.is_option:
        facts.append("required")
    if one.choices and not one.is_option:
        facts.append(f"one of {', '.join(one.choices)}")
    if one.default:
        facts.append(f"default: {one.default}")
    if one.variable:
        facts.append(f"environment: {one.variable}")
    more = f" [{'; '.join(facts)}]" if facts else ""
    return f": {one.help}{more}" if one.help else more


def _wrapped(text: str, indent: str = "") -> str:
    shown = text.replace("<", r"\<")
    return textwrap.fill(shown, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


# -- manual pages ------------------------------------------------------------------------------------------------------


def manual() -> dict[str, str]:
    """Name of the file -> manual page: one of the program, and one for each command with those below it."""
    root = whole()
    pages = {"proxypool.1": "".join(_program_page(root))}
    for command in root.commands:
        pages[f"proxypool-{command.path[0]}.1"] = "".join(_command_page(command))
    return pages


def _program_page(root: Command) -> Iterator[str]:
    yield _title("proxypool", root.summary)
    yield f".SH SYNOPSIS\n.B proxypool\n{_roff('[OPTIONS] COMMAND [ARGS]…')}\n"
    yield f".SH DESCRIPTION\n{_roff(root.help)}\n"
    yield ".SH OPTIONS\n"
    yield from _items(root.options)
    yield ".SH COMMANDS\n"
    for command in root.commands:
        yield f".TP\n.BR proxypool\\-{_roff(command.path[0])} (1)\n{_roff(command.summary)}\n"
    yield ".SH EXIT STATUS\n"
    for code, meaning in MEANINGS.items():
        yield f".TP\n.B {code.value}\n{_roff(meaning)}\n"
    yield ".SH ENVIRONMENT\n"
    for name, meaning in VARIABLES:
        yield f".TP\n.B {_roff(name)}\n{_roff(meaning)}\n"
    yield f".SH FILES\n.TP\n.I {_roff(DEFAULT_PATH)}\nThe configuration; `proxypool config schema` describes it.\n"
    yield ".SH SEE ALSO\n.BR keepalived (8),\n.BR conntrackd (8)\n"


def _command_page(command: Command) -> Iterator[str]:
    yield _title(f"proxypool-{command.path[0]}", command.summary)
    yield ".SH SYNOPSIS\n"
    leaves = [one for one in command.walk() if not one.commands]
    for one in leaves:
        yield f".B {_roff(one.name)}\n{_roff(synopsis(one).removeprefix(one.name).strip())}\n.br\n"
    yield f".SH DESCRIPTION\n{_paragraphs(command.help)}"
    if leaves == [command]:
        yield ".SH OPTIONS\n"
        yield from _items((*command.arguments, *command.options))
    else:
        yield ".SH COMMANDS\n"
        for one in leaves:
            yield f".SS {_roff(synopsis(one))}\n{_paragraphs(one.help)}"
            yield from _items((*one.arguments, *one.options))
    if command.path == ("doctor",):
        yield ".SH FINDINGS\n"
        for code in Code:
            number, name, severity = code.value
            yield f".TP\n.B {number} {_roff(name)}\n{severity.value}\n"
    yield ".SH SEE ALSO\n.BR proxypool (1)\n"


def _title(name: str, summary: str) -> str:
    return (
        f'.TH {name.upper()} 1 "" "proxypool" "proxypool"\n.SH NAME\n{_roff(name)} \\- {_roff(summary.rstrip("."))}\n'
    )


def _items(items: tuple[Parameter, ...]) -> Iterator[str]:
    for one in items:
        names = ", ".join(rf"\fB{_roff(name)}\fR" for name in one.names) if one.is_option else _roff(_argument(one))
        value = rf" \fI{_roff(one.metavar)}\fR" if one.is_option and one.metavar else ""
        yield f".TP\n{names}{value}\n{_roff(_said(one).removeprefix(':').strip())}\n"


def _paragraphs(text: str) -> str:
    return ".PP\n".join(f"{_roff(line)}\n" for line in text.splitlines())


def _roff(text: str) -> str:
    """Text that troff takes as it is: its escapes, and lines that look like requests."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace("…", "...").replace("`", "")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped


def write() -> None:
    """All files; pages of commands that are gone go."""
    REFERENCE.write_text(reference(), encoding="utf-8")
    pages = manual()
    for path in MANUAL.glob("*.1"):
        if path.name not in pages:
            path.unlink()
    for name, text in pages.items():
        (MANUAL / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
