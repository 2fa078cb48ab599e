"""The provider `command`: an executable of the user's, which reads one JSON document and writes one.

The contract with it is in docs/providers.md; `VERSION` counts its versions.
"""

from __future__ import annotations

import errno
import logging
import shlex
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from proxypool.core.config import Seconds, section
from proxypool.core.documents import decode_hook, to_builtins
from proxypool.core.errors import InvalidInput
from proxypool.core.model import MemberSpec, NodeSpec, SubnetSpec
from proxypool.core.scaling.retry import ErrorKind
from proxypool.providers import program
from proxypool.providers.contract import (
    Addresses,
    Held,
    Intent,
    NotAuthorised,
    Offer,
    PoolView,
    ProviderError,
    QuotaExceeded,
    Refused,
    Throttled,
    Unavailable,
)

NAME = "command"
VERSION = 1
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
"""All that the program finds, besides what the configuration adds."""
MAX_LOG_LINES = 50
MAX_LOG_LINE = 500
LOG = logging.getLogger(__name__)
T = TypeVar("T", bound=Struct)

_WRONG_PROGRAM = {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.ELOOP}
"""Other reasons, as no memory or a program that is being written, pass."""
_ERRORS: dict[ErrorKind, type[ProviderError]] = {
    ErrorKind.UNAVAILABLE: Unavailable,
    ErrorKind.QUOTA: QuotaExceeded,
    ErrorKind.AUTH: NotAuthorised,
    ErrorKind.REFUSED: Refused,
}


class CommandConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[provider.command]`."""

    program: Annotated[tuple[str, ...], Meta(min_length=1)]
    """The executable and its first arguments; the operation is appended."""
    timeout_s: Seconds = 120.0
    """A call that takes longer is killed, with all that it started."""
    environment: Mapping[str, str] = field(default_factory=dict)


class _Error(Struct, frozen=True):
    kind: ErrorKind
    message: str = ""
    retry_after_s: Annotated[float, Meta(ge=0.0, le=86_400.0)] = 0.0


class _Answer(Struct, frozen=True, kw_only=True):
    """What every answer may have."""

    version: int
    error: _Error | None = None


class _OfferOfNode(Struct, frozen=True):
    cards: Annotated[int, Meta(ge=0)] | None = None
    why_not: str = ""


class _Offers(_Answer, frozen=True, kw_only=True):
    offers: dict[str, _OfferOfNode]


class _Addresses(_Answer, frozen=True, kw_only=True):
    havip: IPv4Address
    egress_address: IPv4Address | None = None


class _Card(_Answer, frozen=True, kw_only=True):
    member: MemberSpec


class _HeldThing(Struct, frozen=True):
    subnet: str
    pair: str
    node: str = ""
    handle: str = ""


class _HeldThings(_Answer, frozen=True, kw_only=True):
    held: tuple[_HeldThing, ...]


def create(table: Mapping[str, Any], view: Callable[[], PoolView]) -> Command:  # noqa: ARG001 - the factory's form
    """See `contract.Factory`."""
    config = section(table, CommandConfig, f"provider.{NAME}")
    if not config.program[0].startswith("/"):
        raise InvalidInput(f"provider.command.program: {config.program[0]!r} is not an absolute path")
    return Command(config)


class Command:
    """See the module's text."""

    name = NAME

    def __init__(self, config: CommandConfig) -> None:
        self._config = config

    def offers(self, subnet: SubnetSpec, nodes: Iterable[NodeSpec], deadline_s: float) -> Mapping[str, Offer]:
        """Asks the program for `offers`."""
        answer = self._call("offers", {"subnet": subnet, "nodes": tuple(nodes)}, deadline_s, _Offers)
        return {node: Offer(offer.cards, offer.why_not) for node, offer in answer.offers.items()}

    def acquire_addresses(self, intent: Intent, nodes: tuple[NodeSpec, ...], deadline_s: float) -> Addresses:
        """Asks the program to `acquire-addresses`."""
        answer = self._call("acquire-addresses", {**_of(intent), "nodes": nodes}, deadline_s, _Addresses)
        return Addresses(answer.havip, answer.egress_address)

    def acquire_card(self, intent: Intent, node: NodeSpec, deadline_s: float) -> MemberSpec:
        """Asks the program to `acquire-card`."""
        answer = self._call("acquire-card", {**_of(intent), "node": node}, deadline_s, _Card)
        if answer.member.node != node.id:
            raise Refused(f"{self._what('acquire-card')}: a card on {node.id} was wanted, not on {answer.member.node}")
        return answer.member

    def release_card(self, intent: Intent, node: str, deadline_s: float) -> None:
        """Asks the program to `release-card`."""
        self._call("release-card", {**_of(intent), "node": node}, deadline_s, _Answer)

    def release_addresses(self, intent: Intent, deadline_s: float) -> None:
        """Asks the program to `release-addresses`."""
        self._call("release-addresses", _of(intent), deadline_s, _Answer)

    def held(self, pool: str, subnets: Iterable[SubnetSpec], deadline_s: float) -> tuple[Held, ...]:
        """Asks the program for what is `held`."""
        answer = self._call("held", {"pool": pool, "subnets": tuple(subnets)}, deadline_s, _HeldThings)
        return tuple(Held(one.subnet, one.pair, one.node, one.handle) for one in answer.held)

    def _call(self, operation: str, arguments: Mapping[str, object], deadline_s: float, kind: type[T]) -> T:
        timeout_s = min(deadline_s, self._config.timeout_s)
        request = {"version": VERSION, "operation": operation, "deadline_s": timeout_s, **arguments}
        data = msgspec.json.encode(to_builtins(request)) + b"\n"
        words = (*self._config.program, operation)
        what = self._what(operation)
        try:
            ended = program.run(words, data, {**ENVIRONMENT, **self._config.environment}, timeout_s)
        except program.TimedOut:
            raise Unavailable(f"{what} did not end within {timeout_s:g} s and was killed") from None
        except program.TooMuchOutput:
            raise Refused(f"{what} wrote more than {program.MAX_OUTPUT} bytes and was killed") from None
        except OSError as error:
            if error.errno in _WRONG_PROGRAM:
                raise Refused(f"{what} could not be started: {error.strerror}; see provider.command.program") from error
            raise Unavailable(f"{what} could not be started: {error.strerror}") from error
        _log(operation, bytes(ended.errors))
        return _understood(what, ended, kind)

    def _what(self, operation: str) -> str:
        return shlex.join((*self._config.program, operation))


def _of(intent: Intent) -> dict[str, object]:
    return {"pool": intent.pool, "subnet": intent.subnet, "pair": intent.pair, "request": intent.request}


def _understood(what: str, ended: program.Ended, kind: type[T]) -> T:
    """The answer, or the error that the program tells; without one, its exit code alone says that it failed."""
    output = bytes(ended.output)
    try:
        told = msgspec.json.decode(output, type=_Answer)
    except (ValueError, RecursionError) as error:
        if ended.code != 0:
            raise Unavailable(f"{what} {_end(ended)}") from error
        raise Refused(f"{what} did not answer in JSON as it should: {error}") from error
    if told.version != VERSION:
        raise Refused(f"{what} speaks version {told.version} of the contract, not {VERSION}")
    if told.error is not None:
        raise _error(what, told.error)
    if ended.code != 0:
        raise Unavailable(f"{what} {_end(ended)}")
    try:
        return msgspec.json.decode(output, type=kind, dec_hook=decode_hook)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{what} did not answer as it should: {error}") from error


def _error(what: str, told: _Error) -> ProviderError:
    message = f"{what}: {told.message or told.kind}"
    if told.kind is ErrorKind.THROTTLED:
        return Throttled(message, told.retry_after_s)
    return _ERRORS[told.kind](message)


def _end(ended: program.Ended) -> str:
    """How it ended, and the last thing it complained about."""
    how = f"was ended by signal {-ended.code}" if ended.code < 0 else f"ended with exit code {ended.code}"
    lines = _lines(bytes(ended.errors))
    return f"{how}: {lines[-1][:MAX_LOG_LINE]}" if lines else how


def _log(operation: str, errors: bytes) -> None:
    lines = _lines(errors)
    for line in lines[:MAX_LOG_LINES]:
        LOG.info("provider command, %s: %s", operation, line[:MAX_LOG_LINE])
    if len(lines) > MAX_LOG_LINES:
        LOG.info("provider command, %s: %d more lines", operation, len(lines) - MAX_LOG_LINES)


def _lines(errors: bytes) -> list[str]:
    """As printable text: what a program writes must not forge lines of the log."""
    text = errors.decode("utf-8", "backslashreplace")
    return ["".join(c if c.isprintable() else " " for c in line) for line in text.splitlines() if line.strip()]
