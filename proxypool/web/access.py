"""Who may see the page. Pure."""

from __future__ import annotations

from http import HTTPStatus

from proxypool.core.bearer import CHALLENGE, knows_token
from proxypool.core.endpoints import is_loopback
from proxypool.web.answers import Answer, Request, problem


def refusal(request: Request, token: str) -> Answer | None:
    """Why somebody does not get what they ask for; None: they do. `token`: empty, or what they must know."""
    if token:
        if knows_token(request.authorization, token):
            return None
        detail = "say who you are: the token as `Authorization: Bearer TOKEN`, or as the password of any user"
        return problem(HTTPStatus.UNAUTHORIZED, "token", detail, dict([CHALLENGE]))
    if request.host and not _is_own(request.host):
        # A page elsewhere could give its own name our address, and have the reader's browser ask us.
        detail = "without a token this is answered under localhost or an address only: set token_file"
        return problem(HTTPStatus.MISDIRECTED_REQUEST, "host", detail)
    return None


def _is_own(host: str) -> bool:
    """An address is nobody's to give away."""
    return is_loopback(host) or host.replace(".", "").isdecimal() or ":" in host
