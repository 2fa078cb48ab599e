"""Whatever somebody writes into ZooKeeper: it is refused in one line, the last good document stays, and nobody who reads
the pool fails over it: not the daemons, not the commands, not the status page.
"""

from __future__ import annotations

import contextlib
import json
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxypool.adapters.zookeeper.layout import Extent, Parts, candidate_node, candidate_sequence
from proxypool.adapters.zookeeper.parsing import parse_document
from proxypool.adapters.zookeeper.view import view_of
from proxypool.cli.output import to_json
from proxypool.core.documents import decode, encode
from proxypool.core.errors import InvalidInput
from proxypool.core.history import Intent, Name, parse_name
from proxypool.core.model import MemberStatus, NodeSpec
from proxypool.core.scaling.rooms import rooms
from proxypool.web.answers import Request
from proxypool.web.page import Face
from proxypool.web.site import Site
from tests.fuzz.damage import NUMBERS, TEXTS, Token, anything, as_json, damaged, odd_values, pairs_of
from tests.fuzz.pool_tree import (
    INTENT,
    NOW,
    RECORD,
    VALID,
    Tree,
    documents_of,
    loaded,
    read_by_everybody,
    records_shown,
    view,
)
from tests.property.effort import effort
from tests.unit import builders
from tests.unit.shown_pools import Shown

WHOLE = view(Tree({}))
FACE = Face("controller", "ctl1", "0.1.0", "/runbooks")
UNPRINTABLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")

paths = st.sampled_from(sorted(VALID))
names = st.one_of(
    st.sampled_from(TEXTS).map(lambda text: text.replace("/", "").replace("\x00", "")[:200]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\x00"), max_size=20),
).filter(bool)


def of(path: str, data: bytes) -> str | None:
    """What is wrong with a document, in one line that can be printed; None: nothing."""
    parts: Parts = tuple(path.split("/"))
    try:
        document = parse_document(parts, data, path)
    except InvalidInput as error:
        text = str(error)
        assert text.isprintable()
        assert path in text
        assert len(text) < 2200
        return text
    assert parse_document(parts, encode(document), path) == document
    encode(document, data)
    return None


@given(paths.flatmap(lambda path: st.tuples(st.just(path), anything([VALID[path]]))))
@effort(180)
def test_any_bytes_are_a_document_or_refused_in_a_line(found: tuple[str, bytes]) -> None:
    of(*found)


def test_the_valid_ones_are_valid() -> None:
    """Else the other tests would look at refusals only."""
    for path, value in VALID.items():
        assert of(path, as_json(pairs_of(value)).encode()) is None


@given(
    st.dictionaries(paths, st.none(), min_size=1, max_size=3).flatmap(
        lambda chosen: st.fixed_dictionaries({path: damaged([VALID[path]]) for path in chosen})
    )
)
@effort(40)
def test_nobody_who_reads_the_pool_fails_over_it(changed: dict[str, bytes]) -> None:
    """Cold, and warm: then the last good version of each stays, and that it is wrong is shown."""
    cold = view(Tree(changed))
    warm_tree = loaded(Tree(changed), into=loaded(Tree({})))
    warm = view_of(warm_tree)
    for text in (*read_by_everybody(cold, WHOLE), *read_by_everybody(warm, WHOLE)):
        assert UNPRINTABLE.search(text) is None
    for path, data in changed.items():
        wrong = of(path, data)
        shown = warm.snapshot.malformed.get(f"/proxypool/fuzz/{path}")
        assert (shown is None) is (wrong is None)
        if wrong:
            last_good = warm_tree.document(tuple(path.split("/")))
            assert last_good is not None
            assert msgspec.json.decode(encode(last_good)) == VALID[path]


@given(
    st.dictionaries(paths, st.none(), min_size=1, max_size=2).flatmap(
        lambda chosen: st.fixed_dictionaries({path: damaged([VALID[path]]) for path in chosen})
    )
)
@effort(30)
def test_the_status_page_and_its_documents_can_be_made_of_it(changed: dict[str, bytes]) -> None:
    """As valid JSON; a defect would be a 500."""
    site = Site(Shown(documents_of(view(Tree(changed)))), "fuzz", FACE, lambda _: None, "")
    for path in ("/", "/api/v1/status", "/api/v1/topology", "/api/v1/scaling", "/api/v1/history"):
        answer = site.answer(Request("GET", path))
        assert answer.status == 200, answer.body
        if path != "/":
            json.loads(answer.body, parse_constant=pytest.fail)


@given(
    st.lists(st.one_of(names, names.map(lambda name: f"{name}-0000000003"), names.map(lambda name: f"n1-{name}"[:13])))
)
@effort(40)
def test_any_names_among_candidates(found: list[str]) -> None:
    """Who stands there without a number of ZooKeeper's is no candidate."""
    for name in found:
        if candidate_node(name) is not None:
            assert candidate_sequence(name) >= 0
    snapshot = loaded(Tree({}, names=tuple(found)), Extent.SERVING).snapshot()
    assert [one.node for one in snapshot.elections["s1/p1"]][:1] in (
        ["n1"],
        *([candidate_node(name)] for name in found),
    )


@given(anything([RECORD]), st.lists(st.one_of(names, st.builds("{}_s1_p1_n1".format, odd_values)), max_size=4))
@effort(100)
def test_any_record_and_any_names_in_the_history(data: bytes, found: list[str]) -> None:
    for text in records_shown(data, tuple(found)):
        assert UNPRINTABLE.search(text) is None
    with contextlib.suppress(InvalidInput):
        decode(data, Intent, what="intent")


@given(anything([INTENT]))
@effort(40)
def test_any_intent(data: bytes) -> None:
    with contextlib.suppress(InvalidInput):
        assert decode(data, Intent, what="intent").epoch >= 0


# ---- what was found, one by one --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw", [b"9" * 5000, "\N{SUPERSCRIPT TWO}".encode(), "\N{FULLWIDTH DIGIT ONE}".encode(), b"-1"]
)
def test_a_layout_version_that_is_no_number(raw: bytes) -> None:
    with pytest.raises(InvalidInput, match="is not a layout version"):
        parse_document(("version",), raw, "version")


