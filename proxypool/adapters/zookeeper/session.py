"""One ZooKeeper session of one process: connects for ever, tells what state it is in, can be resumed and left.

kazoo never reports a session as lost while no server answers, so the time is taken here: suspended for longer than the
session timeout is lost. kazoo's threads only put a word into a queue; everything else happens on this module's thread.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from kazoo.protocol.states import Callback, KazooState, KeeperState
from kazoo.retry import KazooRetry

from proxypool.adapters.zookeeper import session_file as files
from proxypool.adapters.zookeeper.access_lists import AccessLists
from proxypool.adapters.zookeeper.client import InterruptibleClient
from proxypool.adapters.zookeeper.credentials import read_credentials, redact, tls_context
from proxypool.adapters.zookeeper.errors import ZooKeeperUnreachable, translated
from proxypool.adapters.zookeeper.handler import PoolHandler
from proxypool.adapters.zookeeper.layout import Layout
from proxypool.core.config import ZooKeeperConfig
from proxypool.core.endpoints import parse_endpoint
from proxypool.core.errors import AccessDenied, InvalidInput, TransientError
from proxypool.core.states import Coordinator

log = logging.getLogger(__name__)
kazoo_log = logging.getLogger("proxypool.kazoo")

RETRY = {"max_tries": -1, "delay": 0.05, "backoff": 1.5, "max_delay": 0.5, "max_jitter": 0.1}
"""kazoo's default backs off to a minute: 34.6 s instead of 0.97 s after an outage (measured)."""
REBUILD_AFTER_S = 1.0
REMIND_EVERY_S = 30.0
MAX_CONNECT_S = 1.0
MIN_CONNECT_S = 0.2
LEAVE_WITHIN_S = 1.0
"""Threads that wait for a server or a name are left behind after this; they end with the process."""

Listener: TypeAlias = Callable[[Coordinator, "int | None"], None]
"""Called with the state and the session's id, on the session's thread, at every change of the connection."""


@dataclass(frozen=True, slots=True)
class _Word:
    """What kazoo said, with the session's id and password of that moment."""

    state: str
    credentials: tuple[int, bytes] | None
    client: Any


