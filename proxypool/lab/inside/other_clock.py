"""python -m proxypool.lab.inside.other_clock run node: one of our daemons, with a wall clock that libfaketime sets.

While that clock jumps libfaketime (0.9.10) mixes the old and the new time in the moment until which a thread is to
sleep: it is in the past, and refused (EINVAL), or an hour away. No kernel does that. It leaves `select` alone.
"""

import runpy
import select
import time
from typing import SupportsIndex


def sleep(seconds: float | SupportsIndex) -> None:
    """As `time.sleep`."""
    select.select((), (), (), float(seconds))


if __name__ == "__main__":
    time.sleep = sleep
    runpy.run_module("proxypool", run_name="__main__", alter_sys=True)
