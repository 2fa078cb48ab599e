"""Our rules as python-iptables' rules, and the other way for what we do not recognise."""

from __future__ import annotations

from functools import lru_cache

import iptc

from proxypool.core.scene import Match, Rule

COMMENT = "proxypool"
"""Comment of every jump of ours: the proof that it is ours."""


def to_iptc(rule: Rule) -> iptc.Rule:
    """A python-iptables rule equal to the one the kernel will report."""
    result = iptc.Rule()
    if rule.protocol is not None:
        result.protocol = rule.protocol
    if rule.source is not None:
        result.src = ("!" if rule.is_source_negated else "") + str(rule.source)
    if rule.destination is not None:
        result.dst = str(rule.destination)
    if rule.in_device is not None:
        result.in_interface = ("!" if rule.is_in_negated else "") + rule.in_device
    if rule.out_device is not None:
        result.out_interface = ("!" if rule.is_out_negated else "") + rule.out_device
    for wanted in rule.matches:
        result.add_match(_match(result, wanted))
    result.target = iptc.Target(result, rule.target)
    for option, value in rule.target_options:
        result.target.set_parameter(option, _words(value))
    # Without it the kernel's copy of a NAT target, which extensions complete only here, would never be equal.
    result.final_check()
    return result


def expected_rule(rule: Rule) -> iptc.Rule:
    """The same, to compare with only: most rules are alike in all subnets, and building one takes 0.5 ms."""
    return to_iptc(rule) if names_set(rule) else _remembered(rule)


_remembered = lru_cache(maxsize=256)(to_iptc)


def names_set(rule: Rule) -> bool:
    """Whether it holds the number of a set, which is another one in another namespace."""
    return rule.target == "SET" or any(match.name == "set" for match in rule.matches)


def _match(rule: iptc.Rule, wanted: Match) -> iptc.Match:
    match = iptc.Match(rule, wanted.name)
    for option, value in wanted.options:
        if option.startswith("!"):
            match.set_parameter(option.removeprefix("!"), ["!", *value.split()])
        else:
            match.set_parameter(option, _words(value))
    return match


def _words(value: str) -> str | list[str]:
    """python-iptables wants a list of what stands after an option, if it is more than one word."""
    return value.split() if " " in value else value


def jump_to(chain: str) -> iptc.Rule:
    """The jump from a built-in chain into ours."""
    rule = iptc.Rule()
    comment = iptc.Match(rule, "comment")
    comment.comment = COMMENT
    rule.add_match(comment)
    rule.target = iptc.Target(rule, chain)
    return rule


def target_name(rule: iptc.Rule) -> str:
    """Name of a kernel rule's target."""
    return str(rule.target.name) if rule.target is not None else ""
