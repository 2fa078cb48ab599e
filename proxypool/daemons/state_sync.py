"""Keeps one conntrackd running for each subnet with an egress address, and tells the main loop how it goes.

A thread of its own, as programs are run and may hang; the main loop says what is wanted (`follow`) and gets `SyncSeen`.
What is to be done is decided by `core.sync_supervision`. The processes are left alone when the daemon stops: the kernel
goes on forwarding, and a takeover without a daemon needs them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from proxypool.adapters.conntrackd import Conntrackd, NotReady, Silent
from proxypool.adapters.netlink import namespace_inode, namespace_path
from proxypool.core.addressing import namespace_of
from proxypool.core.errors import ProxypoolError
from proxypool.core.role import Role
from proxypool.core.state_sync import DEFAULT_LIMIT, SyncConfig, SyncCounts, parse_counts
from proxypool.core.sync_link import SyncLink
from proxypool.core.sync_supervision import Step, Supervision, SyncProcess, SyncReport, SyncWish
from proxypool.daemons.member import Member
from proxypool.daemons.messages import SyncSeen

log = logging.getLogger(__name__)

TICK_S = 0.5
ANSWER_S = 5.0
TELL_S = 60.0
"""Reading the table of the kernel, and telling it, takes seconds where there are hundreds of thousands."""
DETAIL_EVERY = 3
"""Looks, of which one asks for queues and events too: each question is a program that is started."""
STEPS_AT_ONCE = 4
_COMMANDS = {Step.EMPTY_LIST: ("-f", "internal"), Step.READ_KERNEL: ("-R",), Step.TELL: ("-B",), Step.ASK: ("-n",)}
_LONG = {Step.READ_KERNEL, Step.TELL}
_QUESTIONS = (("-s",), ("-s", "runtime"), ("-s", "queue"))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the main loop wants for a subnet."""

    config: SyncConfig | None
    """None: not known yet. What an earlier daemon started is left as it is until then."""
    is_master: bool | None
    was_planned: bool = False
    """As in `SyncWish`."""


@dataclass
class _Subnet:
    """What the thread knows of a subnet."""

    supervision: Supervision = field(default_factory=Supervision)
    process: SyncProcess | None = None
    looks: int = 0
    details: SyncCounts = field(default_factory=SyncCounts)
    """Of the last detailed look."""
    reported: SyncReport | None = None


