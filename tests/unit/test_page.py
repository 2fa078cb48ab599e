"""The status page: what is on it, in which order, and that nothing of what ZooKeeper says can become markup."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest

import proxypool.web
from proxypool.core.checks import Code
from proxypool.core.status import PoolStatus, all_checks
from proxypool.web.markup import VOID, join, raw, tag
from proxypool.web.page import Documents, Face, empty_page, page
from proxypool.web.picture import MAX_LANES, picture
from proxypool.web.prose import markdown
from proxypool.web.subnets import MAX_SHOWN
from tests.unit.shown_pools import ATTACK, eventful, hostile, many, well

FACE = Face("controller", "ctl1", "0.1.0", "/runbooks")
OF_NODE = Face("node", "node-a", "0.1.0", "https://runbooks.example/checks")


class Reader(HTMLParser):
    """Elements, their attributes, and the text between them; refuses what is not closed as it was opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        # An empty drawing element may be closed where it is opened.
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def having(self, attribute: str) -> list[str]:
        return [attributes[attribute] or "" for _, attributes in self.elements if attribute in attributes]


def read(found: Documents, age_s: float = 0.8, problem: str = "", face: Face = FACE) -> Reader:
    return Reader(page(found, age_s, problem, face))


# ---- markup ----------------------------------------------------------------------------------------------------------


def test_text_and_attributes_are_escaped_and_markup_is_not_escaped_twice() -> None:
    inner = tag("b", "<i>&", title='"><script>')
    assert inner == '<b title="&quot;&gt;&lt;script&gt;">&lt;i&gt;&amp;</b>'
    assert tag("p", inner, "<", 5, None, ["'", raw("<br>")]) == f"<p>{inner}&lt;5&#x27;<br></p>"
    assert join("<", inner) == f"&lt;{inner}"


def test_attributes_without_a_value_and_those_that_are_not_there() -> None:
    assert (
        tag("details", open=True, hidden=False, class_=None, data_label="x")
        == '<details open data-label="x"></details>'
    )
    assert tag("meta", http_equiv="refresh") == '<meta http-equiv="refresh">'


# ---- the page --------------------------------------------------------------------------------------------------------


def test_a_well_pool_says_so_first() -> None:
    found = read(well())
    assert found.text.index("All is well") < found.text.index("orders-db")
    assert "No check finds anything wrong." in found.text
    assert ("title", {}) in found.elements
    assert "ok · production · proxypool" in found.text


def test_every_finding_has_its_runbook_and_the_command_to_run_next_the_worst_first() -> None:
    documents = eventful()
    found = read(documents)
    checks = list(all_checks(documents.status))
    assert {check.code for check in checks} >= {"PP001", "PP008", "PP013", "PP015", "PP019", "PP024"}
    links = found.having("href")
    assert all(f"/runbooks/{check.code}" in links for check in checks)
    assert all(check.command in found.text for check in checks)
    levels = [attributes.get("class") for name, attributes in found.elements if name == "li"]
    assert [level for level in levels if level in {"critical", "degraded"}] == [
        "critical",
        *["degraded"] * (len(checks) - 1),
    ]


def test_a_command_in_a_sentence_is_set_as_one() -> None:
    assert "<code>proxypool pair resume search p1</code>" in page(eventful(), 1.0, "", FACE)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "node-a",
            "node-f",
            "master",
            "not running",
            "the ENI has no carrier",
            "243,870",
            "812 MB/s",
            "paused 10m40s",
        ),
        *("draining 6m12s", "41", "acquire", "no free card on node-e", "1 of 1-4 pairs, 3 wanted", "connections 2.71"),
        *("failover", "gave-up", "6.1 ms", "9.3 ms", "kim@bastion: kernel upgrade of node-f", "not ready within 120 s"),
        *("ctl1 leads, 1 standing by, provider spare", "host-3", "zone=a", "egress 172.16.1.20"),
    ],
)
def test_what_is_known_is_on_the_page(text: str) -> None:
    """Members, traffic, drains, actions, history, scaling, machines."""
    assert text in read(eventful()).text


def test_how_old_it_is_is_said_and_what_is_old_is_warned_of() -> None:
    assert "read 3 s ago, controller ctl1, 0.1.0" in read(well(), 3.2).text
    assert "may no longer be so" not in read(well(), 3.2).text
    found = read(well(), 75.0, "ZooKeeper does not answer.")
    assert "What you see is 1m15s old and may no longer be so. ZooKeeper does not answer." in found.text


def test_a_page_of_nothing_says_why() -> None:
    found = Reader(empty_page("ZooKeeper does not answer.", "production", FACE))
    assert "Nothing is known yet ZooKeeper does not answer." in found.text


def test_a_node_shows_no_sizes_and_offers_no_document_about_them() -> None:
    documents = well()
    alone = Documents(documents.status, documents.history, documents.topology)
    found = read(alone, face=OF_NODE)
    assert "scaling" not in found.having("id")
    assert "/api/v1/scaling" not in found.having("href")


def test_runbooks_may_be_elsewhere() -> None:
    found = read(eventful(), face=OF_NODE)
    assert "https://runbooks.example/checks/PP001" in found.having("href")


def test_an_empty_pool_says_how_to_begin() -> None:
    documents = well()
    nothing: PoolStatus = msgspec.structs.replace(documents.status, subnets=(), nodes=(), hosts=())
    none = msgspec.structs.replace(documents.topology, subnets=())
    text = read(Documents(nothing, documents.history, none)).text
    assert "proxypool subnet add" in text
    assert "No node has registered yet." in text


