"""The connection table of one namespace: listed, counted, and deleted entry by entry.

IPv4 and zone 0 only: what others keep in zones of their own is none of ours. The kernel leaves entries out of a listing
whose timeout is over.

Nothing but `forget_all` uses the kernel's flush: with a filter that a kernel does not know, it empties the table.
Entries are listed, looked at again here, and deleted one by one with their id, so that a new connection with the same
addresses and ports is left alone.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

from proxypool.adapters import ctnetlink
from proxypool.adapters.ctnetlink import Flow, TcpState
from proxypool.adapters.kernel_errors import kernel_error
from proxypool.adapters.nfnetlink import NetfilterSocket

__all__ = ["LIVING_TCP", "Conntrack", "Flow", "TcpState"]

LIVING_TCP = frozenset(TcpState) - {TcpState.NONE, TcpState.TIME_WAIT, TcpState.CLOSE}
_OVER_TCP = frozenset(state.value for state in TcpState if state not in LIVING_TCP)
_BATCH = 100


class Conntrack:
    """The table of the namespace it was made in. Usable from any thread, one at a time.

    Raises:
        TransientError, PermanentError: from every method: the kernel did not answer, or refused.
    """

    def __init__(self) -> None:
        """Open the socket in the calling thread's namespace."""
        with _told("open the connection table"):
            self._link = NetfilterSocket()

    def close(self) -> None:
        """Close the socket."""
        self._link.close()

    def flows(self, mark: int, mask: int) -> Iterator[Flow]:
        """Entries whose mark under the mask is `mark`; all with 0 and 0. The listing is complete when this returns.

        It takes 200 to 250 bytes per entry until the last is taken.
        """
        dump = self._dump(ctnetlink.by_mark(mark, mask))
        return (flow for flow in ctnetlink.flows(dump) if flow.mark & mask == mark)

    def flows_of(self, source: IPv4Address) -> Iterator[Flow]:
        """Entries of connections that `source` opened. See `flows`."""
        dump = self._dump(ctnetlink.by_source(source))
        return (flow for flow in ctnetlink.flows(dump) if flow.source == source)

    def opening(self, mark: int, mask: int) -> Iterator[Flow]:
        """Of `flows` those of TCP whose SYN has had no answer, in a tenth of the time."""
        dump = self._dump(ctnetlink.by_mark(mark, mask))
        return (flow for flow in ctnetlink.opening(dump) if flow.mark & mask == mark)

    def count(self, mark: int, mask: int) -> int:
        """How many `flows` would give."""
        dump = self._dump(ctnetlink.by_mark(mark, mask))
        wanted, bits = ctnetlink.native(mark), ctnetlink.native(mask)
        return sum(1 for found, _, _ in ctnetlink.glances(dump) if found & bits == wanted)

    def count_living(self) -> int:
        """Entries that carry a connection which somebody would miss, of those that are forwarded with another source.

        What the namespace itself sends has its own: probes, and what the members tell each other of their connections.
        That never ends, and nobody waits for it.

        TCP: all but those in TIME_WAIT and CLOSE, which only remember a connection that is over, for up to two minutes,
        and NONE. A half-open one counts: somebody waits for it.

        Everything else has no end that the kernel could see, so an entry lives as long as its timeout runs, replied to
        or not. Unreplied ones are gone 30 s after their last packet (nf_conntrack_udp_timeout,
        nf_conntrack_icmp_timeout), and one that goes on sending without an answer, as syslog does, is alive.
        """
        dump = self._dump(b"")
        return sum(1 for _, state, is_nated in ctnetlink.glances(dump) if is_nated and state not in _OVER_TCP)

    def busiest_ports(self) -> int:
        """How many source ports are in use toward the destination (address, protocol, port) that has most.

        Each connection whose source was rewritten holds one until its entry is gone, also one that is over. They are
        all of one address, as a namespace gives its connections only one.
        """
        counts: dict[ctnetlink.Destination, int] = {}
        with _told("list connections"):
            ctnetlink.destinations(self._link.parts(ctnetlink.GET, b""), counts)
        return max(counts.values(), default=0)

    def delete(self, flows: Iterable[Flow]) -> int:
        """Delete these entries and return how many were there. One that is gone, or has a successor, is fine."""
        return self._delete([flow.key for flow in flows])

    def delete_marked(self, mark: int, mask: int) -> int:
        """Delete the entries whose mark under the mask is `mark`; return how many.

        Raises:
            ValueError: without a mask that would be all of them.
        """
        if not mask:
            raise ValueError("deleting by mark needs a mask")
        dump = self._dump(ctnetlink.by_mark(mark, mask))
        wanted, bits = ctnetlink.native(mark), ctnetlink.native(mask)
        return self._delete([key for key, found, _ in ctnetlink.keys(dump) if found & bits == wanted])

    def delete_of(self, source: IPv4Address, mask: int) -> int:
        """Delete the entries that `source` opened and whose mark under the mask is not 0; return how many."""
        dump = self._dump(ctnetlink.by_source(source))
        packed, bits = source.packed, ctnetlink.native(mask)
        return self._delete([key for key, found, opener in ctnetlink.keys(dump) if found & bits and opener == packed])

    def forget_all(self) -> None:
        """Empty the table. For a namespace that is ours alone."""
        with _told("empty the connection table"):
            for refusal in self._link.exchange(ctnetlink.DELETE, [b""]):
                raise refusal

    def _dump(self, choice: bytes) -> list[bytes]:
        with _told("list connections"):
            return self._link.dump(ctnetlink.GET, choice)

    def _delete(self, keys: list[bytes]) -> int:
        deleted = 0
        with _told("delete connections"):
            for start in range(0, len(keys), _BATCH):
                batch = keys[start : start + _BATCH]
                refused = self._link.exchange(ctnetlink.DELETE, batch)
                for refusal in refused:
                    if refusal.code != errno.ENOENT:
                        raise refusal
                deleted += len(batch) - len(refused)
        return deleted


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise kernel_error(error.errno or 0, f"{what}: {error.strerror or error}") from error
