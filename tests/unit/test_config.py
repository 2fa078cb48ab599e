"""The configuration file: defaults, and errors that name the key that was meant."""

from __future__ import annotations

import re
from ipaddress import IPv4Network

import pytest

from proxypool.core.config import CONTROLLER_WEB, NODE_WEB, Config
from proxypool.core.config_file import parse
from proxypool.core.endpoints import is_loopback, parse_endpoint
from proxypool.core.errors import InvalidInput

NODE = '[node]\nunderlay = "eth0"\n'


def refusal(text: str) -> str:
    """What `parse` says of a file it does not accept."""
    with pytest.raises(InvalidInput) as caught:
        parse(text, what="proxypool.toml")
    message = str(caught.value)
    assert message.startswith("proxypool.toml: ")
    return message.removeprefix("proxypool.toml: ")


def test_an_empty_file_is_all_defaults() -> None:
    config = parse("", what="proxypool.toml")
    assert config == Config()
    assert config.pool == "default"
    assert config.zookeeper.hosts == ("127.0.0.1:2181",)
    assert config.node is None
    assert config.host is None


def test_a_nodes_file_needs_only_its_underlay() -> None:
    config = parse(NODE, what="proxypool.toml")
    assert config.node is not None
    assert config.node.detection == "balanced"
    assert config.node.advert_interval_ms is None
    assert config.node.name is None


def test_a_controllers_section_may_be_empty() -> None:
    config = parse("[controller]\n", what="proxypool.toml")
    assert config.controller is not None
    assert (config.controller.interval_s, config.controller.source, config.controller.placement) == (
        *(2.0, "nodes", "spread"),
    )


def test_a_source_of_signals_is_the_nodes_or_an_address() -> None:
    assert refusal('[controller]\nsource = "prometheus:9090"\n') == (
        "line 2: controller.source: 'prometheus:9090' is neither \"nodes\" nor the http:// or https:// address of a Prometheus"
    )
    config = parse('[controller]\nsource = "http://prometheus:9090"\n', what="proxypool.toml")
    assert config.controller is not None


def test_every_section_is_read() -> None:
    config = parse(
        """
        pool = "prod"
        run_dir = "/run/pp"
        [zookeeper]
        hosts = ["zk1:2181", "10.0.0.2:2181"]
        session_timeout_s = 2
        [node]
        underlay = "eth0"
        name = "n1"
        advert_interval_ms = 100
        [node.labels]
        zone = "a"
        [host]
        underlay = "eth0"
        instance_cidrs = ["10.244.1.0/24"]
        subnets = ["s1"]
        [metrics]
        listen = "0.0.0.0:9000"
        [log]
        level = "debug"
        format = "json"
        """,
        what="proxypool.toml",
    )
    assert config.zookeeper.session_timeout_s == 2.0
    assert config.node is not None
    assert config.node.labels == {"zone": "a"}
    assert config.host is not None
    assert config.host.instance_cidrs == (IPv4Network("10.244.1.0/24"),)
    assert config.log.format == "json"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[zookeper]\n", "unknown key zookeper: did you mean zookeeper?"),
        ('[node]\nunderlay = "eth0"\nadvert_interval = 50\n', "did you mean node.advert_interval_ms?"),
        ('[node]\nunderley = "eth0"\n', "unknown key node.underley: did you mean node.underlay?"),
        ("[zookeeper]\nsession_timeout = 4\n", "did you mean zookeeper.session_timeout_s?"),
        ('[host]\nunderlay = "e"\ninstance_cidr = []\n', "did you mean host.instance_cidrs?"),
        ('[metrics]\nlisten_on = "0.0.0.0:1"\n', "did you mean metrics.listen?"),
        ('[log]\nlevle = "info"\n', "did you mean log.level?"),
    ],
)
def test_an_unknown_key_gets_the_nearest_known_one(text: str, hint: str) -> None:
    assert refusal(text).endswith(hint)