def test_a_large_pool_shows_what_is_not_well_and_links_to_the_rest() -> None:
    documents = many(200)
    text = page(documents, 1.0, "", FACE)
    found = Reader(text)
    assert found.having("id").count("subnet-s7") == 1, "its pair has no backup"
    assert "subnet-s8" not in found.having("id")
    assert "/?subnet=s8" in found.having("href")
    assert len(documents.status.subnets) > MAX_SHOWN
    assert len(text) < 200_000


# ---- for everybody ---------------------------------------------------------------------------------------------------


def test_headings_have_an_order_tables_have_captions_and_sections_have_names() -> None:
    found = read(eventful())
    names = [name for name, _ in found.elements]
    levels = [int(name[1]) for name in names if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert names.count("table") == names.count("caption") > 0
    ids = found.having("id")
    assert len(ids) == len(set(ids))
    assert all(set(label.split()) <= set(ids) for label in found.having("aria-labelledby"))
    assert ("html", {"lang": "en"}) in found.elements
    assert {"header", "main", "footer"} <= set(names)


def test_every_mark_has_a_word_beside_it() -> None:
    """A colour alone tells nothing to whoever cannot see it."""
    text = page(eventful(), 1.0, "", FACE)
    marks = re.findall(r'<span class="mark [a-z]+" aria-hidden="true"></span>(<span>)?([^<]*)', text)
    assert len(marks) > 20
    assert all(words for _, words in marks)


def test_nothing_comes_from_elsewhere_and_nothing_is_inline() -> None:
    """What the content security policy forbids is not there to begin with."""
    found = read(eventful())
    assert not [one for one in found.having("href") + found.having("src") if not one.startswith(("/", "#"))]
    assert found.having("style") == []
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    assert [name for name, _ in found.elements].count("script") == 1
    assert "style" not in [name for name, _ in found.elements]


def test_without_scripts_the_page_loads_itself_again() -> None:
    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in page(well(), 1.0, "", FACE)


def test_the_pages_own_files_are_there() -> None:
    folder = Path(proxypool.web.__file__).parent / "static"
    assert {path.name for path in folder.iterdir()} == {"style.css", "live.js"}
    assert "http" not in (folder / "style.css").read_text()


# ---- attacks ---------------------------------------------------------------------------------------------------------


def test_hostile_names_stay_text() -> None:
    """Everything that ZooKeeper can say is the same attack; the page has the elements of one with kind names."""
    text = page(hostile(), 1.0, ATTACK, FACE, ATTACK)
    assert ATTACK in "".join(Reader(text).words)
    assert "<script>alert" not in text
    assert "<img" not in text
    names = {name for name, _ in Reader(text).elements}
    assert names <= {name for name, _ in read(eventful(), 99.0).elements} | {"article"}
    assert not [name for _, attributes in Reader(text).elements for name in attributes if name.startswith("on")]


def test_hostile_names_stay_text_in_links() -> None:
    documents = many(60, name=f"x{ATTACK}")
    found = Reader(page(documents, 1.0, "", FACE))
    assert f"/?subnet={quote(f'x{ATTACK}1', safe='')}" in found.having("href")


# ---- runbooks --------------------------------------------------------------------------------------------------------

RUNBOOK = f"""# PP001 no-master

No member says so,
and **nobody** answers (PP002). See `a<b>` and [PP003](PP003.md#why), [pausing](../../how-to/pause.md).

1. First,
   on two lines
2. Second {ATTACK}

- [x](javascript:alert) [y](https://example.org/)
```sh
proxypool pair show s1 p1

# {ATTACK}
```
| a | b |
"""


def test_a_runbook_is_read_as_it_is_written() -> None:
    text = markdown(RUNBOOK)
    assert "<h1>PP001 no-master</h1>" in text
    assert (
        '<p>No member says so, and <b>nobody</b> answers (<a href="PP002">PP002</a>). See <code>a&lt;b&gt;</code>'
        in text
    )
    assert '<a href="PP003">PP003</a>, pausing.</p>' in text
    assert "<ol><li>First, on two lines</li><li>Second &quot;&gt;&lt;script" in text
    assert '<ul><li>x <a href="https://example.org/">y</a></li></ul>' in text
    assert "<code>proxypool pair show s1 p1\n\n# &quot;" in text
    assert "| a | b |" in text
    assert Reader(text).open == []
    assert "<script" not in text


@pytest.mark.parametrize(
    "text", ["", "```", "```\nx", "# a\nb", "- a\nb\n- c", "|", "1. ", "`a", "**", "[a](b", "\x00"]
)
def test_what_is_no_markdown_is_no_trouble(text: str) -> None:
    Reader(markdown(text))


# ---- the picture -----------------------------------------------------------------------------------------------------


def test_the_picture_says_in_words_what_it_shows() -> None:
    found = Reader(picture(eventful().topology))
    assert "pair billing/p1, active, HaVip 192.168.4.103: nobody is master" in found.text
    assert "pair orders-db/p1, active, HaVip 192.168.4.101: node-a is master" in found.text


def test_a_large_pools_picture_has_the_unwell_pairs_first_and_says_what_is_left_out() -> None:
    found = Reader(picture(many(200).topology))
    assert len([name for name, attributes in found.elements if attributes.get("class") == "lane"]) == MAX_LANES
    assert f"{200 - MAX_LANES} more pairs are left out of the picture" in found.text
    assert "pair s7/p1" in found.text
    assert "pair s107/p1" in found.text


def test_all_codes_can_be_linked() -> None:
    """They are part of a path."""
    assert all(re.fullmatch(r"PP\d{3}", code.value[0]) for code in Code)
