"""A platform that starts one instance after the other; runs beside the agent.

python -S -m bench.attaching SOCKET SUBNET ADDRESS COUNT SECONDS

Attaches COUNT addresses from ADDRESS on, each by a request of its own over one connection, then detaches them with one
request, and so on. Prints a JSON list: when each attach was answered (CLOCK_MONOTONIC). Standard library only.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from ipaddress import IPv4Address

OK = b"HTTP/1.1 200 "
LENGTH = b"content-length:"


class Client:
    """The least that speaks HTTP."""

    def __init__(self, path: str) -> None:
        self._link = socket.socket(socket.AF_UNIX)
        self._link.connect(path)
        self._answers = self._link.makefile("rb")

    def post(self, request: bytes) -> None:
        """Send a request that was made before; its answer must be 200."""
        self._link.sendall(request)
        status = self._answers.readline()
        length = 0
        while (line := self._answers.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(LENGTH):
                length = int(line[len(LENGTH) :])
        body = self._answers.read(length)
        if not status.startswith(OK):
            raise SystemExit(body.decode())


def request(verb: str, attachments: list[dict[str, str]]) -> bytes:
    """`attach` or `detach`."""
    body = json.dumps({"attachments": attachments})
    head = f"POST /v1/{verb} HTTP/1.1\r\nHost: agent\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


def main(path: str, subnet: str, first: str, count: str, seconds: str) -> None:
    """Attach and detach until the time is over."""
    wanted = [{"address": str(IPv4Address(first) + number), "subnet": subnet} for number in range(int(count))]
    attaches, detach = [request("attach", [one]) for one in wanted], request("detach", wanted)
    client, answered = Client(path), list[float]()
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        for one in attaches:
            client.post(one)
            answered.append(time.monotonic())
            if answered[-1] >= end:
                break
        client.post(detach)
    print(json.dumps(answered))


if __name__ == "__main__":
    main(*sys.argv[1:])
