"""Groups whose commands are imported when the line names them, and options that need no pydantic.

typer imports pydantic (0.15 s) to coerce the value of any option, even a text. `proxypool status` is polled by people
and scripts, so values that are already right are taken as they are; all others go typer's way, errors included.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from enum import Enum
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command


class LazyCommand(TyperCommand):
    """Stands for a command or group in the list of commands, without its module."""

    def __init__(self, name: str, module: str, summary: str) -> None:
        super().__init__(name, help=summary, add_help_option=False)
        self._module = module

    def load(self) -> Any:
        """The command itself."""
        app: typer.Typer = importlib.import_module(self._module).app
        command = get_command(app)
        command.name = self.name
        return quickened(command)


class LazyGroup(TyperGroup):
    """A group that loads the command it was asked for, and no other."""

    commands_by_module: Iterable[tuple[str, str, str]] = ()
    """Name, module with an `app`, and summary, in the order of `--help`."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, module, summary in self.commands_by_module:
            self.add_command(LazyCommand(name, module, summary), name)
        _quicken_own(self)

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order given, not by name."""
        del ctx
        return list(self.commands)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the line names, loaded."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, LazyCommand) else command, rest


def quickened(command: Any) -> Any:
    """The same command, whose options of simple types are taken as they are; so are those of its own commands."""
    _quicken_own(command)
    for below in getattr(command, "commands", {}).values():
        quickened(below)
    return command


_UNCLEAR = object()


def _quicken_own(command: Any) -> None:
    for parameter in command.params:
        _quicken(parameter)
    make_help_option = command.get_help_option

    def get_help_option(ctx: Any) -> Any:
        option = make_help_option(ctx)
        if option is not None:
            _quicken(option)
        return option

    command.get_help_option = get_help_option


def _quicken(parameter: Any) -> None:
    if not hasattr(parameter, "type_descriptor") or "process_value" in vars(parameter):
        return
    slow = parameter.process_value
    kind, is_multiple = parameter.type_descriptor.annotation, parameter.multiple or parameter.nargs != 1

    def process(ctx: Any, value: Any) -> Any:
        found = _UNCLEAR if is_multiple else _as_it_is(kind, value)
        if found is _UNCLEAR or (parameter.required and found is None):
            return slow(ctx, value)
        return found if parameter.callback is None else parameter.callback(ctx, parameter, found)

    parameter.process_value = process


def _as_it_is(kind: Any, value: Any) -> Any:
    """The value as the type wants it, if there is nothing to convert and nothing that could be wrong."""
    if value is None:
        return None
    if not isinstance(kind, type):
        return _UNCLEAR
    if issubclass(kind, Enum):
        return kind(value) if value in [member.value for member in kind] else _UNCLEAR
    return value if kind in (str, bool, int, float) and type(value) is kind else _UNCLEAR
