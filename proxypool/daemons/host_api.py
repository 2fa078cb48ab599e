"""The agent's local API: HTTP/1.1 with JSON on a unix socket. See docs/api.md.

From a request to an answer; the socket and its threads are `api_server`'s.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec

from proxypool import __version__
from proxypool.core.attachment_plans import Outcome
from proxypool.core.attachments import AttachmentRefused, AttachRequest, DetachRequest, parse_request
from proxypool.core.documents import API_VERSION, to_builtins
from proxypool.core.errors import InvalidInput, ProxypoolError, TransientError
from proxypool.daemons import cni
from proxypool.daemons.attachments import FIRST_USE_S, Attachments, NotReady
from proxypool.web.answers import Answer, problem

log = logging.getLogger(__name__)

_STATUS = {
    "invalid": HTTPStatus.BAD_REQUEST,
    "unknown-subnet": HTTPStatus.NOT_FOUND,
    "attached-elsewhere": HTTPStatus.CONFLICT,
}
"""Of refusals by code; the others are 422."""


@dataclass(frozen=True, slots=True)
class Request:
    """What came."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


class HostApi:
    """Answers requests; called from the server's threads."""

    def __init__(
        self,
        attachments: Attachments,
        describe: Callable[[], Mapping[str, Any]],
        observe: Callable[[str, float], None] = lambda *_: None,
    ) -> None:
        """`describe` says how the agent is; `observe` is told the outcome of each attach and how long it took (s)."""
        self._attachments, self._describe, self._observe = attachments, describe, observe
        self._routes: dict[tuple[str, str], Callable[[Request], Answer]] = {
            ("POST", "/v1/attach"): self._attach,
            ("POST", "/v1/detach"): self._detach,
            ("GET", "/v1/attachments"): self._list,
            ("GET", "/v1/status"): self._status,
            ("POST", "/v1/cni"): self._cni,
        }

    def answer(self, request: Request) -> Answer:
        """Never raises: what goes wrong is a problem document (RFC 9457)."""
        path = request.path.partition("?")[0]
        route = self._routes.get((request.method, path))
        if route is None:
            allowed = sorted(method for method, known in self._routes if known == path)
            if allowed:
                return problem(HTTPStatus.METHOD_NOT_ALLOWED, "method", f"{path} takes {' and '.join(allowed)}")
            known_paths = ", ".join(f"{method} {known}" for method, known in self._routes)
            return problem(HTTPStatus.NOT_FOUND, "no-such-resource", f"there is no {path}; there are {known_paths}")
        try:
            return route(request)
        except AttachmentRefused as error:
            return problem(_STATUS.get(error.code, HTTPStatus.UNPROCESSABLE_ENTITY), error.code, str(error))
        except InvalidInput as error:
            return problem(HTTPStatus.BAD_REQUEST, "invalid", str(error))
        except NotReady as error:
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "not-ready", str(error))
        except ProxypoolError as error:
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "try-again", str(error))
        except Exception as error:
            log.exception("%s %s failed", request.method, path)
            return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "defect", f"{type(error).__name__}: {error}")

    def _attach(self, request: Request) -> Answer:
        began = time.monotonic()
        outcome = "refused"
        try:
            wanted = parse_request(request.body, AttachRequest)
            done = self._attachments.attach(wanted, FIRST_USE_S)
            outcome = "done"
            return _outcomes(done)
        except TransientError:
            outcome = "failed"
            raise
        finally:
            self._observe(outcome, time.monotonic() - began)

    def _detach(self, request: Request) -> Answer:
        return _outcomes(self._attachments.detach(parse_request(request.body, DetachRequest), FIRST_USE_S))

    def _cni(self, request: Request) -> Answer:
        status, body = cni.handle(request.headers, request.body, self._attachments)
        return Answer(status, body)

    def _list(self, _request: Request) -> Answer:
        items = [to_builtins(item) for item in self._attachments.all()]
        return document("AttachmentList", items=items)

    def _status(self, _request: Request) -> Answer:
        return document("HostAgent", version=__version__, attachments=self._attachments.count(), **self._describe())


def _outcomes(done: list[Outcome]) -> Answer:
    items = [
        {"address": str(one.attachment.address), "subnet": one.attachment.subnet, "state": one.state} for one in done
    ]
    return document("AttachmentList", items=items)


def document(kind: str, **content: Any) -> Answer:
    """A versioned document."""
    return Answer(HTTPStatus.OK, msgspec.json.encode({"apiVersion": API_VERSION, "kind": kind, **content}))
