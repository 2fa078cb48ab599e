#!/usr/bin/env python3
"""An example of a program for proxypool's provider `command`: it gives out what an inventory lists.

The inventory is a JSON file, named by the environment variable INVENTORY:

    {"havips": ["192.168.4.100", …],
     "cards": {"s1": [{"node": "node-a", "eni": "eth5", "address": "172.16.101.21/24", "gateway": "172.16.101.1"}, …]}}

What is given to whom it notes in the same file. Where this one looks into its list, yours would ask a platform to make
a card; all the rest can stay: the same intent gets the same again, and what is released is simply not there any more.
Standard library only.
"""

import contextlib
import fcntl
import json
import os
import sys


class Failure(Exception):
    """What proxypool is told instead of an answer."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@contextlib.contextmanager
def inventory():
    """The inventory, for this process alone: calls for different subnets come at the same time."""
    path = os.environ["INVENTORY"]
    with open(path + ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with open(path, encoding="utf-8") as file:
            stock = json.load(file)
        stock.setdefault("given", {})
        yield stock
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(stock, file, indent=1)
        # A crash leaves the old file or the new one, never half of one.
        os.replace(path + ".new", path)


def key_of(request, node=None):
    """What the same intent is known by."""
    return "/".join([request["pool"], request["subnet"]["id"], request["pair"], *([node] if node else [])])


def free_cards(stock, subnet):
    """Cards that nobody has."""
    given = list(stock["given"].values())
    return [card for card in stock["cards"].get(subnet, []) if card not in given]


def offers(stock, request):
    """Node -> how many cards it can get."""
    subnet = request["subnet"]["id"]
    free = [card["node"] for card in free_cards(stock, subnet)]
    return {"offers": {node["id"]: {"cards": free.count(node["id"])} for node in request["nodes"]}}


def acquire_card(stock, request):
    """The pair's card on a node."""
    node = request["node"]["id"]
    key = key_of(request, node)
    if key not in stock["given"]:
        free = [card for card in free_cards(stock, request["subnet"]["id"]) if card["node"] == node]
        if not free:
            raise Failure("quota", f"no card is left on node {node}")
        stock["given"][key] = free[0]
    return {"member": stock["given"][key]}


def acquire_addresses(stock, request):
    """The pair's HaVip."""
    key = key_of(request)
    if key not in stock["given"]:
        free = [havip for havip in stock["havips"] if havip not in stock["given"].values()]
        if not free:
            raise Failure("quota", "no HaVip is left")
        stock["given"][key] = free[0]
    return {"havip": stock["given"][key], "egress_address": None}


def release_card(stock, request):
    """Give the card back, if there is one."""
    stock["given"].pop(key_of(request, request["node"]), None)
    return {}


def release_addresses(stock, request):
    """Give the HaVip back, if there is one."""
    stock["given"].pop(key_of(request), None)
    return {}


def held(stock, request):
    """All that is given for a pool."""
    found = []
    for key, thing in stock["given"].items():
        pool, subnet, pair, *node = key.split("/")
        if pool == request["pool"]:
            handle = thing["eni"] if node else thing
            found.append({"subnet": subnet, "pair": pair, "node": "".join(node), "handle": handle})
    return {"held": found}


OPERATIONS = {
    "offers": offers,
    "acquire-card": acquire_card,
    "acquire-addresses": acquire_addresses,
    "release-card": release_card,
    "release-addresses": release_addresses,
    "held": held,
}


def main() -> int:
    """One request from standard input, one answer to standard output."""
    request = json.load(sys.stdin)
    try:
        with inventory() as stock:
            answer = OPERATIONS[request["operation"]](stock, request)
    except Failure as failure:
        answer = {"error": {"kind": failure.kind, "message": str(failure)}}
    json.dump({"version": 1, **answer}, sys.stdout)
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main())
