"""One fault, or a few, in a lab that is watched from outside; what was recorded is held to the invariants at the end.

    with Trial(lab, subnet) as trial:
        trial.fault("power-off", master)
        …
    measured("blackout ms", trial.blackout_ms)

The observers and the checker are those of `tests.chaos`. Where a processor of this computer stood still just before something
went wrong, `MachineStalled` is raised, and the test is made again, twice at most.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Self

from proxypool.lab.fault_kinds import Options
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from tests.chaos.checker import Violation, check, timeline
from tests.chaos.history import History
from tests.chaos.recorder import Recorder
from tests.lab.observe import master_of, masters, open_gates, other_of, unsettled, wait_until
from tests.lab.stalls import MachineStalled, Stalls

AFTER_S = 0.5
"""Still watched after the last step."""
BEFORE_S = 1.0
"""What a processor that stood still so long before does not explain."""


class Trial:
    """See the module's text. `subnet`: the one whose pair is looked at."""

    def __init__(self, lab: Lab, subnet: SubnetPlan) -> None:
        self.lab, self.subnet = lab, subnet
        self.master = master_of(lab, subnet)
        self.backup = other_of(subnet, self.master)
        self.recorder, self.stalls = Recorder(lab), Stalls()
        self.history: History | None = None

    def __enter__(self) -> Self:
        self.stalls.__enter__()
        try:
            self.recorder.__enter__()
        except BaseException:
            self.stalls.__exit__()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            time.sleep(AFTER_S)
        try:
            self.recorder.__exit__(kind, *rest)
        finally:
            self.stalls.__exit__()
        if kind is None:
            self.history = self.recorder.history("a test")
            found = check(self.history)
            told = [line for violation in found for line in (str(violation), *timeline(self.history, violation))]
            for violation in found:
                self._excuse_stalled(violation.start, violation.end, told)
            assert not found, "\n".join(told)

    def _excuse_stalled(self, start: float, end: float, told: list[str]) -> None:
        """Raise `MachineStalled` if that may be why."""
        if stalls := self.stalls.within(start - BEFORE_S, end):
            raise MachineStalled("\n".join([f"stood still: {', '.join(map(str, stalls))}", *told]))

    def fault(self, kind: str, machine: str, **options: float | str) -> float:
        """Inject or heal one. `options` as in `proxypool.lab.fault_kinds.Options`."""
        return self.recorder.fault(kind, machine, Options(**options))  # type: ignore[arg-type]

    def wait_master(self, node: str, timeout_s: float = 5.0) -> None:
        """Until a node, and it alone, has the HaVip and an open gate."""
        wait_until(
            lambda: masters(self.lab, self.subnet) == {node} == open_gates(self.lab, self.subnet),
            timeout_s,
            lambda: (
                f"{node} alone; HaVip on {masters(self.lab, self.subnet)}, "
                f"gate open on {open_gates(self.lab, self.subnet)}"
            ),
        )

    def wait_settled(self, timeout_s: float = 20.0) -> None:
        """Until all is well again with the pair."""

        def look() -> str:
            return unsettled(self.lab, self.subnet)

        wait_until(lambda: not look(), timeout_s, look)

    @property
    def blackout_ms(self) -> float:
        """The longest time without an answer through the pair."""
        assert self.history is not None
        gaps = [b - a for p in self.history.probes if p.subnet == self.subnet.id for a, b in p.gaps]
        return max(gaps, default=0.0) * 1e3

    def assert_undisturbed(self) -> None:
        """No request through the pair was lost, and the HaVip did not move. Otherwise what went on around the first silence
        is told.
        """
        assert self.history is not None
        gaps = [gap for p in self.history.probes if p.subnet == self.subnet.id for gap in p.gaps]
        start, end = gaps[0] if gaps else (self.history.start, self.history.end)
        what = Violation(2, self.subnet.id, start, end, f"{self.lost} requests lost, {self.moves} moves of the HaVip")
        if (self.lost, self.moves) != (0, 0):
            told = timeline(self.history, what)
            self._excuse_stalled(self.history.start, self.history.end, told)
            raise AssertionError("\n".join(told))

    @property
    def lost(self) -> int:
        """Requests through the pair that were never answered."""
        assert self.history is not None
        return sum(p.lost for p in self.history.probes if p.subnet == self.subnet.id)

    @property
    def moves(self) -> int:
        """How often another MAC answered for the HaVip than before."""
        assert self.history is not None
        order = sorted((s.start, s.mac) for s in self.history.holders if s.address == self.subnet.havip)
        return sum(a[1] != b[1] for a, b in pairwise(order))
