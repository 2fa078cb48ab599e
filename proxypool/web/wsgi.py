"""The site as a WSGI application, which is what a port serves. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from proxypool import __version__
from proxypool.web.answers import Request
from proxypool.web.site import SAFETY, Site

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


def application(site: Site) -> WSGIApplication:
    """The application of a site."""

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        answer = site.answer(request_of(environ))
        headers = {
            "Server": f"proxypool/{__version__}",
            "Content-Type": answer.kind,
            "Content-Length": str(len(answer.body)),
            "Cache-Control": "no-store",
            **SAFETY,
            **answer.headers,
        }
        start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", list(headers.items()))
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]

    return serve


def request_of(environ: WSGIEnvironment) -> Request:
    """The request as WSGI has it."""
    return Request(
        method=environ["REQUEST_METHOD"],
        path=environ.get("PATH_INFO", ""),
        query=environ.get("QUERY_STRING", ""),
        host=_host(environ.get("HTTP_HOST", "")),
        authorization=environ.get("HTTP_AUTHORIZATION", ""),
    )


def _host(header: str) -> str:
    """Without the port. What is no host at all is nobody's: `?`."""
    try:
        return urlsplit(f"//{header}").hostname or ("?" if header else "")
    except ValueError:
        return "?"
