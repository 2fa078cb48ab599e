"""How many pairs a subnet should have: one rule after the other."""

from __future__ import annotations

import msgspec
import pytest

from proxypool.core.scaling.model import Cause, Decision, Hold, Observation, Signal
from proxypool.core.scaling.policy import UNKNOWN, History, Parameters, decide
from proxypool.core.scaling.windows import Window, changes_at, extreme, with_highest, with_lowest

PARAMETERS = Parameters(target=0.9, panic_target=0.75, tolerance=0.1, confirm_s=30, stable_s=300, step_pairs=8)


class Subnet:
    """A subnet whose controller looks every two seconds and whose wishes come true at once."""

    def __init__(self, active: int, parameters: Parameters = PARAMETERS) -> None:
        self.parameters, self.active, self.draining, self.now = parameters, active, 0, 0.0
        self.history = History()
        self.wanted = [active]

    def look(self, load: float | None, **others: float | None) -> Decision:
        loads = {Signal.BYTES: load, **{Signal(name): value for name, value in others.items()}}
        seen = Observation(now=self.now, active=self.active, draining=self.draining, load=loads)
        self.history, decision = decide(self.parameters, self.history, seen)
        return decision

    def run(self, seconds: float, load: float | None, **others: float | None) -> Decision:
        """Do as it is told for so long."""
        until = self.now + seconds
        while self.now < until:
            decision = self.look(load, **others)
            self.active = decision.wanted
            if self.wanted[-1] != decision.wanted:
                self.wanted.append(decision.wanted)
            self.now += 2
        return decision


def test_target_tracking_keeps_one_pair_in_reserve() -> None:
    """1.9 pairs of load are more than two carry at 90 %, so three; the fourth is for the loss of one."""
    subnet = Subnet(3)
    decision = subnet.run(100, 1.9)
    assert (decision.asked, decision.wanted, decision.cause) == (4, 4, Cause.LOAD)


def test_many_pairs_keep_headroom_for_more_than_one() -> None:
    """20 pairs of load are what 23 carry at 90 %, one of them in reserve; a fifth more load needs 24."""
    assert (Subnet(30).look(20.0).asked, Subnet(30).look(4.0).asked) == (24, 6)


def test_the_signal_that_asks_for_most_wins() -> None:
    """And the others are shown."""
    decision = Subnet(6).look(1.0, ports=4.0, packets=None)
    assert (decision.signal, decision.asked) == (Signal.PORTS, 6)
    assert decision.per_signal == {Signal.BYTES: 3, Signal.PORTS: 6, Signal.PACKETS: None}


def test_pairs_are_added_when_the_load_has_asked_for_them_for_long_enough() -> None:
    """A short rise that the reserve carries adds nothing."""
    subnet = Subnet(4)
    subnet.run(60, 2.6)
    short = subnet.run(20, 2.9)
    assert (short.wanted, short.held, short.again_at) == (4, (Hold.CONFIRMING,), 90)
    subnet.run(20, 2.6)
    subnet.run(28, 2.9)
    assert subnet.active == 4
    subnet.run(4, 2.9)
    assert subnet.active == 5


def test_panic_does_not_wait() -> None:
    """The load is more than the pairs carry with one of them lost: at once, and with room for another such jump."""
    subnet = Subnet(4)
    subnet.run(60, 2.6)
    decision = subnet.look(3.1)
    assert (decision.wanted, decision.cause, decision.is_panic) == (6, Cause.PANIC, True)


def test_a_lone_pair_that_is_nearly_empty_gets_its_reserve_without_panic() -> None:
    """A passing connection to a quiet subnet is no reason for a second pair; one that is half full is in a hurry."""
    quiet = Subnet(1)
    assert quiet.run(28, 0.01).cause is Cause.LOAD
    assert quiet.run(100, 0.0).wanted == 1
    assert quiet.run(40, 0.4).wanted == 2
    decision = Subnet(1).look(0.6)
    assert (decision.wanted, decision.is_panic) == (2, True)


