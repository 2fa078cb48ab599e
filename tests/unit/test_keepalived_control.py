"""When keepalived is told to read its files, against a program that only remembers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import cast

import pytest

from proxypool.adapters.keepalived import Keepalived
from proxypool.core.keepalived import STARTUP_DELAY_S
from proxypool.daemons.keepalived_control import RECONNECT_S, RELOAD_INTERVAL_S, KeepalivedControl
from proxypool.daemons.messages import KeepalivedSynced


class _Program:
    """A keepalived that accepts everything."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.age: float | None = 1000.0
        self.reloads = 0

    def check_program(self) -> None:
        pass

    def install(self, wanted: Mapping[str, str]) -> bool:
        is_new, self.files = self.files != dict(wanted), dict(wanted)
        return is_new

    def installed(self) -> dict[str, str]:
        return self.files

    @property
    def process(self) -> _Program:
        return self

    def pid(self) -> int | None:
        return 4711 if self.age is not None else None

    def age_s(self) -> float | None:
        return self.age

    def reload(self) -> None:
        self.reloads += 1


@pytest.fixture
def program() -> _Program:
    return _Program()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in its only element."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def posted() -> list[KeepalivedSynced]:
    return []


@pytest.fixture
def control(program: _Program, posted: list[KeepalivedSynced], clock: list[float]) -> KeepalivedControl:
    return KeepalivedControl(cast(Keepalived, program), posted.append)


def test_new_files_are_read_at_once_and_reloads_are_spaced(
    control: KeepalivedControl, program: _Program, posted: list[KeepalivedSynced], clock: list[float]
) -> None:
    control.sync({"a": "1"})
    control.sync({"a": "2"})
    assert program.reloads == 1
    assert posted[-1].needs_reload
    clock[0] += RELOAD_INTERVAL_S
    control.sync({"a": "2"})
    control.sync({"a": "2"})
    assert program.reloads == 2
    assert not posted[-1].needs_reload


def test_one_that_has_just_started_listens_before_it_reads_again(
    control: KeepalivedControl, program: _Program, posted: list[KeepalivedSynced], clock: list[float]
) -> None:
    """A reload would end the time in which it claims nothing."""
    program.age = 0.3
    control.sync({"a": "1"})
    assert program.reloads == 0
    assert posted[-1].needs_reload
    program.age = STARTUP_DELAY_S + 0.2
    clock[0] += 1.0
    control.sync({"a": "1"})
    assert program.reloads == 1


def test_one_that_missed_our_directories_listens_first_too(
    control: KeepalivedControl, program: _Program, clock: list[float]
) -> None:
    program.age = 0.3
    control.reconnect()
    assert program.reloads == 0
    program.age = STARTUP_DELAY_S + 0.2
    control.reconnect()
    control.reconnect()
    assert program.reloads == 1
    clock[0] += RECONNECT_S
    control.reconnect()
    assert program.reloads == 2


def test_one_that_does_not_run_reads_its_files_when_it_starts(
    control: KeepalivedControl, program: _Program, posted: list[KeepalivedSynced]
) -> None:
    program.age = None
    control.sync({"a": "1"})
    assert program.reloads == 0
    assert "not running" in str(posted[-1].problem)
    assert not posted[-1].needs_reload


def test_files_that_are_to_be_kept_stay_as_they_are(control: KeepalivedControl, program: _Program) -> None:
    """And are not made where they are not."""
    program.files = {"a": "of a predecessor", "b": "old"}
    control.sync({"c": "1"}, frozenset({"a", "z"}))
    assert program.files == {"a": "of a predecessor", "c": "1"}
