"""The pool grows and shrinks by itself, under real traffic, and no connection notices."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from proxypool.lab.configs import CONNECTIONS_PER_S, SESSION_TIMEOUT_S, STABLE_S
from proxypool.lab.faults import Fault
from proxypool.lab.lab import Lab, remove
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.prober import Connections
from proxypool.lab.topology import Topology
from tests.lab.configured import Configured
from tests.lab.observe import PATIENCE, metrics, tunnel_kind, wait_until
from tests.lab.scaling import is_still, kill_leader, killed_when, leader, left_over, long_lived, wait_rest, wait_size

pytestmark = [pytest.mark.root, pytest.mark.timeout(400)]

OVERLOAD = 2.3
"""In pairs: with one in reserve that takes four."""
ADDED_WITHIN_S = 10.0
"""From the beginning of an overload."""


@pytest.fixture(scope="module")
def scaled() -> Iterator[Lab]:
    """Eight nodes, one subnet of one pair, cards and addresses for three more, two controllers, three ZooKeepers."""
    topology = Topology(
        f"scale-{os.getpid()}", nodes=8, hosts=1, pods=2, subnets=1, zk=3, pairs=4, controllers=2, tunnel=tunnel_kind()
    )
    try:
        with Lab.up(topology, timeout_s=60 * PATIENCE) as lab:
            yield lab
    finally:
        remove(topology.name)


@pytest.fixture
def subnet(scaled: Lab) -> SubnetPlan:
    """The one that is scaled."""
    return scaled.topology.subnet_plans[0]


def test_pairs_come_with_the_load_and_go_when_it_is_over(
    scaled: Lab, subnet: SubnetPlan, measured: Callable[[str, float], None]
) -> None:
    """Within ten seconds of an overload there are as many as it takes; what is told of it is true; afterwards they go,
    one after the other, and leave nothing. Not one of 500 connections breaks.
    """
    with long_lived(scaled, subnet):
        before = wait_size(scaled, lambda size: size["active"] == 2 and is_still(size), 60.0, "two pairs")
        rate = OVERLOAD * CONNECTIONS_PER_S
        began = time.monotonic()
        with Connections(
            scaled, "pod1-2", subnet.database_ip, count=round(rate / 4), rate=rate, lifetime_s=0.25, replace=True, ready=1
        ) as load:  # fmt: skip
            size = wait_size(scaled, lambda size: size["active"] >= 4, 3 * ADDED_WITHIN_S, "four pairs")
            took_s = time.monotonic() - began
            measured("added after ms", took_s * 1e3)
            assert took_s < ADDED_WITHIN_S * PATIENCE
            # What a new pair bears is not known before it was looked at twice.
            size = wait_size(scaled, lambda size: size["load"]["connections"] is not None, 10.0, "a load that is known")
            assert (size["signal"], size["asked"]) == ("connections", 4), size
            assert size["load"]["connections"] == pytest.approx(OVERLOAD, rel=0.25)
            sources = load.result()["sources"]
        assert len(sources) == 4, "each pair has its share of the new connections"
        assert before["active"] == 2
        ended = time.monotonic()
        wait_size(scaled, lambda size: size["active"] == 2, 6 * STABLE_S, "two pairs again")
        measured("drained after ms", (time.monotonic() - ended) * 1e3)
    wait_size(scaled, lambda size: size["active"] <= 2 and is_still(size), 4 * STABLE_S, "rest")
    wait_until(lambda: not left_over(scaled, subnet), 20.0, lambda: f"nothing left over: {left_over(scaled, subnet)}")
    records = json.loads(scaled.proxypool("scale", "history", "-o", "json", timeout=30 * PATIENCE).stdout)["items"]
    kinds = [record["kind"] for record in records]
    assert {"scale-out", "scale-in"} <= set(kinds), records
    assert all(not record["error"] for record in records), records


@pytest.mark.long
@pytest.mark.parametrize("after_s", [0.0, 0.3, 1.5])
def test_a_controller_that_is_killed_in_the_middle_changes_nothing(
    scaled: Lab, subnet: SubnetPlan, after_s: float
) -> None:
    """Of an add and of a drain: another one goes on where it stood."""
    start = wait_rest(scaled)["active"]
    with long_lived(scaled, subnet):
        scaled.proxypool("scale", "set", subnet.id, "--min-pairs", "3", timeout=30 * PATIENCE)
        time.sleep(after_s)
        dead = kill_leader(scaled)
        wait_size(scaled, lambda size: size["active"] >= 3 and is_still(size), 60.0, "three pairs")
        wait_until(lambda: leader(scaled) != dead, 15.0, "another leader")
        scaled.machine(dead).start("daemon")
        scaled.proxypool("scale", "set", subnet.id, "--min-pairs", "1", timeout=30 * PATIENCE)
        wait_size(scaled, lambda size: bool(size["draining"]), 4 * STABLE_S, "a pair that drains")
        time.sleep(after_s)
        dead = kill_leader(scaled)
    wait_size(scaled, lambda size: size["active"] <= max(2, start) and is_still(size), 6 * STABLE_S, "what there was")
    scaled.machine(dead).start("daemon")
    wait_until(lambda: not left_over(scaled, subnet), 20.0, lambda: f"nothing left over: {left_over(scaled, subnet)}")


@pytest.mark.long
def test_the_leader_of_zookeeper_dies_during_an_add(scaled: Lab, subnet: SubnetPlan) -> None:
    """The add is finished by whoever leads then."""
    wait_rest(scaled)
    with long_lived(scaled, subnet):
        scaled.proxypool("scale", "set", subnet.id, "--min-pairs", "3", timeout=30 * PATIENCE)
        servers = [name for name in scaled.machines if name.startswith("zk")]
        chief = next(name for name in servers if "leader" in scaled.zookeeper_mode(name))
        scaled.fault(Fault.POWER_OFF, chief)
        try:
            wait_size(
                scaled, lambda size: size["active"] >= 3 and is_still(size), 60.0 + 2 * SESSION_TIMEOUT_S, "three pairs"
            )
        finally:
            scaled.fault(Fault.POWER_ON, chief)
    scaled.proxypool("scale", "set", subnet.id, "--min-pairs", "1", timeout=30 * PATIENCE)


STEPS_OF_ADD = ("add begins", "-> acquire", "-> write", "-> ready", "-> open", "-> done")
STEPS_OF_DRAIN = ("drain begins", "-> wait", "-> remove", "-> release", "-> done")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_controller_that_is_killed_at_any_step_changes_nothing(scaled: Lab, subnet: SubnetPlan) -> None:
    """Of an add and of a drain, each time at the moment at which its log says that the step is taken."""
    wait_rest(scaled)
    with long_lived(scaled, subnet):
        for of_add, of_drain in zip_longest(STEPS_OF_ADD, STEPS_OF_DRAIN, fillvalue="-> done"):
            with killed_when(scaled, of_add) as dead:
                scaled.proxypool("scale", "set", subnet.id, "--min-pairs", "3", timeout=30 * PATIENCE)
                wait_size(scaled, lambda size: size["active"] >= 3 and is_still(size), 90.0, f"three pairs: {of_add}")
                wait_until(lambda dead=dead: dead, 5.0, f"the log to say {of_add}")  # type: ignore[misc]
            _replace(scaled, dead[0])
            with killed_when(scaled, of_drain) as dead:
                scaled.proxypool("scale", "set", subnet.id, "--min-pairs", "1", timeout=30 * PATIENCE)
                wait_until(lambda dead=dead: dead, 6 * STABLE_S, f"the log to say {of_drain}")  # type: ignore[misc]
                wait_size(scaled, lambda size: size["active"] <= 2 and is_still(size), 6 * STABLE_S, f"two: {of_drain}")
            _replace(scaled, dead[0])
    wait_until(lambda: not left_over(scaled, subnet), 20.0, lambda: f"nothing left over: {left_over(scaled, subnet)}")


def _replace(lab: Lab, dead: str) -> None:
    """Start it again once another one leads, as the status says who leads only by what a leader wrote last."""
    wait_until(lambda: leader(lab) != dead, 15.0, "another leader")
    lab.machine(dead).start("daemon")


PROVIDER = """\
#!/bin/sh
# Fails as a file says, for as long as there is one; else there is no room, which is no failure.
cd "$(dirname "$0")"
case $2 in held) echo '{"version":1,"held":[]}'; exit ;; esac
case $(cat fails 2> /dev/null) in
    crash) echo "the platform is down" >&2; exit 7 ;;
    hang) sleep 600 ;;
    auth) echo '{"version":1,"error":{"kind":"auth","message":"the key is not valid"}}'; exit 1 ;;
    nonsense) echo 'hello' ;;