class PoolSession:
    """See the module's text. Used from any thread."""

    def __init__(
        self,
        config: ZooKeeperConfig,
        pool: str,
        *,
        session_file: Path | None = None,
        machine_key: Path | None = None,
        identity: str = "",
        on_state: Callable[[Coordinator], None] | None = None,
    ) -> None:
        """Prepare; nothing is sent before `start` or `connect`.

        `identity` names the daemon; a saved session of another identity is not resumed, its ephemerals would stay.
        `machine_key`: where a host keeps the key by which its entries are its own.

        Raises:
            InvalidInput: a server's name cannot be a host name.
            AccessDenied: a secret cannot be read, or others could read it.
            PermanentError: the files for TLS cannot be used.
        """
        self.layout = Layout(pool)
        self.credentials = read_credentials(config, machine_key)
        self.access = AccessLists(self.layout, self.credentials)
        self._tls = tls_context(config)
        self.timeout_s = config.session_timeout_s
        self._hosts = tuple(config.hosts)
        for server in self._hosts:
            _require_host_name(server)
        self._pool, self._identity, self._file, self._on_state = pool, identity, session_file, on_state
        self._words: queue.SimpleQueue[_Word | Callable[[], None] | None] = queue.SimpleQueue()
        self._listeners: list[Listener] = [self.access.on_link]
        self._state = Coordinator.SUSPENDED
        self._credentials: tuple[int, bytes] | None = None
        self._is_connected = threading.Event()
        self._is_stopping = False
        self._lost_at = self._remind_at = float("inf")
        self._rebuild_at = float("inf")
        self._complain_at = 0.0
        self._thread: threading.Thread | None = None
        self._client: Any = None
        self._handler: PoolHandler | None = None

    @property
    def state(self) -> Coordinator:
        """As last reported to `on_state`; suspended before the first connection."""
        return self._state

    @property
    def last_seen(self) -> float | None:
        """Monotonic time of the last word from a server, pings included; None before the first."""
        return self._handler.last_contact if self._handler else None

    @property
    def session_id(self) -> int | None:
        """The session's id, None before the first connection."""
        return self._credentials[0] if self._credentials else None

    @property
    def client(self) -> Any:
        """The client, for this package only. Only its `*_async` calls, awaited by `wait`, have a time limit."""
        return self._client

    def wait(self, result: Any) -> Any:
        """Result of one of the client's `*_async` calls.

        Raises:
            TransientError: the connection broke, or no answer within the session timeout.
            AccessDenied: ZooKeeper refuses it.
        """
        try:
            with translated():
                return result.get(timeout=self.timeout_s)
        except AccessDenied as error:
            self._complain(error)
            raise

    def _complain(self, error: AccessDenied) -> None:
        """Daemons try again and again, and would not say why nothing comes of it."""
        now = time.monotonic()
        if now >= self._complain_at:
            self._complain_at = now + REMIND_EVERY_S
            log.warning("%s", error)

    def subscribe(self, listener: Listener) -> None:
        """Tell `listener` about every change of the connection from now on. It must not block."""
        self._listeners.append(listener)

    def after_events(self, callback: Callable[[], None]) -> None:
        """Call `callback`, on the session's thread, when all listeners and watches have been told what came before the
        last answer that this session got. It must not block.
        """
        self._handler_of_now().dispatch_callback(Callback("watch", lambda: self._words.put(callback), ()))

    def _handler_of_now(self) -> PoolHandler:
        if self._handler is None:
            raise TransientError("not connected to ZooKeeper")
        return self._handler

    def start(self) -> None:
        """Connect, and go on trying for ever. Returns at once."""
        if self._thread is not None:
            return
        saved = files.load(self._file, self._pool, self._identity) if self._file else None
        if saved is not None:
            self._credentials = (saved.session, bytes.fromhex(saved.password))
        now = time.monotonic()
        self._lost_at, self._remind_at = now + self.timeout_s, now + MAX_CONNECT_S
        self._thread = threading.Thread(target=self._supervise, name="zookeeper-session", daemon=True)
        self._begin()
        self._thread.start()

    def connect(self, timeout_s: float) -> None:
        """Connect and wait for it.

        Raises:
            ZooKeeperUnreachable: not connected within `timeout_s`.
        """
        self.start()
        if not self._is_connected.wait(timeout_s):
            servers = ", ".join(self._hosts)
            raise ZooKeeperUnreachable(
                f"ZooKeeper cannot be reached at {servers} (tried for {timeout_s:g} s{self._why()}): "
                "check that it runs, or name another with --zookeeper HOST:PORT"
            )

    def stop(self, *, close_session: bool) -> None:
        """Disconnect. With `close_session` the ephemeral nodes go at once; else they live on until the session times
        out, or is resumed from the session file.
        """
        self._is_stopping = True
        self._words.put(None)
        if self._client is not None:
            if close_session:
                _end(self._client)
                if self._file is not None:
                    files.forget(self._file)
            else:
                self._leave()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(LEAVE_WITHIN_S)
        self._is_connected.clear()

    def _leave(self) -> None:
        """Cut the connection, then let kazoo's threads end: in the background, as name resolution can hang."""
        if self._handler is not None:
            self._handler.cut()
        leaving = threading.Thread(target=_end, args=(self._client,), name="zookeeper-leave", daemon=True)
        leaving.start()
        leaving.join(LEAVE_WITHIN_S)

    def _begin(self) -> None:
        """A client, connecting in the background, with the session known so far."""
        if kazoo_log.level == logging.NOTSET:
            kazoo_log.setLevel(logging.ERROR)
        kazoo_log.addFilter(redact)
        # So that one server that does not answer leaves time for another try before the session ends.
        share_s = self.timeout_s / (len(self._hosts) + 1)
        self._handler = PoolHandler(min(MAX_CONNECT_S, max(MIN_CONNECT_S, share_s)), share_s, self._tls)
        client = InterruptibleClient(
            hosts=",".join(self._hosts),
            timeout=self.timeout_s,
            client_id=self._credentials,
            auth_data=self.credentials.as_auth_data(),
            handler=self._handler,
            connection_retry=KazooRetry(**RETRY),
            logger=kazoo_log,
        )
        self._client = client

        def listen(state: str) -> None:
            self._words.put(_Word(state, client.client_id, client))

        client.add_listener(listen)
        client.start_async()

    def _supervise(self) -> None:
        while not self._is_stopping:
            wait_s = min(self._lost_at, self._rebuild_at, self._remind_at) - time.monotonic()
            try:
                word = self._words.get(timeout=min(max(wait_s, 0.0), threading.TIMEOUT_MAX))
            except queue.Empty:
                self._look_at_clock(time.monotonic())
                continue
            if isinstance(word, _Word):
                if word.client is self._client:
                    self._hear(word, time.monotonic())
            elif word is not None:
                word()

    def _hear(self, word: _Word, now: float) -> None:
        if word.state == KazooState.CONNECTED and word.credentials is not None:
            self._lost_at = self._remind_at = float("inf")
            if word.credentials != self._credentials:
                self._credentials = word.credentials
            if self._file is not None:
                number, password = word.credentials
                saved = files.SavedSession(
                    pool=self._pool, identity=self._identity, session=number, password=password.hex()
                )
                files.save(self._file, saved)
            log.info("connected to ZooKeeper, session 0x%x", word.credentials[0])
            self._enter(Coordinator.CONNECTED)
        elif word.state == KazooState.LOST:
            self._lost_at, self._remind_at = float("inf"), now + REMIND_EVERY_S
            log.warning("the ZooKeeper session is lost; our ephemeral nodes are gone")
            if self._client.client_state in (KeeperState.CLOSED, KeeperState.AUTH_FAILED):
                self._rebuild_at = now + REBUILD_AFTER_S
            else:
                self._credentials = None
            self._enter(Coordinator.LOST)
        elif self._state is Coordinator.CONNECTED:
            self._lost_at, self._remind_at = now + self.timeout_s, now + REMIND_EVERY_S
            log.warning("the connection to ZooKeeper broke; trying again")
            self._enter(Coordinator.SUSPENDED)

    def _look_at_clock(self, now: float) -> None:
        if now >= self._rebuild_at:
            self._rebuild_at = float("inf")
            self._leave()
            self._begin()
        if now >= self._lost_at:
            self._lost_at = float("inf")
            self._enter(Coordinator.LOST)
        if now >= self._remind_at:
            self._remind_at = now + REMIND_EVERY_S
            log.warning("ZooKeeper cannot be reached at %s%s; still trying", ", ".join(self._hosts), self._why())

    def _why(self) -> str:
        """What TLS had to say about it: a wrong certificate looks like a server that is away otherwise."""
        problem = self._handler.tls_problem if self._handler else ""
        return f"; TLS: {problem}" if problem else ""

    def _enter(self, state: Coordinator) -> None:
        before, self._state = self._state, state
        if state is Coordinator.CONNECTED:
            self._is_connected.set()
        else:
            self._is_connected.clear()
        try:
            for listener in tuple(self._listeners):
                listener(state, self.session_id)
            if state is not before and self._on_state is not None and not self._is_stopping:
                self._on_state(state)
        except Exception:
            # This thread must live: without it nobody would notice the next change.
            log.exception("cannot tell of the ZooKeeper state %s", state.value)


def _end(client: Any) -> None:
    """End a client's threads; with its connection cut this says nothing to the server."""
    try:
        with translated():
            client.stop()
            client.close()
    except Exception as error:  # noqa: BLE001 - kazoo raises bare exceptions when its thread is still resolving names
        log.debug("while leaving ZooKeeper: %s", error)


def _require_host_name(server: str) -> None:
    """A thread of kazoo's dies of a name that the idna codec refuses."""
    host, _ = parse_endpoint(server, what="zookeeper.hosts")
    try:
        host.encode("idna")
    except UnicodeError as error:
        raise InvalidInput(f"zookeeper.hosts: {host!r} is not a host name: {error}") from error
