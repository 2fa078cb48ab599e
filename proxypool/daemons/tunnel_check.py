"""Whether this kernel can make the pool's kind of tunnel: tried once for each kind that the pool is of."""

from __future__ import annotations

import logging

from proxypool.adapters import netlink
from proxypool.core.errors import ProxypoolError
from proxypool.core.model import TunnelKind

log = logging.getLogger(__name__)


class TunnelCheck:
    """The last answer. Without a tunnel nothing is served: what there is stays as it is."""

    def __init__(self) -> None:
        """Nothing is tried."""
        self.problem: str | None = None
        self._kind: TunnelKind | None = None

    def look(self, kind: TunnelKind) -> bool:
        """Try a kind, if it is not the one tried last; whether this put an end to a problem."""
        if self._kind is kind:
            return False
        self._kind = kind
        try:
            netlink.probe_tunnel(kind)
        except ProxypoolError as error:
            self.problem = str(error)
            log.error("%s", error)
            return False
        had_problem, self.problem = self.problem is not None, None
        return had_problem
