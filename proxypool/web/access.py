"""Who may see the page. Pure."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode
from binascii import Error as NotBase64
from http import HTTPStatus

from proxypool.core.config import is_loopback
from proxypool.web.answers import Answer, Request, problem

_CHALLENGE = {"WWW-Authenticate": 'Basic realm="proxypool", charset="UTF-8"'}


def refusal(request: Request, token: str) -> Answer | None:
    """Why somebody does not get what they ask for; None: they do. `token`: empty, or what they must know."""
    if token:
        if knows_token(request.authorization, token):
            return None
        detail = "say who you are: the token as `Authorization: Bearer TOKEN`, or as the password of any user"
        return problem(HTTPStatus.UNAUTHORIZED, "token", detail, _CHALLENGE)
    if request.host and not _is_own(request.host):
        # A page elsewhere could give its own name our address, and have the reader's browser ask us.
        detail = "without a token this is answered under localhost or an address only: set token_file"
        return problem(HTTPStatus.MISDIRECTED_REQUEST, "host", detail)
    return None


def knows_token(authorization: str, token: str) -> bool:
    """Whether a header `Authorization` has the token, as a bearer's or as a password. Any wrong one takes as long."""
    scheme, _, rest = authorization.strip().partition(" ")
    given = rest.strip().encode("utf-8", "replace")
    if scheme.lower() == "basic":
        try:
            given = b64decode(given, validate=True).partition(b":")[2]
        except NotBase64:
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(hashlib.sha256(given).digest(), hashlib.sha256(token.encode()).digest())


def _is_own(host: str) -> bool:
    """An address is nobody's to give away."""
    return is_loopback(host) or host.replace(".", "").isdecimal() or ":" in host
