"""How things in the cloud are recognised as ours."""

from __future__ import annotations

import pytest

from proxypool.providers.baidu.naming import Kind, Purpose, purpose_of

CARD = Purpose(Kind.CARD, "pool", "s1", "p1", "node-a")
HAVIP = Purpose(Kind.HAVIP, "pool", "s1", "p1")
LONGEST = Purpose(Kind.CARD, "p" * 40, "s" * 40, "q" * 40, "n" * 40)


@pytest.mark.parametrize("purpose", [CARD, HAVIP, Purpose(Kind.EGRESS, "pool", "s.1", "p-1"), LONGEST])
def test_a_purpose_is_read_back_from_name_and_description(purpose: Purpose) -> None:
    assert purpose_of(purpose.name, purpose.description) == purpose


@pytest.mark.parametrize(
    ("name", "description"),
    [
        (CARD.name, HAVIP.description),
        ("mine", CARD.description),
        (CARD.name, ""),
        (CARD.name, "proxypool card pool/s1/p1"),
        (CARD.name, "proxypool disk pool/s1/p1/node-a"),
        (CARD.name, "nginx card pool/s1/p1/node-a"),
    ],
)
def test_what_does_not_fit_is_not_ours(name: str, description: str) -> None:
    assert purpose_of(name, description) is None


def test_the_longest_names_fit_the_platforms_limits() -> None:
    """65 characters of a name, 200 of a description, 64 of a token."""
    assert len(LONGEST.name) <= 65
    assert len(LONGEST.description) <= 200
    assert len(LONGEST.token("1767225600000-" + "s" * 40, 3)) <= 64


def test_tokens_differ_by_all_that_makes_an_intent() -> None:
    purposes = [
        CARD,
        HAVIP,
        Purpose(Kind.EGRESS, "pool", "s1", "p1"),
        Purpose(Kind.CARD, "pool2", "s1", "p1", "node-a"),
        Purpose(Kind.CARD, "pool", "s2", "p1", "node-a"),
        Purpose(Kind.CARD, "pool", "s1", "p2", "node-a"),
        Purpose(Kind.CARD, "pool", "s1", "p1", "node-b"),
    ]
    tokens = {purpose.token(request, number) for purpose in purposes for request in ("a", "b") for number in (0, 1)}
    assert len(tokens) == 4 * len(purposes)
    assert CARD.token("a", 0) == CARD.token("a", 0)