def test_drops_are_panic() -> None:
    """They say that there is no room, whatever the load looks like."""
    seen = Observation(now=0, active=4, load={Signal.BYTES: 2.7}, drops=True)
    _, decision = decide(PARAMETERS, History(), seen)
    assert (decision.wanted, decision.is_panic) == (5, True)


def test_pairs_are_drained_when_fewer_were_enough_for_a_stable_window() -> None:
    """Not before."""
    subnet = Subnet(6)
    subnet.run(400, 4.4)
    assert subnet.active == 6
    subnet.run(298, 2.4)
    assert (subnet.active, subnet.look(2.4).held) == (6, (Hold.STABLE_WINDOW,))
    subnet.run(10, 2.4)
    assert subnet.wanted == [6, 4]


def test_a_peak_within_the_window_holds_the_pairs() -> None:
    """However short it was."""
    subnet = Subnet(6)
    subnet.run(400, 4.4)
    subnet.run(200, 2.4)
    subnet.run(2, 4.4)
    subnet.run(290, 2.4)
    assert subnet.active == 6


def test_all_that_is_too_much_drains_together() -> None:
    """While pairs drain, no others begin to."""
    subnet = Subnet(9)
    subnet.run(302, 1.5)
    assert subnet.wanted == [9, 3]
    subnet.active, subnet.draining = 5, 4
    assert (subnet.look(1.5).wanted, subnet.look(1.5).held) == (5, (Hold.DRAINING,))
    subnet.draining = 0
    assert subnet.look(1.5).wanted == 3


def test_what_the_last_window_needed_stays() -> None:
    """However little the load is now: 6 is carried by nine pairs, 1 by three."""
    subnet = Subnet(13)
    subnet.run(200, 6.0)
    subnet.run(110, 2.5)
    assert subnet.wanted == [13, 9]
    subnet.run(180, 2.5)
    assert subnet.wanted == [13, 9]
    subnet.run(12, 2.5)
    assert subnet.wanted == [13, 9, 5]


@pytest.mark.parametrize(("load", "waits_s", "left"), [(1.0, 150, 3), (1.7, 300, 4)])
def test_where_fewer_than_a_third_are_needed_half_of_the_window_is_enough(
    load: float, waits_s: float, left: int
) -> None:
    """Twelve pairs after a spike: three are fewer than a third of them, four are not."""
    subnet = Subnet(12)
    subnet.run(400, 8.5)
    subnet.run(waits_s, load)
    assert subnet.wanted == [12]
    subnet.run(4, load)
    assert subnet.wanted == [12, left]


def test_a_load_that_is_not_known_holds_for_a_whole_window_also_where_few_are_needed() -> None:
    """Half of it is enough only for what was seen."""
    subnet = Subnet(12)
    subnet.run(400, 8.5)
    subnet.run(10, None)
    decision = subnet.run(290, 1.0)
    assert (decision.wanted, decision.held) == (12, (Hold.MISSING_DATA,))
    assert subnet.run(14, 1.0).wanted == 3


def test_tolerance_keeps_a_pair_that_a_little_more_load_would_call_back() -> None:
    """1.75 is 1.93 with a tenth more, and two pairs carry 1.8 at 90 %."""
    subnet = Subnet(4)
    decision = subnet.run(1000, 1.75)
    assert (decision.asked, decision.wanted, decision.held) == (3, 4, (Hold.TOLERANCE,))
    assert subnet.run(1000, 1.6).wanted == 3


@pytest.mark.parametrize("unknown", [{}, {"ports": None}])
def test_what_is_not_known_never_drains(unknown: dict[str, None]) -> None:
    """Neither when nothing is known nor when one signal is missing, nor until a stable window after it."""
    subnet = Subnet(6)
    subnet.run(250, 1.0, ports=1.0)
    decision = subnet.run(2000, 1.0 if unknown else None, **unknown)
    assert (decision.wanted, decision.held) == (6, (Hold.MISSING_DATA,))
    assert subnet.run(290, 1.0, ports=1.0).wanted == 6
    assert subnet.run(20, 1.0, ports=1.0).wanted < 6


