"""Stops a process for most of the time.

python -m proxypool.lab.inside.stutter PID STOPPED_S PERIOD_S
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

from proxypool.lab.inside.instrument import say


def main(pid: int, stopped_s: float, period_s: float) -> None:
    """Until killed, or the process has ended."""
    say("ready")
    os.close(1)
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(stopped_s)
            os.kill(pid, signal.SIGCONT)
            time.sleep(period_s - stopped_s)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
