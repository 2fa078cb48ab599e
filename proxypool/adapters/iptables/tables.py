"""Observe and commit one table of the namespace the thread is in.

A commit replaces the whole table at once (`iptc`'s autocommit off), under `/run/xtables.lock`, which python-iptables
itself ignores: without it a concurrent `iptables` call would be lost. Rules of others are carried over unchanged.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager

import iptc

from proxypool.adapters.iptables import stamps
from proxypool.adapters.iptables.fingerprint import Contents, TableProbe, read_table
from proxypool.adapters.iptables.rules import expected_rule, jump_to, target_name, to_iptc
from proxypool.core.errors import TransientError
from proxypool.core.scene import CHAIN_PREFIX, Chain, Rule, Table, UnknownRule

LOCK_PATH = "/run/xtables.lock"
MAX_PROVEN = 1024
"""Tables remembered: a subnet has one of its own, some 3 kB, and one that is as in the other subnets."""
_proven: dict[Table, bytes] = {}
"""Desired table -> the kernel's bytes that were parsed and found equal to it, in whatever namespace."""
_bases: dict[str, tuple[Table, bytes]] = {}
"""Name of a table -> what was last made of an empty one, and the bytes it was made from."""


@contextmanager
def _locked() -> Iterator[None]:
    fd = os.open(LOCK_PATH, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextmanager
def _fresh(name: str) -> Iterator[iptc.Table]:
    """The table as it is now in this namespace.

    iptc keeps one object per name and process, with a handle (a socket) of the namespace it was last refreshed in. The
    handle is closed afterwards: it would keep a removed subnet's namespace alive, and so its tunnel's key taken. iptc
    looks a rule's target up in all tables there are, whatever namespace their handles are of, and creates those that
    are not; so it is told of this one only.
    """
    try:
        with _locked():
            iptc.Table.existing_table_names = {other: other == name for other in iptc.Table.ALL}
            table = iptc.Table(name, autocommit=False)
            table.refresh()
            try:
                yield table
            finally:
                iptc.Table.existing_table_names = dict.fromkeys(iptc.Table.ALL, False)
                table.close()
    except iptc.IPTCError as error:
        raise TransientError(f"iptables table {name}: {error}") from error


def observe_table(desired: Table) -> Table:
    """Our part of a table; without chains if there is nothing of ours.

    A rule equal to the desired one at its place is reported as that rule, any other as `UnknownRule`. That takes
    python-iptables milliseconds, so the kernel's bytes are remembered once they proved to be what is desired.

    Raises:
        TransientError: the table cannot be read.
    """
    try:
        before = read_table(desired.name)
        if _proven.get(desired) == before:
            return desired
        found = _parse_table(desired)
        if found == desired:
            with _locked(), closing(TableProbe((desired.name,))) as probe:
                now = probe.contents(desired.name)
            if now.without_counters() == before:
                _prove(desired, before)
                _learn(desired, now)
    except OSError as error:
        raise TransientError(f"iptables table {desired.name}: {error.strerror}") from error
    return found


def _learn(desired: Table, contents: Contents) -> None:
    made, base = _bases.pop(desired.name, (None, b""))
    if made == desired:
        stamps.learn(desired, base, contents)


def _prove(desired: Table, found: bytes) -> None:
    while len(_proven) >= MAX_PROVEN:
        del _proven[next(iter(_proven))]
    _proven[desired] = found


def _parse_table(desired: Table) -> Table:
    with _fresh(desired.name) as table:
        ours = {chain.name: chain for chain in table.chains if chain.name.startswith(CHAIN_PREFIX)}
        wanted = {chain.name: chain for chain in desired.chains}
        found = [
            _observe_chain(table, wanted.get(name), chain)
            for name, chain in sorted(ours.items(), key=lambda item: _position(desired, item[0]))
        ]
        return Table(desired.name, tuple(found))


def _position(desired: Table, name: str) -> tuple[int, str]:
    for index, chain in enumerate(desired.chains):
        if chain.name == name:
            return index, name
    return len(desired.chains), name


def _observe_chain(table: iptc.Table, wanted: Chain | None, chain: iptc.Chain) -> Chain:
    rules: list[Rule | UnknownRule] = []
    for index, rule in enumerate(chain.rules):
        expected = wanted.rules[index] if wanted and index < len(wanted.rules) else None
        if isinstance(expected, Rule) and expected_rule(expected) == rule:
            rules.append(expected)
        else:
            rules.append(UnknownRule(f"{chain.name} rule {index + 1}: {target_name(rule)}"))
    hook = wanted.hook if wanted else None
    if hook is None:
        return Chain(chain.name, None, tuple(rules))
    builtin = iptc.Chain(table, hook)
    policy = None
    if wanted is not None and wanted.policy is not None:
        policy = str(builtin.get_policy().name)
    return Chain(chain.name, hook, tuple(rules), policy, _jumps(builtin, chain.name))


def _jumps(builtin: iptc.Chain, name: str) -> int:
    """1 if exactly one jump leads to the chain and stands at the head; 0, or the number plus 1, otherwise."""
    targets = [target_name(rule) for rule in builtin.rules]
    count = targets.count(name)
    return 1 if count == 1 and targets[0] == name else (count + 1 if count else 0)


def apply_table(desired: Table) -> None:
    """Replace our chains and jumps by the desired ones in one commit.

    Raises:
        TransientError: the kernel refused; the table is as it was.
    """
    if _apply_stamp(desired):
        return
    with _fresh(desired.name) as table:
        _drop_ours(table, keep=frozenset(chain.name for chain in desired.chains))
        for wanted in desired.chains:
            # All of them first: rules may lead from one to the other.
            if not table.is_chain(wanted.name):
                table.create_chain(wanted.name)
        for wanted in desired.chains:
            chain = iptc.Chain(table, wanted.name)
            for rule in wanted.rules:
                if isinstance(rule, UnknownRule):
                    raise TypeError(f"an observed rule cannot be wanted: {rule}")
                chain.append_rule(to_iptc(rule))
            if wanted.hook is None:
                continue
            builtin = iptc.Chain(table, wanted.hook)
            builtin.insert_rule(jump_to(wanted.name))
            if wanted.policy is not None:
                builtin.set_policy(iptc.Policy(wanted.policy))
        table.commit()
        table.refresh()


def _apply_stamp(desired: Table) -> bool:
    """Whether the table was empty and one of this shape is known. An error is left to python-iptables to find again."""
    _bases.pop(desired.name, None)
    try:
        with _locked(), closing(TableProbe((desired.name,))) as probe:
            before = probe.contents(desired.name)
            expected = stamps.apply(desired, before, probe)
            if expected is None:
                if before.is_empty:
                    _bases[desired.name] = (desired, before.without_counters())
                return False
            if probe.read(desired.name) == expected:
                _prove(desired, expected)
            return True
    except OSError:
        return False


def remove_table(name: str) -> None:
    """Remove our chains and jumps of a table; none there is fine.

    Raises:
        TransientError: the kernel refused.
    """
    with _fresh(name) as table:
        if any(chain.name.startswith(CHAIN_PREFIX) for chain in table.chains):
            _drop_ours(table, keep=frozenset())
            table.commit()
            table.refresh()


def _drop_ours(table: iptc.Table, keep: frozenset[str]) -> None:
    """Flush our chains, delete the jumps to them, and delete those that are not kept."""
    ours = [chain for chain in table.chains if chain.name.startswith(CHAIN_PREFIX)]
    for builtin in table.chains:
        if builtin.is_builtin():
            for rule in builtin.rules:
                if target_name(rule).startswith(CHAIN_PREFIX):
                    builtin.delete_rule(rule)
    for chain in ours:
        chain.flush()
    for chain in ours:
        if chain.name not in keep:
            table.delete_chain(chain)
