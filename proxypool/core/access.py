"""Who may do what with the pool in ZooKeeper: one table, from path and role to permissions. Pure.

ZooKeeper's permissions, by their letters: `c` create below it, `d` delete below it, `r` read it and the list of what
is below, `w` change its data, `a` change its access list. They are not inherited, and whether a node may be deleted is
its parent's business. So where any host makes and deletes entries beside each other, an entry has a child of its own,
`held`, that only its owner can delete: ZooKeeper deletes nothing that has children.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from proxypool.core.model import Document

ALL = "cdrwa"
READ = "r"
HELD = "held"
"""Name of the child that keeps others from deleting an entry."""
ACCESS = "access"
"""Name of the document, below the pool's own node."""


class AccessRole(StrEnum):
    """Whom a secret belongs to; also the name of the user that ZooKeeper is told."""

    ADMIN = "admin"
    CONTROLLER = "controller"
    NODE = "node"
    HOST = "host"
    VIEWER = "viewer"


ADMIN, CONTROLLER, NODE, HOST = AccessRole.ADMIN, AccessRole.CONTROLLER, AccessRole.NODE, AccessRole.HOST
MACHINE = "machine"
"""User of the key that a host makes for itself."""


class Access(Document, frozen=True, kw_only=True):
    """Who may use a pool. Its being there means that what is made has access lists."""

    digests: tuple[str, ...] = ()
    """`<role>:<digest of the secret>`, several of a role while secrets are changed."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What besides the administrator, who may do everything, and the others, who may read."""

    path: str
    """Below the pool's own node; a part in angle brackets is any name."""
    grants: Mapping[AccessRole, str] = field(default_factory=dict)
    owner: str = ""
    """What only the host that made it may; every host, where its owner is not known."""
    is_held: bool = False
    """Whether it has a child `held`."""
    why: str = ""


_OWN = "cdrw"
RULES: tuple[Rule, ...] = (
    Rule("", why="the pool's own node; only who may write here makes or removes what a pool consists of"),
    Rule("version", {CONTROLLER: "rw"}, why="whoever edits the pool writes it"),
    Rule("spec", why="tunnels of the pool"),
    Rule(ACCESS, why="whose secrets are whose"),
    Rule("subnets", why="which customers' subnets there are"),
    Rule("subnets/<subnet>", why="a subnet's spec"),
    Rule("subnets/<subnet>/spares", why="cards and addresses for new pairs"),
    Rule("subnets/<subnet>/pairs", {CONTROLLER: "cdr"}, why="scaling makes and removes pairs"),
    Rule("subnets/<subnet>/pairs/<pair>", {CONTROLLER: "cdrw"}, why="a pair's spec; nodes only read it"),
    Rule(
        "subnets/<subnet>/pairs/<pair>/election",
        {CONTROLLER: "dr", NODE: "cdr"},
        why="members stand and withdraw; it goes with its pair",
    ),
    Rule(
        "subnets/<subnet>/pairs/<pair>/election/<candidate>",
        why="nobody but the administrator chooses a candidate",
    ),
    Rule("subnets/<subnet>/pairs/<pair>/status", {CONTROLLER: "dr", NODE: "cdr"}, why="as the election"),
    Rule("subnets/<subnet>/pairs/<pair>/status/<node>", {NODE: "rw"}, why="what a member observed"),
    Rule("subnets/<subnet>/pairs/<pair>/switchover", why="who asked for a switchover"),
    Rule("subnets/<subnet>/hosts", {HOST: "cdr"}, why="hosts join and leave"),
    Rule("subnets/<subnet>/hosts/<host>", owner=_OWN, is_held=True, why="that a host uses the subnet"),
    Rule(f"subnets/<subnet>/hosts/<host>/{HELD}", owner="rw", why="keeps other hosts from deleting it"),
    Rule("nodes", {NODE: "cr"}, why="nodes register"),
    Rule("nodes/<node>", {NODE: _OWN}, why="a node's own description"),
    Rule("nodes/<node>/alive", {NODE: "rw"}, why="proof of life"),
    Rule("nodes/<node>/orders", is_held=True, why="what an operator wants of a node"),
    Rule(f"nodes/<node>/orders/{HELD}", why="keeps nodes from deleting their orders"),
    Rule("hosts", {HOST: "cr"}, why="hosts register"),
    Rule("hosts/<host>", owner=_OWN, why="a host's own description"),
    Rule("hosts/<host>/alive", owner="rw", why="proof of life"),
    Rule("tunnel-addresses", {HOST: "cdr"}, why="each host takes one"),
    Rule("tunnel-addresses/<address>", owner=_OWN, is_held=True, why="whose tunnel address it is"),
    Rule(f"tunnel-addresses/<address>/{HELD}", owner="rw", why="keeps other hosts from deleting it"),
    Rule("controller", {CONTROLLER: "cr"}, why="what controllers share"),
    Rule("controller/election", {CONTROLLER: "cdr"}, why="one of them leads"),
    Rule("controller/election/<controller>", {CONTROLLER: "rw"}, why="a candidate"),
    Rule("controller/actions", {CONTROLLER: "cdr"}, why="pairs that come or go"),
    Rule("controller/actions/<action>", {CONTROLLER: "rw"}, why="one of them"),
    Rule("controller/report", {CONTROLLER: "rw"}, why="for people"),
    Rule("history", {CONTROLLER: "cdr", NODE: "cdr"}, why="records come, the oldest go"),
    Rule("history/<record>", {CONTROLLER: "rw", NODE: "rw"}, why="what happened"),
)
UNKNOWN = Rule("", why="what this version does not know: the administrator's alone to change")


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """One line of an access list."""

    scheme: str
    who: str
    permissions: str
    """In the order of `cdrwa`."""


