"""The two families of errors, and the one for bad input.

Transient errors are retried by the reconcile loop; permanent ones are shown to the operator and wait for a change of
the input. Neither ever ends a daemon.
"""


class ProxypoolError(Exception):
    """Base of every error proxypool raises on purpose. Its text says what is wrong and what to do."""


class TransientError(ProxypoolError):
    """Trying again later may succeed: a busy kernel, a device that is not there yet, an unreachable server."""


class PermanentError(ProxypoolError):
    """Trying again without a change will fail in the same way."""


class InvalidInput(PermanentError):
    """A configuration file, document or command line that cannot be accepted."""


class AccessDenied(PermanentError):
    """Somebody is not who may do this; or a file that holds a secret is open to others, and therefore not used."""
