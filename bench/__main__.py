"""python -m bench [NAME ...] [--runs N] [--quick|--small] [--tunnel auto|gre|vxlan]

Measures, prints a table and writes bench/out/NAME.json. Needs root; on an otherwise idle computer, or the figures mean
little. Without NAME: all of them.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import subprocess
import sys
import time
from typing import Protocol, cast

from bench import report
from bench.settings import Settings
from proxypool.lab import preflight
from proxypool.lab.errors import LabError

NAMES = (
    "datapath",
    "failover",
    "false-alarms",
    "mass-failover",
    "survival",
    "onboard",
    "restart",
    "footprint",
    "many-hosts",
    "attach",
    "first-use",
    "sticky",
    "simulate",
    "cli-start",
    "control-plane",
    "scale-live",
    "scrape",
)


class Bench(Protocol):
    """A module of this package."""

    def run(self, settings: Settings) -> report.Report:
        """Measure. Whatever was started is gone afterwards."""


def main() -> int:
    """0, 1 with one sentence, or 130 after Ctrl-C."""
    options = _arguments()
    # SIGTERM cleans up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        preflight.require()
        tunnel, remark = preflight.choose_tunnel(options.tunnel)
        if remark:
            _say(0.0, remark)
        for name in options.names or NAMES:
            _measure(name, Settings(tunnel, options.runs, options.quick))
    except (LabError, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"error: {error}\n{error.stderr}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _measure(name: str, asked: Settings) -> None:
    began = time.monotonic()
    settings = Settings(asked.tunnel, asked.runs, asked.is_quick, lambda text: _say(time.monotonic() - began, text))
    settings.progress(f"{name}:")
    machine = report.machine(settings.tunnel.value)
    bench = cast("Bench", importlib.import_module(f"bench.{name.replace('-', '_')}"))
    found = bench.run(settings)
    if settings.is_quick:
        found.notes.append("--quick: a smoke test, not a measurement")
    path = report.write(name, found.document(machine))
    print(f"\n{name} ({machine['cpu']}, {machine['cores']} cores, {machine['kernel']}, {machine['tunnel']})")
    print(f"{found.table()}\n→ {path}\n", flush=True)


def _say(at_s: float, text: str) -> None:
    sys.stderr.write(f"{at_s:7.1f} s  {text}\n")
    sys.stderr.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure, print a table, write bench/out/NAME.json."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)}; default: all")
    parser.add_argument("--runs", type=_positive, metavar="N", help="default: what each bench thinks right, mostly 20")
    parser.add_argument(
        "--quick", "--small", action="store_true", help="3 short runs and few subnets: does it work at all?"
    )
    parser.add_argument("--tunnel", choices=("auto", "gre", "vxlan"), default="auto")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in NAMES]:
        parser.error(f"no bench {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return options


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


if __name__ == "__main__":
    sys.exit(main())
