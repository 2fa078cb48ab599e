"""Datagrams to a service manager's socket, as sd_notify(3) describes them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxypool.adapters.systemd import notifier_of
from proxypool.core.errors import InvalidInput


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A manager's socket and what NOTIFY_SOCKET says of it."""
    name = f"proxypool-test-{os.getpid()}"
    bound, told = (f"\0{name}", f"@{name}") if request.param == "abstract" else (str(tmp_path / "notify"),) * 2
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(bound)
        made.settimeout(5)
        yield made, told


def test_words_arrive_in_one_datagram(listener: tuple[socket.socket, str]) -> None:
    manager, address = listener
    notifier = notifier_of({"NOTIFY_SOCKET": address})
    assert notifier.is_heard
    assert notifier.tell(READY=1, STATUS="all is well")
    assert manager.recv(4096) == b"READY=1\nSTATUS=all is well"
    notifier.close()


def test_what_a_daemon_starts_does_not_speak_for_it(listener: tuple[socket.socket, str]) -> None:
    """conntrackd would say that it is ready, and how it is."""
    environment = {
        "NOTIFY_SOCKET": listener[1],
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
        "A": "b",
    }
    notifier = notifier_of(environment)
    assert (notifier.watchdog_s, environment) == (30.0, {"A": "b"})
    notifier.close()


@pytest.mark.parametrize(
    "environment",
    [
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {},
    ],
    ids=["another process", "off", "nonsense", "none"],
)
def test_a_watchdog_that_is_not_ours_is_none(environment: dict[str, str]) -> None:
    notifier = notifier_of({"NOTIFY_SOCKET": "/run/nobody", **environment})
    assert notifier.watchdog_s is None
    notifier.close()


def test_without_a_service_manager_nothing_happens() -> None:
    notifier = notifier_of({})
    assert not notifier.is_heard
    assert notifier.tell(READY=1)
    notifier.close()


def test_a_manager_that_is_not_there_is_told_later(tmp_path: Path) -> None:
    """The daemon goes on, and knows that nobody heard."""
    path = tmp_path / "notify"
    notifier = notifier_of({"NOTIFY_SOCKET": str(path)})
    assert not notifier.tell(READY=1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        assert notifier.tell(READY=1)
    notifier.close()


def test_a_manager_that_does_not_read_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Its queue is full: the main loop must not wait for it."""
    path = tmp_path / "notify"
    notifier = notifier_of({"NOTIFY_SOCKET": str(path)})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        assert not all(notifier.tell(STATUS="x" * 400) for _ in range(10_000))
    notifier.close()


def test_an_address_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(InvalidInput, match="NOTIFY_SOCKET=vsock:2:1234"):
        notifier_of({"NOTIFY_SOCKET": "vsock:2:1234"})
