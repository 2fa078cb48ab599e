"""Whether a pool is ready for a rolling upgrade, and in which order it goes."""

from __future__ import annotations

import shlex
from ipaddress import IPv4Address

import pytest
from msgspec.structs import replace
from typer.main import get_command

from proxypool.cli.main import app
from proxypool.cli.upgrade_check import readiness_text
from proxypool.core.assembly import assemble
from proxypool.core.model import PairState
from proxypool.core.pool_view import PoolView
from proxypool.core.scaling.documents import ControllerAlive
from proxypool.core.upgrade import Code, Readiness, Stage, Weight, judge
from proxypool.core.versions import release_of
from tests.unit import shown_pools as pools

SERVERS = {"zk1:2181": "", "zk2:2181": "", "zk3:2181": ""}


def healthy() -> PoolView:
    """Three pairs on six nodes; one of them has an egress address."""
    return pools._pool(
        [
            pools.pair_of("orders-db", "p1", 1, ("node-a", "node-b"), egress_address=IPv4Address("172.16.1.20")),
            pools.pair_of("orders-db", "p2", 2, ("node-c", "node-d")),
            pools.pair_of("billing", "p3", 3, ("node-e", "node-f")),
        ],
        [pools._subnet("orders-db", 1, "acme"), pools._subnet("billing", 3, "globex")],
        [
            *(pools.status_of("node-a", "master"), pools.status_of("node-b", "backup")),
            *(pools.status_of("node-c", "master"), pools.status_of("node-d", "backup")),
            *(pools.status_of("node-e", "master"), pools.status_of("node-f", "backup")),
        ],
    )


def everything(to: str | None = None) -> Readiness:
    """Of a pool that has a bit of everything that can be wrong."""
    return judge(pools.eventful().status, SERVERS, release_of(to) if to else None)


def readiness(view: PoolView, to: str | None = None, servers: dict[str, str] | None = None) -> Readiness:
    return judge(assemble(view, pools.NOW), SERVERS if servers is None else servers, release_of(to) if to else None)


def codes(found: Readiness, weight: Weight | None = None) -> list[str]:
    return [one.code for one in found.findings if weight is None or one.weight is weight]


def with_versions(view: PoolView, **versions: str) -> PoolView:
    """Nodes with other versions."""
    nodes = {
        name: replace(alive, version=versions.get(name.replace("-", "_"), alive.version))
        for name, alive in view.nodes_alive.items()
    }
    return replace(view, nodes_alive=nodes)


def test_a_pool_that_is_well_is_ready() -> None:
    found = readiness(healthy())
    assert codes(found, Weight.BLOCKS) == []
    assert found.is_ready


def test_every_code_is_used_once() -> None:
    numbers = [code.value[0] for code in Code]
    assert len(set(numbers)) == len(numbers)


def test_a_pool_with_a_bit_of_everything_is_not_ready_and_every_finding_says_what_to_do() -> None:
    found = everything()
    assert not found.is_ready
    assert {"PU001", "PU003"} <= set(codes(found))
    assert all(one.command for one in found.findings)


def test_a_pair_that_is_paused_or_draining_is_in_the_middle_of_something() -> None:
    view = healthy()
    subnet, pairs = next(iter(view.snapshot.pairs.items()))
    name, pair = next(iter(pairs.items()))
    for change in ({"paused_since": pools.NOW - 9}, {"state": PairState.DRAINING}, {"state": PairState.PREPARING}):
        altered = {**view.snapshot.pairs, subnet: {**pairs, name: replace(pair, **change)}}
        found = readiness(replace(view, snapshot=replace(view.snapshot, pairs=altered)))
        assert "PU003" in codes(found, Weight.BLOCKS), change


def test_a_pair_without_a_fit_backup_blocks_and_is_told_once() -> None:
    view = healthy()
    key, published = next(iter(view.statuses.items()))
    backup = next(node for node, status in published.items() if status.role == "backup")
    unfit = {**published, backup: replace(published[backup], health=("eni-down",))}
    found = readiness(replace(view, statuses={**view.statuses, key: unfit}))
    assert codes(found).count("PU002") == 1
    assert not any("PP003" in one.message for one in found.findings)


