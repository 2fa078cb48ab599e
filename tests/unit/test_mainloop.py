"""The loop of a daemon, and how it ends."""

from __future__ import annotations

import pytest

from proxypool.daemons.mainloop import Stop, ThreadEnded, run_until_stopped


@pytest.mark.parametrize(("last", "status"), [(Stop(), 0), (ThreadEnded("watcher"), 1)], ids=["stopped", "broken"])
def test_it_ends_with_what_ended_it(last: object, status: int) -> None:
    """A thread that is missing is no good end: whoever started the daemon has to know."""
    messages, seen = iter(["one", "two", last, "three"]), list[object]()
    assert run_until_stopped(lambda: next(messages), seen.append) == status
    assert seen == ["one", "two"]


def test_a_defect_in_the_handling_of_one_message_is_not_the_end() -> None:
    messages, seen = iter([0, 1, Stop()]), list[float]()
    assert run_until_stopped(lambda: next(messages), lambda number: seen.append(1 / number)) == 0  # type: ignore[operator]
    assert seen == [1.0]
