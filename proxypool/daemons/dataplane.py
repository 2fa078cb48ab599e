"""The dataplane thread: observe, plan, execute, observe again, for one scope after the other.

A scope is one namespace: a subnet's, or the machine's own. The thread is level-triggered: `want` says what a scope must
look like, `touch` that it may have changed; how often either is called does not matter. Whoever is interested gets a
`Reconciled` for every round. A scope that fails is tried again with growing pauses and never holds up the others.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from proxypool.adapters.netlink import Home
from proxypool.core.errors import PermanentError, ProxypoolError
from proxypool.core.planner import MakeNamespace, Operation, Put, Remove, plan
from proxypool.core.scene import Scene
from proxypool.daemons.executor import execute, observe

log = logging.getLogger(__name__)

NODE_SCOPE, HOST_SCOPE = "(node)", "(host)"
"""Scopes of the machine's own namespace; no subnet can have these names."""
MAX_ROUNDS = 4
"""A device that is set up deletes and creates others' preconditions; more than this many rounds is a defect."""
FIRST_RETRY_S, MAX_RETRY_S = 0.2, 5.0
MIN_INTERVAL_S = 0.2
"""Pause between looks at one scope that nobody asked to change."""
LATER_S = 1.0
RESYNC_S = 240.0
"""Every scope is observed at least this often, whatever notifications were lost. It costs some 12 ms a namespace."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Result of one round for a scope."""

    scope: str
    problems: tuple[str, ...]
    operations: int
    is_repair: bool
    """Something of ours had been changed by somebody else."""
    duration_s: float
    desired: Scene
    """The wish that it was a round for."""


@dataclass(slots=True)
class _Scope:
    desired: Scene
    is_dirty: bool = True
    is_new_wish: bool = True
    has_converged: bool = False
    """Whether this wish was once fully in place: a difference after that is drift."""
    not_before: float = 0.0
    retry_s: float = FIRST_RETRY_S
    looked_at: float = 0.0
    problems: tuple[str, ...] = ()


@dataclass(slots=True)
class _Later:
    """Work that waits until no new wish is open, so that a burst of wishes is followed by one run of it."""

    run: Callable[[], None]
    not_after: float


