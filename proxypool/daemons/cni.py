"""`POST /v1/cni` of the host agent: one call of the CNI plug-in, carried out.

The request: the CNI_* variables as headers, the runtime's standard input as body. The answer, in success and failure,
is what the plug-in prints. The server sends it as `application/json`, by which the plug-in knows that it is meant for
the runtime.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from ipaddress import IPv4Address
from typing import Protocol

from proxypool.core.cni import (
    Attach,
    Call,
    Environment,
    Release,
    Report,
    Sweep,
    Verify,
    error_object,
    parse_call,
)
from proxypool.core.cni_config import CniFailure, Code
from proxypool.core.errors import ProxypoolError, TransientError

log = logging.getLogger(__name__)

_STATUS = {
    Code.TRY_AGAIN_LATER: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.REFUSED: HTTPStatus.CONFLICT,
    Code.NOT_AS_WANTED: HTTPStatus.CONFLICT,
}
"""Of failures; all others are the request's own fault."""


class CniAttachments(Protocol):
    """The attachments of this host, by their owner."""

    def own(self, owner: str, addresses: tuple[IPv4Address, ...], subnets: tuple[str, ...]) -> None:
        """Make exactly these attachments for the addresses, replacing whatever else they were attached to.

        Raises:
            InvalidInput: they cannot be.
            TransientError: not now.
        """

    def release(self, owner: str) -> None:
        """Remove what the owner has; it may have nothing."""

    def owned(self, owner: str) -> frozenset[tuple[IPv4Address, str]]:
        """The owner's attachments."""

    def owners(self) -> frozenset[str]:
        """All owners, also those of other networks and of no network."""


def handle(headers: Mapping[str, str], body: bytes, attachments: CniAttachments) -> tuple[int, bytes]:
    """Status and body of the answer. The names of `headers` are in lower case."""
    environment = Environment(
        command=headers.get("cni-command", ""),
        container_id=headers.get("cni-containerid", ""),
        netns=headers.get("cni-netns", ""),
        ifname=headers.get("cni-ifname", ""),
        args=headers.get("cni-args", ""),
    )
    try:
        call = parse_call(environment, body)
        return HTTPStatus.OK, _carry_out(call, attachments)
    except CniFailure as failure:
        log.warning("CNI %s of container %s: %s", environment.command, environment.container_id, failure)
        return _STATUS.get(failure.code, HTTPStatus.BAD_REQUEST), error_object(failure)


def _carry_out(call: Call, attachments: CniAttachments) -> bytes:
    """Do it; what to print.

    Raises:
        CniFailure: it could not be done.
    """
    try:
        match call:
            case Attach():
                attachments.own(call.owner, call.addresses, call.subnets)
                return call.result
            case Verify():
                _verify(call, attachments)
            case Release():
                attachments.release(call.owner)
            case Sweep():
                _release_all(call.stale(attachments.owners()), attachments)
            case Report():
                pass  # that there is an answer is the answer
    except CniFailure:
        raise
    except TransientError as error:
        raise CniFailure(Code.TRY_AGAIN_LATER, str(error), version=call.version) from error
    except ProxypoolError as error:
        raise CniFailure(Code.REFUSED, str(error), version=call.version) from error
    return b""


def _verify(call: Verify, attachments: CniAttachments) -> None:
    objection = call.objection(attachments.owned(call.owner))
    if objection is not None:
        raise CniFailure(Code.NOT_AS_WANTED, objection, version=call.version)


def _release_all(owners: tuple[str, ...], attachments: CniAttachments) -> None:
    """Release as many as possible.

    Raises:
        TransientError: some could not be released.
    """
    problems = []
    for owner in owners:
        try:
            attachments.release(owner)
        except ProxypoolError as error:
            problems.append(f"{owner}: {error}")
        else:
            log.info("released %s, which its network does not know any more", owner)
    if problems:
        raise TransientError("; ".join(problems))
