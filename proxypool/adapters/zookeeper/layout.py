"""Where things are in ZooKeeper. The only place that knows a path; see "ZooKeeper layout" in the design."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TypeAlias

from proxypool.core.scaling.documents import Key

LAYOUT_VERSION = 1
CANDIDATE_DIGITS = 10
"""ZooKeeper appends this many to the name of a sequential node."""

Parts: TypeAlias = tuple[str, ...]
LIFE = "life"
"""Stands below a machine for whether it lives; no node of ZooKeeper has that name."""


def node_suffix(node: str) -> str:
    """NodeSpec."""
    return f"nodes/{node}"


def node_alive_suffix(node: str) -> str:
    """Alive of a node daemon; ephemeral."""
    return f"nodes/{node}/alive"


def node_orders_suffix(node: str) -> str:
    """NodeOrders."""
    return f"nodes/{node}/orders"


def host_suffix(host: str) -> str:
    """HostSpec."""
    return f"hosts/{host}"


def host_alive_suffix(host: str) -> str:
    """Alive of a host agent; ephemeral."""
    return f"hosts/{host}/alive"


def subnet_suffix(subnet: str) -> str:
    """SubnetSpec."""
    return f"subnets/{subnet}"


def subnet_host_suffix(subnet: str, host: str) -> str:
    """Says that a host uses a subnet."""
    return f"subnets/{subnet}/hosts/{host}"


def spares_suffix(subnet: str) -> str:
    """Spares."""
    return f"subnets/{subnet}/spares"


def pair_suffix(subnet: str, pair: str) -> str:
    """PairSpec."""
    return f"subnets/{subnet}/pairs/{pair}"


def election_suffix(subnet: str, pair: str) -> str:
    """Parent of a pair's candidates."""
    return f"{pair_suffix(subnet, pair)}/election"


def statuses_suffix(subnet: str, pair: str) -> str:
    """Parent of what a pair's members publish."""
    return f"{pair_suffix(subnet, pair)}/status"


def member_status_suffix(subnet: str, pair: str, node: str) -> str:
    """MemberStatus; ephemeral."""
    return f"{statuses_suffix(subnet, pair)}/{node}"


def switchover_suffix(subnet: str, pair: str) -> str:
    """Intent of the last planned change of a pair's master."""
    return f"{pair_suffix(subnet, pair)}/switchover"


CONTROLLER = "controller"
CONTROLLERS = f"{CONTROLLER}/election"
"""Parent of the controllers' candidates; the first leads."""
REPORT = "controller/report"
"""Report of the leading controller."""
ACTIONS = "controller/actions"
"""Parent of the actions under way."""


def action_suffix(key: Key) -> str:
    """Action. No name has a `_`."""
    return f"{ACTIONS}/{'_'.join(key)}"


def action_subnet(name: str) -> str:
    """Of which subnet an action is, by its name among the actions."""
    return name.partition("_")[0]


HISTORY = "history"
"""Parent of the records; no mirror follows it."""


def record_suffix(name: str) -> str:
    """Record."""
    return f"{HISTORY}/{name}"


CHOSEN = b" chosen"
"""What the data of a candidate ends in that an operator chose, after the name of its node."""


def candidate_node(name: str) -> str | None:
    """The node of a candidate named `<node>-##########`, None if it is no candidate's name."""
    node, separator, digits = name.rpartition("-")
    if not separator or not node or len(digits) != CANDIDATE_DIGITS or not (digits.isascii() and digits.isdigit()):
        return None
    return node


def candidate_sequence(name: str) -> int:
    """Place in the queue: ZooKeeper's sequence number."""
    return int(name[-CANDIDATE_DIGITS:])


@dataclass(frozen=True, slots=True)
class Layout:
    """Absolute paths of one pool."""

    pool: str

    @property
    def root(self) -> str:
        """The pool's own node."""
        return f"/proxypool/{self.pool}"

    def path(self, suffix: str) -> str:
        """Absolute path of a suffix."""
        return f"{self.root}/{suffix}"

    def parts(self, path: str) -> Parts:
        """A path's components below the pool's node."""
        return tuple(path[len(self.root) + 1 :].split("/"))


class Facet(StrEnum):
    """What of a ZooKeeper node matters to us. Every node has exactly one."""

    DATA = "data"
    CHILDREN = "children"
    STAT = "stat"
    CANDIDATE = "candidate"
    """Data and stat, not watched: what happens to a candidate shows in the list of them."""
    PRESENCE = "presence"
    """Whether it is there."""
    LIFE = "life"
    """Whether a proof of life is there, by the list of what is below its machine: that list changes when one comes or
    goes, a proof of life with every beat.
    """


