"""From echoes to HaVips that count as silent."""

from __future__ import annotations

from ipaddress import IPv4Address

from proxypool.daemons.pair_watch import MISSES, PairWatch

A, B = IPv4Address("192.168.4.100"), IPv4Address("192.168.4.101")
BOTH, NOBODY = frozenset({A, B}), frozenset[IPv4Address]()


def watch() -> tuple[PairWatch, list[frozenset[IPv4Address]]]:
    """One that does not run, and what it says."""
    said: list[frozenset[IPv4Address]] = []
    return PairWatch(0.2, said.append), said


def test_silence_takes_several_rounds_and_one_answer_ends_it() -> None:
    found, said = watch()
    found.count(BOTH, BOTH)
    for _ in range(MISSES - 1):
        found.count(BOTH, frozenset({B}))
    assert said == []
    found.count(BOTH, frozenset({B}))
    assert said == [{A}]
    found.count(BOTH, frozenset({B}))
    assert said == [{A}]
    found.count(BOTH, BOTH)
    assert said == [{A}, NOBODY]


def test_a_havip_that_never_answered_is_not_silent() -> None:
    """Echo may be filtered in this network: silence would say nothing."""
    found, said = watch()
    for _ in range(3 * MISSES):
        found.count(BOTH, frozenset({B}))
    assert said == []


def test_lost_answers_do_not_add_up() -> None:
    found, said = watch()
    for _ in range(10):
        found.count(BOTH, BOTH)
        for _ in range(MISSES - 1):
            found.count(BOTH, frozenset({B}))
    assert said == []


def test_a_havip_that_is_no_longer_asked_for_is_forgotten() -> None:
    found, said = watch()
    found.count(BOTH, BOTH)
    for _ in range(MISSES):
        found.count(BOTH, frozenset({B}))
    found.count(frozenset({B}), frozenset({B}))
    assert said == [{A}, NOBODY]
    for _ in range(MISSES):
        found.count(BOTH, frozenset({B}))
    assert said == [{A}, NOBODY]
