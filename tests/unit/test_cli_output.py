"""Tables, units, YAML: what the command line prints."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from proxypool.cli import output
from proxypool.cli.output import Colour, fields, paint, table, to_json, to_yaml
from proxypool.core.units import ago, rate, scaled


def test_columns_are_aligned_and_lines_have_no_tail() -> None:
    """Empty cells are shown as a dash; nothing is cut, however long."""
    long = "x" * 300
    assert table(("A", "NAME"), (("1", ""), ("22222", long))) == f"A      NAME\n1      -\n22222  {long}"


def test_colours_do_not_count_as_width() -> None:
    """The next column begins where it would without them."""
    green = paint("ok", Colour.GOOD, enabled=True)
    assert table(("A", "B"), ((green, "x"), ("long", "y"))).splitlines()[1] == f"{green}    x"
    assert paint("ok", Colour.GOOD, enabled=False) == "ok"


def test_fields_are_aligned() -> None:
    """One per line."""
    assert fields((("id", "s1"), ("tunnel key", ""))) == "id:          s1\ntunnel key:  -"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 "),
        (0.4, "0 "),
        (999, "999 "),
        (999.4, "999 "),
        (999.6, "1.0 k"),
        (1500, "1.5 k"),
        (99_400, "99.4 k"),
        (123_456, "123 k"),
        (999_400, "999 k"),
        (999_600, "1.0 M"),
        (12_300_000_000, "12.3 G"),
        (5e15, "5000 T"),
    ],
)
def test_numbers_have_three_digits_and_a_prefix(value: float, text: str) -> None:
    """Decimal prefixes, as network rates have."""
    assert scaled(value) == text


def test_rates() -> None:
    """Nothing where nothing is known."""
    assert rate(1_500_000) == "1.5 MB/s"
    assert rate(0.0) == "0 B/s"
    assert rate(None) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-5, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (61, "1m1s"),
        (3600, "1h"),
        (3661, "1h1m"),
        (86400, "1d"),
        (90000, "1d1h"),
        (864000 + 60, "10d"),
    ],
)
def test_how_long_ago(seconds: float, text: str) -> None:
    """Two units; a clock that is ahead is not a negative age."""
    assert ago(1e9, 1e9 + seconds) == text
    assert ago(None, 1e9) == ""


DOCUMENT: dict[str, object] = {
    "kind": "Pool",
    "empty": {},
    "none": [],
    "nothing": None,
    "flags": [True, False],
    "number": 1,
    "rate": 1.5,
    "tiny": 1e-07,
    "address": "192.168.4.100",
    "cidr": "10.0.0.0/8",
    "words": "two words",
    "trap": "no",
    "looks like a number": "1e3",
    "time": "12:30",
    "colon": "a: b",
    "comment": "a #b",
    "quote": 'say "hi" \\ it\'s',
    "lines": "one\ntwo\ttabs",
    "blank": "",
    "unicode": "schön ✓ \U0001f600 \u2028 \x85 \x00",
    "items": [{"id": "a", "tags": ["x", "y"], "deep": {"er": [1, [2, 3], []]}}, {"id": "b"}],
    "tuples": ({"id": "a"}, (1, 2)),
    "key: with colon": "-",
}


def test_yaml_looks_as_people_write_it() -> None:
    """Block style, quotes only where they are needed."""
    text = to_yaml({"kind": "Pool", "members": ({"node": "node-a", "ok": True}, {"node": "node-b"}), "none": ()})
    assert text == "kind: Pool\nmembers:\n  - node: node-a\n    ok: true\n  - node: node-b\nnone: []"
    assert to_yaml({"a": "no", "b": "10.0.0.1", "c": "x: y"}) == 'a: "no"\nb: "10.0.0.1"\nc: "x: y"'


@pytest.mark.parametrize("parser", ["yaml", "ruby"])
def test_yaml_is_read_back_as_it_was(parser: str) -> None:
    """By a real parser, where this computer has one (python3-yaml, ruby)."""
    programs = {
        "yaml": [
            "/usr/bin/python3",
            "-c",
            "import sys, json, yaml; print(json.dumps(yaml.safe_load(sys.stdin.read())))",
        ],
        "ruby": ["ruby", "-ryaml", "-rjson", "-e", "puts JSON.generate(YAML.safe_load($stdin.read))"],
    }
    try:
        done = subprocess.run(programs[parser], input=to_yaml(DOCUMENT), capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip(f"no {parser} here")
    if "No module named 'yaml'" in done.stderr:
        pytest.skip("no python3-yaml here")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(json.dumps(DOCUMENT))


def test_json_is_indented_or_one_line() -> None:
    """Characters stay readable."""
    assert to_json({"a": ["ü"]}) == '{\n  "a": [\n    "ü"\n  ]\n}'
    assert to_json({"a": ["ü"]}, indent=None) == '{"a": ["ü"]}'


def test_colours_need_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under pytest standard output is none."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert not output.wants_colour()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert output.wants_colour()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not output.wants_colour()
