"""Starts instruments in machines and reads their results.

    with Prober(lab, "pod1", lab.topology.subnet_plans[0].database_ip) as prober:
        lab.fault("power-off", "node-a")
        prober.wait()
    print(prober.result()["blackout_ms"])

On entering the block answers already come; on leaving it the instrument is told to stop. What the results contain is
said by `proxypool.lab.inside.blackout`, `.arp`, `.talks` and `.spread`.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

from proxypool.lab.errors import LabError, LabTimeout
from proxypool.lab.inside.instrument import ANSWERING
from proxypool.lab.machine import end, interrupt
from proxypool.lab.services import INSIDE
from proxypool.lab.topology import RESPONDER_PORT

if TYPE_CHECKING:
    from proxypool.lab.lab import Lab

STOP_TIMEOUT_S = 10.0


def finest_interval_ms() -> float:
    """1 ms; 10 ms on a single CPU, which a request every millisecond would keep from doing anything else."""
    return 1.0 if len(os.sched_getaffinity(0)) > 1 else 10.0


class Instrument:
    """One running instrument. `target`: ADDRESS or ADDRESS:PORT, by default the responder's port."""

    module = ""

    def __init__(self, lab: Lab, machine: str, target: str, *options: str, answer_timeout_s: float = 10.0) -> None:
        self.machine = lab.machine(machine)
        self.target = target if ":" in target else f"{target}:{RESPONDER_PORT}"
        self.options, self.answer_timeout_s = options, answer_timeout_s
        self._process: subprocess.Popen[str] | None = None
        self._result: dict[str, Any] | None = None

    def start(self) -> None:
        """Start it and wait for the first answers. `LabTimeout` when none come."""
        command = [*INSIDE, f"proxypool.lab.inside.{self.module}", self.target, *self.options]
        self._process = self.machine.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if self._line(self.answer_timeout_s).strip() != ANSWERING:
            errors, name = self._end(), self.machine.name
            raise LabTimeout(f"no answer from {self.target} to {name} within {self.answer_timeout_s:.0f} s {errors}")

    def wait(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """The result, when the instrument ends by itself. `LabTimeout` if it does not."""
        if self._result is None:
            line = self._line(timeout_s)
            errors = self._end()
            if not line:
                raise LabTimeout(
                    f"{self.module} on {self.machine.name} gave no result within {timeout_s:.0f} s {errors}"
                )
            self._result = json.loads(line)
        return self._result

    def result(self) -> dict[str, Any]:
        """The result; stops the instrument if it still runs."""
        if self._result is None:
            if self._process is None:
                raise LabError(f"{self.module} was not started or gave no result")
            interrupt(self._process)
        return self.wait(STOP_TIMEOUT_S)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self.result()
        finally:
            self._end()

    def _line(self, timeout_s: float) -> str:
        """The next line of output; empty if none comes in time. Nothing is buffered: it writes a line at a time."""
        if self._process is None or self._process.stdout is None:
            raise LabError(f"{self.module} was not started or gave no result")
        ready = select.select([self._process.stdout], [], [], timeout_s)[0]
        return self._process.stdout.readline() if ready else ""

    def _end(self) -> str:
        """Make sure that it has ended; what it said on standard error."""
        process, self._process = self._process, None
        if process is None:
            return ""
        end(process)
        with process:
            return " ".join(process.stderr.read().split()) if process.stderr else ""


class Prober(Instrument):
    """Measures the blackout: the longest time without an answer, at 1 ms resolution (see `finest_interval_ms`)."""

    module = "blackout"

    def __init__(  # noqa: PLR0913
        self,
        lab: Lab,
        machine: str,
        target: str,
        *,
        interval_ms: float | None = None,
        duration_s: float = 3600.0,
        until_recovered_s: float | None = None,
        gap_ms: float = 20.0,
        answer_timeout_s: float = 10.0,
    ) -> None:
        """With `until_recovered_s` it ends by itself when answers have come for so long after a gap of `gap_ms`."""
        options = [f"--interval-ms={interval_ms or finest_interval_ms()}", f"--duration={duration_s}"]
        if until_recovered_s is not None:
            options += [f"--until-recovered={until_recovered_s}", f"--gap-ms={gap_ms}"]
        super().__init__(lab, machine, target, *options, answer_timeout_s=answer_timeout_s)


class Holders(Instrument):
    """Asks the wire who holds addresses, such as HaVips: by ARP, from a machine of that network; see `inside.arp`."""

    module = "arp"

    def __init__(  # noqa: PLR0913
        self,
        lab: Lab,
        machine: str,
        addresses: Iterable[str],
        *,
        device: str = "eth0",
        sender: str | None = None,
        interval_ms: float = 5.0,
        duration_s: float = 3600.0,
        answer_timeout_s: float = 10.0,
    ) -> None:
        """`sender`: needed for addresses that are proxied, such as egress addresses; one that nobody has."""
        options = [f"--device={device}", f"--interval-ms={interval_ms}", f"--duration={duration_s}"]
        if sender is not None:
            options.append(f"--sender={sender}")
        super().__init__(lab, machine, ",".join(addresses), *options, answer_timeout_s=answer_timeout_s)
        self.target = ",".join(addresses)


class Connections(Instrument):
    """Keeps TCP connections talking and counts those that live, break or hang."""

    module = "talks"

    def __init__(  # noqa: PLR0913
        self,
        lab: Lab,
        machine: str,
        target: str,
        *,
        count: int = 100,
        interval_ms: float = 50.0,
        duration_s: float = 3600.0,
        alive_within_s: float = 2.0,
        rate: float | None = None,
        lifetime_s: float | None = None,
        replace: bool = False,
        ready: int | None = None,
        answer_timeout_s: float = 10.0,
    ) -> None:
        """A connection without an answer for longer than `alive_within_s` at the end hangs.

        With `rate` they are opened one after the other, so many a second. With `lifetime_s` each ends after so long.
        With `replace` there is a new one for each that broke or ended. The block is entered when `ready` of them, by
        default all, have had an answer.
        """
        options = [f"--count={count}", f"--interval-ms={interval_ms}", f"--duration={duration_s}"]
        options.append(f"--alive-within={alive_within_s}")
        optional = {"rate": rate, "lifetime": lifetime_s, "ready": ready}
        options += [f"--{name}={value}" for name, value in optional.items() if value is not None]
        if replace:
            options.append("--replace")
        super().__init__(lab, machine, target, *options, answer_timeout_s=answer_timeout_s)


class Flows(Instrument):
    """Makes many short TCP connections, or UDP flows, and counts whom the server saw; ends by itself."""

    module = "spread"

    def __init__(  # noqa: PLR0913
        self,
        lab: Lab,
        machine: str,
        target: str,
        *,
        count: int = 20000,
        udp: bool = False,
        first_port: int | None = None,
        at_once: int = 64,
        timeout_s: float = 2.0,
        answer_timeout_s: float = 10.0,
    ) -> None:
        """Each flow has `timeout_s` for its answer. `first_port`: the first source port of UDP flows."""
        options = [f"--count={count}", f"--at-once={at_once}", f"--timeout={timeout_s}", *(["--udp"] if udp else [])]
        if first_port is not None:
            options.append(f"--first-port={first_port}")
        super().__init__(lab, machine, target, *options, answer_timeout_s=answer_timeout_s)
