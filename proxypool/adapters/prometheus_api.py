"""What pairs use, from a Prometheus server that scrapes the nodes: the same series by `/api/v1/query`.

A node's series are those whose label `instance` is the address of its metrics as it registered it, which is what
Prometheus makes of a target. All series of a node are asked for in one query, so that they are of one scrape: a server
may take in a new one between two queries.
"""

from __future__ import annotations

import http.client
import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import SplitResult, urlencode, urlsplit

import msgspec

from proxypool.adapters.secret_file import require_private
from proxypool.core.errors import InvalidInput, PermanentError, TransientError
from proxypool.core.model import NodeSpec
from proxypool.core.scaling.series import Answer, NodeSample, NodeSeries, Series, Unread

TIMEOUT_S = 5.0
BATCH = 50
"""Nodes in one query: some 4 MB of answer with twenty members each."""
MAX_BYTES = 64 << 20
"""Of one answer."""
_NAMES = "|".join((*Series, *NodeSeries))
_MEMBER_SERIES = {str(series): str(series) for series in Series}
_NODE_SERIES = {str(series): str(series) for series in NodeSeries}


class _Result(msgspec.Struct):
    metric: dict[str, str]
    value: tuple[float, str]


class _Data(msgspec.Struct):
    result: list[_Result]


class _Reply(msgspec.Struct):
    status: str
    data: _Data | None = None
    error: str = ""


_decode = msgspec.json.Decoder(_Reply).decode


class PrometheusApi:
    """See the module's text. One thread at a time."""

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S, token_file: str | None = None) -> None:
        """`url` of the server, with the path in front of `/api` if there is one; `timeout_s` for each query. The file's
        content is sent as a bearer token, and read every time, as tokens are replaced.

        Raises:
            InvalidInput: not a URL of HTTP.
        """
        parts = _parts(url)
        if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
            raise InvalidInput(f"{url!r} is not the URL of a Prometheus server: give one as http://prometheus:9090")
        self._url = url
        self._path = parts.path.rstrip("/") + "/api/v1/query"
        self._is_tls, self._server = parts.scheme == "https", parts.netloc.rpartition("@")[2]
        self._timeout_s, self._token_file = timeout_s, token_file

    def read(self, nodes: Iterable[NodeSpec]) -> dict[str, Answer]:
        """A sample of each node, or why there is none.

        Raises:
            TransientError: the server does not answer, or not now.
            PermanentError: it refuses: the token, the path, the query; or the token's file cannot be used.
        """
        known: list[NodeSpec] = []
        found: dict[str, Answer] = {}
        for spec in nodes:
            if spec.metrics:
                known.append(spec)
            else:
                found[spec.id] = Unread.NO_ADDRESS
        kind = http.client.HTTPSConnection if self._is_tls else http.client.HTTPConnection
        connection = kind(self._server, timeout=self._timeout_s)
        try:
            for start in range(0, len(known), BATCH):
                found |= self._read_some(connection, known[start : start + BATCH])
        finally:
            connection.close()
        return found

    def _read_some(self, connection: http.client.HTTPConnection, nodes: Sequence[NodeSpec]) -> dict[str, Answer]:
        instances = "|".join(re.escape(spec.metrics) for spec in nodes).replace("\\", "\\\\")
        asked_at = time.monotonic()
        # The moments first: if a scrape comes between, numbers seem older than they are, never younger.
        scraped_at = self._moments(connection, instances, asked_at)
        builders = {spec.metrics: _Builder() for spec in nodes}
        for result in self._query(connection, f'{{__name__=~"{_NAMES}",instance=~"{instances}"}}'):
            builder = builders.get(result.metric.get("instance", ""))
            if builder is not None:
                builder.add(result)
        return {
            spec.id: NodeSample(spec.id, scraped_at[spec.metrics], builder.limits, builder.members)
            if (builder := builders[spec.metrics]).has_any and spec.metrics in scraped_at
            else Unread.NOT_SCRAPED
            for spec in nodes
        }

    def _moments(self, connection: http.client.HTTPConnection, instances: str, asked_at: float) -> dict[str, float]:
        """When each instance was scraped, on our own monotonic clock: how long ago is the server's to say."""
        query = f'timestamp({NodeSeries.PORTS_INTERVAL}{{instance=~"{instances}"}})'
        found: dict[str, float] = {}
        for result in self._query(connection, query):
            moment = asked_at - (result.value[0] - _number(result.value[1]))
            instance = result.metric.get("instance", "")
            if math.isfinite(moment):
                found[instance] = min(moment, found.get(instance, moment))
        return found

    def _query(self, connection: http.client.HTTPConnection, query: str) -> list[_Result]:
        fields = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        if self._token_file is not None:
            fields["Authorization"] = f"Bearer {_token(self._token_file)}"
        deadline = time.monotonic() + self._timeout_s
        try:
            connection.request("POST", self._path, urlencode({"query": query}), fields)
            response = connection.getresponse()
            body = _body(response, deadline)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise TransientError(f"Prometheus at {self._url} does not answer: {error}") from error
        return self._results(response.status, body)

    def _results(self, status: int, body: bytes) -> list[_Result]:
        if status in {401, 403}:
            raise PermanentError(f"Prometheus at {self._url} refuses ({status}): check the token file")
        if status >= 500 or status == 429:  # noqa: PLR2004
            raise TransientError(f"Prometheus at {self._url} cannot answer now ({status}): {body[:200]!r}")
        try:
            reply = _decode(body)
        except (ValueError, RecursionError) as error:
            raise PermanentError(f"{self._url} does not answer as a Prometheus server ({status}): check it") from error
        if reply.status != "success" or reply.data is None:
            raise PermanentError(f"Prometheus at {self._url} refuses the query ({status}): {reply.error}")
        return reply.data.result