class StateSync:
    """The thread, and the main loop's end of it."""

    def __init__(self, run_dir: Path, post: Callable[[SyncSeen], None], monotonic: Callable[[], float]) -> None:
        """Nothing is started before something is wanted."""
        self._conntrackd, self._post, self._monotonic = Conntrackd(run_dir), post, monotonic
        self._wanted: Mapping[str, Wanted] = {}
        self._subnets: dict[str, _Subnet] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_stopping = self._has_adopted = False

    # ---- the main loop's end -------------------------------------------------------------------------------------

    def follow(self, members: Mapping[str, Member], is_in_place: Callable[[str], bool]) -> None:
        """Have what these members need. Called every second and after changes; a member that is left out has none.

        `is_in_place`: whether a subnet's namespace has all that it must have, and so the link.
        """
        wanted: dict[str, Wanted] = {}
        for subnet, member in members.items():
            found = _wanted_of(member, self._wanted.get(subnet), is_in_place=is_in_place(subnet))
            if found is not None:
                wanted[subnet] = found
        self.want(wanted)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="state-sync", daemon=True)
            self._thread.start()

    def want(self, wanted: Mapping[str, Wanted]) -> None:
        """Have this, by subnet, and no more."""
        with self._changed:
            if wanted != self._wanted:
                self._wanted = wanted
                self._changed.notify()

    def stop(self) -> None:
        """End the thread; conntrackd goes on."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout=TICK_S)

    # ---- the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._is_stopping:
            try:
                self.work()
            except Exception:
                log.exception("looking after conntrackd failed")
            with self._changed:
                if not self._is_stopping:
                    self._changed.wait(TICK_S)

    def work(self) -> None:
        """One round over all subnets."""
        if not self._has_adopted:
            self._adopt()
            self._has_adopted = True
        with self._changed:
            wanted = dict(self._wanted)
        for subnet in [*wanted, *(self._subnets.keys() - wanted.keys())]:
            if self._is_stopping:
                return
            if subnet not in wanted or wanted[subnet].config is not None:
                self._tend(subnet, wanted.get(subnet))

    def _adopt(self) -> None:
        """What an earlier daemon started. Two for one subnet must not be: the older is taken, the others end."""
        for subnet, processes in self._conntrackd.find().items():
            first, *others = sorted(processes, key=lambda process: process.pid)
            self._subnets[subnet] = _Subnet(process=first)
            log.info("%s: adopted conntrackd (pid %d)", subnet, first.pid)
            for other in others:
                self._stop(subnet, other.pid)

    def _tend(self, subnet: str, wanted: Wanted | None) -> None:
        known = self._subnets.setdefault(subnet, _Subnet())
        for _ in range(STEPS_AT_ONCE):
            if known.process is not None and not self._conntrackd.is_alive(known.process.pid):
                log.warning(
                    "%s: conntrackd (pid %d) has ended: %s", subnet, known.process.pid, self._last_words(subnet)
                )
                known.process = None
            wish = _wish(subnet, wanted)
            step = known.supervision.next_step(wish, known.process, self._monotonic())
            if step is None or not self._take(subnet, known, step, wish):
                break
        if wanted is None and known.process is None:
            self._conntrackd.forget(subnet)
            del self._subnets[subnet]
            return
        report = known.supervision.report()
        if report != known.reported and wanted is not None:
            known.reported = report
            self._post(SyncSeen(subnet, report))

    def _take(self, subnet: str, known: _Subnet, step: Step, wish: SyncWish | None) -> bool:
        """Do a step; whether another one may follow at once."""
        supervision = known.supervision
        if step is Step.STOP:
            return self._stop_process(subnet, known)
        if step is Step.START:
            return wish is not None and self._start(subnet, known, wish)
        assert known.process is not None  # noqa: S101 - of a step that is for a process
        fingerprint = known.process.fingerprint
        self._conntrackd.calm(known.process.pid)
        try:
            if step is Step.LOOK:
                supervision.looked(self._look(subnet, known, fingerprint), self._monotonic())
            else:
                timeout_s = TELL_S if step in _LONG else ANSWER_S
                self._conntrackd.ask(subnet, fingerprint, *_COMMANDS[step], timeout_s=timeout_s)
                supervision.told(step)
                log.info("%s: conntrackd: %s", subnet, step.value)
        except NotReady as error:
            supervision.not_ready(str(error), self._monotonic())
            return False
        except Silent as error:
            supervision.silent(str(error), self._monotonic())
            log.warning("%s: %s", subnet, error)
        return True

    def _look(self, subnet: str, known: _Subnet, fingerprint: str) -> SyncCounts:
        is_detailed = known.looks % DETAIL_EVERY == 0
        known.looks += 1
        questions = _QUESTIONS if is_detailed else _QUESTIONS[:1]
        answers = [self._conntrackd.ask(subnet, fingerprint, *each, timeout_s=ANSWER_S) for each in questions]
        self._conntrackd.trim_log(subnet)
        counts = parse_counts("\n".join(answers))
        if is_detailed:
            known.details = counts
        return replace(counts, overruns=known.details.overruns, queue_drops=known.details.queue_drops)

    def _start(self, subnet: str, known: _Subnet, wish: SyncWish) -> bool:
        try:
            known.process = self._conntrackd.start(subnet, wish.config, namespace_path(namespace_of(subnet)))
        except ProxypoolError as error:
            if str(error) != known.supervision.problem:
                log.error("%s: %s", subnet, error)
            known.supervision.failed(str(error), self._monotonic())
            return False
        known.looks = 0
        known.supervision.started(known.process, self._monotonic())
        log.info("%s: started conntrackd (pid %d)", subnet, known.process.pid)
        return False

    def _stop_process(self, subnet: str, known: _Subnet) -> bool:
        if known.process is not None and not self._stop(subnet, known.process.pid):
            return False
        known.process = None
        known.supervision.stopped(self._monotonic())
        self._conntrackd.clean(subnet)
        return True

    def _stop(self, subnet: str, pid: int) -> bool:
        try:
            self._conntrackd.stop(pid)
        except ProxypoolError as error:
            log.error("%s: %s", subnet, error)
            return False
        log.info("%s: ended conntrackd (pid %d)", subnet, pid)
        return True

    def _last_words(self, subnet: str) -> str:
        return self._conntrackd.last_words(subnet) or "it said nothing"


def _wanted_of(member: Member, before: Wanted | None, *, is_in_place: bool) -> Wanted | None:
    """A member that is not programmed just now keeps what it has: its namespace may be put right in a moment."""
    link = member.scenes.link
    if link is None:
        return None
    is_master = None if member.state.role is Role.INIT else member.state.role is Role.MASTER
    if not (member.is_programmed and is_in_place) or member.handles is None:
        return Wanted(before.config if before is not None else None, is_master, member.was_planned)
    return Wanted(_config_of(member, link), is_master, member.was_planned)


def _config_of(member: Member, link: SyncLink) -> SyncConfig:
    place = member.pair.member(member.node)
    own = (place.address.ip,) if place else ()
    return SyncConfig(link, own, member.conntrack_limit() or DEFAULT_LIMIT)


def _wish(subnet: str, wanted: Wanted | None) -> SyncWish | None:
    if wanted is None or wanted.config is None:
        return None
    namespace = namespace_inode(namespace_of(subnet))
    # Without its namespace it must end: it keeps the old one alive, and with it its tunnels' keys.
    return None if namespace is None else SyncWish(wanted.config, namespace, wanted.is_master, wanted.was_planned)