esac
"""
FAILURES = {
    "crash": "the platform is down",
    "hang": "did not end within",
    "auth": "the key is not valid",
    "nonsense": "did not answer in JSON",
}


@pytest.mark.long
def test_a_provider_that_fails_is_told_and_nothing_else_suffers(
    scaled: Lab, subnet: SubnetPlan, tmp_path: Path
) -> None:
    """Of both controllers. Pairs serve on; why no further one comes is in the status and the metrics; once the provider
    is well, one comes.
    """
    wait_rest(scaled)
    program = tmp_path / "provider"
    program.write_text(PROVIDER, encoding="utf-8")
    program.chmod(0o755)
    controllers = [name for name in scaled.machines if name.startswith("ctl")]
    section = f'\n[provider]\nname = "command"\n\n[provider.command]\nprogram = ["{program}"]\ntimeout_s = 2.0\n'
    with long_lived(scaled, subnet):
        _configure(scaled, controllers, "cp proxypool.toml was.toml; cat >> proxypool.toml", section)
        try:
            for failure, words in FAILURES.items():
                (tmp_path / "fails").write_text(failure, encoding="utf-8")
                _restart(scaled, controllers)
                scaled.proxypool("scale", "set", subnet.id, "--min-pairs", "3", timeout=30 * PATIENCE)
                told = wait_size(scaled, partial(_is_blamed, words), 30.0, f"the status to tell of: {failure}")
                wait_until(lambda: _is_counted(scaled), 10.0, "a failed call in the metrics")
                assert told["active"] <= 2, told
                scaled.proxypool("scale", "set", subnet.id, "--min-pairs", "1", timeout=30 * PATIENCE)
        finally:
            _configure(scaled, controllers, "mv was.toml proxypool.toml", "")
            _restart(scaled, controllers)
        scaled.proxypool("scale", "set", subnet.id, "--min-pairs", "3", timeout=30 * PATIENCE)
        wait_size(
            scaled,
            lambda size: size["active"] >= 3 and is_still(size),
            60.0,
            "three pairs, with a provider that is well",
        )
    scaled.proxypool("scale", "set", subnet.id, "--min-pairs", "1", timeout=30 * PATIENCE)
    wait_size(scaled, lambda size: size["active"] <= 2 and is_still(size), 6 * STABLE_S, "what there was")
    wait_until(lambda: not left_over(scaled, subnet), 20.0, lambda: f"nothing left over: {left_over(scaled, subnet)}")


def test_a_controllers_configuration_is_taken_over_whole_or_not_at_all(scaled: Lab) -> None:
    """SIGHUP: the log changes its form with a good file. A key that needs a restart, or nonsense, refuses all the rest,
    and `status` has the reason. The same controller leads all the time.
    """
    name = leader(scaled)
    controller = Configured(scaled, name)
    many = controller.changed("[controller]\n", "[controller]\nmax_actions = 3\n")

    def said(words: str) -> str:
        lines = scaled.machine(name).log("daemon").splitlines()
        return next((line for line in reversed(lines) if words in line), "")

    def problems() -> str:
        done = scaled.proxypool("status", "-o", "json", check=False, timeout=30 * PATIENCE)
        return json.dumps([check["message"] for check in json.loads(done.stdout)["checks"] if check["code"] == "PP023"])

    try:
        controller.reload(f'{many}\n[log]\nformat = "json"\n', is_good=True)
        line = wait_until(lambda: said("read again"), 10.0, "it to say what changed")
        assert "controller.max_actions, log.format changed" in json.loads(line)["message"]
        for wrong, why in (
            (many.replace("interval_s = 0.5", "interval_s = 0.7"), "controller.interval_s"),
            (f"{many}\nnonsense = 1\n", "nonsense"),
        ):
            controller.reload(wrong, is_good=False)
            wait_until(lambda why=why: why in problems(), 10.0, f"status to say {why}")  # type: ignore[misc]
            assert why in json.loads(said(why))["message"], "the log of the refused file would be text"
    finally:
        controller.reload(controller.text, is_good=True)
    wait_until(lambda: "stays in force" not in problems(), 10.0, "it to be content")
    assert leader(scaled) == name


def _configure(lab: Lab, controllers: list[str], command: str, text: str) -> None:
    for name in controllers:
        lab.machine(name).run(["sh", "-ec", f"cd /etc/proxypool; {command}"], input=text)


def _restart(lab: Lab, controllers: list[str]) -> None:
    for name in controllers:
        lab.fault(Fault.KILL_DAEMON, name)
    for name in controllers:
        lab.machine(name).start("daemon")
    wait_until(lambda: leader(lab), 15.0, "a leader")


def _is_blamed(words: str, size: dict[str, Any]) -> bool:
    """Whether the status says what is wrong, where an operator looks for it."""
    return words in json.dumps([size["blocked"], size["actions"]])


def _is_counted(lab: Lab) -> bool:
    """Whether the leader's metrics count a call that failed."""
    found = metrics(lab, leader(lab))
    return any(
        value and series.startswith("proxypool_provider_calls_total") and 'result="ok"' not in series
        for series, value in found.items()
    )
