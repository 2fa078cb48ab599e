"""Wait for the underlay interface: it may come up after the daemon."""

from __future__ import annotations

import logging
import queue
import time

from proxypool.adapters import netlink
from proxypool.core.errors import ProxypoolError
from proxypool.daemons.mainloop import Stop
from proxypool.daemons.messages import Message
from proxypool.daemons.service import Service

log = logging.getLogger(__name__)
RETRY_S = 1.0


def wait_for_underlay(device: str, inbox: queue.SimpleQueue[Message], service: Service) -> netlink.Underlay | None:
    """Address and MTU of the interface; None if the daemon was told to stop meanwhile."""
    told = ""
    while True:
        service.goes_round(time.monotonic())
        try:
            return netlink.underlay(device)
        except ProxypoolError as error:
            if str(error) != told:
                log.error("%s; trying again", error)
                told = str(error)
                service.say(f"starting: {told}")
        try:
            if isinstance(inbox.get(timeout=RETRY_S), Stop):
                return None
        except queue.Empty:
            continue
