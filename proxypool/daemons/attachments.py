"""The attachments of this host: what is wanted, what the kernel's set holds, and those who wait for a first use.

The local API's threads attach and detach here; the main loop says what an attachment is checked against and which
groups are programmed. An attach to a group that is programmed touches the set and the file and nothing else: no
ZooKeeper, no table, no other thread. For any other group it waits until the main loop has seen to it.

The file is written after the set and before the answer: whoever got an answer finds the attachment after any crash.
What was detached has no connection left when the answer comes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Protocol

from proxypool.adapters.attachment_log import AttachmentLog
from proxypool.core.attachment_plans import Outcome, Plan, Present, plan_attach, plan_detach
from proxypool.core.attachments import Attachment, AttachRequest, DetachRequest, Rules, Unwanted
from proxypool.core.errors import ProxypoolError, TransientError
from proxypool.core.roster import Roster
from proxypool.core.steering import Group, MarkLayout
from proxypool.daemons.attached_set import AttachedSet, MarkedNetworks
from proxypool.daemons.cutting import LetGo

log = logging.getLogger(__name__)

FIRST_USE_S = 5.0
"""How long an attach waits until a subnet is in use on this host."""


class ConnectionCutter(Protocol):
    """Ends connections; see `cutting.Cutter`."""

    def cut(self, let_go: Mapping[IPv4Address, LetGo]) -> bool:
        """End what instances, by address, may no longer have; whether it could be done."""


class NotReady(TransientError):
    """A subnet could not be brought into use in time."""


class Attachments:
    """See the module's text. Every method may be called from any thread."""

    def __init__(self, kept: AttachmentLog, marks: MarkLayout, on_wanted: Callable[[], None]) -> None:
        """`on_wanted` is called when the groups that are wanted change; it must only pass that on."""
        self._log, self._on_wanted = kept, on_wanted
        self._changed = threading.Condition()
        self._roster = Roster(marks)
        self._set: AttachedSet | None = None
        self._awaited: Counter[Group] = Counter()
        self._used_at: dict[Group, float] = {}
        self._cutter: ConnectionCutter | None = None
        self._let_go: set[tuple[IPv4Address, str]] = set()
        """Whose connections are looked at once more."""
        self._why_not_ready = ""
        self._coming: dict[str, set[object]] = {}
        """Owners whose attachments are being made."""

    # ---- at the start --------------------------------------------------------------------------------------------

    def load(self, instance_cidrs: tuple[IPv4Network, ...]) -> list[str]:
        """Read the file; sentences about what was not understood or is no longer an instance's address.

        Raises:
            TransientError: the file is there and cannot be read.
        """
        found, problems = self._log.load()
        strangers = {address for address, _ in found if not any(address in cidr for cidr in instance_cidrs)}
        problems += [f"attachments of {address} are left out: no instance of this host" for address in strangers]
        with self._changed:
            present: dict[IPv4Address, dict[str, Attachment]] = {}
            for (address, subnet), item in found.items():
                if address not in strangers:
                    present.setdefault(address, {})[subnet] = item
            self._roster.present = dict(present)
        return problems

    def use(self, kernel: MarkedNetworks) -> None:
        """The kernel's set, as soon as it is there. Nothing is written before `publish`."""
        with self._changed:
            self._set = AttachedSet(kernel)

    def cut_with(self, cutter: ConnectionCutter) -> None:
        """What ends the connections of instances that are detached."""
        with self._changed:
            self._cutter = cutter

    # ---- the main loop -------------------------------------------------------------------------------------------

    def publish(self, rules: Rules, entries: Mapping[Group, int], everyone: Group | None, why_not_ready: str) -> None:
        """What attachments are checked against, and the entry (unshifted mark) of each group that is programmed.

        `everyone`: the group of all instances that are attached to nothing, if they have one.

        Raises:
            TransientError: the set could not be brought up to date; `repair` does later.
        """
        with self._changed:
            self._why_not_ready = why_not_ready
            if not self._roster.follow(rules, entries, everyone):
                return
            try:
                if self._set is not None:
                    self._set.bring(self._roster.wanted_entries())
            finally:
                self._changed.notify_all()

    def groups(self, now: float, linger_s: float) -> frozenset[Group]:
        """Groups that must be programmed: in use, waited for, or in use a short while ago."""
        with self._changed:
            if self._roster.rules is None:
                return frozenset()
            used = {*self._roster.groups(), *self._awaited}
            for group in used:
                self._used_at[group] = now
            self._used_at = {group: at for group, at in self._used_at.items() if now - at <= linger_s}
            return frozenset(used | set(self._used_at)) - {()}

    def keep(self, groups: Iterable[Group], now: float) -> None:
        """Groups that were programmed when we came: they linger as if they had been in use until now."""
        with self._changed:
            for group in groups:
                self._used_at.setdefault(group, now)

    def is_intact(self, now: float) -> bool:
        """Whether the set is as it should be. A set of thousands is compared now and then only, and counted always.

        Raises:
            TransientError: the kernel refused.
        """
        with self._changed:
            if self._set is None or self._roster.rules is None:
                return True
            return self._set.is_intact(now)

    def repair(self) -> int:
        """Compare the set with what it should hold, and put it right; how many entries were wrong.

        Raises:
            TransientError: the kernel refused.
        """
        with self._changed:
            if self._set is None or self._roster.rules is None:
                return 0
            return self._set.repair(self._roster.wanted_entries())

    def cut_again(self) -> None:
        """End what a packet that was under way when an attachment ended may have brought up since the answer."""
        with self._changed:
            ended, self._let_go = frozenset(self._let_go), set()
            let_go = self._what_to_cut(ended)
        self._cut(ended, let_go)

    def sync_log(self) -> None:
        """Bring the file to the disk.

        Raises:
            TransientError: it cannot be written now.
        """
        with self._changed:
            self._log.sync(self._roster.all())

    def unknown_subnets(self) -> frozenset[str]:
        """Subnets that somebody is attached to and the pool does not have."""
        with self._changed:
            return self._roster.unknown_subnets()

    def close(self) -> None:
        """Close the file."""
        with self._changed:
            self._log.close()

    def reach(self) -> dict[IPv4Address, tuple[IPv4Network, ...]]:
        """The CIDRs that each attached instance may reach."""
        with self._changed:
            return self._roster.reach()

    # ---- anybody -------------------------------------------------------------------------------------------------

    def all(self) -> list[Attachment]:
        """Every attachment, by address."""
        with self._changed:
            present = self._roster.present
            return [item for address in sorted(present) for item in present[address].values()]

    def count(self) -> int:
        """How many there are."""
        with self._changed:
            return sum(map(len, self._roster.present.values()))

    def attach(self, request: AttachRequest, timeout_s: float) -> list[Outcome]:
        """Attach instances; returns when their packets can pass. All of the request, or nothing.

        Raises:
            AttachmentRefused: one of them cannot be.
            NotReady: a subnet was not in use here and could not be brought into use within `timeout_s`.
            TransientError: the pool is not known yet, or kernel or disk refused.
        """
        wanted: dict[IPv4Address, list[str]] = {}
        for item in request.attachments:
            wanted.setdefault(item.address, []).append(item.subnet)
        return self._change(
            lambda rules: self._attach(rules, wanted, request.owner, replaces=request.replace), timeout_s
        )

    def detach(self, request: DetachRequest, timeout_s: float) -> list[Outcome]:
        """Detach instances; what is not attached is fine. Where another attachment of the address stays it goes on.

        Raises:
            TransientError: kernel or disk refused.
        """
        return self._change(
            lambda _: plan_detach(self._roster.present, request.attachments), timeout_s, is_closing=True
        )

    # ---- for a CNI plug-in ---------------------------------------------------------------------------------------

    def own(self, owner: str, addresses: tuple[IPv4Address, ...], subnets: tuple[str, ...]) -> None:
        """Make just these attachments for the addresses, in the owner's name; whoever had others loses them.

        Raises:
            AttachmentRefused, NotReady, TransientError: as `attach`; also when the owner was released meanwhile.
        """
        token = object()
        with self._changed:
            self._coming.setdefault(owner, set()).add(token)

        def plan(rules: Rules) -> Plan:
            if token not in self._coming.get(owner, ()):
                raise TransientError(f"{owner} was released while it was being attached")
            return self._attach(rules, dict.fromkeys(addresses, subnets), owner, replaces=True)

        try:
            self._change(plan, FIRST_USE_S)
        finally:
            with self._changed:
                left = self._coming.get(owner, set()) - {token}
                self._coming = {name: tokens for name, tokens in self._coming.items() if name != owner}
                if left:
                    self._coming[owner] = left

    def release(self, owner: str) -> None:
        """End all attachments of an owner, also those that are still being made: a runtime that gave up on one asks for
        its end while the other request is still waiting.

        Raises:
            TransientError: kernel or disk refused.
        """

        def plan(_rules: Rules) -> Plan:
            self._coming.pop(owner, None)
            owned = [
                Unwanted(address=item.address, subnet=item.subnet) for item in self._roster.all() if item.owner == owner
            ]
            return plan_detach(self._roster.present, owned)

        self._change(plan, FIRST_USE_S, is_closing=True)

    def owned(self, owner: str) -> frozenset[tuple[IPv4Address, str]]:
        """Attachments of an owner."""
        return frozenset((item.address, item.subnet) for item in self.all() if item.owner == owner)

    def owners(self) -> frozenset[str]:
        """Everybody who has attachments, but for those that came without a name."""
        return frozenset(item.owner for item in self.all() if item.owner)

    def _cut(self, ended: frozenset[tuple[IPv4Address, str]], let_go: Mapping[IPv4Address, LetGo]) -> None:
        """End the connections of attachments that ended. What cannot be cut now is tried again."""
        if let_go and self._cutter is not None and not self._cutter.cut(let_go):
            with self._changed:
                self._let_go |= ended

    # ---- under the lock ------------------------------------------------------------------------------------------

    def _attach(self, rules: Rules, wanted: Mapping[IPv4Address, Iterable[str]], owner: str, *, replaces: bool) -> Plan:
        return plan_attach(rules, self._roster.present, wanted, owner, time.time(), replaces=replaces)

    def _change(
        self, make_plan: Callable[[Rules], Plan], timeout_s: float, *, is_closing: bool = False
    ) -> list[Outcome]:
        """Wait until all groups of a plan are programmed, then carry it out. With `is_closing` that happens in any
        case: an address whose remaining group is not programmed in time reaches nothing until it is.
        """
        deadline, asked = time.monotonic() + timeout_s, frozenset[Group]()
        with self._changed:
            while True:
                rules = self._roster.rules
                if rules is None or self._set is None:
                    raise TransientError("the agent does not know the pool yet: is ZooKeeper there? Try again")
                plan = make_plan(rules)
                missing = {rules.group_of(present) for present in plan.after.values()}
                missing -= {*self._roster.entries, ()}
                if not missing or (is_closing and time.monotonic() >= deadline):
                    break
                self._await(missing, deadline, is_asked=missing <= asked)
                asked |= missing
            ended = self._commit(plan)
            let_go = self._what_to_cut(ended)
        # Others need not wait for that: on a host with many connections it takes longer than all the rest.
        self._cut(ended, let_go)
        return plan.outcomes

    def _await(self, groups: set[Group], deadline: float, *, is_asked: bool) -> None:
        """Let the main loop program groups; returns at its next word. Asked once: each answer of the main loop to a
        question is a word, too, and the two would keep each other busy.
        """
        left = deadline - time.monotonic()
        if left <= 0:
            names = ", ".join(sorted({name for group in groups for name in group}))
            raise NotReady(f"subnet {names} could not be brought into use on this host in time{self._why_not_ready}")
        self._awaited.update(groups)
        if not is_asked:
            self._on_wanted()
        try:
            self._changed.wait(left)
        finally:
            self._awaited.subtract(groups)
            self._awaited += Counter()

    def _commit(self, plan: Plan) -> frozenset[tuple[IPv4Address, str]]:
        """Make it so; the attachments that ended, by address and subnet."""
        if not plan.begun and not plan.ended:
            return frozenset()
        before = {address: self._roster.present.get(address, {}) for address in plan.after}
        try:
            self._put(plan.after)
            self._log.append(plan.begun, plan.ended)
        except ProxypoolError:
            self._put(before)
            raise
        now = time.monotonic()
        if self._roster.rules is not None:
            for present in before.values():
                self._used_at[self._roster.rules.group_of(present)] = now
        ended = frozenset((item.address, item.subnet) for item in plan.ended)
        self._let_go |= ended
        self._let_go -= {(item.address, item.subnet) for item in plan.begun}
        return ended

    def _what_to_cut(self, ended: Iterable[tuple[IPv4Address, str]]) -> dict[IPv4Address, LetGo]:
        """What instances may no longer reach."""
        cidrs = self._roster.cidrs_of(ended)
        return {address: LetGo(each, self._roster.number_of(address)) for address, each in cidrs.items()}

    def _put(self, after: Mapping[IPv4Address, Present]) -> None:
        """Have roster and set hold this of its addresses."""
        self._roster.replace(after)
        if self._set is not None:
            self._set.update(self._roster.wanted_entries(after), after)
