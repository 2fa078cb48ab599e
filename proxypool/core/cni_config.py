"""The network configuration that a container runtime gives a CNI plug-in: names, addresses, wanted subnets. Pure.

Runtimes add members of their own, and which ones matter depends on the command: members are decoded one by one, so that
what a command does not need cannot make it fail.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from enum import IntEnum
from ipaddress import IPv4Address, ip_interface
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from proxypool.core.errors import InvalidInput, PermanentError
from proxypool.core.validation import require_name

T = TypeVar("T")

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""Of the specification, oldest first: from the first with chains on. The plug-in's answer to VERSION lists the same."""
ANNOTATION = "proxypool.io/subnets"
"""Annotation of a pod that names its subnets, unless the network configuration names another."""
ANNOTATIONS_CAPABILITY = "io.kubernetes.cri.pod-annotations"
SUBNETS_ARGUMENT = "PROXYPOOL_SUBNETS"
_OURS = ("annotation", "subnets")


class Code(IntEnum):
    """Numbers of errors: up to 99 the specification's, from 100 on ours."""

    INCOMPATIBLE_VERSION = 1
    UNSUPPORTED_FIELD = 2
    INVALID_ENVIRONMENT = 4
    DECODE_FAILURE = 6
    INVALID_CONFIG = 7
    TRY_AGAIN_LATER = 11
    REFUSED = 100
    """These attachments cannot be: an unknown subnet, an address that is not this host's, overlapping CIDRs."""
    NOT_AS_WANTED = 101
    """CHECK found other attachments than ADD made."""


class CniFailure(PermanentError):
    """An answer that is an error. `version` is the configuration's, as far as it was understood."""

    def __init__(self, code: Code, message: str, *, version: str = VERSIONS[-1]) -> None:
        super().__init__(message)
        self.code, self.version = code, version


class _Ip(Struct):
    address: str


def decode_config(body: bytes) -> dict[str, Raw]:
    """The members of the configuration, not decoded yet.

    Raises:
        CniFailure: not JSON, or no object.
    """
    try:
        body.decode()
        return msgspec.json.decode(body, type=dict[str, Raw])
    except msgspec.ValidationError as error:
        raise CniFailure(Code.INVALID_CONFIG, f"network configuration: {error}") from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise CniFailure(Code.DECODE_FAILURE, f"network configuration: {error}") from error


def member(config: Mapping[str, Raw], key: str, kind: type[T], default: T) -> T:
    """A member of an object; the default where it is absent or null, as Go writes what is empty.

    Raises:
        CniFailure: it is of another kind.
    """
    raw = config.get(key)
    if raw is None or bytes(raw) == b"null":
        return default
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise CniFailure(Code.INVALID_CONFIG, f"{key}: {error}") from error


def refuse_misspelt(config: Mapping[str, Raw]) -> None:
    """Runtimes add members of their own, so what we do not know is passed over; but not what was meant for us."""
    for key in config:
        near = difflib.get_close_matches(key, _OURS, n=1, cutoff=0.8)
        if near and key not in _OURS:
            value = bytes(config[key]).decode()
            raise CniFailure(Code.UNSUPPORTED_FIELD, f"unsupported field {key}: {value}; did you mean {near[0]}?")


def previous_result(config: Mapping[str, Raw]) -> dict[str, Raw]:
    """The result of the plug-in before us.

    Raises:
        CniFailure: there is none.
    """
    previous = member(config, "prevResult", dict[str, Raw], {})
    if not previous:
        raise CniFailure(
            Code.INVALID_CONFIG,
            "there is no prevResult: proxypool must be chained after the plug-in that gives instances their address",
        )
    return previous


def instance_addresses(previous: Mapping[str, Raw]) -> tuple[IPv4Address, ...]:
    """The instance's IPv4 addresses; customers' networks are IPv4.

    Raises:
        CniFailure: it has none.
    """
    found: dict[IPv4Address, None] = {}
    for item in member(previous, "ips", list[_Ip], []):
        try:
            address = ip_interface(item.address).ip
        except ValueError as error:
            raise CniFailure(Code.INVALID_CONFIG, f"prevResult: ips: {error}") from error
        if isinstance(address, IPv4Address):
            found[address] = None
    if not found:
        raise CniFailure(Code.INVALID_CONFIG, "prevResult has no IPv4 address, and only those can be attached")
    return tuple(found)


def wanted_subnets(config: Mapping[str, Raw], args: str) -> tuple[str, ...]:
    """Subnets from the first that speaks of them: annotation, `args`, CNI_ARGS, configuration. An empty text is an
    answer, too: none.

    Raises:
        CniFailure: what stands there are no names of subnets.
    """
    annotation = member(config, "annotation", str, ANNOTATION)
    annotations = member(
        member(config, "runtimeConfig", dict[str, Raw], {}), ANNOTATIONS_CAPABILITY, dict[str, Any], {}
    )
    arguments = member(member(config, "args", dict[str, Raw], {}), "cni", dict[str, Any], {})
    sources = (
        (f"annotation {annotation}", annotations.get(annotation)),
        (f"args.cni.{SUBNETS_ARGUMENT}", arguments.get(SUBNETS_ARGUMENT)),
        (f"CNI_ARGS {SUBNETS_ARGUMENT}", _argument(args)),
    )
    for what, text in sources:
        if isinstance(text, str):
            return _names(what, (word.strip() for word in text.split(",")), Code.REFUSED)
        if text is not None:
            raise CniFailure(Code.INVALID_CONFIG, f"{what} is not a text of names with commas between them")
    return _names("subnets", member(config, "subnets", list[str], []), Code.INVALID_CONFIG)


def _names(what: str, names: Iterable[str], code: Code) -> tuple[str, ...]:
    """Without repetitions and empty ones, in their order."""
    found = dict.fromkeys(filter(None, names))
    try:
        for name in found:
            require_name("subnet", name)
    except InvalidInput as error:
        raise CniFailure(code, f"{what}: {error}") from error
    return tuple(found)


def _argument(args: str) -> str | None:
    """Our value in `KEY=VALUE;KEY=VALUE`, or None."""
    found = None
    for item in filter(None, args.split(";")):
        key, separator, value = item.partition("=")
        if not separator:
            raise CniFailure(Code.INVALID_ENVIRONMENT, f"CNI_ARGS: {item!r} is not KEY=VALUE")
        if key == SUBNETS_ARGUMENT:
            found = value
    return found