def test_an_unknown_key_that_resembles_none_gets_the_list() -> None:
    assert refusal("[log]\nxyzzy = 1\n") == "line 2: unknown key log.xyzzy; known keys: level, format"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("pool = \n", "at line 1"),
        ("node = 5", "$.node"),
        ("[node]\n", "missing required field `underlay`"),
        ('[host]\nunderlay = "eth0"\n', "missing required field `instance_cidrs`"),
        ('[host]\nunderlay = "eth0"\ninstance_cidrs = ["10.0.0.1/8"]', "host bits set - at `$.host.instance_cidrs[0]`"),
        (
            '[host]\nunderlay = "eth0"\ninstance_cidrs = [5]',
            "Expected `str`, got `int` - at `$.host.instance_cidrs[0]`",
        ),
        ("[zookeeper]\nsession_timeout_s = 0.5\n", "$.zookeeper.session_timeout_s"),
        ("[zookeeper]\nsession_timeout_s = 61\n", "$.zookeeper.session_timeout_s"),
        (NODE + 'name = "Node_1"\n', "$.node.name"),
        (NODE + 'name = "n1\\n"\n', "$.node.name"),
        (NODE + "advert_interval_ms = 5\n", "$.node.advert_interval_ms"),
        ('[log]\nlevel = "loud"\n', "$.log.level"),
        ('[log]\nformat = "xml"\n', "$.log.format"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(text: str, where: str) -> None:
    assert where in refusal(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            NODE + 'detection = "balancd"\n',
            "line 3: Invalid enum value 'balancd' - at `$.node.detection`: did you mean balanced?",
        ),
        (
            '[log]\n\nlevel = "loud"\n',
            "line 3: Invalid enum value 'loud' - at `$.log.level`: known: debug, info, warning, error",
        ),
        ('[controller]\nplacement = "spraed"\n', "did you mean spread?"),
        ("# nothing\n\n[node]\n", "line 3: Object missing required field `underlay` - at `$.node`"),
        ('node = {underlay = "eth0", name = "N_1"}\n', "line 1: "),
    ],
)
def test_a_wrong_value_is_refused_with_its_line_and_the_nearest_known_one(text: str, message: str) -> None:
    assert message in refusal(text)


@pytest.mark.parametrize("interval_ms", [15, 55, 101])
def test_an_advert_interval_that_keepalived_would_round_is_refused(interval_ms: int) -> None:
    """VRRPv3 counts in 10 ms; `keepalived -t` fails for anything else, and none of our pairs would be configured."""
    assert "$.node.advert_interval_ms" in refusal(NODE + f"advert_interval_ms = {interval_ms}\n")


def test_servers_and_listener_must_have_a_port() -> None:
    assert refusal('[zookeeper]\nhosts = ["zk1"]\n') == "line 2: zookeeper.hosts: 'zk1' is not ADDRESS:PORT"
    assert refusal('[metrics]\nlisten = "9477"\n') == "line 2: metrics.listen: '9477' is not ADDRESS:PORT"


def test_an_endpoint_is_split_at_its_last_colon() -> None:
    assert parse_endpoint("zk1:2181", what="it") == ("zk1", 2181)
    assert parse_endpoint("0.0.0.0:65535", what="it") == ("0.0.0.0", 65535)


@pytest.mark.parametrize("text", ["", ":", "zk1:", ":2181", "zk1:0", "zk1:65536", "zk1:-1", "zk1:\u00b2", "zk1:21 81"])
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not ADDRESS:PORT"):
        parse_endpoint(text, what="it")


def test_what_a_node_can_carry_is_a_number_above_zero() -> None:
    """Zero would make every pair on it full."""
    text = NODE + "bandwidth_bytes_per_s = 125000000\npackets_per_s = 1000000\nnew_connections_per_s = 20000\n"
    node = parse(text, what="proxypool.toml").node
    assert node is not None
    assert (node.bandwidth_bytes_per_s, node.packets_per_s, node.new_connections_per_s) == (
        125_000_000,
        1_000_000,
        20_000,
    )
    assert "packets_per_s" in refusal(NODE + "packets_per_s = 0\n")


