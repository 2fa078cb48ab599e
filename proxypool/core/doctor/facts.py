"""What is known of a machine. A field that is None could not be looked at, or was not asked for. Pure.

What a probe found missing is a value (`Tri.MISSING`, an empty version); why a probe could tell nothing is in
`Facts.unseen`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, field


class DaemonRole(StrEnum):
    """What a machine is for."""

    NODE = "node"
    HOST = "host"
    CONTROLLER = "controller"


class Tri(StrEnum):
    """Whether the kernel has something."""

    THERE = "there"
    MISSING = "missing"
    UNKNOWN = "unknown"


class Program(Struct, frozen=True, kw_only=True):
    """A program; an empty path: it is not installed."""

    path: str = ""
    version: str = ""
    """As it says itself; empty: it did not say."""


class KernelFacts(Struct, frozen=True, kw_only=True):
    """What the kernel can do."""

    release: str = ""
    features: Mapping[str, Tri] = field(default_factory=dict)
    """Name of `codes.FEATURES` -> whether it is there."""
    remarks: Mapping[str, str] = field(default_factory=dict)
    """What was said of a feature when it was tried."""


class FileFacts(Struct, frozen=True, kw_only=True):
    """A file or directory."""

    path: str
    purpose: str
    """`config`, `secret`, `key`, `session`, `program`, `run` or `state`."""
    mode: int | None = None
    """Permission bits; None: it is not there."""
    owner: int | None = None


class UnderlayFacts(Struct, frozen=True, kw_only=True):
    """The card of the function network."""

    name: str
    is_there: bool
    is_up: bool = False
    mtu: int = 0
    address: str = ""
    known: tuple[str, ...] = ()
    """Names of the cards that there are."""


class ClockFacts(Struct, frozen=True, kw_only=True):
    """The wall clock."""

    is_synchronised: bool
    error_s: float
    """The kernel's bound of its error."""


class ZooKeeperFacts(Struct, frozen=True, kw_only=True):
    """The ensemble, and the pool in it."""

    servers: Mapping[str, str] = field(default_factory=dict)
    """Server -> why no connection to it can be opened; empty: one can."""
    connected_s: float | None = None
    """How long a session took; None: there is none."""
    problem: str = ""
    """Why there is none."""
    round_trip_s: float | None = None
    """Median of a read."""
    pool_problem: str = ""
    """Why the pool cannot be read."""
    tunnel: str = ""
    """The pool's kind of tunnel; empty: not known."""
    has_egress: bool | None = None
    """Whether a pair that this node is in has an egress address; None: not known."""
    has_access_lists: bool | None = None
    """Whether the pool has them; None: not known."""
    open_nodes: tuple[str, ...] = ()
    """Paths with another access list than they ought to have, though the pool has them; a few of them."""
    open_count: int = 0
    """How many there are."""
    skew_s: float | None = None
    """This machine's clock minus ZooKeeper's; None: no daemon of this machine publishes."""


class QuotaFacts(Struct, frozen=True, kw_only=True):
    """What the provider would give for one subnet."""

    subnet: str
    cards: Mapping[str, int | None] = field(default_factory=dict)
    """Node -> so many more cards; None: no limit is known."""
    problem: str = ""


class Facts(Struct, frozen=True, kw_only=True):
    """Everything that was found out."""

    role: DaemonRole
    config_path: str = ""
    config_problem: str = ""
    """Why the configuration is not valid; empty: it is."""
    is_config_there: bool | None = None
    has_section: bool | None = None
    provider_problem: str = ""
    tunnel: str = ""
    """Kind that the pool uses; empty: not known, either must do."""
    kernel: KernelFacts | None = None
    sysctls: Mapping[str, str | None] | None = None
    """Below /proc/sys -> value; None: the kernel has no such entry."""
    programs: Mapping[str, Program] | None = None
    keepalived_running: bool | None = None
    keepalived_includes: bool | None = None
    """Whether its configuration includes our directory."""
    keepalived_dir: str = "/etc/keepalived"
    capabilities: frozenset[str] | None = None
    whose_capabilities: str = ""
    """`this command`, or `the daemon, pid 123`."""
    daemon_pid: int | None = None
    is_daemon_known: bool = False
    """Whether it could be found out if one runs."""
    underlay: UnderlayFacts | None = None
    clock: ClockFacts | None = None
    zookeeper: ZooKeeperFacts | None = None
    files: tuple[FileFacts, ...] | None = None
    quota: tuple[QuotaFacts, ...] | None = None
    unseen: Mapping[str, str] = field(default_factory=dict)
    """Probe -> why it could tell nothing."""
