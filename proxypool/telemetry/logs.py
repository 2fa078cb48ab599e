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

_NOISY = ("kazoo", "pyroute2", "asyncio")


class JsonFormatter(logging.Formatter):
    """One JSON object a line. What is logged with `extra={"fields": …}` has the fields as its own."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON, with an RFC 3339 time in UTC."""
        document: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        document |= getattr(record, "fields", {})
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document)


def configure(config: LogConfig) -> None:
    """Set the root logger up; libraries are heard from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    if config.format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=config.level.upper(), handlers=[handler], force=True)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
