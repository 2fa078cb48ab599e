"""Lines of keys, where values come from, and the schema of the configuration file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxypool.core.config_file import parse
from proxypool.core.config_lines import line_of, lines_of
from proxypool.core.config_sources import schema, settings_of
from proxypool.core.redaction import REMOVED
from tests.unit.test_cli_commands import run

TEXT = """pool = "p"
[zookeeper]
hosts = [
    "zk1:2181",   # a comment = no key
]
session_timeout_s = 2
[node]
underlay = "eth0"
[node.labels]
"zone" = "a"
[provider]
name = "command"
[provider.command]
program = ["/bin/provider"]
api_password = "hunter2"
"""


def test_lines_of_keys_and_tables() -> None:
    lines = lines_of(TEXT)
    assert [line_of(lines, key) for key in ("pool", "zookeeper", "zookeeper.hosts", "node.labels.zone")] == [
        1,
        2,
        3,
        10,
    ]
    assert line_of(lines, "node.underlay") == 8
    assert line_of(lines, "node.name") == 7, "what is not there has the line of its table"
    assert line_of(lines, "log.level") is None


def test_nothing_is_a_key_within_a_long_string_or_a_comment() -> None:
    lines = lines_of('# a = 1\ntext = """\nb = 2\n"""\nc.d = 3\n')
    assert lines == {"text": 2, "c": 5, "c.d": 5}


def test_each_value_says_where_it_comes_from() -> None:
    found = settings_of(
        parse(TEXT.replace('api_password = "hunter2"\n', ""), what="x"), TEXT, "x.toml", {"pool": "option --pool"}
    )
    sources = {one.key: (one.value, one.source) for one in found}
    assert sources["pool"] == ("p", "option --pool")
    assert sources["zookeeper.hosts"] == (["zk1:2181"], "x.toml line 3")
    assert sources["zookeeper.server_tick_s"] == (None, "default")
    assert sources["node.labels.zone"] == ("a", "x.toml line 10")
    assert sources["provider.command.program"] == (["/bin/provider"], "x.toml line 14")
    assert sources["log.level"] == ("info", "default")
    assert not any(key.startswith(("host", "controller")) for key in sources), "sections that are not there"


def test_secrets_are_not_shown() -> None:
    config = parse(TEXT, what="x")
    shown = {one.key: one.value for one in settings_of(config, TEXT, "x.toml", {})}
    assert shown["provider.command.api_password"] == REMOVED
    assert "hunter2" not in str(shown)


def test_config_show_of_the_command_line(tmp_path: Path) -> None:
    """Environment and option come before the file, and the table says so."""
    file = tmp_path / "proxypool.toml"
    file.write_text('pool = "p"\n[log]\nlevel = "debug"\n')
    code, out, err = run(
        "--pool", "q", "config", "show", "--sources", PROXYPOOL_CONFIG=str(file), PROXYPOOL_ZOOKEEPER="zk1:1"
    )
    assert "provider.tables" not in out
    rows = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert (code, err) == (0, "")
    assert rows["pool"].split() == ['"q"', "option", "--pool"]
    assert rows["zookeeper.hosts"].split() == ['["zk1:1"]', "environment", "PROXYPOOL_ZOOKEEPER"]
    assert rows["log.level"].split() == ['"debug"', str(file), "line", "3"]
    assert rows["log.format"].split() == ['"text"', "default"]
    document = json.loads(run("config", "show", "-o", "json", "--file", str(file))[1])
    assert (document["apiVersion"], document["kind"], document["file"]) == ("proxypool/v1", "Configuration", str(file))
    assert {"key": "pool", "value": "p", "source": f"{file} line 1"} in document["settings"]


@pytest.mark.parametrize("words", [("check", "--file"), ("show", "--file")])
def test_a_file_that_is_named_must_be_there(tmp_path: Path, words: tuple[str, ...]) -> None:
    code, out, err = run("config", *words, str(tmp_path / "none.toml"))
    assert (code, out) == (1, "")
    assert err.startswith("error: cannot read the configuration ")


def test_the_schema_has_the_file_as_it_is_written() -> None:
    """Every section; `[provider.<name>]` beside the provider's name; choices; nothing unknown is allowed."""
    code, out, _ = run("config", "schema")
    found = json.loads(out)
    assert (code, found) == (0, json.loads(json.dumps(schema())))
    assert r"\Z" not in out
    assert {"pool", "zookeeper", "node", "host", "controller", "log", "provider"} <= found["properties"].keys()
    assert found["additionalProperties"] is False
    provider = found["$defs"]["ProviderConfig"]
    assert (provider["properties"].keys(), provider["additionalProperties"]) == ({"name"}, {"type": "object"})
    assert set(found["$defs"]["Profile"]["enum"]) == {"fast", "balanced", "conservative"}
    assert found["$defs"]["NodeConfig"]["required"] == ["underlay"]
    assert "min_pairs" not in found["$defs"]["Parameters"]["properties"]
    for reference in (word.split('"')[0] for word in out.split("#/$defs/")[1:]):
        assert reference in found["$defs"]
