"""Whether somebody who asks by HTTP knows the token. Pure."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode
from binascii import Error as NotBase64

CHALLENGE = ("WWW-Authenticate", 'Basic realm="proxypool", charset="UTF-8"')
"""The header that makes a browser ask for it."""


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
