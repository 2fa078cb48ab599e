"""What an accepted request changes: the attachments of the addresses that it names, before and after. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TypeAlias

from proxypool.core.attachments import Attachment, Rules, Unwanted

ATTACHED, UNCHANGED, DETACHED, ABSENT = "attached", "unchanged", "detached", "absent"
Present: TypeAlias = Mapping[str, Attachment]
"""Subnet -> attachment, of one address."""
Everybody: TypeAlias = Mapping[IPv4Address, Present]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of one of the attachments that were named."""

    attachment: Attachment
    state: str


@dataclass(slots=True)
class Plan:
    """A change of attachments, complete."""

    after: dict[IPv4Address, Present] = field(default_factory=dict)
    """Of each address that is named: what it is attached to afterwards."""
    begun: list[Attachment] = field(default_factory=list)
    ended: list[Attachment] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)


def plan_attach(
    rules: Rules,
    everybody: Everybody,
    wanted: Mapping[IPv4Address, Iterable[str]],
    owner: str,
    now: float,
    *,
    replaces: bool,
) -> Plan:
    """Attach addresses to subnets. With `replaces` they are attached to nothing else afterwards. `now`: wall time.

    Raises:
        AttachmentRefused: one of them cannot be.
    """
    plan = Plan()
    for address, subnets in wanted.items():
        names = tuple(dict.fromkeys(subnets))
        present = everybody.get(address, {})
        after = {name: item for name, item in present.items() if not replaces or name in names}
        # What the pool no longer has cannot be in the way.
        rules.require(address, [*names, *(name for name in after if name in rules.subnets)])
        for name in names:
            old = present.get(name)
            if old is None or (owner and old.owner != owner):
                since = old.since if old is not None else now
                after[name] = Attachment(address=address, subnet=name, owner=owner, since=since)
                plan.begun.append(after[name])
            plan.outcomes.append(Outcome(after[name], UNCHANGED if old is not None else ATTACHED))
        plan.ended += [item for name, item in present.items() if name not in after]
        plan.after[address] = after
    return plan


def plan_detach(everybody: Everybody, unwanted: Iterable[Unwanted]) -> Plan:
    """Detach addresses from a subnet each, or from all. What is not attached is fine."""
    plan = Plan()
    for item in unwanted:
        present = plan.after.get(item.address, everybody.get(item.address, {}))
        named = [item.subnet] if item.subnet is not None else sorted(present) or [""]
        for name in named:
            old = present.get(name)
            if old is not None:
                plan.ended.append(old)
            missing = Attachment(address=item.address, subnet=name)
            plan.outcomes.append(Outcome(old or missing, DETACHED if old is not None else ABSENT))
        plan.after[item.address] = {name: old for name, old in present.items() if name not in named}
    return plan