class _Builder:
    """A node's sample in the making. What is there twice, as of a node that is scraped twice, is not known: NaN."""

    def __init__(self) -> None:
        self.limits: dict[str, float] = {}
        self.members: dict[tuple[str, str], dict[str, float]] = {}

    @property
    def has_any(self) -> bool:
        return bool(self.limits or self.members)

    def add(self, result: _Result) -> None:
        labels: Mapping[str, str] = result.metric
        name, subnet, pair = labels.get("__name__", ""), labels.get("subnet"), labels.get("pair")
        if subnet is not None and pair is not None and name in _MEMBER_SERIES:
            sample, series = self.members.setdefault((subnet, pair), {}), _MEMBER_SERIES[name]
        elif name in _NODE_SERIES:
            sample, series = self.limits, _NODE_SERIES[name]
        else:
            return
        sample[series] = math.nan if series in sample else _number(result.value[1])


def _body(response: http.client.HTTPResponse, deadline: float) -> bytes:
    """All of it, in time and not too large: a socket's own limit holds for each piece only."""
    received = bytearray()
    while data := response.read1(1 << 18):
        received += data
        if len(received) > MAX_BYTES:
            raise http.client.HTTPException(f"an answer of more than {MAX_BYTES >> 20} MB")
        if time.monotonic() > deadline:
            raise TimeoutError("timed out")
    # It does not notice by itself that it has been read to the end, and the connection waits for that.
    response.close()
    return bytes(received)


def _number(text: str) -> float:
    """What is no number is not known: NaN."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _parts(url: str) -> SplitResult | None:
    """None: it is no URL, or one that HTTP cannot say."""
    try:
        parts = urlsplit(url)
        is_sayable = url.isascii() and url.isprintable() and " " not in url and parts.port != 0
    except ValueError:
        return None
    return parts if is_sayable else None


def _token(name: str) -> str:
    path = require_private(name, may_group_read=True)
    try:
        token = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise PermanentError(f"cannot read the token of Prometheus from {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        token = ""
    if not (token and token.isascii() and token.isprintable()):
        # Not quoted: it may be another secret.
        raise PermanentError(
            f"{path} does not have a token of Prometheus in it: one line of printable ASCII is expected"
        )
    return token
