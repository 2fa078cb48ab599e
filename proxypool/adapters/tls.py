"""What a client's connections are protected by: the server shows a certificate, and the name in it is checked."""

from __future__ import annotations

import ssl

from proxypool.adapters.secret_file import path_of, require_private
from proxypool.core.errors import PermanentError


def client_context(authorities: str, certificate: str | None = None, key: str | None = None) -> ssl.SSLContext:
    """From the files as they are now: authorities that the server's certificate is checked against, and our own
    certificate with its key, if we show one.

    Raises:
        PermanentError: the files cannot be used.
        AccessDenied: others could read the key.
    """
    # Not the defaults of `ssl.create_default_context`, which trust the authorities of the whole system as well.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(path_of(authorities))
        if certificate is not None and key is not None:
            context.load_cert_chain(path_of(certificate), require_private(key))
    except (OSError, ssl.SSLError) as error:
        what = " with ".join(name for name in (authorities, certificate, key) if name)
        raise PermanentError(f"cannot use {what} for TLS: {error}") from error
    return context