@dataclass
class Dataplane:
    """Owner of the thread. `on_result` is called on it, and must only pass the result on."""

    on_result: Callable[[Reconciled], None]
    home: Home | None = None
    _scopes: dict[str, _Scope] = field(default_factory=dict)
    _jobs: list[Callable[[], None]] = field(default_factory=list)
    _later: dict[str, _Later] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _thread: threading.Thread | None = None
    _is_stopping: bool = False

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="dataplane", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the operation under way; kernel state stays as it is."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def want(self, scope: str, desired: Scene) -> None:
        """What a scope must look like from now on."""
        with self._changed:
            known = self._scopes.get(scope)
            if known is not None and known.desired == desired:
                return
            self._scopes[scope] = _Scope(desired)
            self._changed.notify()

    def touch(self, scope: str) -> None:
        """A scope may have changed: look soon."""
        with self._changed:
            known = self._scopes.get(scope)
            if known is not None and not known.is_dirty:
                known.is_dirty = True
                self._changed.notify()

    def submit(self, run: Callable[[], None]) -> None:
        """Run something on this thread before the next scope."""
        with self._changed:
            self._jobs.append(run)
            self._changed.notify()

    def later(self, name: str, run: Callable[[], None]) -> None:
        """Run something on this thread when the wishes that are open now are fulfilled, or after `LATER_S`.

        Of several with one name only the last is run.
        """
        with self._changed:
            known = self._later.get(name)
            not_after = known.not_after if known else time.monotonic() + LATER_S
            self._later[name] = _Later(run, not_after)
            self._changed.notify()

    def _run(self) -> None:
        self.home = self.home or Home()
        while True:
            with self._changed:
                if self._is_stopping:
                    return
                now = time.monotonic()
                job = self._next_job(now)
                due = None if job else self._next_due(now)
                if job is None and due is None:
                    self._changed.wait(self._pause(time.monotonic()))
                    continue
            if job is not None:
                self._run_job(job)
            elif due is not None:
                self._reconcile(*due)

    def _next_job(self, now: float) -> Callable[[], None] | None:
        if self._jobs:
            return self._jobs.pop(0)
        has_new_wish = any(scope.is_new_wish and scope.not_before <= now for scope in self._scopes.values())
        for name, later in self._later.items():
            if not has_new_wish or now >= later.not_after:
                del self._later[name]
                return later.run
        return None

    def _run_job(self, run: Callable[[], None]) -> None:
        try:
            run()
        except ProxypoolError as error:
            log.warning("%s", error)
        except Exception:
            log.exception("a dataplane job failed")

    def _next_due(self, now: float) -> tuple[str, _Scope] | None:
        """New wishes first, then what was touched, then what was not looked at for long."""
        ready = [(name, scope) for name, scope in self._scopes.items() if scope.not_before <= now]
        for name, scope in ready:
            if scope.is_new_wish:
                return name, scope
        for name, scope in ready:
            if scope.is_dirty or now - scope.looked_at > RESYNC_S:
                return name, scope
        return None

    def _pause(self, now: float) -> float:
        moments = [
            scope.not_before if scope.is_dirty or scope.is_new_wish else scope.looked_at + RESYNC_S
            for scope in self._scopes.values()
        ]
        return max(0.001, min(moments, default=now + 1.0) - now)

    def _reconcile(self, name: str, scope: _Scope) -> None:
        scope.is_dirty = scope.is_new_wish = False
        began = time.monotonic()
        operations, problems = self._converge(scope.desired)
        is_repair = scope.has_converged and bool(operations) and not scope.problems
        now = time.monotonic()
        scope.looked_at = now
        if problems:
            scope.is_dirty = True
            scope.not_before = now + scope.retry_s
            scope.retry_s = min(MAX_RETRY_S, scope.retry_s * 2)
        else:
            scope.has_converged = True
            scope.not_before = now + MIN_INTERVAL_S
            scope.retry_s = FIRST_RETRY_S
        if problems and problems != scope.problems:
            for problem in problems:
                log.warning("%s: %s", name, problem)
        if is_repair:
            log.warning("%s: repaired drift: %s", name, ", ".join(operations))
        scope.problems = problems
        with self._changed:
            if not scope.desired.exists and not problems and self._scopes.get(name) is scope:
                del self._scopes[name]
        self.on_result(Reconciled(name, problems, len(operations), is_repair, now - began, scope.desired))

    def _converge(self, desired: Scene) -> tuple[list[str], tuple[str, ...]]:
        """Rounds until the plan is empty. Returns operations applied, and problems."""
        assert self.home is not None  # noqa: S101 - set before the first round, for mypy
        applied: list[str] = []
        operations: tuple[Operation, ...] = ()
        try:
            for _ in range(MAX_ROUNDS):
                observed = observe(self.home, desired)
                operations = plan(desired, observed)
                if not operations:
                    return applied, ()
                done, problems = self._execute_all(desired, operations)
                applied += done
                if problems:
                    return applied, problems
        except ProxypoolError as error:
            return applied, (str(error),)
        except Exception as error:
            log.exception("reconcile of %s failed", desired.namespace or "this machine")
            return applied, (f"{type(error).__name__}: {error}",)
        left = ", ".join(sorted(_name(operation) for operation in operations))
        return applied, (f"does not converge: {left}",)

    def _execute_all(self, desired: Scene, operations: tuple[Operation, ...]) -> tuple[list[str], tuple[str, ...]]:
        """Apply in order. What depends on a card that is missing fails too, and is not worth a line of its own."""
        assert self.home is not None  # noqa: S101
        problems: list[str] = []
        done: list[str] = []
        for operation in operations:
            try:
                execute(self.home, desired.namespace, operation)
                done.append(_name(operation))
            except ProxypoolError as error:
                problems.append(str(error))
                if isinstance(operation, MakeNamespace) or isinstance(error, PermanentError):
                    break
                if isinstance(operation, Put | Remove) and operation.item.key[0] in {"table", "eni", "tunnel"}:
                    break
        return done, tuple(problems)


def _name(operation: Operation) -> str:
    match operation:
        case Put(item) | Remove(item):
            return f"{type(operation).__name__.lower()} {' '.join(item.key)}"
        case _:
            return f"{type(operation).__name__} {operation.name}"
