"""From echoes to HaVips that count as silent, and to those that get connections at all."""

from __future__ import annotations

from ipaddress import IPv4Address

from proxypool.daemons.messages import HavipsAsked
from proxypool.daemons.pair_watch import MISSES, PROOF_ROUNDS, PairWatch

A, B = IPv4Address("192.168.4.100"), IPv4Address("192.168.4.101")
BOTH, NOBODY = frozenset({A, B}), frozenset[IPv4Address]()


def watch() -> tuple[PairWatch, list[frozenset[IPv4Address]]]:
    """One that does not run, and the silent ones whenever they are others than before."""
    said: list[frozenset[IPv4Address]] = []

    def note(asked: HavipsAsked) -> None:
        if asked.silent != (said[-1] if said else NOBODY):
            said.append(asked.silent)

    return PairWatch(0.2, note), said


def proving() -> tuple[PairWatch, list[HavipsAsked]]:
    """One that does not run, and all it says."""
    said: list[HavipsAsked] = []
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


def test_a_havip_is_proven_by_its_first_answer_and_stays_so() -> None:
    found, said = proving()
    found.count(BOTH, frozenset({A}))
    assert said == [HavipsAsked(NOBODY, frozenset({A}))]
    found.count(BOTH, BOTH)
    assert said[1:] == [HavipsAsked(NOBODY, BOTH)]
    for _ in range(MISSES):
        found.count(BOTH, frozenset({A}))
    assert said[2:] == [HavipsAsked(frozenset({B}), BOTH)]


def test_a_havip_that_answers_nothing_for_long_is_taken_for_one_that_cannot() -> None:
    found, said = proving()
    for _ in range(PROOF_ROUNDS - 1):
        found.count(BOTH, frozenset({A}))
    assert said == [HavipsAsked(NOBODY, frozenset({A}))]
    found.count(BOTH, frozenset({A}))
    assert said[1:] == [HavipsAsked(NOBODY, BOTH)]


def test_a_pair_that_is_added_again_has_to_prove_itself_again() -> None:
    found, said = proving()
    found.count(BOTH, BOTH)
    found.count(frozenset({A}), frozenset({A}))
    found.count(BOTH, frozenset({A}))
    assert said == [HavipsAsked(NOBODY, BOTH), HavipsAsked(NOBODY, frozenset({A}))]
