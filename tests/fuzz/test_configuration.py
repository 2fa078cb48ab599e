"""Files that operators write: configuration, descriptions of pools, traces, parameters, lists, an ip-masq-agent's."""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxypool.adapters.ip_masq_agent import KEY, read_non_masquerade_cidrs
from proxypool.cli.reading import read_bytes, read_text
from proxypool.core.config import MAX_SECONDS, Config
from proxypool.core.config_file import parse
from proxypool.core.config_lines import lines_of
from proxypool.core.config_sources import settings_of
from proxypool.core.endpoints import parse_endpoint
from proxypool.core.errors import InvalidInput, ProxypoolError, TransientError
from proxypool.core.requests import parse_member, parse_pool_request
from proxypool.core.scaling.fleet import World
from proxypool.core.scaling.policy import Parameters
from proxypool.core.scaling.simulate import Rival, least_slack, mean_load, replay, replay_rival
from proxypool.core.scaling.trace import loads_of, scale_of
from proxypool.core.scaling.trace import parse as parse_trace
from proxypool.core.toml import load
from proxypool.providers.baidu.settings import read_credentials
from proxypool.providers.contract import NotAuthorised
from tests.fuzz.damage import DEEP, NUMBERS, TEXTS, Token, anything, damaged, odd_values
from tests.property.effort import effort

FULL: dict[str, Any] = {
    "pool": "blue",
    "run_dir": "/run/proxypool",
    "zookeeper": {"hosts": ["10.0.0.1:2181"], "session_timeout_s": 4.0, "server_tick_s": 2.0},
    "node": {
        "underlay": "eth0",
        "labels": {"zone": "a"},
        "advert_interval_ms": 20,
        "bandwidth_bytes_per_s": 125_000_000,
        "web": {"listen": "127.0.0.1:9481", "runbooks": "https://runbooks.example"},
    },
    "host": {"underlay": "eth0", "instance_cidrs": ["10.244.1.0/24"], "linger_s": 300, "mark_shift": 16},
    "controller": {
        "source": "http://prometheus:9090",
        "call_deadline_s": 60,
        "policy": {"target": 0.9, "stable_s": 300.0},
    },
    "metrics": {"listen": "127.0.0.1:9477"},
    "log": {"level": "info"},
    "provider": {"name": "command", "command": {"program": ["/usr/bin/true"], "environment": {"A": "b"}}},
}


YEAR_S = 365 * 86400


def as_toml(value: Any) -> str:
    """TOML of a value of `damage.pairs_of` as inline tables, one line for each table at the top."""
    if isinstance(value, dict):
        return "\n".join(f"{_key(key)} = {_inline(item)}" for key, item in value["pairs"])
    return _inline(value)


def _key(key: Any) -> str:
    return str(key) if isinstance(key, Token) else json.dumps(str(key))


def _inline(value: Any) -> str:
    if isinstance(value, Token):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_inline(item)}" for key, item in value["pairs"]) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return {math.inf: "inf", -math.inf: "-inf"}.get(value, json.dumps(value)) if value == value else "nan"  # noqa: PLR0124


def checked(text: str) -> Config | None:
    """The configuration; None: it was refused, in one line that says where."""
    try:
        found = parse(text, what="proxypool.toml")
    except InvalidInput as error:
        assert str(error).startswith("proxypool.toml")
        assert str(error).isprintable()
        return None
    settings_of(found, text, "proxypool.toml", {})
    return found


@given(anything([FULL], as_toml))
@effort(200)
def test_any_bytes_are_a_configuration_or_refused(data: bytes) -> None:
    checked(data.decode("utf-8", "replace"))


def test_the_valid_one_is_valid() -> None:
    text = "\n".join(f"{json.dumps(key)} = {_inline(_pairs(value))}" for key, value in FULL.items())
    assert checked(text) is not None


def _pairs(value: Any) -> Any:
    return {"pairs": [[key, _pairs(item)] for key, item in value.items()]} if isinstance(value, dict) else value


@given(st.text(max_size=200))
@effort(100)
def test_any_text_has_its_lines_found(text: str) -> None:
    lines_of(text)


@pytest.mark.parametrize(
    "text",
    [
        f"x = {'9' * 5000}",
        f"x = {'[' * DEEP}{']' * DEEP}",
        f"{'.'.join('a' * DEEP)} = 1",
        f"x = {'[' * 30}{']' * 30}",
        "x = 9223372036854775808",
        "x = inf",
        "x = [1, nan]",
        "x = 0x" + "f" * 9000,
        "x = 2001-99-99",
    ],
)
def test_toml_that_python_reads_in_vain(text: str) -> None:
    """Numbers of thousands of digits, and depths, that its parser takes or fails over."""
    with pytest.raises(InvalidInput, match=r"^it: ") as told:
        load(text, what="it")
    assert str(told.value).isprintable()


