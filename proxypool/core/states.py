"""Words for states that documents, checks and adapters share with the machines behind them. Pure.

They stand apart from those machines (`role`, `sync_supervision`) because `proxypool status` needs the words and not the
machines: to import those took it a third of its time.
"""

from __future__ import annotations

from enum import StrEnum

PRIORITY_UNFIT = 99
"""What the track file of a member that cannot serve adds to keepalived's priority."""


class Role(StrEnum):
    """A member's role. `init` only until VRRP has spoken once."""

    INIT = "init"
    MASTER = "master"
    BACKUP = "backup"
    FAULT = "fault"


class Coordinator(StrEnum):
    """The connection to ZooKeeper.

    `suspended` changes nothing. `lost`: the session is over, or no server has answered for a session timeout, also
    after the daemon's start; the adapter must time the latter itself, for ZooKeeper's client says nothing while it
    reconnects.
    """

    CONNECTED = "connected"
    SUSPENDED = "suspended"
    LOST = "lost"


class SyncState(StrEnum):
    """Whether the members tell each other their connections; what a status says."""

    STARTING = "starting"
    OK = "ok"
    UNHEARD = "unheard"
    """It runs, and nothing comes from the other member's."""
    HUNG = "hung"
    DOWN = "down"
