"""How long nothing is tried again in a subnet after an action that failed: longer each time. Times are monotonic."""

from __future__ import annotations

from collections.abc import Mapping

from proxypool.core.scaling.documents import Action, ActionKind

FIRST_S, LAST_S = 10.0, 300.0


class Patience:
    """Of a leader's time."""

    def __init__(self) -> None:
        """Nothing has failed."""
        self._failed: dict[str, dict[ActionKind, tuple[float, float, str]]] = {}
        """By subnet and kind: until when, how long, and why."""

    def ended(self, action: Action, now: float) -> None:
        """An action is over. What was put off because the load grew has not failed."""
        failed = self._failed.setdefault(action.subnet, {})
        if not action.error or action.kind is ActionKind.DRAIN or action.opened:
            failed.pop(action.kind, None)
            return
        until, last_s, _ = failed.get(action.kind, (0.0, 0.0, ""))
        # What fails within a pause had begun before it: it is one failure.
        pause_s = last_s if now < until else min(LAST_S, max(FIRST_S, 2.0 * last_s))
        failed[action.kind] = (now + pause_s, pause_s, action.error)

    def waits(self, subnet: str, now: float) -> Mapping[ActionKind, str]:
        """Kinds of actions that are not begun again yet, and why."""
        return {
            kind: f"{why} (tried again in {until - now:.0f} s)"
            for kind, (until, _, why) in self._failed.get(subnet, {}).items()
            if now < until
        }
