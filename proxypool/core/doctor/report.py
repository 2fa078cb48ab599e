"""All findings of a machine, the worst first. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from proxypool.core.checks import Level
from proxypool.core.doctor.codes import Code, Finding, Severity
from proxypool.core.doctor.facts import Facts
from proxypool.core.doctor.machine import judge_machine
from proxypool.core.doctor.pool import judge_pool

_ORDER = (Severity.CRITICAL, Severity.DEGRADED, Severity.NOTE)
LEVELS = {Severity.CRITICAL: Level.CRITICAL, Severity.DEGRADED: Level.DEGRADED}
"""Severity -> level; what is only a note leaves it at ok."""


class Diagnosis(Struct, frozen=True, kw_only=True):
    """What `proxypool doctor` says."""

    level: Level
    """The worst of its findings; notes do not count."""
    findings: tuple[Finding, ...]
    facts: Facts


def judge(facts: Facts) -> Diagnosis:
    """The findings. What a probe could not tell is one of them."""
    findings = [*judge_pool(facts), *judge_machine(facts)]
    findings += [
        Finding.of(
            Code.NOT_LOOKED_AT,
            probe,
            f"{probe} could not be looked at: {why}",
            f"sudo proxypool doctor --role {facts.role.value}",
        )
        for probe, why in facts.unseen.items()
    ]
    findings.sort(key=lambda found: (_ORDER.index(found.severity), found.code))
    return Diagnosis(level=level_of(findings), findings=tuple(findings), facts=facts)


def level_of(findings: Iterable[Finding]) -> Level:
    """The worst; ok if there are only notes."""
    worst = min((_ORDER.index(found.severity) for found in findings), default=len(_ORDER) - 1)
    return LEVELS.get(_ORDER[worst], Level.OK)
