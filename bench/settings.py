"""What the command line asked for, as every bench gets it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from proxypool.lab.topology import Tunnel

QUICK_RUNS = 3


@dataclass(frozen=True)
class Settings:
    """One run of one bench."""

    tunnel: Tunnel
    runs: int | None = None
    """None: what the bench thinks right."""
    is_quick: bool = False
    """For a smoke test: few runs, short, and few subnets where many are meant. Its numbers mean nothing."""
    progress: Callable[[str], None] = field(default=print)
    began: float = field(default_factory=time.monotonic)

    def runs_or(self, default: int) -> int:
        """How many runs: as asked for, else 3 when quick, else `default`."""
        if self.runs is not None:
            return self.runs
        return min(QUICK_RUNS, default) if self.is_quick else default

    def many_subnets(self) -> int:
        """100; few when quick."""
        return 5 if self.is_quick else 100
