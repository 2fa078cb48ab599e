"""The instruments' arithmetic: what counts as a gap, a loss, a stall."""

import errno
import math
import time
from collections.abc import Iterator

import pytest

from proxypool.lab.inside.blackout import Blackout
from proxypool.lab.inside.instrument import WHOAMI, address, failure, packed, quantile, unpacked
from proxypool.lab.inside.responder import answer as answer_of_responder
from proxypool.lab.inside.spread import Spread
from proxypool.lab.inside.talks import Plan, Talk, Talks

BEGAN = 1.0
"""Seconds of uptime: the instrument's clock has to be past it, on a computer that has just been started too."""


@pytest.fixture
def blackout() -> Blackout:
    """One that has sent a request at 0, 1, … 99 ms and heard nothing yet. Nothing is sent in these tests."""
    measured = Blackout(("127.0.0.1", 9), 0.001)
    measured.link.close()
    for number in range(100):
        measured.sent_at.append(BEGAN + number / 1000)
        measured.answer_after.append(-1.0)
    return measured


def answer(blackout: Blackout, numbers: range, after_s: float = 0.0005) -> None:
    for number in numbers:
        blackout.answer_after[number] = after_s
        blackout.answers.append(blackout.sent_at[number] + after_s)


def test_all_answered_is_no_gap(blackout: Blackout) -> None:
    answer(blackout, range(100))
    result = blackout.result()
    assert (result["sent"], result["received"], result["lost"]) == (100, 100, 0)
    assert (result["blackout_ms"], result["longest"], result["gaps"]) == (0.0, None, [])
    assert result["answering_at_end"] is True
    assert result["round_trip_ms"] == {"p50": 0.5, "p99": 0.5}


def test_the_longest_gap_is_the_blackout_and_short_ones_are_not_reported(blackout: Blackout) -> None:
    for numbers in (range(10), range(15, 30), range(50, 60), range(95, 100)):
        answer(blackout, numbers)
    result = blackout.result()
    assert result["lost"] == 60
    assert result["blackout_ms"] == 36.0
    gaps = result["gaps"]
    assert isinstance(gaps, list)
    assert [gap["ms"] for gap in gaps] == [21.0, 36.0]
    assert math.isclose(gaps[1]["start"], BEGAN + 0.0595)
    assert gaps[1]["end_wall"] - gaps[1]["start_wall"] == pytest.approx(0.036, abs=1e-5)


def test_no_answer_at_all_is_a_gap_from_the_first_request(blackout: Blackout) -> None:
    result = blackout.result()
    assert result["received"] == 0
    assert result["answering_at_end"] is False
    assert isinstance(result["longest"], dict)
    assert result["longest"]["start"] == BEGAN


def test_a_gap_that_lasts_to_the_end_counts(blackout: Blackout) -> None:
    answer(blackout, range(50))
    result = blackout.result()
    assert result["answering_at_end"] is False
    assert isinstance(result["longest"], dict)
    assert math.isclose(result["longest"]["start"], BEGAN + 0.0495)


def test_quantile() -> None:
    assert quantile([], 0.5) is None
    assert quantile([3.0], 0.99) == 3.0
    assert quantile([float(n) for n in range(100)], 0.99) == 99.0
    assert quantile([0.001, 0.002, 0.003], 0.5, 1e3) == 2.0


def test_address() -> None:
    assert address("172.16.101.4:7007") == ("172.16.101.4", 7007)


def test_the_responder_echoes_and_says_who_asks() -> None:
    client = ("172.16.101.11", 40123)
    assert answer_of_responder(b"12345678", client) == b"12345678"
    assert answer_of_responder(WHOAMI + b"and more", client) == WHOAMI + b"and more"
    said = answer_of_responder(WHOAMI, client)
    assert len(said) == len(WHOAMI)
    assert unpacked(said) == client
    assert said == packed(client)


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (errno.ECONNRESET, "reset"),
        (errno.EPIPE, "reset"),
        (errno.ECONNREFUSED, "refused"),
        (errno.EHOSTUNREACH, "unreachable"),
        (errno.ENETUNREACH, "unreachable"),
        (errno.ETIMEDOUT, "timeout"),
        (errno.EPERM, "eperm"),
        (0, "closed"),
    ],
)
def test_why_a_connection_is_over(number: int, why: str) -> None:
    assert failure(OSError(number, "")) == why


@pytest.fixture
def talks() -> Iterator[Talks]:
    """Five connections, none of which is real: they were opened at 1 s, 2 s, … of the clock and nothing is sent."""
    measured = Talks(Plan(("127.0.0.1", 9), count=5, interval_s=0.05))
    for number in range(5):
        talk = Talk(("127.0.0.1", 9), number)
        talk.link.close()
        talk.over, talk.over_at, talk.opened_at, talk.waiting_since = "", None, BEGAN + number, None
        measured.talks.append(talk)
    yield measured
    measured.poller.close()


def test_talks_are_counted_by_how_they_ended_and_by_source(talks: Talks) -> None:
    alive, hanging, broken, ended, refused = talks.talks
    for talk, last in ((alive, 11), (hanging, 13), (broken, 11), (ended, 11)):
        talk.established_at = talk.opened_at + 0.001
        talk.source = (f"172.16.101.{last}", 40000)
        talk.longest_wait = 0.25
    hanging.waiting_since = time.monotonic() - 5
    broken.over, broken.over_at = "reset", 9.0
    ended.over, ended.over_at = "ended", 8.0
    refused.over, refused.over_at = "refused", 7.0
    result = talks.result()
    connections = result.pop("connections")
    stalls = result.pop("stall_ms")
    assert result == {
        "mode": "tcp",
        "wanted": 5,
        "opened": 5,
        "established": 4,
        "alive": 1,
        "hanging": 1,
        "ended": 1,
        "broken": {"reset": 1, "refused": 1},
        "sources": {"172.16.101.11": 3, "172.16.101.13": 1},
        "connect_ms": {"p50": 1.0, "p99": 1.0, "max": 1.0},
    }
    assert isinstance(stalls, dict)
    assert stalls["p50"] == 250.0
    assert 5000 <= stalls["max"] < 6000
    assert isinstance(connections, list)
    assert [one["state"] for one in connections] == ["alive", "hanging", "reset", "ended", "refused"]
    assert connections[2] == {
        "opened": BEGAN + 2,
        "established": BEGAN + 2.001,
        "over": 9.0,
        "state": "reset",
        "source": "172.16.101.11",
        "stall_ms": 250.0,
    }
    assert (connections[4]["source"], connections[4]["established"]) == (None, None)


def test_flows_are_counted_by_source() -> None:
    spread = Spread(("127.0.0.1", 9), 4, first_port=None, timeout_s=1.0)
    spread.poller.close()
    spread.sources.update(["172.16.101.11", "172.16.101.13", "172.16.101.11"])
    spread.failed["reset"] += 1
    spread.after_s, spread.took_s = [0.002, 0.001, 0.003], 0.5
    assert spread.result() == {
        "mode": "tcp",
        "wanted": 4,
        "answered": 3,
        "failed": {"reset": 1},
        "sources": {"172.16.101.11": 2, "172.16.101.13": 1},
        "took_s": 0.5,
        "per_s": 6.0,
        "answer_ms": {"p50": 2.0, "p99": 3.0},
    }