class Extent(Enum):
    """How much of a pool is read; the values are what is read below subnets, pairs, nodes and hosts."""

    SERVING = (("pairs", "hosts"), ("election",), (), ())
    """Specs, elections, and which hosts use a subnet: what nodes and hosts need, and most edits."""
    PLACING = (("pairs", "hosts", "spares"), (), ("life", "orders"), ())
    """Specs, which hosts use a subnet, and what new pairs can be made of: whether nodes live, orders about them,
    spares. For the controller.
    """
    SIZES = (("pairs",), (), (), ())
    """Specs of subnets and pairs, and what the controller publishes: how many pairs there are, and why."""
    STATUS = (("pairs", "hosts", "spares"), ("election", "status"), ("alive", "orders"), ("alive",))
    """Everything: also all that daemons publish. For people."""
    EVENTS = (("pairs",), ("election", "status"), ("alive", "orders"), ("life",))
    """The same, but of hosts only whether they live: ten thousand of them beat. For who follows what happens."""

    def __init__(self, subnet: Parts, pair: Parts, node: Parts, host: Parts) -> None:
        self.subnet, self.pair, self.node, self.host = subnet, pair, node, host


_ROOTS: tuple[Parts, ...] = (("version",), ("spec",), ("subnets",), ("nodes",), ("hosts",))
_CONTROLLER: tuple[Parts, ...] = (("controller", "election"), ("controller", "report"), ("controller", "actions"))


def roots(extent: Extent) -> tuple[Parts, ...]:
    """Where reading the pool begins."""
    match extent:
        case Extent.STATUS | Extent.EVENTS:
            return (*_ROOTS, *_CONTROLLER)
        case Extent.SIZES:
            return (*_ROOTS[:3], *_CONTROLLER)
        case _:
            return _ROOTS


def facet_of(parts: Parts) -> Facet | None:
    """What to read of a node, None if it is none of ours."""
    match parts:
        case ("subnets",) | ("nodes",) | ("hosts",) | ("controller", "election" | "actions"):
            return Facet.CHILDREN
        case ("subnets", _, "pairs" | "hosts") | ("subnets", _, "pairs", _, "election" | "status"):
            return Facet.CHILDREN
        case ("version",) | ("spec",) | ("subnets" | "nodes" | "hosts", _) | ("nodes" | "hosts", _, "alive"):
            return Facet.DATA
        case (
            ("nodes", _, "orders") | ("subnets", _, "spares") | ("controller", "report") | ("controller", "actions", _)
        ):
            return Facet.DATA
        case ("subnets", _, "pairs", _) | ("subnets", _, "pairs", _, "status", _) | ("controller", "election", _):
            return Facet.DATA
        case ("subnets", _, "pairs", _, "election", _):
            return Facet.CANDIDATE
        case ("subnets", _, "hosts", _) | ("nodes" | "hosts", _, "life"):
            return Facet.LIFE if parts[-1] == LIFE and len(parts) == 3 else Facet.PRESENCE  # noqa: PLR2004
        case _:
            return None


def containers_below(parts: Parts, extent: Extent) -> tuple[Parts, ...]:
    """What belongs to a document besides its own data."""
    match parts:
        case ("subnets", _):
            names = extent.subnet
        case ("subnets", _, "pairs", _):
            names = extent.pair
        case ("nodes", _):
            names = extent.node
        case ("hosts", _):
            names = extent.host
        case _:
            return ()
    return tuple([(*parts, name) for name in names]) if names else ()


def has_readable_children(parts: Parts) -> bool:
    """Whether the children of a container are read too; hosts of a subnet are names only."""
    return not (len(parts) == 3 and parts[2] in {"hosts", LIFE})  # noqa: PLR2004


def suffix_of(parts: Parts) -> str:
    """Where this is read."""
    return "/".join(parts[:-1] if facet_of(parts) is Facet.LIFE else parts)


def told_of(parts: Parts, *, is_list: bool, is_data: bool) -> tuple[Parts, ...]:
    """What may be other than before when a watch says so of a node: of its list of children, of its data, or of
    neither, as it has come or gone.
    """
    if len(parts) != 2 or parts[0] not in {"nodes", "hosts"} or is_data:  # noqa: PLR2004 - nodes/<node>, hosts/<host>
        return (parts,)
    life = (*parts, LIFE)
    return (life,) if is_list else (parts, life)
