"""Put and remove many objects that are one message each, in the namespace the thread is in."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from proxypool.adapters.kernel_errors import kernel_error
from proxypool.adapters.netlink import echoes
from proxypool.adapters.netlink.encode import Batched, encode_put, encode_remove
from proxypool.adapters.netlink.errors import GONE, translated
from proxypool.adapters.netlink.inventory import index_of
from proxypool.adapters.netlink.raw import RawSocket, Request
from proxypool.core.errors import ProxypoolError, TransientError
from proxypool.core.scene import ForwardingEntry, Neighbour, PolicyRule

Change = tuple[Batched, bool]
"""An object, and whether it is put; else it is removed."""


class _NoDevice(LookupError):
    """The interface is not there."""


def apply_batch(changes: Sequence[Change]) -> list[ProxypoolError | None]:
    """Make the objects be as described, or not exist, in this order; doing it twice is the same as once.

    Returns what was refused and why, the object named; None: done.

    Raises:
        TransientError: the kernel did not answer; some may have been done.
    """
    outcomes: list[ProxypoolError | None] = [None] * len(changes)
    requests: list[Request] = []
    places: list[int] = []
    indexes = _Indexes()
    for place, (item, is_put) in enumerate(changes):
        try:
            requests.append((encode_put if is_put else encode_remove)(item, indexes.of))
            places.append(place)
        except _NoDevice as error:
            # What hangs on a device went with it.
            outcomes[place] = TransientError(f"set {' '.join(item.key)}: {error}") if is_put else None
    echoes.forget_old()
    namespace = echoes.current_namespace()
    for place, request in zip(places, requests, strict=True):
        item, is_put = changes[place]
        if isinstance(item, ForwardingEntry) or (isinstance(item, Neighbour) and not is_put):
            echoes.expect(namespace, request.kind, request.body)
    with translated(f"change {len(changes)} objects"), RawSocket() as netlink:
        codes = netlink.change(requests)
    for place, code in zip(places, codes, strict=True):
        if code:
            outcomes[place] = _outcome(*changes[place], code)
    return outcomes


def _outcome(item: Batched, is_put: bool, code: int) -> ProxypoolError | None:  # noqa: FBT001 - a pair that is spread
    if is_put and isinstance(item, PolicyRule) and code == errno.EEXIST:
        return None
    if not is_put and code in GONE:
        return None
    return kernel_error(code, f"{'set' if is_put else 'remove'} {' '.join(item.key)}: {os.strerror(code)}")


class _Indexes:
    """Interface indexes, asked for once."""

    def __init__(self) -> None:
        self._known: dict[str, int | None] = {}

    def of(self, device: str) -> int:
        if device not in self._known:
            self._known[device] = index_of(device)
        index = self._known[device]
        if index is None:
            raise _NoDevice(f"device {device} is not there")
        return index
