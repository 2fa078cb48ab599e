"""An instance that asks a database every millisecond, seen from outside.

with Probe(lab, "pod1", address) as probe:
    began = lab.fault("power-off", "node-a")
    …
    seen = probe.result()
seen.silence_ms(began), seen.lost(began)
"""

from __future__ import annotations

import json
import subprocess
from typing import Any, Self

from proxypool.lab.errors import LabTimeout
from proxypool.lab.inside.instrument import ANSWERING
from proxypool.lab.lab import Lab
from proxypool.lab.prober import Instrument, finest_interval_ms
from proxypool.lab.services import INSIDE
from proxypool.lab.topology import RESPONDER_PORT


class Seen:
    """What an instance saw. Times are of CLOCK_MONOTONIC, which all machines of a lab share."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.sent = int(document["sent"])
        self.own_stall_ms = float(document["own_stall_ms"])
        """The longest time the instrument itself did not run: no gap below this says anything."""
        self.first_answer: float | None = document["first_answer"]
        self.last_answer: float | None = document["last_answer"]
        self.was_answering_at_end = bool(document["answering_at_end"])
        self._gaps = [(start, end) for start, end in document["gaps_s"]]
        self._lost_at: list[float] = document["lost_at"]

    def silence_ms(self, since: float) -> float:
        """The longest time between two answers of which the second came after `since`. However short: also noise."""
        return max(((end - start) * 1e3 for start, end in self._gaps if end > since), default=0.0)

    def silence(self, since: float) -> tuple[float, float]:
        """Beginning and end of what `silence_ms` tells; `ValueError` if no answer came after `since`."""
        return max(((start, end) for start, end in self._gaps if end > since), key=lambda gap: gap[1] - gap[0])

    def lost(self, since: float = 0.0) -> int:
        """Requests without an answer, sent after `since`."""
        return sum(1 for at in self._lost_at if at > since)


class Probe(Instrument):
    """The instrument of `bench.inside`."""

    def __init__(
        self, lab: Lab, machine: str, target: str, *, interval_ms: float | None = None, is_patient: bool = False
    ) -> None:
        """`is_patient`: do not wait for the first answer; it may take as long as it likes."""
        super().__init__(lab, machine, target, f"--interval-ms={interval_ms or finest_interval_ms()}")
        self.is_patient = is_patient

    def start(self) -> None:
        """Start it and, unless patient, wait for the first answers. `LabTimeout` when none come."""
        command = [*INSIDE, "bench.inside", self.target, *self.options]
        self._process = self.machine.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if not self.is_patient:
            self.wait_answering(self.answer_timeout_s)

    def wait_answering(self, timeout_s: float) -> None:
        """Until the first answer came. `LabTimeout` if none does."""
        if self._line(timeout_s).strip() != ANSWERING:
            errors = self._end()
            raise LabTimeout(f"no answer from {self.target} to {self.machine.name} within {timeout_s:.0f} s {errors}")

    def seen(self) -> Seen:
        """Stop it and read what it saw."""
        return Seen(self.result())

    def __enter__(self) -> Self:
        try:
            return super().__enter__()
        except BaseException:
            self._end()
            raise

    def __exit__(self, kind: object, *rest: object) -> None:
        """A result that nobody asked for is not wanted."""
        self._end()


def wait_reached(lab: Lab, pod: str, addresses: list[str], timeout_s: float = 30.0) -> None:
    """Until each address has answered an instance. `LabTimeout` names those that did not."""
    targets = [f"{address}:{RESPONDER_PORT}" for address in addresses]
    command = [*INSIDE, "proxypool.lab.inside.reach", str(timeout_s), *targets]
    done = lab.machine(pod).run(command, check=False, timeout=timeout_s + 10)
    if done.returncode:
        missing = json.loads(done.stdout)["missing"] if done.stdout else [done.stderr]
        raise LabTimeout(f"no answer to {pod} within {timeout_s:.0f} s from {', '.join(missing[:5])}")
