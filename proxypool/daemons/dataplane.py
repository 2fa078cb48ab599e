"""The dataplane thread: observe, plan, execute, observe again, for one scope after the other.

A scope is one namespace: a subnet's, or the machine's own. The thread is level-triggered: `want` says what a scope must
look like, `touch` that it may have changed; how often either is called does not matter. Whoever is interested gets a
`Reconciled` for every round. A scope that fails is tried again with growing pauses and never holds up the others.

Theory of the short way (ADR 11). A round looks at a whole namespace; one more host changes three objects of 30,000. So
a new wish for a scope whose last one is believed to be in place is fulfilled by `plan(new wish, last wish)`, without a
look before it; a look at everything follows when no new wish has come for a second (`scopes`).
- Believed is a wish that a look has confirmed, or that came the short way from such a one without an error. An error,
  or another namespace under the name, ends the belief: then the full round is made, at once.
- Operations name values and may be repeated, and any prefix of any plan followed by full rounds converges. So whatever
  the belief missed, the next look sees it, and the end is the same.
- It removes nothing but what was in a wish of ours; what others made is in no wish.
- Somebody else's change is looked at as soon as ever: it touches the scope, which a new wish does not undo.
- What was written the short way and not seen yet was never seen in place: if a look misses it, that is no drift.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from proxypool.adapters.netlink import Home
from proxypool.adapters.netns_names import Names
from proxypool.core.errors import PermanentError, ProxypoolError
from proxypool.core.planner import ChangeSet, MakeNamespace, Operation, Put, Remove, plan
from proxypool.core.scene import Scene
from proxypool.core.units import some_of
from proxypool.daemons.executor import Driver, KernelDriver, batches
from proxypool.daemons.scopes import Scope

log = logging.getLogger(__name__)

NODE_SCOPE, HOST_SCOPE = "(node)", "(host)"
"""Scopes of the machine's own namespace; no subnet can have these names."""
MAX_ROUNDS = 4
"""A device that is set up deletes and creates others' preconditions; more than this many rounds is a defect."""
LATER_S = 1.0
NAMED = 20
Applied: TypeAlias = tuple[list[Operation], tuple[str, ...]]
"""Operations that were done, and what went wrong."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Result of one round for a scope."""

    scope: str
    problems: tuple[str, ...]
    operations: int
    is_repair: bool
    """Something of ours had been changed by somebody else."""
    duration_s: float
    mark: int = 0
    """Of the wish that was worked on, as given to `want`."""


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
    driver: Driver | None = None
    """None: the kernel."""
    clock: Callable[[], float] = time.monotonic
    names: Names | None = None
    """Who names namespaces; None: we do."""
    _scopes: dict[str, Scope] = field(default_factory=dict)
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

    def want(self, scope: str, desired: Scene, mark: int = 0) -> None:
        """What a scope must look like from now on. `mark` comes back with the results of this wish."""
        with self._changed:
            known = self._scopes.get(scope)
            if known is not None and known.mark == mark and known.desired == desired:
                return
            self._scopes[scope] = Scope(desired, mark) if known is None else known.successor(desired, mark)
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
            not_after = known.not_after if known else self.clock() + LATER_S
            self._later[name] = _Later(run, not_after)
            self._changed.notify()

    def _run(self) -> None:
        self.home = self.home or Home(self.names)
        self.driver = self.driver or KernelDriver(self.home)
        while not self._is_stopping:
            self.work(waits=True)

    def work(self, *, waits: bool = False) -> bool:
        """Do what is next, on the caller's thread; False: there was nothing. With `waits`, a while is waited for it."""
        with self._changed:
            now = self.clock()
            job = self._next_job(now)
            due = None if job else self._next_due(now)
            if job is None and due is None and waits and not self._is_stopping:
                self._changed.wait(self._pause(now))
        if job is not None:
            self._run_job(job)
        elif due is not None and not self._fulfil_by_difference(*due):
            self._reconcile(*due)
        return job is not None or due is not None

    @property
    def _driver(self) -> Driver:
        """Of the thread's life."""
        assert self.driver is not None  # noqa: S101 - set before the first round, for mypy
        return self.driver

    def _next_job(self, now: float) -> Callable[[], None] | None:
        if self._jobs:
            return self._jobs.pop(0)
        has_new_wish = any(scope.is_new_wish for scope in self._scopes.values())
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

    def _next_due(self, now: float) -> tuple[str, Scope] | None:
        """New wishes first, then what was touched or written, then what was not looked at for long."""
        for name, scope in self._scopes.items():
            if scope.is_new_wish:
                return name, scope
        for name, scope in self._scopes.items():
            if scope.look_at <= now:
                return name, scope
        return None

    def _pause(self, now: float) -> float:
        moments = (now if scope.is_new_wish else scope.look_at for scope in self._scopes.values())
        return max(0.001, min(moments, default=now + 1.0) - now)

    def _fulfil_by_difference(self, name: str, scope: Scope) -> bool:
        """The short way, for a new wish; False: it takes a full round. See the module's text."""
        desired = scope.desired
        base = scope.belief.base_of(desired, self._driver.identity_of(desired.namespace)) if scope.is_new_wish else None
        if base is None:
            return False
        began = self.clock()
        done, problems = self._guarded(desired, lambda: self._execute_all(desired, plan(desired, base)))
        if problems:
            log.info("%s: looking at everything, as a change alone was refused: %s", name, "; ".join(problems))
            scope.belief.scene = None
            return False
        now = self.clock()
        scope.was_extended(done, now)
        self.on_result(Reconciled(name, (), len(done), is_repair=False, duration_s=now - began, mark=scope.mark))
        return True

    def _reconcile(self, name: str, scope: Scope) -> None:
        scope.is_dirty = scope.is_new_wish = False
        began = self.clock()
        done, problems = self._guarded(scope.desired, lambda: self._converge(scope.desired))
        is_repair = scope.has_converged and not scope.problems and scope.belief.has_drifted(done)
        now = self.clock()
        if problems != scope.problems:
            for problem in problems:
                log.warning("%s: %s", name, problem)
        if is_repair:
            log.warning("%s: repaired drift: %s", name, _names(done))
        scope.was_looked_at(self._driver.identity_of(scope.desired.namespace), problems, now)
        with self._changed:
            if not scope.desired.exists and not problems and self._scopes.get(name) is scope:
                del self._scopes[name]
        self.on_result(Reconciled(name, problems, len(done), is_repair, now - began, scope.mark))

    def _guarded(self, desired: Scene, work: Callable[[], Applied]) -> Applied:
        """Whatever happens in one scope, the thread goes on with the others."""
        try:
            return work()
        except ProxypoolError as error:
            return [], (str(error),)
        except Exception as error:
            log.exception("reconcile of %s failed", desired.namespace or "this machine")
            return [], (f"{type(error).__name__}: {error}",)

    def _converge(self, desired: Scene) -> Applied:
        """Rounds until the plan is empty."""
        applied: list[Operation] = []
        operations: tuple[Operation, ...] = ()
        for _ in range(MAX_ROUNDS):
            operations = plan(desired, self._driver.observe(desired))
            if not operations:
                return applied, ()
            done, problems = self._execute_all(desired, operations)
            applied += done
            if problems:
                return applied, problems
        return applied, (f"does not converge: {_names(operations)}",)

    def _execute_all(self, desired: Scene, operations: tuple[Operation, ...]) -> Applied:
        """Apply in order. What depends on a card that is missing fails too, and is not worth a line of its own."""
        problems: list[str] = []
        done: list[Operation] = []
        for batch in batches(operations):
            for operation, error in zip(batch, self._driver.execute(desired.namespace, batch), strict=True):
                if error is None:
                    done.append(operation)
                    continue
                problems.append(str(error))
                if isinstance(operation, MakeNamespace) or isinstance(error, PermanentError):
                    return done, tuple(problems)
                if isinstance(operation, Put | Remove) and operation.item.key[0] in {"table", "eni", "tunnel"}:
                    return done, tuple(problems)
        return done, tuple(problems)


def _names(operations: Iterable[Operation]) -> str:
    """For a line of the log: a change of ten thousand objects has names enough in the first of them."""
    return some_of(sorted(map(_name, operations)), NAMED)


def _name(operation: Operation) -> str:
    match operation:
        case Put(item) | Remove(item):
            return f"{type(operation).__name__.lower()} {' '.join(item.key)}"
        case ChangeSet(name):
            return f"put set {name}"
        case _:
            return f"{type(operation).__name__} {operation.name}"
