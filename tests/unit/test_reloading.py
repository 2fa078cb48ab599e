"""What a running daemon takes over of a changed configuration, and what it refuses."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from proxypool.core.config import Config
from proxypool.core.config_file import parse
from proxypool.core.discovery import Daemon
from proxypool.core.errors import InvalidInput
from proxypool.core.reloading import RELOADED, NeedsRestart, changed_keys, is_reloaded, require_reloadable
from proxypool.daemons.problems import Problems
from proxypool.daemons.reloading import Reloading
from proxypool.telemetry.daemon_metrics import DaemonMetrics
from tools import gen_config_docs

NODE = """
[node]
underlay = "eth0"
packets_per_s = 1000
[node.labels]
zone = "a"
[host]
underlay = "eth0"
instance_cidrs = ["10.244.1.0/24"]
"""


def config(text: str = NODE, *changes: tuple[str, str]) -> Config:
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse(text, what="proxypool.toml")


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        (('zone = "a"', 'zone = "b"'), ("node.labels",)),
        (("packets_per_s = 1000", "packets_per_s = 2000"), ("node.packets_per_s",)),
        (("packets_per_s = 1000", ""), ("node.packets_per_s",)),
        (("[host]", '[log]\nlevel = "debug"\n[host]'), ("log.level",)),
    ],
)
def test_what_can_be_taken_over_is_named_and_nothing_else(change: tuple[str, str], keys: tuple[str, ...]) -> None:
    assert require_reloadable(config(), config(NODE, change), Daemon.NODE) == keys


def test_a_key_that_needs_a_restart_is_named_in_the_refusal() -> None:
    new = config(NODE, ('zone = "a"', 'zone = "b"'), ('underlay = "eth0"\npackets', 'underlay = "eth1"\npackets'))
    with pytest.raises(NeedsRestart, match=r"^node\.underlay cannot .*systemctl restart proxypool-node") as refused:
        require_reloadable(config(), new, Daemon.NODE)
    assert refused.value.keys == ("node.underlay",)


def test_another_daemons_section_is_none_of_its_business() -> None:
    new = config(NODE, ('instance_cidrs = ["10.244.1.0/24"]', 'instance_cidrs = ["10.244.9.0/24"]'))
    assert changed_keys(config(), new, Daemon.NODE) == ()
    assert changed_keys(config(), new, Daemon.HOST) == ("host.instance_cidrs",)


def test_a_section_that_is_gone_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"no section \[node\]"):
        changed_keys(config(), config(NODE[NODE.index("[host]") :]), Daemon.NODE)


def test_every_key_of_the_table_is_a_key_or_a_section() -> None:
    known = set(gen_config_docs.keys())
    for key in RELOADED:
        assert key in known or any(one.startswith(f"{key}.") for one in known), key


@pytest.mark.parametrize("key", ["pool", "run_dir", "zookeeper.hosts", "node.underlay", "node.name", "node.detection"])
def test_what_a_daemon_is_made_of_needs_a_restart(key: str) -> None:
    assert not is_reloaded(key)


class Manager:
    """A service manager that remembers what it was told."""

    def __init__(self, told: list[str | None]) -> None:
        self.told = told

    def reloading(self) -> None:
        self.told.append("reloading")

    def reloaded(self, refusal: str | None) -> None:
        self.told.append(refusal)


class Daemonlike:
    """Something that takes a configuration over, and remembers which."""

    def __init__(self, reread: Callable[[], Config]) -> None:
        self.config = config()
        self.problems = Problems()
        self.metrics = DaemonMetrics(Daemon.NODE)
        self.announced: list[str | None] = []
        self.fails = False
        self.reloading = Reloading(
            Daemon.NODE, self.config, reread, self.problems, self.metrics, Manager(self.announced)
        )

    def apply(self, new: Config) -> None:
        self.config = new
        if self.fails:
            self.fails = False
            raise RuntimeError("half way")

    def reload(self) -> bool:
        return self.reloading.reload(self.apply)

    def value(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"proxypool_config_reload_{name}")


@pytest.fixture
def file() -> list[str]:
    """The text of the configuration file, in its only element."""
    return [NODE]


@pytest.fixture
def daemon(file: list[str]) -> Daemonlike:
    return Daemonlike(lambda: config(file[0]))


def test_a_daemon_begins_with_a_configuration_that_was_read(daemon: Daemonlike) -> None:
    assert daemon.value("success") == 1.0
    assert (daemon.value("timestamp_seconds") or 0.0) > 0.0


def test_a_good_file_is_taken_over_and_told_to_the_service_manager(daemon: Daemonlike, file: list[str]) -> None:
    file[0] = NODE.replace('zone = "a"', 'zone = "b"')
    assert daemon.reload()
    assert daemon.config.node is not None
    assert daemon.config.node.labels == {"zone": "b"}
    assert daemon.announced == ["reloading", None]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nonsense", "proxypool.toml"),
        (NODE.replace("packets_per_s", "packet_per_s").replace('"a"', '"b"'), "did you mean node.packets_per_s"),
        (
            NODE.replace('underlay = "eth0"\npackets', 'underlay = "eth7"\npackets').replace('"a"', '"b"'),
            "node.underlay",
        ),
    ],
)
def test_a_bad_file_changes_nothing_and_is_told_in_one_line(
    daemon: Daemonlike, file: list[str], text: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    before, at = daemon.config, daemon.value("timestamp_seconds")
    file[0] = text
    with caplog.at_level(logging.INFO):
        assert not daemon.reload()
        assert not daemon.reload()
    assert daemon.config is before
    assert (daemon.value("success"), daemon.value("timestamp_seconds")) == (0.0, at)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("proxypool")]
    assert len(lines) == 2, "once for each time that it was asked for"
    assert all(why in line and "\n" not in line for line in lines)
    assert [why in problem for problem in daemon.problems] == [True]
    assert daemon.announced == ["reloading", lines[0], "reloading", lines[1]], "with the same words"


def test_a_refusal_ends_with_the_next_file_that_is_good(daemon: Daemonlike, file: list[str]) -> None:
    file[0] = "nonsense"
    daemon.reload()
    file[0] = NODE
    assert daemon.reload()
    assert list(daemon.problems) == []
    assert daemon.value("success") == 1.0


def test_what_fails_half_way_is_taken_back(daemon: Daemonlike, file: list[str]) -> None:
    before = daemon.config
    file[0] = NODE.replace('zone = "a"', 'zone = "b"')
    daemon.fails = True
    assert not daemon.reload()
    assert daemon.config == before
    assert daemon.value("success") == 0.0
    assert "could not be applied (half way)" in (daemon.announced[-1] or "")
    assert daemon.reload(), "the same file, when it can be applied"
