"""python -m tests.soak: traffic, churn and faults in a lab; exit status 1 if something grows by more than it may."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from proxypool.lab.lab import Lab, remove
from tests.lab.observe import wait_settled
from tests.soak import runner
from tests.soak.growth import table

LAB = "soak"


def main() -> int:
    """Parse, run, tell."""
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        lab = Lab.up(runner.topology_of(options.name), lambda text: print(text, flush=True))
        wait_settled(lab, 60.0)
        run = runner.run(lab, options.seed, options.minutes * 60.0, lambda text: print(text, flush=True))
    finally:
        remove(options.name)
    file = options.out / f"{options.seed.replace('/', '-')}.json"
    run.write(file)
    print(f"\n{table(run.verdicts())}\n\n{run.faults} faults, {run.acts}, {run.connections} connections; {file}")
    problems = run.problems()
    print(*(f"GROWS: {text}" for text in problems), sep="\n")
    return 1 if problems else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, metavar="M")
    parser.add_argument("--seed", default=str(int(time.time()) % 100000), help="default: the time")
    parser.add_argument("--out", type=Path, default=Path("tests/soak/out"), metavar="DIR")
    parser.add_argument("--name", default=LAB, help="of the lab")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
