"""What the kernel's error numbers mean for us: which are worth another try."""

from __future__ import annotations

import errno

from proxypool.core.errors import PermanentError, TransientError

_PERMANENT = {errno.EINVAL, errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPERM, errno.ERANGE}


def kernel_error(code: int, text: str) -> TransientError | PermanentError:
    """An error of the right family, to be raised."""
    family = PermanentError if code in _PERMANENT else TransientError
    return family(text)
