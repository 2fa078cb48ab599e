"""Mode strict: the kernel forwards for as long as the lease allows, and who was permitted is known after a restart.

The kernel's lease (a set whose member goes by itself) comes before anything else that is done: whoever leaves the
election has closed its kernel first. See ADR 17.
"""

from __future__ import annotations

import logging
import math
from typing import Protocol

from proxypool.adapters.keepalived import TrackFile
from proxypool.core.errors import TransientError
from proxypool.core.role import MemberState

log = logging.getLogger(__name__)


class KernelLease(Protocol):
    """What rules of mode strict ask; see `netlink.LeaseHandle`. Both methods may raise TransientError."""

    def grant(self, duration_s: int) -> None:
        """Forward for so long from now."""

    def end(self) -> None:
        """Forward no longer."""


class Permission:
    """Of one member."""

    def __init__(self, file: TrackFile, label: str) -> None:
        """`file` has the epoch of the last permission; `label` is for logs."""
        self._file, self._label = file, label
        self._is_ungranted = True
        """Whether the kernel's lease is not known to be as it must be."""

    def remembered(self) -> int:
        """The epoch that was permitted last, in this life or one before; 0: none."""
        return self._file.read() or 0

    def follow(self, before: MemberState, state: MemberState, kernel: KernelLease | None, now: float) -> None:
        """Do what the new state demands. `kernel`: None while the namespace is not open."""
        if state.permitted_epoch != before.permitted_epoch:
            self._remember(state.permitted_epoch)
        if kernel is None or state.lease is None or not state.is_strict:
            return
        left_s = math.floor(state.lease.until - now) if state.is_permitted and not state.must_yield else 0
        is_new = state.lease is not before.lease or not before.is_permitted or self._is_ungranted
        if left_s >= 1 and not is_new:
            return
        if left_s < 1 and not (before.is_permitted or self._is_ungranted):
            return
        try:
            kernel.grant(left_s) if left_s >= 1 else kernel.end()
            self._is_ungranted = False
        except TransientError as error:
            # What was granted runs out by itself.
            self._is_ungranted = True
            log.error("%s: %s", self._label, error)

    def _remember(self, epoch: int) -> None:
        try:
            self._file.write(epoch)
        except TransientError as error:
            # It waits for a predecessor after a restart that is not there.
            log.error("%s: %s", self._label, error)

    def forget(self) -> None:
        """The pair is no longer served here."""
        self._file.remove()
