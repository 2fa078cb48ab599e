"""Who is attached to what on a host, and what the set of attached instances must hold of it. Pure.

Its owner (`daemons.attachments`) keeps it from being used by two threads at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from proxypool.core.attachment_plans import Present
from proxypool.core.attachments import Attachment, Rules
from proxypool.core.steering import Group, MarkLayout, number_of_group


@dataclass
class Roster:
    """Everybody present, in their groups by the rules in force, and what each group is marked with."""

    marks: MarkLayout
    present: dict[IPv4Address, Present] = field(default_factory=dict)
    rules: Rules | None = None
    """None: the pool is not known yet, and nobody is in a group."""
    entries: Mapping[Group, int] = field(default_factory=dict)
    """Of each group that is programmed, without the layout's shift."""
    everyone: Group | None = None
    """The group of all instances that are attached to nothing, if they have one."""
    _groups: dict[IPv4Address, Group] = field(default_factory=dict)

    def follow(self, rules: Rules, entries: Mapping[Group, int], everyone: Group | None) -> bool:
        """What holds from now on; whether the set may have to change for it."""
        is_same = self.rules is not None and self.rules.subnets.keys() == rules.subnets.keys()
        is_news = not is_same or (entries, everyone) != (self.entries, self.everyone)
        self.rules, self.entries, self.everyone = rules, entries, everyone
        if not is_same:
            self._groups = {address: rules.group_of(present) for address, present in self.present.items()}
        return is_news

    def replace(self, after: Mapping[IPv4Address, Present]) -> None:
        """What some addresses are attached to from now on."""
        for address, present in after.items():
            if present and self.rules is not None:
                self.present[address], self._groups[address] = present, self.rules.group_of(present)
            else:
                self.present.pop(address, None)
                self._groups.pop(address, None)

    def groups(self) -> frozenset[Group]:
        """Those that somebody is in."""
        return frozenset(self._groups.values())

    def wanted_entries(self, only: Iterable[IPv4Address] | None = None) -> dict[IPv4Network, int]:
        """What the set must hold: of everybody, or of some addresses."""
        wanted: dict[IPv4Network, int] = {}
        if self.rules is None:
            return wanted
        for address in self.present if only is None else only:
            entry = self.entries.get(self._groups.get(address, ()))
            if entry is not None:
                wanted[IPv4Network(address)] = self.marks.of_path(entry)
        everyone = self.entries.get(self.everyone) if self.everyone and only is None else None
        if everyone is not None:
            wanted |= dict.fromkeys(self.rules.instance_cidrs, self.marks.of_path(everyone))
        return wanted

    def number_of(self, address: IPv4Address) -> int | None:
        """Of the group that an instance is in, with or without attachments."""
        group = self.rules.group_of(self.present.get(address, {})) if self.rules is not None else ()
        entry = self.entries.get(group or self.everyone or ())
        return number_of_group(entry) if entry is not None else None

    def cidrs_of(self, ended: Iterable[tuple[IPv4Address, str]]) -> dict[IPv4Address, tuple[IPv4Network, ...]]:
        """What attachments (address and subnet) let an instance reach, as far as the pool knows their subnets."""
        cidrs: dict[IPv4Address, tuple[IPv4Network, ...]] = {}
        for address, name in ended:
            spec = self.rules.subnets.get(name) if self.rules is not None else None
            if spec is not None:
                cidrs[address] = (*cidrs.get(address, ()), *spec.cidrs)
        return cidrs

    def reach(self) -> dict[IPv4Address, tuple[IPv4Network, ...]]:
        """The CIDRs that each attached instance may reach."""
        known = self.rules.subnets if self.rules is not None else {}
        return {
            address: tuple(cidr for name in present if name in known for cidr in known[name].cidrs)
            for address, present in self.present.items()
        }

    def unknown_subnets(self) -> frozenset[str]:
        """Subnets that somebody is attached to and the pool does not have; none while the pool is not known."""
        if self.rules is None:
            return frozenset()
        named = {subnet for present in self.present.values() for subnet in present}
        return frozenset(named - set(self.rules.subnets))

    def all(self) -> Iterator[Attachment]:
        """Every attachment, in no order."""
        for present in self.present.values():
            yield from present.values()
