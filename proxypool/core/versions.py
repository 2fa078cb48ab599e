"""Which versions of proxypool run side by side in a pool, and how far they are apart. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from msgspec import Struct

from proxypool.core.model import Alive
from proxypool.core.scaling.documents import ControllerAlive

MOST_APART = 1
"""Minor versions that work together: each is tested with the one before it."""
_RELEASE = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


class Release(NamedTuple):
    """A version's numbers; what follows them, such as `.dev3`, decides nothing."""

    major: int
    minor: int
    patch: int

    @property
    def text(self) -> str:
        """As it is written."""
        return ".".join(map(str, self))


def release_of(version: str) -> Release | None:
    """The numbers of a version; None: it has none."""
    found = _RELEASE.match(version)
    return Release(int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def are_near(one: Release, other: Release) -> bool:
    """Whether daemons of these two may run in one pool."""
    return one.major == other.major and abs(one.minor - other.minor) <= MOST_APART


class RunningVersion(Struct, frozen=True, kw_only=True):
    """A version, and who runs it."""

    version: str
    """Empty: a daemon that does not say."""
    nodes: tuple[str, ...] = ()
    hosts: int = 0
    controllers: tuple[str, ...] = ()
    since: float | None = None
    """The start of the daemon that has run it for longest, seconds since the epoch; None: not known."""


def running_versions(
    nodes: Mapping[str, Alive], hosts: Mapping[str, Alive], controllers: Iterable[ControllerAlive]
) -> tuple[RunningVersion, ...]:
    """By the daemons that live, the oldest version first."""
    led = tuple(controllers)
    every: tuple[Alive | ControllerAlive, ...] = (*nodes.values(), *hosts.values(), *led)
    return tuple(
        RunningVersion(
            version=version,
            nodes=tuple(sorted(name for name, alive in nodes.items() if alive.version == version)),
            hosts=sum(alive.version == version for alive in hosts.values()),
            controllers=tuple(sorted(one.name for one in led if one.version == version)),
            since=min((one.since for one in every if one.version == version and one.since), default=None),
        )
        for version in sorted({one.version for one in every}, key=lambda text: (release_of(text) or (), text))
    )


def mixed_since(running: Iterable[RunningVersion]) -> float | None:
    """Since when there is more than one version: when the first daemon of the second one started. None: there is one,
    or nobody knows.
    """
    begun = sorted(one.since for one in running if one.version and one.since is not None)
    return begun[1] if len(begun) > 1 else None


def told(running: RunningVersion) -> str:
    """A version with who runs it, for people."""
    whose = [
        f"{count} {what}{'' if count == 1 else 's'}"
        for count, what in (
            (len(running.nodes), "node"),
            (running.hosts, "host"),
            (len(running.controllers), "controller"),
        )
        if count
    ]
    return f"{running.version or 'an unknown version'} on {', '.join(whose)}"