def test_a_candidate_counted_in_other_digits_is_none() -> None:
    assert candidate_node("n1-" + "\N{SUPERSCRIPT TWO}" * 10) is None
    assert candidate_node("n1-" + "\N{ARABIC-INDIC DIGIT ONE}" * 10) is None
    assert candidate_node("n1-0000000001") == "n1"


@pytest.mark.parametrize("number", [*NUMBERS[:4], *NUMBERS[-8:]])
@pytest.mark.parametrize("field", ["epoch", "rx_bytes", "rx_bytes_per_s", "at", "damped_until"])
def test_a_number_that_nothing_can_mean_is_refused(field: str, number: str) -> None:
    data = as_json(pairs_of({**VALID["subnets/s1/pairs/p1/status/n1"], field: Token(number)})).encode()
    try:
        found = decode(data, MemberStatus, what="status")
    except InvalidInput:
        return
    assert abs(getattr(found, field)) < 2**63


@pytest.mark.parametrize("label", ["9" * 5000, "\N{SUPERSCRIPT TWO}", "-1", "1e3", ""])
def test_a_label_that_is_no_number_of_pairs_is_as_none(label: str) -> None:
    node = NodeSpec(id="n1", underlay=builders.node("n1", "192.168.4.1").underlay, labels={"pairs": label})
    pool = builders.snapshot(nodes=[node])
    (room,) = rooms(pool, loaded(Tree({}), Extent.PLACING).placing(), (), 100, {})
    assert room.max_members == 100


@pytest.mark.parametrize(
    "name", ["9" * 400 + "_s1_p1_n1", "-1_s1_p1_n1", "1_0_s1_p1_n1", " 5_s1_p1_n1", "\N{SUPERSCRIPT TWO}_a_b_c"]
)
def test_a_name_that_is_no_records(name: str) -> None:
    assert parse_name(name) is None


def test_a_records_name_is_read_as_it_was_written() -> None:
    name = Name(1_790_000_000_123, "s1", "p1", "n1")
    assert parse_name(name.text) == name


def test_what_a_terminal_would_obey_is_shown_and_not_sent() -> None:
    """A node that was taken over writes sequences into its status: they must not reach who looks at it."""
    status = {**VALID["subnets/s1/pairs/p1/status/n2"], "health": ["\x1b]0;mine\x07\x1b[2J", "a\nb"], "role": "\x9b2J"}
    found = view(Tree({"subnets/s1/pairs/p1/status/n2": json.dumps(status).encode()}))
    text = "\n".join(read_by_everybody(found, WHOLE))
    assert UNPRINTABLE.search(text) is None
    assert "\\x1b]0;mine\\x07" in text
    assert json.loads(to_json({"a": "\x9b\u202e"})) == {"a": "\x9b\u202e"}
    assert NOW > 0
