"""python -m tests.soak: traffic, churn and faults in a lab; exit status 1 if something grows by more than it may."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from proxypool.lab.lab import Lab, remove
from tests.lab.observe import PATIENCE, wait_settled
from tests.soak import runner
from tests.soak.growth import table

LAB = "soak"


def main() -> int:
    """Parse, run, tell."""
    options = _options()
    file = options.out / f"{options.seed.replace('/', '-')}.json"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        lab = Lab.up(runner.topology_of(options.name), lambda text: print(text, flush=True))
        wait_settled(lab, 60.0)
        try:
            run = runner.run(lab, options.seed, options.minutes * 60.0, lambda text: print(text, flush=True))
        except Exception:
            _keep_evidence(lab, file.with_suffix(".logs"))
            raise
    finally:
        remove(options.name)
    run.write(file)
    print(f"\n{table(run.verdicts())}\n\n{run.faults} faults, {run.acts}, {run.connections} connections; {file}")
    problems = run.problems()
    print(*(f"GROWS: {text}" for text in problems), sep="\n")
    return 1 if problems else 0


def _keep_evidence(lab: Lab, directory: Path) -> None:
    """What a lab that does not come to rest says of it; it is taken down then."""
    for name, machine in lab.machines.items():
        for service in machine.service_names():
            log = directory / f"{name}-{service}.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(machine.log(service))
    for words in (("status", "-o", "json"), ("history",), ("events",)):
        done = lab.proxypool(*words, on="host1", check=False, timeout=60 * PATIENCE)
        (directory / f"{words[0]}.txt").write_text(done.stdout + done.stderr)
    print(f"what all of them said is in {directory}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, metavar="M")
    parser.add_argument("--seed", default=str(int(time.time()) % 100000), help="default: the time")
    parser.add_argument("--out", type=Path, default=Path("tests/soak/out"), metavar="DIR")
    parser.add_argument("--name", default=LAB, help="of the lab")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