def test_nothing_known_is_said_so() -> None:
    """It stays as it is."""
    decision = Subnet(6).look(None)
    assert (decision.wanted, decision.asked, decision.cause) == (6, 0, Cause.NO_DATA)


def test_a_known_signal_adds_pairs_although_another_is_missing() -> None:
    """Missing data hold back only what shrinks."""
    assert Subnet(4).look(5.0, ports=None).wanted == 8


def test_what_is_known_of_an_unknown_load_adds_pairs_and_drains_none() -> None:
    """Half of the pairs are heard of, and they alone carry more than there is room for."""
    known = {Signal.BYTES: 5.0}
    seen = Observation(now=0, active=4, load={Signal.BYTES: None, Signal.PORTS: 0.1}, at_least=known)
    _, decision = decide(PARAMETERS, History(), seen)
    assert (decision.wanted, decision.signal, decision.per_signal[Signal.BYTES]) == (8, Signal.BYTES, None)
    history = History()
    for now in range(0, 2000, 2):
        seen = Observation(
            now=now, active=4, load={Signal.BYTES: None, Signal.PORTS: 0.1}, at_least={Signal.BYTES: 0.1}
        )
        history, decision = decide(PARAMETERS, history, seen)
    assert (decision.wanted, decision.held) == (4, (Hold.MISSING_DATA,))


def test_a_new_leader_drains_nothing_before_a_stable_window_has_passed() -> None:
    """It begins with an empty history."""
    subnet = Subnet(9)
    subnet.run(298, 0.5)
    assert subnet.wanted == [9]
    subnet.run(4, 0.5)
    assert subnet.wanted == [9, 2]


@pytest.mark.parametrize(
    ("active", "load", "minimum", "maximum", "wanted", "cause"),
    [
        (1, 0.1, 3, 8, 3, Cause.MIN_PAIRS),
        (1, None, 3, 8, 3, Cause.MIN_PAIRS),
        (4, 30.0, 1, 8, 8, Cause.MAX_PAIRS),
        (8, 30.0, 1, 8, 8, Cause.MAX_PAIRS),
    ],
)
def test_limits(active: int, load: float | None, minimum: int, maximum: int, wanted: int, cause: Cause) -> None:
    """Minimum and maximum are kept at once."""
    parameters = msgspec.structs.replace(PARAMETERS, min_pairs=minimum, max_pairs=maximum)
    decision = Subnet(active, parameters).look(load)
    assert (decision.wanted, decision.cause) == (wanted, cause)


def test_a_lower_maximum_takes_no_pair_that_the_load_needs() -> None:
    """An operator who lowers it below the load does not overload the subnet."""
    parameters = msgspec.structs.replace(PARAMETERS, max_pairs=3)
    assert Subnet(6, parameters).run(1000, 4.0).wanted == 6


def test_steps_and_their_rate_are_limited() -> None:
    """Eight at most, or twice as many as there were, in 15 s."""
    subnet = Subnet(2)
    decision = subnet.look(40.0)
    assert (decision.wanted, decision.held) == (10, (Hold.RATE_LIMIT,))
    subnet.run(14, 40.0)
    assert subnet.wanted == [2, 10]
    subnet.run(6, 40.0)
    assert subnet.wanted == [2, 10, 30]


def test_who_only_observes_is_told_the_same_all_the_time() -> None:
    """Nothing is taken for done: neither a limit is used up nor a drain begun by being talked of."""
    subnet = Subnet(2)
    told = set()
    for _ in range(100):
        told.add(subnet.look(40.0).wanted)
        subnet.now += 2
    assert told == {10}


