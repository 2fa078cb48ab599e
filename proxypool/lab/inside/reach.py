"""Which targets answer at all?

python -m proxypool.lab.inside.reach TIMEOUT_S ADDRESS:PORT…      (exit code 1 if one does not)
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import sys
import time

from proxypool.lab.inside.instrument import address, say


def reach(targets: list[str], timeout_s: float) -> dict[str, list[str]]:
    """Ask every target every 20 ms until it has answered."""
    links = {text: socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for text in dict.fromkeys(targets)}
    missing, end = dict(links), time.monotonic() + timeout_s
    while missing and time.monotonic() < end:
        for text, link in missing.items():
            with contextlib.suppress(OSError):
                link.connect(address(text))
                link.send(b"?")
        ready = select.select(list(missing.values()), [], [], 0.02)[0]
        if ready:
            time.sleep(0.001)
        for text, link in list(missing.items()):
            if link in ready:
                with contextlib.suppress(OSError):
                    link.recv(64)
                    del missing[text]
    return {"reached": [text for text in links if text not in missing], "missing": list(missing)}


def main(timeout_s: float, targets: list[str]) -> int:
    """Ask, print."""
    found = reach(targets, timeout_s)
    say(json.dumps(found))
    return 1 if found["missing"] else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
