"""What can go wrong with a lab. Each error's text is one sentence a user can act on."""

from __future__ import annotations

from proxypool.core.errors import ProxypoolError


class LabError(ProxypoolError):
    """The lab cannot do what was asked."""


class LabTimeout(LabError):
    """A condition did not come true before its deadline."""
