"""From a request to an answer. Called from any thread.

Nothing is read for a request: what is shown is what the daemon knows already, and the same answer is given to everybody
who asks for the same within a moment, so that nobody can keep the daemon busy by asking.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from importlib.resources import files
from typing import Protocol

import msgspec

from proxypool.core.checks import Code, Level
from proxypool.core.discovery import Group
from proxypool.core.errors import InvalidInput
from proxypool.web.access import refusal
from proxypool.web.answers import HTML, TEXT, Answer, Request, problem
from proxypool.web.api import DOCUMENTS, ROOT, narrowed, query_of
from proxypool.web.openapi import openapi
from proxypool.web.page import Documents, Face, empty_page, page, runbook_page

log = logging.getLogger(__name__)

PAGE, RUNBOOKS = "/", "/runbooks"
MAX_KEPT = 64
"""Answers that are kept for the next one who asks the same."""
SAFETY: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers of every answer."""
_CODES = {code.value[0]: code for code in Code}
_MARKS = {
    Level.OK: '<circle cx="8" cy="8" r="7" fill="#0b7a41"/>',
    Level.DEGRADED: '<path d="M8 1l7 14H1z" fill="#c98a0c"/>',
    Level.CRITICAL: '<rect x="1.5" y="1.5" width="13" height="13" rx="2" fill="#c8282f"/>',
}


@dataclass(frozen=True, slots=True)
class Sight:
    """What a daemon knows now."""

    documents: Documents | None
    """None: nothing yet. The same object as long as it is the same."""
    age_s: float = 0.0
    problem: str = ""
    """Why nothing newer is known."""


class Daemon(Protocol):
    """Whoever serves the page. Called from any thread."""

    def sight(self) -> Sight:
        """What it knows of the pool."""

    def targets(self, host: str) -> list[Group] | None:
        """Whom Prometheus is to scrape, for somebody who reached us as `host`; None: it does not know, or not yet."""

    def is_alive(self) -> bool:
        """Whether its main loop goes round."""

    def unready(self) -> str:
        """Why it does not do its work yet; empty: it does."""


