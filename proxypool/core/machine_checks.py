"""What can be wrong with whole machines and their daemons: findings that `status` shows. Pure; times are wall times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from proxypool.core.checks import Check, Code
from proxypool.core.model import Alive, NodeSpec
from proxypool.core.versions import RunningVersion, mixed_since, told

MIXED_S = 86400.0
"""A rolling upgrade that takes longer has been forgotten half way."""


def check_node(spec: NodeSpec, alive: Alive | None) -> Iterator[Check]:
    """What is wrong with a whole machine that is alive; a dead one shows in its pairs."""
    for problem in alive.problems if alive else ():
        yield Check.of(Code.NODE_PROBLEM, f"nodes/{spec.id}", f"{spec.id}: {problem}")


def check_hosts(alive: Mapping[str, Alive]) -> Iterator[Check]:
    """What is wrong with whole machines among the function hosts that are alive. They are many, and often have the same
    trouble: that is one finding, about the first of them.
    """
    having: dict[str, list[str]] = {}
    for name in sorted(alive):
        for problem in alive[name].problems:
            having.setdefault(problem, []).append(name)
    for problem, (first, *others) in having.items():
        more = f" and {len(others)} other host{'' if len(others) == 1 else 's'}" if others else ""
        yield Check.of(Code.HOST_PROBLEM, f"hosts/{first}", f"{first}{more}: {problem}")


def check_versions(running: Sequence[RunningVersion], now: float) -> Iterator[Check]:
    """Whether daemons of several versions have run side by side for too long."""
    since = mixed_since(running)
    if since is not None and now - since > MIXED_S:
        yield Check.of(
            Code.MIXED_VERSIONS,
            "versions",
            f"daemons of several versions have run for {(now - since) / 3600:.0f} h: {'; '.join(map(told, running))}; "
            "finish the upgrade, or take it back",
        )
