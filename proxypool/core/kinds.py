"""Every kind of document that the command line prints with `-o json` and `-o yaml`, and what is in it; those of the lab
are in `lab.kinds`. Pure.

`tools/gen_schemas.py` makes the JSON schemas of them. Within a version of `apiVersion` fields are added, and none is
renamed, removed, or changes its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from proxypool.core.config_sources import Setting
from proxypool.core.doctor.report import Diagnosis
from proxypool.core.events import Event
from proxypool.core.explanation import Explanation
from proxypool.core.history import Record
from proxypool.core.scaling.fleet import World
from proxypool.core.scaling.overview import ControllerState, Outlook, ScaleStatus
from proxypool.core.scaling.policy import Parameters
from proxypool.core.status import HostReport, NodeReport, PairReport, PoolStatus, SubnetReport
from proxypool.core.topology import Topology
from proxypool.core.upgrade import Readiness


class PoolSummary(Struct, frozen=True, kw_only=True):
    """What holds for the whole pool, and how much of everything there is."""

    pool: str
    tunnel: str | None
    """None: it was not set."""
    tunnel_range: IPv4Network | None
    vxlan_port: int | None
    subnets: int
    managed: int
    """Subnets whose size is the controller's business."""
    pairs: int
    nodes: int
    hosts: int


class PairOfSubnet(PairReport, frozen=True, kw_only=True):
    """A pair, and of which subnet it is."""

    subnet: str


class Plan(Struct, frozen=True, kw_only=True):
    """What the controller would do now, by its last report."""

    pool: str
    at: float
    """Seconds since the epoch."""
    controller: ControllerState
    subnets: tuple[Outlook, ...]


class SpareItem(Struct, frozen=True, kw_only=True):
    """A card or an address that the provider `spare` may use. What does not apply is an empty text."""

    subnet: str
    kind: str
    """card, havip or egress-address."""
    node: str
    eni: str
    address: str
    gateway: str
    used_by: str
    """The pair, or the controller's action."""


class AttachmentItem(Struct, frozen=True, kw_only=True):
    """An attachment, from the agent of a host; or what became of one."""

    address: str
    subnet: str | None
    """None: of a detachment of everything that the address had."""
    state: str | UnsetType = UNSET
    """Of `host attach` and `detach`: attached, unchanged, detached or absent."""
    owner: str | UnsetType = UNSET
    """Of a listing: who asked for it."""
    since: float | UnsetType = UNSET
    """Of a listing: seconds since the epoch."""


class Configuration(Struct, frozen=True, kw_only=True):
    """The configuration that is in force, without secrets."""

    file: str | None
    """None: there is none."""
    settings: tuple[Setting, ...]


class SimulatedTrace(Struct, frozen=True, kw_only=True):
    """The trace that was replayed."""

    file: str
    column: str
    values: int
    interval_s: float
    span_s: float
    pair_capacity: float
    scaled: str
    """Where the capacity comes from."""
    mean_load_pairs: float
    largest_load_pairs: float
    least_slack_fraction: float
    notes: tuple[str, ...]


class Simulation(Struct, frozen=True, kw_only=True):
    """A trace, replayed through policies of scaling."""

    trace: SimulatedTrace
    world: World
    parameters: Parameters
    policies: Mapping[str, Mapping[str, Any]]
    """By name of the policy: definitions in docs/scaling.md."""


class Form(Enum):
    """How a document is made of its content."""

    WHOLE = "whole"
    """The content has `apiVersion` and `kind` itself."""
    SINGLE = "single"
    """They stand beside the fields of the content."""
    LIST = "list"
    """`items` are so many contents."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of document."""

    name: str
    """As `kind` says it."""
    content: type[Struct]
    form: Form
    commands: str
    """That print it."""


KINDS = (
    Kind("PoolStatus", PoolStatus, Form.WHOLE, "status"),
    Kind("Topology", Topology, Form.WHOLE, "topology"),
    Kind("Pool", PoolSummary, Form.SINGLE, "pool show"),
    Kind("SubnetList", SubnetReport, Form.LIST, "subnet list"),
    Kind("Subnet", SubnetReport, Form.SINGLE, "subnet show"),
    Kind("SpareList", SpareItem, Form.LIST, "subnet spare list"),
    Kind("PairList", PairOfSubnet, Form.LIST, "pair list"),
    Kind("Pair", PairOfSubnet, Form.SINGLE, "pair show"),
    Kind("ScaleStatus", ScaleStatus, Form.WHOLE, "scale status"),
    Kind("ScalePlan", Plan, Form.SINGLE, "scale plan"),
    Kind("Simulation", Simulation, Form.SINGLE, "scale simulate"),
    Kind("NodeList", NodeReport, Form.LIST, "node list"),
    Kind("Node", NodeReport, Form.SINGLE, "node show"),
    Kind("HostList", HostReport, Form.LIST, "host list"),
    Kind("Host", HostReport, Form.SINGLE, "host show"),
    Kind(
        "AttachmentList",
        AttachmentItem,
        Form.LIST,
        "host attachments, host list --attachments, host attach, host detach",
    ),
    Kind("Explanation", Explanation, Form.WHOLE, "explain"),
    Kind("RecordList", Record, Form.LIST, "history, scale history"),
    Kind("Event", Event, Form.WHOLE, "events"),
    Kind("Configuration", Configuration, Form.SINGLE, "config show"),
    Kind("Diagnosis", Diagnosis, Form.SINGLE, "doctor"),
    Kind("UpgradeReadiness", Readiness, Form.SINGLE, "upgrade-check"),
)