@pytest.mark.parametrize(
    ("others", "to", "blocks"),
    [
        ({}, "0.2.0", False),
        ({}, "0.1.5", False),
        ({}, "0.3.0", True),
        ({}, "1.0.0", True),
        ({"node_a": "0.2.0"}, "0.1.0", False),
        ({"node_a": "0.2.0"}, "0.3.0", True),
        ({"node_a": "0.3.0"}, None, True),
    ],
)
def test_versions_may_be_one_minor_step_apart(others: dict[str, str], to: str | None, *, blocks: bool) -> None:
    found = readiness(with_versions(healthy(), **others), to)
    assert ("PU005" in codes(found, Weight.BLOCKS)) is blocks


def test_the_way_over_several_steps_is_named() -> None:
    (finding,) = [one for one in readiness(healthy(), "0.4.0").findings if one.code == "PU005"]
    assert finding.command == "proxypool upgrade-check --to 0.2"


def test_zookeeper_must_have_all_its_servers() -> None:
    assert "PU008" in codes(readiness(healthy(), servers={**SERVERS, "zk2:2181": "refused"}), Weight.BLOCKS)
    alone = readiness(healthy(), servers={"zk1:2181": ""})
    assert (codes(alone), alone.is_ready) == (["PU009"], True)


def test_documents_that_cannot_be_read_block() -> None:
    view = healthy()
    path = "/proxypool/default/subnets/s1"
    bad = replace(view.snapshot, malformed={path: "of a later version"}, too_new=frozenset({path}))
    found = readiness(replace(view, snapshot=bad))
    assert "PU007" in codes(found, Weight.BLOCKS)


def test_the_order_is_hosts_backups_masters_controllers_and_each_daemon_is_in_it_once() -> None:
    view = replace(healthy(), controllers_alive=(ControllerAlive(name="ctl1", version="0.1.0", since=1.0),))
    found = readiness(view, "0.2.0")
    stages = [step.stage for step in found.order]
    assert stages == sorted(stages, key=list(Stage).index)
    names = [name for step in found.order for name in step.machines]
    assert sorted(names) == sorted([*view.nodes_alive, *view.hosts_alive, "ctl1"])
    masters = {status.node for each in view.statuses.values() for status in each.values() if status.role == "master"}
    for step in found.order:
        if step.stage in {Stage.BACKUPS, Stage.MASTERS}:
            assert (step.machines[0] in masters) == (step.stage is Stage.MASTERS)


def test_a_master_is_moved_away_first_only_where_that_breaks_no_connection() -> None:
    """With an egress address connections go along. Without one they would break; a restart of the daemon moves nothing."""
    before = {step.machines: step.before for step in readiness(healthy()).order if step.stage is Stage.MASTERS}
    assert before == {
        ("node-a",): ("proxypool pair switchover orders-db p1 --to node-b",),
        ("node-c",): (),
        ("node-e",): (),
    }


def test_what_runs_the_target_already_is_left_out() -> None:
    view = with_versions(healthy(), node_a="0.2.0")
    found = readiness(view, "0.2.0")
    assert "node-a" not in {name for step in found.order for name in step.machines}
    assert found.done == 1
    assert "PU010" in codes(found, Weight.NOTE)


def test_commands_are_commands() -> None:
    """What a finding or a step says to type exists."""
    root = get_command(app)
    shown = [readiness(healthy(), "0.2.0"), everything("0.2.0"), everything("9.0")]
    lines = [one.command for found in shown for one in found.findings]
    lines += [line for found in shown for step in found.order for line in (*step.before, step.after)]
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[0] != "proxypool":
            continue
        command = root
        for word in words[1:]:
            below = getattr(command, "commands", {})
            if word not in below:
                break
            command = below[word].load() if hasattr(below[word], "load") else below[word]
        assert not getattr(command, "commands", {}), line
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("-")} <= known, line


def test_the_text_names_findings_commands_and_order() -> None:
    found = everything("0.2.0")
    text = readiness_text(found, wide=False, colour=False, width=80)
    assert "not ready" in text.splitlines()[0]
    for one in found.findings:
        assert f"{one.code} {one.name}" in text
        assert one.command in text
    assert "order:" in text
    assert max(map(len, text.splitlines())) <= 200