def test_a_number_out_of_bounds_is_told_with_its_line() -> None:
    with pytest.raises(InvalidInput, match=r"line 3: host\.linger_s is not finite"):
        parse('[host]\nunderlay = "eth0"\nlinger_s = inf\n', what="it")


@pytest.mark.parametrize(
    "line", ["host.linger_s = 1e9", "controller.call_deadline_s = 1e10", "zookeeper.server_tick_s = 1e7"]
)
def test_a_time_that_the_kernel_cannot_wait_for_is_refused(line: str) -> None:
    with pytest.raises(InvalidInput, match=f"<= {MAX_SECONDS}"):
        parse(f'{line}\nhost.underlay = "eth0"\nhost.instance_cidrs = ["10.0.0.0/8"]', what="it")


def test_a_header_of_many_blanks_does_not_take_long() -> None:
    """What looks like one within a list of lists: found in one pass."""
    text = f"x = [\n[{' ' * 200_000}\n1]]\n"
    parse_text = load(text, what="it")
    assert parse_text == {"x": [[1]]}
    assert lines_of(text) == {"x": 1}


@given(st.one_of(st.text(max_size=20), st.sampled_from(TEXTS), st.sampled_from(NUMBERS).map("h:{}".format)))
@effort(100)
def test_any_text_is_an_endpoint_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        _, port = parse_endpoint(text, what="it")
        assert 1 <= port <= 65535


# ---- descriptions ----------------------------------------------------------------------------------------------------

MEMBERS = [{"node": f"n{at}", "eni": "eth1", "address": f"172.16.101.1{at}/24"} for at in (1, 2)]
DESCRIPTION = {
    "tunnel": "vxlan",
    "tunnel_range": "100.64.0.0/10",
    "subnets": [
        {
            "id": "s1",
            "cidrs": ["172.16.101.0/24"],
            "tenant": "t1",
            "key": 5,
            "labels": {"a": "b"},
            "pairs": [{"id": "p1", "havip": "192.168.4.100", "members": MEMBERS, "vrid": 3, "weight": 2}],
            "scaling": {"min_pairs": 1, "max_pairs": 4, "mode": "observe"},
            "spares": {"members": MEMBERS, "havips": ["192.168.4.101"]},
        }
    ],
}


@given(anything([DESCRIPTION]))
@effort(150)
def test_any_bytes_are_a_description_or_refused(data: bytes) -> None:
    try:
        parse_pool_request(data, what="file")
    except InvalidInput as error:
        assert str(error).startswith("file: ")
        assert str(error).isprintable()


@given(
    st.lists(st.one_of(st.sampled_from(TEXTS), st.sampled_from(("n1", "eni=eth1", "address=10.0.0.1/8"))), max_size=5)
)
@effort(60)
def test_any_text_is_a_member_or_refused(words: list[str]) -> None:
    with contextlib.suppress(InvalidInput):
        parse_member(",".join(words))


# ---- traces ----------------------------------------------------------------------------------------------------------

times = st.one_of(
    st.integers(0, 5000).map(str),
    st.integers(1_600_000_000, 1_600_100_000).map(str),
    st.sampled_from(
        ("2026-11-29 15:04:05", "2026-11-29T15:09:05Z", "2026/11/30", "9999-12-31", "0000-01-01", "1e18", "1e15")
    ),
    st.sampled_from(NUMBERS),
)
cells = st.one_of(
    st.floats(0, 1e6).map(str),
    st.sampled_from(NUMBERS),
    st.sampled_from(("", "nan", "-", "x", "1,5", '"', '"a\nb"', "-3")),
)


@st.composite
def traces(draw: st.DrawFn) -> str:
    """A CSV, mostly in order."""
    separator = draw(st.sampled_from((",", ",", ",", ";", "\t")))
    header = draw(
        st.sampled_from(("timestamp,value", "timestamp,value", "a,b,c", "", "x" * 200_000 + ",b", "value,time"))
    )
    rows = draw(st.lists(st.lists(st.one_of(times, cells), min_size=1, max_size=3), max_size=6))
    start = draw(st.integers(0, 2_000_000_000))
    regular = [[str(start + at * 60), draw(cells)] for at in range(draw(st.integers(0, 8)))]
    lines = [
        header.replace(",", separator),
        *(separator.join(row) for row in (*regular, *rows[: draw(st.integers(0, 6))])),
    ]
    return draw(st.sampled_from(("\n", "\n", "\r\n", "\r"))).join(lines)


