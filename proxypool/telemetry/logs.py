"""Logs go to standard error, as text or as one JSON object a line.

Never to standard output: python-iptables redirects that descriptor while it works.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from proxypool.core.config import LogConfig
from proxypool.core.one_line import one_line

MAX_MESSAGE = 8000
"""Characters."""
_NOISY = ("kazoo", "pyroute2", "asyncio")


class JsonFormatter(logging.Formatter):
    """One JSON object a line. What is logged with `extra={"fields": …}` has the fields as its own."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON, with an RFC 3339 time in UTC."""
        document: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:MAX_MESSAGE],
        }
        document |= getattr(record, "fields", {})
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document)


class TextFormatter(logging.Formatter):
    """A line of text for each message, whatever is in it; below it the trace of an exception."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class' name
        """The line: a document or a request that is told of must not forge others."""
        record.message = one_line(record.message, MAX_MESSAGE)
        return super().formatMessage(record)


def configure(config: LogConfig) -> None:
    """Set the root logger up; libraries are heard from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    if config.format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(TextFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=config.level.upper(), handlers=[handler], force=True)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