WEB = "[controller.web]\n"


def test_the_status_page_is_local_unless_told_otherwise() -> None:
    config = parse(f"{NODE}[controller]\n", what="proxypool.toml")
    assert config.node is not None
    assert config.controller is not None
    assert (config.node.web.listen, config.controller.web.listen) == (None, None)
    assert is_loopback(NODE_WEB.rpartition(":")[0])
    assert is_loopback(CONTROLLER_WEB.rpartition(":")[0])


@pytest.mark.parametrize("listen", ["", "127.0.0.1:9480", "127.8.8.8:1", "localhost:9480", "[::1]:9480"])
def test_a_local_page_needs_no_token(listen: str) -> None:
    config = parse(f'{WEB}listen = "{listen}"\n', what="proxypool.toml")
    assert config.controller is not None
    assert config.controller.web.listen == listen


@pytest.mark.parametrize("listen", ["0.0.0.0:9480", "192.168.4.9:9480", "[::]:9480", "ctl1:9480", "localhost.evil:80"])
@pytest.mark.parametrize("section", ["controller", "node"])
def test_a_page_for_others_needs_a_token(listen: str, section: str) -> None:
    """Everybody who reaches the address would see every customer's subnets."""
    head = NODE if section == "node" else ""
    message = refusal(f'{head}[{section}.web]\nlisten = "{listen}"\n')
    assert re.match(rf"line \d+: {section}\.web\.listen: {re.escape(listen)} is open to others", message)
    assert "token_file" in message
    assert f'"127.0.0.1:{listen.rpartition(":")[2]}"' in message
    parse(f'{head}[{section}.web]\nlisten = "{listen}"\ntoken_file = "/etc/proxypool/token"\n', what="proxypool.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'tls_cert = "c.pem"',
            "line 1: controller.web.tls_cert needs tls_key: a certificate is of no use without its key",
        ),
        (
            'tls_key = "k.pem"',
            "line 1: controller.web.tls_key needs tls_cert: a certificate is of no use without its key",
        ),
        ('listen = "9480"', "line 1: controller.web.listen: '9480' is not ADDRESS:PORT"),
        ('runbooks = "docs"', "line 1: controller.web.runbooks: 'docs' does not begin with http:// or https://"),
        ('token = "x"', "line 2: unknown key controller.web.token: did you mean controller.web.token_file?"),
    ],
)
def test_a_page_that_cannot_be_is_refused(text: str, message: str) -> None:
    assert refusal(f"{WEB}{text}\n") == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[zookeeper]\nuser = "node"', "line 1: zookeeper.user needs zookeeper.secret_file too"),
        ('[zookeeper]\nsecret_file = "s"', "line 1: zookeeper.secret_file needs zookeeper.user too"),
        ('[zookeeper]\ntls_ca = "a"\ntls_cert = "c"', "line 1: zookeeper.tls_cert needs zookeeper.tls_key too"),
        ('[zookeeper]\ntls_ca = "a"\ntls_key = "k"', "line 1: zookeeper.tls_key needs zookeeper.tls_cert too"),
        ('[zookeeper]\ntls_cert = "c"\ntls_key = "k"', "line 1: zookeeper.tls_cert needs zookeeper.tls_ca too"),
        ('[zookeeper]\nuser = "root"\nsecret_file = "s"', "line 2: Invalid enum value 'root'"),
        ('[metrics]\ntls_cert = "c"', "line 1: metrics.tls_cert needs tls_key"),
        (
            '[controller]\nnodes_token_file = "t"',
            "line 2: controller.nodes_token_file needs nodes_ca: it would be sent in",
        ),
    ],
)
def test_half_of_a_lock_is_a_mistake(text: str, message: str) -> None:
    """It would leave the other half unused, and somebody believing that it is used."""
    assert refusal(text).startswith(message)
