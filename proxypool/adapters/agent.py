"""A client of the host agent's local API: HTTP with JSON over its unix socket. See docs/api.md."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from proxypool.core.errors import AccessDenied, PermanentError, TransientError

SOCKET_NAME = "host.sock"
"""In the agent's run directory."""
MAX_ANSWER_BYTES = 64 << 20
"""A list of a hundred thousand attachments has some 10 MB."""
BUSY = 500
"""Statuses from here on: trying again may help."""


class AgentRefused(PermanentError):
    """The agent said no. `code` is stable; the text is the agent's own."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """To the socket instead of to a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Agent:
    """One connection to the agent of this host, opened with the first request."""

    def __init__(self, path: Path, timeout_s: float = 10.0) -> None:
        """Nothing is opened."""
        self._path = path
        self._link = _Connection(str(path), timeout_s)

    def attach(self, pairs: Iterable[tuple[str, str]], *, replace: bool = False) -> list[dict[str, str]]:
        """Attach (address, subnet) pairs: all, or none. What became of each, as the agent tells it.

        Raises:
            AgentRefused: one of them cannot be.
            TransientError: no agent, or it could not do it now.
        """
        wanted = [{"address": address, "subnet": subnet} for address, subnet in pairs]
        return self._items(self.ask("POST", "/v1/attach", {"attachments": wanted, "replace": replace}))

    def detach(self, pairs: Iterable[tuple[str, str | None]]) -> list[dict[str, str]]:
        """Detach (address, subnet) pairs; without a subnet all of the address. See `attach`."""
        unwanted = [{"address": address} | ({"subnet": subnet} if subnet else {}) for address, subnet in pairs]
        return self._items(self.ask("POST", "/v1/detach", {"attachments": unwanted}))

    def attachments(self) -> list[dict[str, Any]]:
        """Every attachment of the host."""
        return self._items(self.ask("GET", "/v1/attachments"))

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One request; the document that came back.

        Raises:
            AgentRefused: it was refused.
            AccessDenied: we may not ask.
            TransientError: no agent, or it could not do it now.
        """
        try:
            self._link.request(method, path, msgspec.json.encode(body) if body is not None else None)
            answer = self._link.getresponse()
            document = msgspec.json.decode(_whole(answer), type=dict[str, Any])
        except PermissionError as error:
            self._link.close()
            raise AccessDenied(
                f"this user may not use {self._path}: root may, and whom host.api_group and host.api_users name in the "
                "agent's configuration"
            ) from error
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            self._link.close()
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise TransientError(
                f"no host agent answers on {self._path} ({why}): start it with `systemctl start proxypool-host`"
            ) from error
        if answer.status >= BUSY:
            raise TransientError(str(document.get("detail", "")))
        if answer.status == http.HTTPStatus.FORBIDDEN:
            raise AccessDenied(str(document.get("detail", "")))
        if answer.status != http.HTTPStatus.OK:
            raise AgentRefused(str(document.get("code", "")), str(document.get("detail", "")))
        return document

    def close(self) -> None:
        """Close the connection."""
        self._link.close()

    def _items(self, document: Mapping[str, Any]) -> list[dict[str, Any]]:
        try:
            return msgspec.convert(document.get("items"), list[dict[str, Any]])
        except msgspec.ValidationError as error:
            raise TransientError(f"what answers on {self._path} is no host agent: {error}") from error


def _whole(answer: http.client.HTTPResponse) -> bytes:
    """The body of an answer.

    Raises:
        http.client.HTTPException: it has no end.
    """
    body = answer.read(MAX_ANSWER_BYTES + 1)
    if len(body) > MAX_ANSWER_BYTES:
        raise http.client.HTTPException(f"an answer of more than {MAX_ANSWER_BYTES >> 20} MB")
    return body
