"""The daemons' configuration: its types, with their defaults and what each key is for. `config_file` reads it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from proxypool.core.access import AccessRole
from proxypool.core.config_errors import explained, nowhere, require_known_keys
from proxypool.core.detection import Profile
from proxypool.core.documents import decode_hook
from proxypool.core.errors import InvalidInput
from proxypool.core.model import Name
from proxypool.core.scaling.placement import Spread
from proxypool.core.scaling.policy import Parameters

DEFAULT_PATH = "/etc/proxypool/proxypool.toml"
PATH_VARIABLE = "PROXYPOOL_CONFIG"
NODE_METRICS = "127.0.0.1:9477"
HOST_METRICS = "127.0.0.1:9478"
CONTROLLER_METRICS = "127.0.0.1:9479"
CONTROLLER_WEB = "127.0.0.1:9480"
NODE_WEB = "127.0.0.1:9481"
FROM_NODES = "nodes"
"""The source of signals that needs nothing else."""
Limit = Annotated[int, Meta(ge=1)]
MAX_SECONDS = 1e6
"""Eleven days. No call to the kernel waits for longer than twenty-four."""
Seconds = Annotated[float, Meta(gt=0, le=MAX_SECONDS)]
T = TypeVar("T", bound=Struct)


class ZooKeeperConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ensemble."""

    hosts: tuple[str, ...] = ("127.0.0.1:2181",)
    """`address:port` of its servers."""
    session_timeout_s: Annotated[float, Meta(ge=1.0, le=60.0)] = 4.0
    """A dead member is confirmed dead after this; below 1 s ping jitter ends sessions."""
    server_tick_s: Seconds | None = None
    """The servers' `tickTime`, in seconds: sessions end in whole ticks. Default: the longest that grants the session,
    half its timeout. Two masters that do not hear each other last at most session timeout + tick + 0.25 s."""
    user: AccessRole | None = None
    """Whose secret `secret_file` has. See docs/how-to/secure-the-control-plane.md."""
    secret_file: str | None = None
    """File with the secret of `user`, or `credential:NAME` for a systemd credential. Only root, or the daemon's user,
    may own it, and nobody else read it."""
    tls_ca: str | None = None
    """Certificates of the authorities that the servers' are checked against, in PEM. With it, and only with it, the
    servers are spoken to by TLS; their names in `hosts` must be in their certificates. Like all files of secrets and
    certificates of this section and of `metrics`, `node.web`, `controller` and `controller.web`, it may be
    `credential:NAME` for a systemd credential."""
    tls_cert: str | None = None
    """Certificate that we show, in PEM. Files that are renewed are read with the next connection."""
    tls_key: str | None = None
    """Its key, in PEM, or `credential:NAME`. Nobody else may read it."""


class WebConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A daemon's status page and HTTP API: see docs/status-page.md."""

    listen: str | None = None
    """`address:port`; empty: neither is served. Default 127.0.0.1:9480 for controllers, 127.0.0.1:9481 on nodes. An
    address that others reach needs a token."""
    token_file: str | None = None
    """Whoever asks must know what is in it: as a bearer token, or as the password of HTTP's basic authentication. Only
    root, or the daemon's user, may own it, and no other user read it."""
    tls_cert: str | None = None
    """Certificate, with what is between it and a root, in PEM. Files that are renewed are read again."""
    tls_key: str | None = None
    """Its key, in PEM."""
    runbooks: str | None = None
    """URL below which the runbooks of checks are, as `<URL>/PP001`. Default: those that the daemon serves itself."""


class NodeConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A proxy node."""

    underlay: str
    """Interface of the function network; the HaVips are claimed on it."""
    name: Name | None = None
    """Default: the host name."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What placing new pairs goes by: `zone` or `rack` is the failure domain, `pairs` how many pairs it may be in."""
    detection: Profile = Profile.BALANCED
    """How soon a silent master is replaced: `fast` 40 ms, `balanced` 50 ms, `conservative` 0.4 s. The quicker, the more
    easily lost packets and busy processors look like a dead master. Set the same on both nodes of a pair."""
    advert_interval_ms: Annotated[int, Meta(ge=10, le=40950, multiple_of=10)] | None = None
    """VRRP advertisement interval, instead of the profile's. VRRPv3 counts in 10 ms. A node of more than 25 pairs
    stretches what it has to, so that it sends 2,500 a second at most."""
    missing_adverts: Annotated[int, Meta(ge=2, le=100)] | None = None
    """So many missing advertisements end a master, instead of the profile's number."""
    keepalived_dir: str = "/etc/keepalived"
    """keepalived's configuration; ours is below it, in `conf.d/`."""
    bandwidth_bytes_per_s: Limit | None = None
    """What the machine can carry in each direction. Default: the speed of the underlay's link, if its driver tells;
    cloud machines are often sold with less. None and no speed: not a reason to scale. See docs/scaling.md."""
    packets_per_s: Limit | None = None
    """What it can forward, both directions together. None: not a reason to scale."""
    new_connections_per_s: Limit | None = None
    """How many connections it can begin. None: not a reason to scale."""
    web: WebConfig = WebConfig()
    """The status page of this node."""


class HostConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A function host."""

    underlay: str
    """Interface of the function network; tunnels leave by it."""
    instance_cidrs: tuple[IPv4Network, ...]
    """Where instances have their addresses. Nothing else can be attached, and nothing else is steered."""
    name: Name | None = None
    """Default: the host name."""
    subnets: tuple[str, ...] = ("*",)
    """Subnets its instances may be attached to; `*` is every subnet of the pool."""
    attach_all: bool = False
    """Every instance reaches every subnet of `subnets`, without being attached."""
    api_group: str | None = None
    """Group whose members may use the local API, besides root and `api_users`."""
    api_users: tuple[str, ...] = ()
    """Users, by name or number, who may use the local API. The kernel says who asks."""
    state_dir: str = "/var/lib/proxypool"
    """Attachments are kept here, over a reboot."""
    mark_shift: Annotated[int, Meta(ge=0, le=17)] = 16
    """Lowest of the fifteen bits of packet and connection marks that are ours."""
    open_cidrs: tuple[IPv4Network, ...] = ()
    """Never steered and never refused, whichever customer has such addresses: services of the platform."""
    ip_masq_agent: str | None = None
    """Configuration file of an ip-masq-agent, whose work is done here then: its `nonMasqueradeCIDRs` are open CIDRs,
    and what instances send anywhere else than into a tunnel leaves with the host's address."""
    linger_s: Annotated[float, Meta(ge=0, le=MAX_SECONDS)] = 300.0
    """A subnet stays programmed for so long after its last attachment was removed."""
    probe_interval_ms: Annotated[int, Meta(ge=50, le=10000)] = 200
    """How often the HaVips in use are asked for an echo; after three silent ones new connections go elsewhere."""
    new_connections_per_s_per_instance: Annotated[int, Meta(ge=0, le=100_000)] = 1000
    """All instances share the host's connection table, so each may begin only so many connections a second, and ten
    times as many at once, up to 10,000; further ones are dropped. 0: as many as it likes."""


class ControllerConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A controller: one of two or three, of which one leads."""

    name: Name | None = None
    """Default: the host name."""
    interval_s: Annotated[float, Meta(ge=0.2, le=60.0)] = 2.0
    """From one look at the pool to the next."""
    source: str = FROM_NODES
    """Where signals come from: `nodes`, whose `/metrics` are read, or the URL of a Prometheus server."""
    source_token_file: str | None = None
    """What is in it is sent to the Prometheus server as a bearer token. No other user may read it."""
    nodes_ca: str | None = None
    """Certificates of the authorities that those of nodes are checked against where their metrics are served by TLS, in
    PEM. With it, nodes that serve them without are not asked."""
    nodes_token_file: str | None = None
    """What is in it is sent to the nodes as a bearer token: `metrics.token_file` of theirs. Needs `nodes_ca`."""
    source_interval_s: Seconds | None = None
    """How often the source reads the nodes: what is older than three times that is not known. Default: `interval_s`,
    and 15 s for a Prometheus server."""
    source_timeout_s: Seconds | None = None
    """How long a node, or each query of the Prometheus server, may take. Default: `interval_s`, at least 1 s; 5 s
    for the server."""
    placement: Spread = Spread.SPREAD
    """`spread`: new pairs go to the emptiest nodes; `pack`: to the fullest that have room."""
    node_pairs: Annotated[int, Meta(ge=1)] = 100
    """So many pairs a node is in, at most; a node's label `pairs` says otherwise for that one."""
    max_actions: Annotated[int, Meta(ge=1, le=1000)] = 8
    """Pairs that come or go at the same time, in the whole pool."""
    dead_after_s: Annotated[float, Meta(ge=10.0, le=MAX_SECONDS)] = 300.0
    """A node that is not alive for so long has its pairs replaced."""
    ready_deadline_s: Seconds = 120.0
    """A new pair that is not ready by then is made elsewhere."""
    drain_deadline_s: Annotated[float, Meta(ge=0, le=MAX_SECONDS)] = 3600.0
    """A draining pair is removed after this, with the connections that are left."""
    call_deadline_s: Seconds = 60.0
    """How long one call to the provider may take."""
    web: WebConfig = WebConfig()
    """The status page of the pool."""
    policy: Parameters = Parameters()
    """Of all subnets; `min_pairs` and `max_pairs` are each subnet's own."""


class MetricsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where `/metrics` is served."""

    listen: str | None = None
    """`address:port`; default 127.0.0.1:9477 on nodes, 127.0.0.1:9478 on hosts, 127.0.0.1:9479 for controllers."""
    token_file: str | None = None
    """Whoever asks must know what is in it, as with `web.token_file`. Controllers that read this node need it too, as
    `controller.nodes_token_file`."""
    tls_cert: str | None = None
    """Certificate, with what is between it and a root, in PEM: then metrics are served by TLS. A controller that reads
    the node checks it against `controller.nodes_ca`: it must be for the address in `listen`."""
    tls_key: str | None = None
    """Its key, in PEM, or `credential:NAME`."""


class LogConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Logs go to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important lines that are written."""
    format: Literal["text", "json"] = "text"
    """`json`: a document a line, for whatever collects logs."""


class ProviderConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who makes cards and floating addresses for the controller."""

    name: Name = "spare"
    """`spare`, `command`, `baidu`, or one of a package that is installed beside."""
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """`[provider.<name>]` as they stand there. Only the provider itself knows its keys."""


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    pool: Name = "default"
    """Several pools can share an ensemble."""
    zookeeper: ZooKeeperConfig = ZooKeeperConfig()
    node: NodeConfig | None = None
    host: HostConfig | None = None
    controller: ControllerConfig | None = None
    metrics: MetricsConfig = MetricsConfig()
    log: LogConfig = LogConfig()
    provider: ProviderConfig = ProviderConfig()
    run_dir: str = "/run/proxypool"
    """Sockets, locks, track files and the ZooKeeper session; empty after a boot."""


def section(values: Mapping[str, Any], kind: type[T], where: str) -> T:
    """A table of the configuration that belongs to a provider.

    Args:
        values: what stands in it.
        kind: what it must be.
        where: its name, for errors: `provider.command`.

    Raises:
        InvalidInput: an unknown key (with the nearest known one), a value of the wrong kind or range.
    """
    require_known_keys(values, kind, f"{where}.", nowhere)
    try:
        return msgspec.convert(values, kind, dec_hook=decode_hook)
    except (msgspec.ValidationError, ValueError) as error:
        raise InvalidInput(f"[{where}]: {explained(error, kind, nowhere)}") from error
