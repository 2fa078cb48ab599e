"""Every command that prints documents, against a real ZooKeeper: what it prints is as its checked-in schema says."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from proxypool.adapters.zookeeper import PoolHistory
from proxypool.cli.main import COMMANDS
from proxypool.core.documents import encode
from proxypool.core.history import Record
from proxypool.core.kinds import KINDS, Form
from proxypool.core.scaling.documents import SubnetVerdict
from proxypool.daemons.api_server import ApiServer
from proxypool.daemons.host_api import HostApi
from proxypool.lab.kinds import LAB_KINDS
from tests.contract.test_zookeeper_cli import Cli, cli, living
from tests.contract.test_zookeeper_scaling_documents import an_action, controller
from tests.contract.zk import PoolClient
from tests.unit.documents import require_valid
from tests.unit.test_attachments import Agent

__all__ = ["cli", "living"]

SOCKET = "<socket>"
TRACE = "<trace>"
INSTANCE = ("--address", "10.244.1.2")
CALLS: dict[str, tuple[tuple[str, ...], ...]] = {
    "status": ((), ("s1",), ("--wait", "--timeout", "0")),
    "topology": ((), ("s1",)),
    "pool show": ((),),
    "subnet list": ((),),
    "subnet show": (("s1",),),
    "subnet spare list": ((), ("s1",)),
    "pair list": ((), ("s1",)),
    "pair show": (("s1", "p1"),),
    "scale status": ((), ("s1",)),
    "scale plan": ((), ("s1",)),
    "scale history": ((), ("s1",)),
    "scale simulate": ((TRACE, "--against", "hpa"),),
    "node list": ((),),
    "node show": (("node-a",),),
    "host list": ((),),
    "host show": (("host1",),),
    "host attach": ((*INSTANCE, "--subnet", "s1", "--socket", SOCKET),),
    "host attachments": (("--socket", SOCKET),),
    "host detach": ((*INSTANCE, "--socket", SOCKET), (*INSTANCE, "--socket", SOCKET)),
    "explain": (("s1",), ("s1/p1",), ("node-a",), ("nodes/node-b",), ("host1",)),
    "history": ((), ("s1/p1",)),
    "events": ((), ("s1/p1",), ("-n", "1")),
    "config show": ((), ("--sources",)),
    "doctor": (("--role", "controller"), ("--role", "node")),
    "upgrade-check": ((), ("--to", "0.2.0")),
}
"""Command -> the arguments that it is tried with, in this order."""
TRIED_ELSEWHERE = frozenset(kind.commands for kind in LAB_KINDS)
"""They need a lab: tests/lab/test_lab.py."""


@pytest.fixture
def socket(tmp_path: Path) -> Iterator[Path]:
    """Of an agent of a host."""
    path = tmp_path / "host.sock"
    server = ApiServer(path, HostApi(Agent(tmp_path / "attachments.jsonl").all, lambda: {"ready": True}), None)
    yield path
    server.close()


@pytest.fixture
def busy(operator: PoolClient, living: tuple[PoolClient, PoolClient], cli: Cli) -> PoolClient:
    """A pool in which there is something of everything: checks, orders, spares, actions, records."""
    cli.ok("subnet", "add", "s2", "--cidr", "172.16.2.0/24")
    cli.ok("scale", "set", "s1", "--min", "1", "--max", "3", "--mode", "enforce")
    verdict = SubnetVerdict(
        active=1, wanted=2, asked=2, cause="load", signal="bytes", load={"bytes": 0.9, "ports": None}
    )
    controller(operator, s1=verdict)
    action = an_action(signals={"bytes": 0.9}, nodes=("node-a", "node-b"), error="no card")
    operator.make("controller/actions/s1_p2", encode(action))
    card = "node-a,eni=eni7,address=172.16.1.17/24"
    cli.ok(
        "subnet", "spare", "add", "s1", "--member", card, "--havip", "192.168.4.77", "--egress-address", "172.16.1.99"
    )
    cli.ok("node", "cordon", "node-b", "--reason", "new kernel")
    cli.ok("pair", "pause", "s1", "p1")
    now = time.time()
    change = {"subnet": "s1", "pair": "p1", "from_node": "node-b", "to_node": "node-a", "phases": {"blackout": 0.05}}
    PoolHistory(operator.session).write(
        [
            Record(kind="failover", reason="silent", at=now - 60, epoch=7, carried_over=0, **change),  # type: ignore[arg-type]
            Record(kind="scale-out", reason="load", subnet="s1", pair="p2", at=now - 9, pairs_before=1, took_s=3.0),
        ]
    )
    return operator


def commands_with_documents() -> set[str]:
    """All that have an option --output."""
    found: set[str] = set()

    def walk(command: Any, name: str) -> None:
        below = getattr(command, "commands", None)
        if below:
            for word, each in below.items():
                walk(each, f"{name} {word}")
        elif any(parameter.name == "output" and "-o" in parameter.opts for parameter in command.params):
            found.add(name)

    for name, module, _ in COMMANDS:
        walk(get_command(importlib.import_module(module).app), name)
    return found


def test_every_command_that_prints_documents_is_tried_here() -> None:
    """A new one needs a schema, and a line above."""
    assert commands_with_documents() == set(CALLS) | TRIED_ELSEWHERE


def test_every_kind_names_commands_that_are() -> None:
    named = {command.replace(" --attachments", "") for kind in KINDS for command in kind.commands.split(", ")}
    assert named == set(CALLS)


def documents(text: str, kind: str) -> list[dict[str, Any]]:
    """What was printed: one document, or one per line."""
    is_stream = kind == "Event"
    return [json.loads(line) for line in text.splitlines()] if is_stream else [json.loads(text)]


@pytest.mark.parametrize("command", [name for name in CALLS if not name.startswith("host ") or name == "host list"])
def test_what_is_printed_is_as_its_schema_says(cli: Cli, busy: PoolClient, tmp_path: Path, command: str) -> None:
    """As JSON; and the YAML has the same content."""
    trace = tmp_path / "trace.csv"
    trace.write_text("time,bytes\n" + "".join(f"{at * 60},{1000 + at % 7 * 300}\n" for at in range(60)))
    kinds = {kind.name for kind in KINDS if command in kind.commands.split(", ")}
    for arguments in CALLS[command]:
        words = (*command.split(), *(str(trace) if word == TRACE else word for word in arguments))
        done = cli(*words, "-o", "json")
        assert done.code == (5 if "--wait" in words else 3 if command == "upgrade-check" else 0), done
        found = documents(done.out, *kinds)
        assert found, words
        for document in found:
            require_valid(document)
            assert {document["kind"]} == kinds
        texts = cli(*words, "-o", "yaml").out
        again = [one for one in yaml.safe_load_all(texts) if one is not None]
        assert [set(one) for one in again] == [set(one) for one in found]


def test_documents_about_attachments(cli: Cli, operator: PoolClient, socket: Path) -> None:
    """They come from the agent of a host; attaching, listing and detaching."""
    for command in ("host attach", "host attachments", "host detach"):
        for arguments in CALLS[command]:
            words = (str(socket) if word == SOCKET else word for word in arguments)
            document = json.loads(cli.ok(*command.split(), *words, "-o", "json"))
            require_valid(document)
            assert document["items"] or command == "host attachments"


def test_documents_of_one_thing(cli: Cli, busy: PoolClient) -> None:
    require_valid(json.loads(cli.ok("host", "show", "host1", "-o", "json")))


def test_a_pool_with_nothing_in_it_has_valid_documents(cli: Cli, connect: Any) -> None:
    """Empty lists, and nulls where nothing is known."""
    connect()
    cli.ok("pool", "init")
    for words in (("status",), ("topology",), ("pool", "show"), ("pair", "list"), ("history",), ("scale", "status")):
        require_valid(json.loads(cli.ok(*words, "-o", "json")))
    assert cli.ok("events", "-o", "json") == ""


def test_forms_cover_what_is_printed() -> None:
    """A list's kind ends in List, and nothing else's does."""
    assert {kind.name.endswith("List") is (kind.form is Form.LIST) for kind in KINDS} == {True}
