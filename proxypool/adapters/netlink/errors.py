"""Netlink errors as the two families."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from pyroute2.netlink.exceptions import NetlinkError

from proxypool.adapters.kernel_errors import kernel_error
from proxypool.core.errors import ProxypoolError

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
        raise kernel_error(code, text) from error


@contextmanager
def absent_is_fine() -> Iterator[None]:
    """Removing what is not there succeeds."""
    try:
        yield
    except NetlinkError as error:
        if error.code not in GONE:
            raise
