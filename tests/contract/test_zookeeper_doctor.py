"""`proxypool doctor` against a real ZooKeeper: what people see, what scripts rely on, and that it does not hang."""

from __future__ import annotations

import json
import time
from ipaddress import IPv4Address
from pathlib import Path

from proxypool.core.model import Alive, NodeSpec
from tests.contract.conftest import Connect
from tests.contract.test_zookeeper_cli import Cli, cli
from tests.contract.zk import PoolClient, ZooKeeperServer, free_port, wait_until

__all__ = ["cli"]


def configure(cli: Cli, text: str) -> Path:
    """Write the configuration that the command finds."""
    file = Path(cli.environment["PROXYPOOL_CONFIG"])
    file.write_text(text)
    return file


def diagnosis(cli: Cli, *words: str) -> tuple[int, dict[str, dict[str, str]], dict[str, object]]:
    """Exit code, findings by code and subject, and the facts."""
    done = cli("doctor", *words, "-o", "json")
    document = json.loads(done.out)
    assert (document["apiVersion"], document["kind"]) == ("proxypool/v1", "Diagnosis")
    return done.code, {f"{one['code']} {one['subject']}": one for one in document["findings"]}, document["facts"]


def test_a_node_whose_pool_is_there(cli: Cli, operator: PoolClient, connect: Connect) -> None:
    """The round trip, the pool's tunnel, and the clocks are known; ZooKeeper is no finding."""
    node = connect()
    configure(cli, '[node]\nunderlay = "nocard0"\nname = "node-a"\n')
    alive = Alive(underlay=IPv4Address("192.168.4.1"), since=time.time() - 60, at=time.time() - 100)
    node.registry.register_node(NodeSpec(id="node-a", underlay=alive.underlay), alive)
    wait_until(lambda: operator.exists("nodes/node-a/alive"), "it is registered")
    code, found, facts = diagnosis(cli, "--role", "node", "--exit-code")
    assert code == 4
    assert found["PD030 nocard0"]["severity"] == "critical"
    assert found["PD041 clock"]["message"].endswith("behind ZooKeeper's")
    assert [name for name in found if name.startswith("PD05")] == ["PD054 pool"], "anybody can change it: to be known"
    assert isinstance(facts["zookeeper"], dict)
    assert facts["zookeeper"]["tunnel"] == "vxlan"
    assert 0 < facts["zookeeper"]["round_trip_s"] < 1
    text = cli("doctor", "--role", "node").out
    assert text.startswith("this node: critical - ")
    assert "    set underlay in [node] of" in text


def test_without_a_pool_and_without_a_role(cli: Cli) -> None:
    """The role is that of the one section; ZooKeeper answers, and has no such pool."""
    configure(cli, "[controller]\n")
    code, found, _ = diagnosis(cli)
    assert code == 0, "only --exit-code makes it a condition"
    assert "proxypool pool init" in found["PD053 pool"]["fix"]
    configure(cli, "")
    none = cli("doctor")
    assert (none.code, none.out) == (1, "")
    assert "give --role node|host|controller" in none.err


def test_the_provider_of_a_controller_is_asked_for_room(cli: Cli, operator: PoolClient) -> None:
    """`spare` without spares has none."""
    configure(cli, "[controller]\n")
    cli.ok("scale", "set", "s1", "--min", "1")
    _, found, _ = diagnosis(cli, "--role", "controller")
    assert "no pair can be added" in found["PD061 s1"]["message"]


def test_secrets_that_all_can_read(cli: Cli, operator: PoolClient, tmp_path: Path) -> None:
    """And those that are not there."""
    token = tmp_path / "token"
    token.touch(0o644)
    token.chmod(0o644)
    configure(cli, f'[controller]\nsource = "http://p:9090"\nsource_token_file = "{token}"\n')
    _, found, _ = diagnosis(cli, "--role", "controller")
    assert found[f"PD006 {token}"]["fix"] == f"chmod 600 {token}"
    token.unlink()
    _, found, _ = diagnosis(cli, "--role", "controller")
    assert f"PD007 {token}" in found


def test_a_configuration_that_is_wrong_is_a_finding(cli: Cli, operator: PoolClient) -> None:
    """All else is looked at."""
    file = configure(cli, '[node]\nunderley = "eth0"\n')
    _, found, facts = diagnosis(cli)
    assert facts["role"] == "node"
    assert found[f"PD003 {file}"]["message"].startswith(f"{file}: line 2: unknown key node.underley")
    assert isinstance(facts["zookeeper"], dict)
    assert facts["zookeeper"]["problem"] == ""


def test_it_never_hangs(cli: Cli, own_server: ZooKeeperServer) -> None:
    """A ZooKeeper that takes connections and says nothing, and a server that is not there."""
    configure(cli, "[controller]\n")
    dead = f"127.0.0.1:{free_port()}"
    cli.environment["PROXYPOOL_ZOOKEEPER"] = f"{own_server.address},{dead}"
    own_server.pause()
    try:
        began = time.monotonic()
        _, found, _ = diagnosis(cli, "--role", "controller", "--timeout", "2")
        took_s = time.monotonic() - began
    finally:
        own_server.resume()
    assert took_s < 6
    assert found[f"PD051 {dead}"]["message"].endswith("Connection refused")
    assert found["PD001 zookeeper"]["message"] == "zookeeper could not be looked at: no answer within 2 s"
