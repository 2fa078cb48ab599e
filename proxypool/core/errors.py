"""The two families of errors, and the one for bad input.

Transient errors are retried by the reconcile loop; permanent ones are shown to the operator and wait for a change of
the input. Neither ever ends a daemon.
"""

from __future__ import annotations

from proxypool.core.one_line import one_line


class ProxypoolError(Exception):
    """Base of every error proxypool raises on purpose. Its text says what is wrong and what to do, in one line that can
    be printed, whatever the input was that it tells of.
    """

    def __str__(self) -> str:
        """The text, with what cannot be printed escaped, and cut where it is endless."""
        return one_line(super().__str__())


class TransientError(ProxypoolError):
    """Trying again later may succeed: a busy kernel, a device that is not there yet, an unreachable server."""


class PermanentError(ProxypoolError):
    """Trying again without a change will fail in the same way."""


class InvalidInput(PermanentError):
    """A configuration file, document or command line that cannot be accepted."""


class AccessDenied(PermanentError):
    """Somebody is not who may do this; or a file that holds a secret is open to others, and therefore not used."""
