"""What the service manager is told, and when, against one that only listens."""

from __future__ import annotations

import pytest

from proxypool.adapters.systemd import Notifier
from proxypool.daemons.pulse import DEAD_S
from proxypool.daemons.reload_request import Answers
from proxypool.daemons.service import CALLS, MAX_STATUS, SIGN_S, Service


class _Manager(Notifier):
    """Hears everything; can be told to be deaf."""

    def __init__(self, watchdog_s: float | None = 30.0) -> None:
        self.watchdog_s = watchdog_s
        self.heard: list[dict[str, str | int]] = []
        self.is_deaf = False

    def tell(self, **words: str | int) -> bool:
        if not self.is_deaf:
            self.heard.append(words)
        return not self.is_deaf

    def names(self) -> list[str]:
        """Of what it heard since the last time."""
        found = [name for words in self.heard for name in words]
        self.heard.clear()
        return found


@pytest.fixture
def manager() -> _Manager:
    return _Manager()


@pytest.fixture
def service(manager: _Manager) -> Service:
    return Service(manager, session_timeout_s=4.0, answers=Answers(None))


def test_a_start_may_last_as_long_as_the_loop_goes_round(manager: _Manager, service: Service) -> None:
    """Each turn extends it; nothing is ready, and there is no watchdog yet."""
    service.goes_round(100.0)
    service.goes_round(100.0 + SIGN_S / 2)
    service.goes_round(100.0 + SIGN_S)
    assert manager.names() == ["EXTEND_TIMEOUT_USEC", "EXTEND_TIMEOUT_USEC"]


def test_ready_is_told_once_and_then_signs_of_life(manager: _Manager, service: Service) -> None:
    service.ready()
    service.goes_round(100.0)
    service.ready()
    service.goes_round(100.0 + SIGN_S)
    assert manager.names() == ["READY", "WATCHDOG", "WATCHDOG"]


def test_ready_is_told_again_if_it_did_not_arrive(manager: _Manager, service: Service) -> None:
    """A service that was never ready would be killed."""
    manager.is_deaf = True
    service.ready()
    service.goes_round(100.0)
    manager.is_deaf = False
    service.goes_round(100.1)
    assert manager.names()[0] == "READY"


def test_a_loop_that_does_not_come_by_is_silent(manager: _Manager, service: Service) -> None:
    """What is said elsewhere is no sign of life."""
    service.ready()
    service.goes_round(100.0)
    manager.names()
    service.say("well")
    assert manager.names() == []


def test_a_status_is_one_short_line_and_told_when_it_changed(manager: _Manager, service: Service) -> None:
    service.say("two\n  lines" + "x" * 1000)
    service.goes_round(100.0)
    service.goes_round(100.0 + SIGN_S)
    said = [words["STATUS"] for words in manager.heard if "STATUS" in words]
    assert said == [("two lines" + "x" * 1000)[:MAX_STATUS]]


def test_a_long_session_has_a_long_watchdog() -> None:
    """A call to ZooKeeper keeps the loop for the session's time, and that is no hang."""
    manager = _Manager(watchdog_s=30.0)
    Service(manager, session_timeout_s=60.0, answers=Answers(None)).begin()
    assert manager.heard == [{"WATCHDOG_USEC": int((DEAD_S + CALLS * 60.0) * 1e6)}]


@pytest.mark.parametrize("watchdog_s", [30.0, None], ids=["long enough", "no watchdog"])
def test_a_short_session_leaves_the_watchdog_as_the_unit_says(watchdog_s: float | None) -> None:
    manager = _Manager(watchdog_s)
    Service(manager, session_timeout_s=4.0, answers=Answers(None)).begin()
    assert manager.heard == []


def test_a_reload_ends_ready_again(manager: _Manager, service: Service) -> None:
    """With the time at which it began: systemd waits for a later READY."""
    service.ready()
    service.goes_round(100.0)
    manager.names()
    service.reloading()
    service.reloaded(None)
    assert manager.names() == ["RELOADING", "MONOTONIC_USEC", "READY"]


def test_a_reload_before_it_was_ready_does_not_make_it_so(manager: _Manager, service: Service) -> None:
    service.reloading()
    service.reloaded(None)
    service.goes_round(100.0)
    assert "READY" not in manager.names()


def test_a_stop_is_told(manager: _Manager, service: Service) -> None:
    service.stopping()
    assert manager.names() == ["STOPPING", "STATUS"]