@given(st.one_of(traces(), traces(), st.text(max_size=40)), st.one_of(st.none(), st.sampled_from((1.0, 1e-300, 1e300))))
@effort(150)
def test_any_trace_is_replayed_or_refused(text: str, capacity: float | None) -> None:
    """And what comes of it are numbers."""
    try:
        trace = parse_trace(text)
        scale = scale_of(trace, capacity)
    except InvalidInput as error:
        assert str(error).isprintable()
        return
    loads = loads_of(trace, scale)
    outcomes = [replay(loads, trace.until, World(), Parameters())]
    outcomes += [replay_rival(loads, trace.until, World(), rival) for rival in Rival]
    figures = [mean_load(loads, trace.until), least_slack(loads, trace.until)]
    figures += [outcome.mean_slack_fraction for outcome in outcomes] + [outcome.pair_hours for outcome in outcomes]
    assert all(map(math.isfinite, figures))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("timestamp,v\n0,1\n1e15,2\n", "is it"),
        ("timestamp,v\n0,1\n99999999999,2\n", "is a time in another unit"),
        ("timestamp,v\n0,5e-324\n60,0\n", "no value above zero"),
        ("timestamp,v\n0,1\n1e17,2\n", ""),
    ],
)
def test_a_trace_of_ages_or_of_nothing_is_refused(text: str, words: str) -> None:
    with contextlib.suppress(InvalidInput):
        scale_of(parse_trace(text))
    if words and words != "is it":
        with pytest.raises(InvalidInput, match=words):
            scale_of(parse_trace(text))


@pytest.mark.parametrize(
    "text",
    [
        f"timestamp,v\n0,1\n60,nan\n{9 * YEAR_S},3\n",
        f"timestamp,v\n0,1\n60,2\n120,1\n{9 * YEAR_S},1\n{9 * YEAR_S + 60},2\n",
    ],
)
def test_years_in_which_nothing_is_known_are_not_gone_through_tick_by_tick(text: str) -> None:
    """It would take minutes, and hours with the gaps of a century: the test's time limit tells."""
    trace = parse_trace(text)
    loads = loads_of(trace, scale_of(trace))
    for rival in Rival:
        assert replay_rival(loads, trace.until, World(), rival).pair_hours > 0


def test_a_capacity_too_small_for_any_number_of_pairs_is_refused() -> None:
    with pytest.raises(InvalidInput, match="too small"):
        scale_of(parse_trace("timestamp,v\n0,1e300\n60,2\n"), 1e-9)


# ---- other files -----------------------------------------------------------------------------------------------------

MASQ = {KEY: ["10.0.0.0/8", "192.168.0.0/16"], "masqLinkLocal": False, "resyncInterval": "60s"}
YAML = (
    "&a [*a]",
    "!!python/object:os.system",
    "2001-99-99",
    "!!int 0x",
    "{{}: 1}",
    "*b",
    "? [a]",
    "0o9",
    "1:99999999999",
    "- -",
    "%",
)


@given(st.one_of(anything([MASQ]), st.sampled_from(YAML).map(lambda text: f"{KEY}: [{text}]".encode())))
@effort(100)
def test_any_file_is_an_ip_masq_agents_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "config"
    path.write_bytes(data)
    try:
        read_non_masquerade_cidrs(path)
    except (InvalidInput, TransientError) as error:
        assert str(path) in str(error)
        assert str(error).isprintable()


def test_yaml_that_refers_to_itself_a_thousand_million_times(tmp_path: Path) -> None:
    """Three hundred bytes that would be a text of ten gigabytes."""
    levels = [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 10)]
    path = tmp_path / "config"
    path.write_text("\n".join(["a0: &a0 [x]", *levels, f"{KEY}: [*a9]"]))
    with pytest.raises(InvalidInput, match="expected a text such as"):
        read_non_masquerade_cidrs(path)


@given(anything([{"access_key_id": "a", "secret_access_key": "very secret"}], as_toml))
@effort(60)
def test_any_file_of_credentials_is_read_or_refused_without_its_text(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "credentials"
    path.write_bytes(data)
    path.chmod(0o600)
    try:
        read_credentials(str(path))
    except NotAuthorised as error:
        assert "very secret" not in str(error)


def test_a_file_without_an_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="more than 1 MB; is it the right file"):
        read_text("/dev/zero", 1 << 20)
    with pytest.raises(InvalidInput, match="cannot read"):
        read_bytes(f"{tmp_path}/\x00", 10)
    (tmp_path / "latin").write_bytes(b"\xe4")
    with pytest.raises(InvalidInput, match="no text in UTF-8"):
        read_text(str(tmp_path / "latin"), 10)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("config", "check"), "x = " + "9" * 5000),
        (("config", "check"), "\x1b[2J = 1"),
        (("config", "show", "--file"), "pool = [[[[[["),
        (("pool", "apply"), "[" * 100_000),
        (("scale", "simulate"), "timestamp,v\n0,1\n1e16,1\n"),
    ],
)
def test_commands_say_in_a_line_what_is_wrong_with_a_file(tmp_path: Path, words: tuple[str, ...], text: str) -> None:
    """Seen as an operator sees it: exit code 1, one line, no trace."""
    path = tmp_path / "file"
    path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "proxypool", *words, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert done.stderr.strip().isprintable()


@given(odd_values, damaged([FULL], as_toml))
@effort(40)
def test_every_error_of_ours_is_one_line(value: object, data: bytes) -> None:
    text = str(ProxypoolError(f"{value}{data.decode(errors='replace')}"))
    assert text.isprintable()
    assert len(text) < 2100
