"""What was recorded of one run: data that is written to a file and read again. Times are CLOCK_MONOTONIC in s."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Pair:
    """A pair that was watched."""

    subnet: str
    id: str
    havip: str
    members: dict[str, str]
    """Node -> its ENI's address."""
    macs: dict[str, str]
    """MAC of a node's underlay card -> node."""
    egress: str | None = None
    """The egress address."""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.subnet}/{self.id}"


@dataclass(frozen=True, slots=True)
class FaultEvent:
    """A fault, or the healing of one, as it was done."""

    at: float
    done: float
    """When the act was over; it took effect somewhere between."""
    fault: str
    machine: str
    subnet: str | None = None


@dataclass(frozen=True, slots=True)
class GateChange:
    """What the kernel says of one gate from then on."""

    at: float
    node: str
    subnet: str
    is_open: bool


@dataclass(frozen=True, slots=True)
class Span:
    """Between two moments a MAC answered for an address."""

    address: str
    mac: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Probes:
    """What a prober saw through a pair."""

    subnet: str
    pair: str
    pod: str
    start: float
    end: float
    sent: int
    lost: int
    gaps: tuple[tuple[float, float], ...]
    own_stall_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Connection:
    """The fate of one TCP connection."""

    pod: str
    source: str | None
    """The address by which the server knew it: the ENI's, or the pair's egress address."""
    opened: float
    over: float | None
    state: str


@dataclass(frozen=True, slots=True)
class Said:
    """What a daemon said of a member, and what the kernel said in the same moment."""

    at: float
    node: str
    subnet: str
    role: str
    has_havip: bool
    is_open: bool | None


@dataclass(frozen=True)
class History:
    """Everything of one run."""

    seed: str
    session_timeout_s: float
    server_tick_s: float
    zookeepers: tuple[str, ...]
    pairs: tuple[Pair, ...]
    start: float
    end: float
    faults: tuple[FaultEvent, ...] = ()
    gates: tuple[GateChange, ...] = ()
    holders: tuple[Span, ...] = ()
    probes: tuple[Probes, ...] = ()
    connections: tuple[Connection, ...] = ()
    said: tuple[Said, ...] = ()
    strangers: tuple[str, ...] = ()
    """Frames that left an ENI with a source that is not its own."""
    crossed: tuple[str, ...] = ()
    """Packets of a customer where they do not belong: on another's network, or bare on the underlay."""
    foreign_lost: tuple[str, ...] = ()
    """What others had made on nodes that were never off, and is gone or changed."""
    restless: tuple[str, ...] = ()
    """Nodes whose daemon still changed the kernel when all was well."""
    unhealed: tuple[str, ...] = ()
    """What was not well so long after everything was healed."""
    log: tuple[str, ...] = field(default=())
    """Lines of the daemons' logs about roles: for the timeline."""

    def write(self, path: Path) -> None:
        """To a file."""
        path.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a file.

        Raises:
            ValueError: it is no history.
        """
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        try:
            return cls.from_json(document)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is no history: {error}") from error

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict`."""
        kinds: dict[str, Any] = {
            "pairs": Pair,
            "faults": FaultEvent,
            "gates": GateChange,
            "holders": Span,
            "probes": Probes,
            "connections": Connection,
            "said": Said,
        }
        values: dict[str, Any] = {}
        for key, value in document.items():
            kind = kinds.get(key)
            made = [kind(**{name: _frozen(part) for name, part in item.items()}) for item in value] if kind else value
            values[key] = _frozen(made)
        return cls(**values)


def _frozen(value: Any) -> Any:
    """Lists of JSON as the tuples that they were."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