OPEN = (Grant("world", "anyone", ALL),)
"""What a node has that was made without an access list."""


def digest_of(user: str, secret: str) -> str:
    """How ZooKeeper names whoever knows the secret: its scheme `digest`."""
    digest = hashlib.sha1(f"{user}:{secret}".encode(), usedforsecurity=False).digest()
    return f"{user}:{base64.b64encode(digest).decode()}"


def rule_of(suffix: str) -> Rule:
    """The rule of a path below the pool's own node."""
    parts = tuple(suffix.split("/")) if suffix else ()
    return next((rule for pattern, rule in _PATTERNS if _matches(pattern, parts)), UNKNOWN)


_PATTERNS = tuple((tuple(rule.path.split("/")) if rule.path else (), rule) for rule in RULES)


def _matches(pattern: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    return len(pattern) == len(parts) and all(
        want.startswith("<") or want == part for want, part in zip(pattern, parts, strict=True)
    )


def grants_of(rule: Rule, access: Access, owner: str = "") -> tuple[Grant, ...]:
    """The access list of a node with this rule, sorted. `owner`: digest of the key of the host that it belongs to."""
    found = []
    for who in access.digests:
        permissions = _permissions(rule, who.partition(":")[0], has_owner=bool(owner))
        found.append(Grant("digest", who, permissions))
    if rule.owner and owner:
        found.append(Grant("digest", owner, rule.owner))
    return tuple(sorted(found))


def _permissions(rule: Rule, role: str, *, has_owner: bool) -> str:
    if role == ADMIN:
        return ALL
    wanted = {READ, *next((letters for known, letters in rule.grants.items() if known == role), "")}
    if role == HOST and not has_owner:
        wanted |= set(rule.owner)
    return "".join(letter for letter in ALL if letter in wanted)


def is_open(grants: Iterable[Grant]) -> bool:
    """Whether anybody who reaches ZooKeeper may do something with a node."""
    return any(grant.scheme == "world" for grant in grants)


def masked(grants: Iterable[Grant]) -> tuple[Grant, ...]:
    """The list as ZooKeeper shows it to whoever may not change it: without the digests."""
    return tuple(
        sorted(
            Grant(one.scheme, f"{one.who.partition(':')[0]}:x", one.permissions) if one.scheme == "digest" else one
            for one in grants
        )
    )
