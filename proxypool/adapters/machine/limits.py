"""Many probes at the same time, each on a thread of its own: one that hangs delays nobody and is left behind.

A thread that is stuck in the kernel, as on a dead network file system, cannot be ended; it ends with the process.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from proxypool.core.errors import ProxypoolError


@dataclass(frozen=True, slots=True)
class Seen:
    """How a probe ended: with a value, or with why there is none."""

    name: str
    value: Any = None
    why_not: str = ""


def gather(probes: Mapping[str, Callable[[], Any]], within_s: float) -> Iterator[Seen]:
    """What each probe returns, in the order in which they end. After `within_s` those that did not are told as such."""
    done: queue.SimpleQueue[Seen] = queue.SimpleQueue()
    for name, probe in probes.items():
        threading.Thread(target=_run, args=(name, probe, done), name=f"probe-{name}", daemon=True).start()
    waiting, deadline = set(probes), time.monotonic() + within_s
    while waiting:
        try:
            seen = done.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        waiting.remove(seen.name)
        yield seen
    for name in probes:
        if name in waiting:
            yield Seen(name, why_not=f"no answer within {within_s:g} s")


def _run(name: str, probe: Callable[[], Any], done: queue.SimpleQueue[Seen]) -> None:
    try:
        done.put(Seen(name, probe()))
    except ProxypoolError as error:
        done.put(Seen(name, why_not=str(error)))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        done.put(Seen(name, why_not=f"{where}{error.strerror or error}"))
    except Exception as error:  # noqa: BLE001 - a probe that fails in its own way must not take the others with it
        done.put(Seen(name, why_not=f"{type(error).__name__}: {error}"))
