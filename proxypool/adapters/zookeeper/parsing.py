"""From the bytes of a ZooKeeper node to a document, by the node's place in the tree. No I/O."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from proxypool.adapters.zookeeper.layout import ACTIONS, LAYOUT_VERSION, Parts, action_suffix
from proxypool.core.documents import decode
from proxypool.core.errors import InvalidInput
from proxypool.core.model import Alive, HostSpec, MemberStatus, NodeSpec, PairSpec, PoolSpec, SubnetSpec
from proxypool.core.scaling.documents import Action, ControllerAlive, NodeOrders, Report, Spares
from proxypool.core.validation import require_two_nodes

T = TypeVar("T", bound=msgspec.Struct)
_MAJOR = re.compile(r"[0-9]{1,9}")


class LayoutVersion(msgspec.Struct, frozen=True):
    """The `version` node: plain text, `MAJOR` or `MAJOR.MINOR`. A later minor version only adds."""

    major: int


def parse_document(parts: Parts, raw: bytes, path: str) -> msgspec.Struct:
    """The document at this place.

    Raises:
        InvalidInput: it does not parse, or says that it is another one; the message names the path.
    """
    match parts:
        case ("version",):
            return _version(raw, path)
        case ("spec",):
            return decode(raw, PoolSpec, what=path)
        case ("subnets", name):
            return _named(decode(raw, SubnetSpec, what=path), path, id=name)
        case ("subnets", subnet, "pairs", name):
            pair = _named(decode(raw, PairSpec, what=path), path, id=name, subnet=subnet)
            require_two_nodes(pair, path)
            return pair
        case ("subnets", _, "pairs", _, "status", name):
            return _named(decode(raw, MemberStatus, what=path), path, node=name)
        case ("nodes" | "hosts", name):
            return _named(decode(raw, NodeSpec if parts[0] == "nodes" else HostSpec, what=path), path, id=name)
        case ("nodes" | "hosts", _, "alive"):
            return decode(raw, Alive, what=path)
        case _:
            return _of_scaling(parts, raw, path)


def _of_scaling(parts: Parts, raw: bytes, path: str) -> msgspec.Struct:
    match parts:
        case ("nodes", _, "orders"):
            return decode(raw, NodeOrders, what=path)
        case ("subnets", _, "spares"):
            return decode(raw, Spares, what=path)
        case ("controller", "election", name):
            return _controller(raw, name, path)
        case ("controller", "report"):
            return decode(raw, Report, what=path)
        case ("controller", "actions", name):
            return require_place(decode(raw, Action, what=path), name, path)
        case _:
            raise InvalidInput(f"{path} is none of proxypool's documents")


def _controller(raw: bytes, candidate: str, path: str) -> ControllerAlive:
    """A controller that knows no such document wrote its name alone."""
    if raw.startswith(b"{"):
        return decode(raw, ControllerAlive, what=path)
    return ControllerAlive(name=raw.decode("utf-8", "replace") or candidate.rpartition("-")[0])


def _version(raw: bytes, path: str) -> LayoutVersion:
    major = raw.decode("utf-8", "replace").strip().partition(".")[0]
    if not _MAJOR.fullmatch(major):
        raise InvalidInput(f"{path} is not a layout version: {raw[:40]!r}: `proxypool pool init` writes it")
    if int(major) > LAYOUT_VERSION:
        raise InvalidInput(
            f"{path} says {raw.decode('utf-8', 'replace').strip()}: the pool was written by a later proxypool, "
            f"this one knows layout {LAYOUT_VERSION}: upgrade it"
        )
    return LayoutVersion(int(major))


def require_place(action: Action, name: str, path: str) -> Action:
    """The action, if it is where it belongs: one that was copied must not be about another pair.

    Raises:
        InvalidInput: it is not.
    """
    if action_suffix(action.key) != f"{ACTIONS}/{name}":
        raise InvalidInput(f"{path} is about pair {'/'.join(action.key)}")
    return action


def _named(document: T, path: str, **names: str) -> T:
    """A document copied to another path must not speak for it."""
    for field, name in names.items():
        if getattr(document, field) != name:
            raise InvalidInput(f"{path} has {field} {getattr(document, field)!r} instead of {name!r}")
    return document
