"""python -m tests.chaos: random schedules of faults, recorded and checked. Exit status 1 if an invariant was violated."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from proxypool.lab.lab import Lab, remove
from proxypool.lab.topology import Topology
from tests.chaos import runner
from tests.chaos.checker import Violation, check, timeline
from tests.chaos.history import History
from tests.chaos.schedule import make
from tests.lab.observe import wait_settled

LAB = "chaos"


def main() -> int:
    """Parse, run, tell."""
    options = _options()
    if options.replay:
        return report(History.read(options.replay), options.replay)
    if options.show:
        for number in _numbers(options):
            print(f"seed {options.seed}/{number}")
            print(*make(f"{options.seed}/{number}", _topology(options, number), options.duration), sep="\n")
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run(options)
    finally:
        remove(options.name)


def run(options: argparse.Namespace) -> int:
    """All schedules of a kind in one lab; in a new one after a violation, which may have left something behind."""
    options.out.mkdir(parents=True, exist_ok=True)
    bad: list[str] = []
    lab: Lab | None = None
    for number in _numbers(options):
        seed, topology = f"{options.seed}/{number}", _topology(options, number)
        print(f"schedule {seed}, {options.duration:.0f} s", flush=True)
        if lab is not None and lab.topology.egress is not topology.egress:
            lab.down()
            lab = None
        if lab is None:
            lab = Lab.up(topology)
            wait_settled(lab, 30.0)
        steps = make(seed, lab.topology, options.duration)
        history = runner.run(lab, seed, steps, options.duration, lambda text: print(f"  {text}", flush=True))
        file = options.out / f"{seed.replace('/', '-')}.json"
        history.write(file)
        if report(history, file):
            bad.append(seed)
            lab.down()
            lab = None
    if bad:
        print(f"\nviolations with the seeds {', '.join(bad)}")
        for seed in bad:
            first, _, which = seed.rpartition("/")
            print(f"  again: make chaos SEED={first} FIRST={which} N=1")
    return 1 if bad else 0


def _numbers(options: argparse.Namespace) -> list[int]:
    """Those without egress addresses first, so that a lab is made once for each kind."""
    return sorted(range(options.first, options.first + options.schedules), key=_has_egress)


def _has_egress(number: int) -> bool:
    """Every other schedule."""
    return number % 2 == 1


def _topology(options: argparse.Namespace, number: int) -> Topology:
    return runner.topology_of(options.name, egress=_has_egress(number))


def report(history: History, file: Path) -> int:
    """Tell what was found; how many violations."""
    found = check(history)
    sent, lost = sum(p.sent for p in history.probes), sum(p.lost for p in history.probes)
    longest = max((b - a for p in history.probes for a, b in p.gaps), default=0.0)
    print(
        f"  seed {history.seed}: {len(history.faults)} events in {history.end - history.start:.0f} s, {sent} requests, "
        f"{lost} lost, longest gap {longest:.2f} s, {len(history.connections)} connections, "
        f"{len(found)} violations; {file}"
    )
    for violation in found:
        tell(history, violation)
    sys.stdout.flush()
    return len(found)


def tell(history: History, violation: Violation) -> None:
    """A violation with what went on around it."""
    print(f"\n  VIOLATION of {violation}")
    print(*(f"    {line}" for line in timeline(history, violation)), sep="\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", default=str(int(time.time()) % 100000), help="of all schedules; default: the time")
    parser.add_argument("--schedules", type=int, default=1, metavar="N")
    parser.add_argument("--first", type=int, default=0, metavar="K", help="begin with the seed's K-th schedule")
    parser.add_argument("--duration", type=float, default=40.0, metavar="S", help="of a schedule, without the healing")
    parser.add_argument("--out", type=Path, default=Path("tests/chaos/out"), metavar="DIR")
    parser.add_argument("--name", default=LAB, help="of the lab")
    parser.add_argument("--show", action="store_true", help="print the schedules, run nothing")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="check a recorded history again")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