def test_flapping_makes_it_wait_longer() -> None:
    """Twice within the hour pairs were added soon after a drain: the third drain waits for two windows."""
    subnet = Subnet(4)
    subnet.run(400, 2.6)
    for _ in range(2):
        subnet.run(320, 1.6)
        subnet.run(10, 2.6)
        subnet.run(40, 2.9)
    assert len(subnet.history.flaps) == 2
    before = subnet.active
    decision = subnet.run(320, 1.6)
    assert (decision.held, subnet.active) == ((Hold.FLAPPING,), before)
    assert subnet.run(320, 1.6).wanted < before


def test_a_load_for_which_there_never_were_enough_pairs_is_no_flapping() -> None:
    """Four pairs became three; 3.5 would have called others beside the four, too."""
    subnet = Subnet(4)
    subnet.run(400, 2.6)
    subnet.run(320, 1.6)
    assert subnet.active == 3
    subnet.run(10, 3.5)
    assert (subnet.active, subnet.history.flaps) == (6, ())


def test_pairs_that_went_in_two_steps_are_missed_together() -> None:
    """Nine, then seven, then five: 7.5 is more than seven pairs carry, and no more than nine did."""
    subnet = Subnet(9)
    subnet.run(150, 4.8)
    subnet.run(154, 3.0)
    subnet.run(150, 3.0)
    assert subnet.wanted == [9, 7, 5]
    subnet.run(10, 7.5)
    assert len(subnet.history.flaps) == 1


def test_a_load_that_comes_back_late_is_no_flapping() -> None:
    """A stable window after the drain."""
    subnet = Subnet(4)
    subnet.run(400, 2.6)
    subnet.run(320, 1.6)
    subnet.run(320, 1.6)
    assert subnet.active == 3
    subnet.run(40, 2.9)
    assert (subnet.active, subnet.history.flaps) == (5, ())


def test_a_drain_is_regretted_once() -> None:
    """However many steps the pairs come back in."""
    parameters = msgspec.structs.replace(PARAMETERS, step_pairs=1, step_factor=0.0)
    subnet = Subnet(9, parameters)
    subnet.run(400, 6.0)
    subnet.run(320, 3.0)
    assert subnet.active == 5
    subnet.run(80, 6.0)
    assert (subnet.wanted, len(subnet.history.flaps)) == ([9, 5, 6, 7, 8], 1)


def test_a_load_that_came_back_within_the_hour_makes_it_wait_for_a_whole_window() -> None:
    """Also where few pairs are needed."""
    subnet = Subnet(12)
    subnet.run(400, 8.5)
    subnet.run(160, 1.0)
    subnet.run(10, 8.5)
    assert (len(subnet.history.flaps), subnet.active) == (1, 11)
    assert subnet.run(290, 1.0).wanted == 11
    assert subnet.run(14, 1.0).wanted == 3


def test_history_can_be_written_and_read() -> None:
    """It is small and plain."""
    subnet = Subnet(3)
    subnet.run(3000, 1.0)
    subnet.run(100, 5.0)
    raw = msgspec.json.encode(subnet.history)
    assert msgspec.json.decode(raw, type=History) == subnet.history
    assert len(raw) < 400


def test_windows_do_not_care_how_often_one_looks() -> None:
    """A value holds until the next one is seen."""
    often: Window = ((0.0, 5),)
    seldom = often
    for now in range(1, 61):
        often = with_highest(often, now, 3, 60)
    seldom = with_highest(seldom, 1, 3, 60)
    seldom = with_highest(seldom, 60, 3, 60)
    assert often == seldom
    assert (extreme(seldom, 60, 60), changes_at(seldom, 60, 60)) == (5, 61)
    assert extreme(with_highest(seldom, 61, 3, 60), 61, 60) == 3


def test_the_lowest_value_of_a_window() -> None:
    """The mirror image."""
    window = with_lowest(with_lowest(((0.0, 9),), 10, 2, 30), 20, 7, 30)
    assert extreme(window, 20, 30) == 2
    assert extreme(with_lowest(window, 51, 7, 30), 51, 30) == 7


def test_unknown_is_more_than_any_subnet_has() -> None:
    """It stands for a need that no number of pairs covers."""
    assert Parameters().max_pairs < UNKNOWN
