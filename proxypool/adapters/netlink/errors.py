"""Netlink errors as the two families."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from pyroute2.netlink.exceptions import NetlinkError

from proxypool.core.errors import PermanentError, ProxypoolError, TransientError

PERMANENT = {errno.EINVAL, errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPERM, errno.ERANGE}
GONE = {errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL, errno.ENXIO}
"""What the kernel answers when the thing to remove is not there."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn NetlinkError and OSError into our families, with what was being done in the text."""
    try:
        yield
    except ProxypoolError:
        raise
    except (NetlinkError, OSError) as error:
        code = error.code if isinstance(error, NetlinkError) else (error.errno or 0)
        text = f"{what}: {error.args[1] if len(error.args) > 1 else error}"
        family = PermanentError if code in PERMANENT else TransientError
        raise family(text) from error


@contextmanager
def absent_is_fine() -> Iterator[None]:
    """Removing what is not there succeeds."""
    try:
        yield
    except NetlinkError as error:
        if error.code not in GONE:
            raise
