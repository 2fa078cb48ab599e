"""Which versions run, how far apart they are, and since when they are mixed."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from proxypool.core.machine_checks import MIXED_S, check_versions
from proxypool.core.model import Alive
from proxypool.core.scaling.documents import ControllerAlive
from proxypool.core.versions import Release, are_near, mixed_since, release_of, running_versions, told

NOW = 1_790_000_000.0
DAY = 86_400.0


def alive(version: str, since: float) -> Alive:
    return Alive(underlay=IPv4Address("192.168.4.1"), version=version, since=since)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0.1.0", (0, 1, 0)), ("1.12", (1, 12, 0)), ("0.2.0.dev3", (0, 2, 0)), ("0.3.1+local", (0, 3, 1))],
)
def test_a_version_has_numbers(text: str, numbers: tuple[int, int, int]) -> None:
    assert release_of(text) == Release(*numbers)


@pytest.mark.parametrize("text", ["", "latest", "7", "v1.2"])
def test_what_is_no_version_has_none(text: str) -> None:
    assert release_of(text) is None


def test_versions_one_minor_step_apart_work_together() -> None:
    assert are_near(Release(0, 1, 9), Release(0, 2, 0))
    assert are_near(Release(0, 2, 0), Release(0, 1, 9))
    assert not are_near(Release(0, 1, 0), Release(0, 3, 0))
    assert not are_near(Release(0, 9, 0), Release(1, 9, 0))


def test_every_daemon_is_counted_with_its_version_and_the_oldest_comes_first() -> None:
    nodes = {"node-b": alive("0.10.0", NOW), "node-a": alive("0.9.0", NOW - 5), "node-c": alive("0.9.0", NOW - 9)}
    running = running_versions(nodes, {"h": alive("0.9.0", NOW)}, (ControllerAlive(name="c", version="0.10.0"),))
    assert [one.version for one in running] == ["0.9.0", "0.10.0"]
    assert (running[0].nodes, running[0].hosts, running[0].since) == (("node-a", "node-c"), 1, NOW - 9)
    assert told(running[1]) == "0.10.0 on 1 node, 1 controller"


def test_a_mixture_began_when_the_second_version_appeared() -> None:
    """Whichever way: an upgrade, or going back after weeks with the later one."""
    old, new = alive("0.1.0", NOW - 30 * DAY), alive("0.2.0", NOW - 60)
    assert mixed_since(running_versions({"a": old, "b": new}, {}, ())) == NOW - 60
    back = alive("0.1.0", NOW - 5)
    assert mixed_since(running_versions({"a": alive("0.2.0", NOW - 7 * DAY), "b": back}, {}, ())) == NOW - 5
    assert mixed_since(running_versions({"a": old, "b": old}, {}, ())) is None


@pytest.mark.parametrize(("age_s", "codes"), [(60.0, []), (MIXED_S - 1, []), (MIXED_S + 1, ["PP027"])])
def test_a_mixture_is_a_fault_only_when_it_lasts(age_s: float, codes: list[str]) -> None:
    nodes = {"a": alive("0.1.0", NOW - 30 * DAY), "b": alive("0.2.0", NOW - age_s)}
    found = list(check_versions(running_versions(nodes, {}, ()), NOW))
    assert [check.code for check in found] == codes
    assert all(check.command == "proxypool upgrade-check" for check in found)


def test_a_daemon_that_does_not_say_its_version_is_no_mixture_but_is_shown() -> None:
    running = running_versions({"a": alive("0.1.0", NOW - DAY * 9), "b": alive("", NOW - DAY * 9)}, {}, ())
    assert mixed_since(running) is None
    assert told(running[0]) == "an unknown version on 1 node"
