"""The calls of a container runtime (CNI) as values: bytes in, a `Call` or a `CniFailure` out. Pure.

The plug-in is a shell script that hands environment and standard input to the agent. It is chained: another plug-in
has given the instance its address, and we tie that address to subnets. Versions 0.3.0 to 1.1.0 of the CNI
specification.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address

import msgspec
from msgspec import Raw, Struct, field

from proxypool.core.cni_config import (
    VERSIONS,
    CniFailure,
    Code,
    decode_config,
    instance_addresses,
    member,
    previous_result,
    refuse_misspelt,
    wanted_subnets,
)

OWNER_PREFIX = "cni:"
_VALID_ATTACHMENTS = "cni.dev/valid-attachments"
_IDENTIFIER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_IFNAME = re.compile(r"[^\s/:]{1,15}")


class Command(StrEnum):
    """What is asked. VERSION is answered by the plug-in itself."""

    ADD = "ADD"
    CHECK = "CHECK"
    DEL = "DEL"
    GC = "GC"
    STATUS = "STATUS"


_SINCE = {Command.CHECK: "0.4.0", Command.GC: "1.1.0", Command.STATUS: "1.1.0"}


@dataclass(frozen=True, slots=True)
class Environment:
    """The CNI_* variables; empty where they are not set."""

    command: str = ""
    container_id: str = ""
    netns: str = ""
    ifname: str = ""
    args: str = ""


@dataclass(frozen=True, slots=True)
class Attach:
    """ADD: exactly these attachments, and none where no subnet is wanted."""

    version: str
    owner: str
    addresses: tuple[IPv4Address, ...]
    subnets: tuple[str, ...]
    result: bytes
    """The answer: what the plug-in before us answered."""


@dataclass(frozen=True, slots=True)
class Verify:
    """CHECK: are there exactly these attachments?"""

    version: str
    owner: str
    addresses: tuple[IPv4Address, ...]
    subnets: tuple[str, ...]

    def objection(self, owned: frozenset[tuple[IPv4Address, str]]) -> str | None:
        """What is not as wanted, or None."""
        wanted = {(address, subnet) for address in self.addresses for subnet in self.subnets}
        missing = [f"{address} is not attached to {subnet}" for address, subnet in sorted(wanted - owned)]
        surplus = [f"{address} is attached to {subnet}" for address, subnet in sorted(owned - wanted)]
        return "; ".join(missing + surplus) or None


@dataclass(frozen=True, slots=True)
class Release:
    """DEL: nothing is attached any more in the owner's name."""

    version: str
    owner: str


@dataclass(frozen=True, slots=True)
class Sweep:
    """GC: release whoever belongs to the network and is not among the valid."""

    version: str
    prefix: str
    valid: frozenset[str]

    def stale(self, owners: Iterable[str]) -> tuple[str, ...]:
        """Those of the owners to release, in a stable order."""
        return tuple(sorted(owner for owner in owners if owner.startswith(self.prefix) and owner not in self.valid))


@dataclass(frozen=True, slots=True)
class Report:
    """STATUS: could an ADD be served?"""

    version: str


Call = Attach | Verify | Release | Sweep | Report


class _Attachment(Struct):
    container_id: str = field(name="containerID")
    ifname: str


def owner_of(network: str, container_id: str, ifname: str) -> str:
    """Name of an attachment's owner: the specification's key of a plug-in's state. No part can contain the colon."""
    return f"{OWNER_PREFIX}{network}:{container_id}:{ifname}"


def error_object(failure: CniFailure) -> bytes:
    """The failure as the runtime reads it."""
    return msgspec.json.encode({"cniVersion": failure.version, "code": int(failure.code), "msg": str(failure)})


def parse_call(environment: Environment, body: bytes) -> Call:
    """Understand one call.

    DEL asks for nothing but the names that make up the owner: whatever else is wrong with the call, what was attached
    must go.

    Raises:
        CniFailure: with the specification's code.
    """
    command = _command(environment)
    config = decode_config(body)
    version = _version(config, command)
    try:
        return _parse(command, environment, config, version)
    except CniFailure as failure:
        failure.version = version
        raise


def _parse(command: Command, environment: Environment, config: Mapping[str, Raw], version: str) -> Call:
    network = member(config, "name", str, "")
    if not _IDENTIFIER.fullmatch(network):
        raise CniFailure(Code.INVALID_CONFIG, f"name {network!r} is not a network's name")
    if command is Command.STATUS:
        return Report(version)
    if command is Command.GC:
        return _sweep(config, network, version)
    _require_names(environment)
    owner = owner_of(network, environment.container_id, environment.ifname)
    if command is Command.DEL:
        return Release(version, owner)
    if not environment.netns:
        raise CniFailure(Code.INVALID_ENVIRONMENT, "CNI_NETNS is not set")
    refuse_misspelt(config)
    previous = previous_result(config)
    addresses, subnets = instance_addresses(previous), wanted_subnets(config, environment.args)
    if command is Command.CHECK:
        return Verify(version, owner, addresses, subnets)
    result = {**previous, "cniVersion": Raw(msgspec.json.encode(version))}
    return Attach(version, owner, addresses, subnets, msgspec.json.encode(result))


# ---- environment -----------------------------------------------------------------------------------------------------


def _command(environment: Environment) -> Command:
    try:
        return Command(environment.command)
    except ValueError:
        known = ", ".join(Command)
        raise CniFailure(
            Code.INVALID_ENVIRONMENT, f"CNI_COMMAND is {environment.command!r}; known: {known}, VERSION"
        ) from None


def _require_names(environment: Environment) -> None:
    wrong = []
    if not _IDENTIFIER.fullmatch(environment.container_id):
        wrong.append(f"CNI_CONTAINERID {environment.container_id!r}")
    if not _IFNAME.fullmatch(environment.ifname) or environment.ifname in (".", ".."):
        wrong.append(f"CNI_IFNAME {environment.ifname!r}")
    if wrong:
        raise CniFailure(Code.INVALID_ENVIRONMENT, f"missing or invalid: {', '.join(wrong)}")


# ---- network configuration -------------------------------------------------------------------------------------------


def _version(config: Mapping[str, Raw], command: Command) -> str:
    version = member(config, "cniVersion", str, "")
    if version not in VERSIONS:
        known = ", ".join(VERSIONS)
        raise CniFailure(Code.INCOMPATIBLE_VERSION, f"cniVersion is {version!r}; supported: {known}")
    since = _SINCE.get(command, VERSIONS[0])
    if VERSIONS.index(version) < VERSIONS.index(since):
        message = f"{command} needs cniVersion {since} or newer, the configuration has {version}"
        raise CniFailure(Code.INCOMPATIBLE_VERSION, message, version=version)
    return version


def _sweep(config: Mapping[str, Raw], network: str, version: str) -> Sweep:
    """An absent list is no empty list: an empty one releases everything."""
    if _VALID_ATTACHMENTS not in config:
        raise CniFailure(Code.INVALID_CONFIG, f"there is no {_VALID_ATTACHMENTS}")
    valid = member(config, _VALID_ATTACHMENTS, list[_Attachment], [])
    owners = frozenset(owner_of(network, item.container_id, item.ifname) for item in valid)
    return Sweep(version, f"{OWNER_PREFIX}{network}:", owners)