class Site:
    """See the module's text."""

    def __init__(self, daemon: Daemon, pool: str, face: Face, runbook: Callable[[str], str | None], token: str) -> None:
        """`runbook`: the text about a code of a check, None if there is none. `token`: empty, or what whoever asks must
        know.
        """
        self._daemon, self._pool, self._runbook, self._token = daemon, pool, runbook, token
        self._static = _static()
        assets = hashlib.sha256(b"".join(answer.body for answer in self._static.values())).hexdigest()[:12]
        self._face = replace(face, assets=assets, runbooks=face.runbooks or RUNBOOKS)
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], Answer] = {}
        self._kept_of: tuple[Documents | None, int, str] = (None, 0, "")
        self._probes: Mapping[str, Callable[[], Answer]] = {"/healthz": self._health, "/readyz": self._readiness}
        self._places: Mapping[str, Callable[[Request], Answer]] = {
            PAGE: self._seen,
            **dict.fromkeys(DOCUMENTS, self._seen),
            f"{ROOT}/openapi.json": lambda _: Answer(HTTPStatus.OK, msgspec.json.encode(openapi())),
            f"{ROOT}/prometheus/targets": self._targets,
        }

    def answer(self, request: Request) -> Answer:
        """Never raises: what goes wrong is a problem document (RFC 9457)."""
        try:
            return self._answer(request)
        except InvalidInput as error:
            return problem(HTTPStatus.BAD_REQUEST, "invalid", str(error))
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "defect", "a defect of the daemon: see its log")

    def _answer(self, request: Request) -> Answer:
        if request.method not in {"GET", "HEAD"}:
            detail = "nothing can be changed here: only GET and HEAD are taken"
            return problem(HTTPStatus.METHOD_NOT_ALLOWED, "method", detail, {"Allow": "GET, HEAD"})
        if (probe := self._probes.get(request.path)) is not None:
            return probe()
        refused = refusal(request, self._token)
        if refused is not None:
            return refused
        if (place := self._places.get(request.path)) is not None:
            return place(request)
        if request.path.startswith(f"{RUNBOOKS}/"):
            return self._of_code(request.path.removeprefix(f"{RUNBOOKS}/"))
        return self._static.get(request.path) or self._nothing(request.path)

    def _nothing(self, path: str) -> Answer:
        there = ", ".join((*self._places, *self._probes))
        return problem(HTTPStatus.NOT_FOUND, "no-such-resource", f"there is no {path}; there are {there}")

    def _health(self) -> Answer:
        return _say("" if self._daemon.is_alive() else "the main loop does not go round")

    def _readiness(self) -> Answer:
        return _say(self._daemon.unready())

    def _seen(self, request: Request) -> Answer:
        sight = self._daemon.sight()
        key = (request.path, request.query)
        with self._lock:
            # One at a time: to make a large page takes the processor, and the daemon has better uses for it.
            of = (sight.documents, int(sight.age_s), sight.problem)
            if of[0] is not self._kept_of[0] or of[1:] != self._kept_of[1:] or len(self._kept) >= MAX_KEPT:
                self._kept, self._kept_of = {}, of
            found = self._kept.get(key)
            if found is None:
                found = self._kept[key] = self._make(request, sight)
        return found

    def _make(self, request: Request, sight: Sight) -> Answer:
        if request.path == PAGE:
            return self._page(request, sight)
        if sight.documents is None:
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "not-ready", sight.problem or "nothing is known yet")
        answer = DOCUMENTS[request.path](request, sight.documents)
        return replace(answer, headers={**answer.headers, "Age": f"{sight.age_s:.0f}"})

    def _page(self, request: Request, sight: Sight) -> Answer:
        query = query_of(request, "subnet")
        if sight.documents is None:
            text = empty_page(sight.problem, self._pool, self._face)
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, _encoded(text), HTML)
        found = narrowed(sight.documents, query)
        text = page(found, sight.age_s, sight.problem, self._face, query.get("subnet", ""))
        return Answer(HTTPStatus.OK, _encoded(text), HTML)

    def _targets(self, request: Request) -> Answer:
        found = self._daemon.targets(request.host)
        if found is None:
            detail = "the registered daemons are not known: ask a controller, or again in a moment"
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "not-ready", detail)
        return Answer(HTTPStatus.OK, msgspec.json.encode(found))

    def _of_code(self, name: str) -> Answer:
        code = _CODES.get(name)
        if code is None:
            return problem(HTTPStatus.NOT_FOUND, "no-such-resource", f"there is no check {name!r}")
        title = f"{name} {code.value[1]}"
        text = self._runbook(name)
        if text is None:
            text = f"# {title}\n\nThis installation has no runbooks: see `docs/runbooks/checks/{name}.md`."
        return Answer(HTTPStatus.OK, _encoded(runbook_page(title, text, self._pool, self._face)), HTML)


def _say(trouble: str) -> Answer:
    status = HTTPStatus.SERVICE_UNAVAILABLE if trouble else HTTPStatus.OK
    return Answer(status, f"{trouble or 'ok'}\n".encode(), TEXT)


def _encoded(text: str) -> bytes:
    """What no character can stand for, such as half a pair of surrogates, becomes a question mark."""
    return text.encode("utf-8", "replace")


def _static() -> dict[str, Answer]:
    """Style sheet, script and icons. They are asked for with their version, so they may be kept for ever."""
    kept = {"Cache-Control": "max-age=31536000, immutable"}
    kinds = {"style.css": "text/css; charset=utf-8", "live.js": "text/javascript; charset=utf-8"}
    folder = files("proxypool.web") / "static"
    found = {
        f"/{name}": Answer(HTTPStatus.OK, (folder / name).read_bytes(), kind, kept) for name, kind in kinds.items()
    }
    for level, drawing in _MARKS.items():
        svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">{drawing}</svg>'
        found[f"/icon-{level.value}.svg"] = Answer(HTTPStatus.OK, svg.encode(), "image/svg+xml", kept)
    return found
