"""Every command, option and argument as values, for what is made of them: completion, manual pages, reference."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, get_args

from typer.main import get_command

GLOBAL = "proxypool"
_FILE_METAVARS = frozenset({"FILE", "PATH"})


@dataclass(frozen=True, slots=True)
class Parameter:
    """An option, or an argument."""

    names: tuple[str, ...]
    """`--output`, `-o`; of an argument its metavar alone."""
    metavar: str
    """What stands for its value; empty: it takes none."""
    help: str
    is_option: bool
    is_required: bool
    is_repeatable: bool
    choices: tuple[str, ...] = ()
    default: str = ""
    variable: str = ""
    """Of the environment."""

    @property
    def is_file(self) -> bool:
        """Whether its value names one."""
        return self.metavar in _FILE_METAVARS or self.metavar.lower() == "file"


@dataclass(frozen=True, slots=True)
class Command:
    """A command, or a group of some."""

    path: tuple[str, ...]
    """Without the program's name: empty for the program itself."""
    help: str
    options: tuple[Parameter, ...]
    arguments: tuple[Parameter, ...]
    commands: tuple[Command, ...]

    @property
    def name(self) -> str:
        """As it is typed."""
        return " ".join((GLOBAL, *self.path))

    @property
    def summary(self) -> str:
        """The first line of its help."""
        return self.help.splitlines()[0] if self.help else ""

    def walk(self) -> Iterator[Command]:
        """It, and all below it, in order."""
        yield self
        for command in self.commands:
            yield from command.walk()


def whole() -> Command:
    """The program. Loads the modules of all commands."""
    from proxypool.cli.main import app

    return _command(get_command(app), ())


def _command(found: Any, path: tuple[str, ...]) -> Command:
    below = getattr(found, "commands", {})
    loaded = [(name, command.load() if hasattr(command, "load") else command) for name, command in below.items()]
    parameters = [_parameter(one) for one in found.params if not getattr(one, "hidden", False)]
    return Command(
        path=path,
        help=_text(found.help),
        options=tuple(one for one in parameters if one.is_option),
        arguments=tuple(one for one in parameters if not one.is_option),
        commands=tuple(_command(command, (*path, name)) for name, command in loaded),
    )


def _text(text: str | None) -> str:
    """Paragraphs, each on one line."""
    paragraphs = re.split(r"\n\s*\n", (text or "").strip())
    return "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _parameter(found: Any) -> Parameter:
    kind = found.type_descriptor.annotation
    inner = next((one for one in get_args(kind) if isinstance(one, type)), kind)
    choices = tuple(str(one.value) for one in inner) if isinstance(inner, type) and issubclass(inner, Enum) else ()
    is_option = found.param_type_name == "option"
    is_flag = is_option and inner is bool
    names = tuple(sorted((*found.opts, *found.secondary_opts), key=lambda name: not name.startswith("--")))
    metavar = "" if is_flag else found.metavar or _metavar(found.name, inner, choices)
    return Parameter(
        names=names if is_option else (metavar,),
        metavar=metavar,
        help=" ".join((found.help or "").split()),
        is_option=is_option,
        is_required=bool(found.required),
        is_repeatable=bool(found.multiple) or found.nargs == -1,
        choices=choices,
        default="" if is_flag else _default(found.default),
        variable=found.envvar if isinstance(found.envvar, str) else "",
    )


def _metavar(name: str, kind: Any, choices: tuple[str, ...]) -> str:
    if choices:
        return "|".join(choices)
    return {int: "N", float: "NUMBER"}.get(kind, name.upper())


def _default(value: Any) -> str:
    """As somebody would type it; empty: none, or one that is computed."""
    if value is None or callable(value) or value in ("", [], ()):
        return ""
    if isinstance(value, Enum):
        return str(value.value)
    return f"{value:g}" if isinstance(value, float) else str(value)
