"""What a kernel makes of IPIP where proxypool uses multipoint GRE. Run inside a guest; prints one JSON object.

A host (192.168.4.11) and a node (192.168.4.1, two HaVips, one per customer) share an underlay. Each question is asked
of ``ipip`` and, where there is an answer, of ``gre``. Nothing of proxypool is under test here.
"""

import json
import subprocess
import sys
import time

HOST, NODE = "host", "node"
HOST_UNDERLAY = "192.168.4.11"
HAVIP_1, HAVIP_2 = "192.168.4.100", "192.168.4.200"
HOST_TUNNEL = "100.64.0.1"
CUSTOMER = "172.16.101.1"


def ip(namespace: str, *words: str) -> str:
    """Run ``ip`` in a namespace; return its error, or an empty string."""
    done = subprocess.run(["ip", "-n", namespace, *words], capture_output=True, text=True, check=False)
    return done.stderr.strip()


def must(namespace: str, *words: str) -> None:
    """Run ``ip``; it has to succeed."""
    error = ip(namespace, *words)
    if error:
        raise SystemExit(f"ip -n {namespace} {' '.join(words)}: {error}")


def show(namespace: str, *words: str) -> str:
    """Return what ``ip`` shows."""
    return subprocess.run(["ip", "-n", namespace, *words], capture_output=True, text=True, check=True).stdout.strip()


def answers(namespace: str, source: str, target: str) -> bool:
    """Tell whether a ping is answered within a second."""
    command = ["ip", "netns", "exec", namespace, "ping", "-c1", "-W1", "-I", source, target]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def counters(namespace: str, device: str) -> dict[str, int]:
    """Return the device's transmit counters."""
    stats = json.loads(show(namespace, "-j", "-s", "link", "show", device))[0]["stats64"]["tx"]
    return {name: stats[name] for name in ("packets", "errors", "collisions")}


def lay_underlay() -> None:
    """Make the two machines anew."""
    for name in (HOST, NODE):
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "add", name], check=True)
        must(name, "link", "set", "lo", "up")
    must(HOST, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", NODE)
    must(HOST, "addr", "add", f"{HOST_UNDERLAY}/24", "dev", "eth0")
    must(NODE, "addr", "add", "192.168.4.1/24", "dev", "eth0")
    for havip in (HAVIP_1, HAVIP_2):
        must(NODE, "addr", "add", f"{havip}/32", "dev", "eth0")
    for name in (HOST, NODE):
        must(name, "link", "set", "eth0", "up")
    deadline = time.monotonic() + 10
    while not answers(HOST, HOST_UNDERLAY, HAVIP_1):
        if time.monotonic() > deadline:
            raise SystemExit("the underlay does not come up")


def add_tunnel(namespace: str, name: str, kind: str, local: str, address: str, *more: str) -> None:
    """Add a tunnel without a remote, with an address, and set it up."""
    must(namespace, "link", "add", name, "type", kind, "local", local, *more)
    must(namespace, "addr", "add", f"{address}/32", "dev", name)
    must(namespace, "link", "set", name, "up")


def two_devices(kind: str, *keys: tuple[str, ...]) -> str:
    """Add two tunnels with one local address, as a host that reaches two customers has; return the kernel's refusal."""
    lay_underlay()
    first, second = keys or ((), ())
    must(HOST, "link", "add", "t1", "type", kind, "local", HOST_UNDERLAY, *first)
    return ip(HOST, "link", "add", "t2", "type", kind, "local", HOST_UNDERLAY, *second)


def neighbour(kind: str, *key: str) -> dict[str, object]:
    """Map the far end by a neighbour entry on both sides and send one packet."""
    lay_underlay()
    add_tunnel(HOST, "t1", kind, HOST_UNDERLAY, HOST_TUNNEL, *key)
    add_tunnel(NODE, "t1", kind, HAVIP_1, CUSTOMER, *key)
    must(HOST, "route", "add", f"{CUSTOMER}/32", "via", HAVIP_1, "dev", "t1", "onlink", "src", HOST_TUNNEL)
    must(NODE, "route", "add", f"{HOST_TUNNEL}/32", "dev", "t1")
    if kind == "gre":
        must(HOST, "neigh", "replace", HAVIP_1, "lladdr", HAVIP_1, "dev", "t1", "nud", "permanent")
    refusal = ip(NODE, "neigh", "replace", HOST_TUNNEL, "lladdr", HOST_UNDERLAY, "dev", "t1", "nud", "permanent")
    result: dict[str, object] = {
        "refusal": refusal,
        "shown": show(NODE, "neigh", "show", "dev", "t1"),
        "answered": answers(HOST, HOST_TUNNEL, CUSTOMER),
        "node sent": counters(NODE, "t1"),
    }
    if kind == "ipip":
        must(NODE, "route", "replace", f"{HOST_TUNNEL}/32", "via", HOST_UNDERLAY, "dev", "t1", "onlink")
        result["answered with a route per host"] = answers(HOST, HOST_TUNNEL, CUSTOMER)
    return result


def wrong_customer(kind: str, *keys: tuple[str, ...]) -> bool:
    """Send the first customer's packet to the second one's HaVip, as a stale entry does; tell whether it is taken."""
    lay_underlay()
    key_1, key_2 = keys or ((), ())
    must(HOST, "link", "add", "t1", "type", kind, "local", HOST_UNDERLAY, "remote", HAVIP_2, *key_1)
    must(HOST, "addr", "add", f"{HOST_TUNNEL}/32", "dev", "t1")
    must(HOST, "link", "set", "t1", "up")
    must(HOST, "route", "add", f"{CUSTOMER}/32", "dev", "t1", "src", HOST_TUNNEL)
    add_tunnel(NODE, "t2", kind, HAVIP_2, CUSTOMER, *key_2)
    answers(HOST, HOST_TUNNEL, CUSTOMER)
    received = json.loads(show(NODE, "-j", "-s", "link", "show", "t2"))[0]["stats64"]["rx"]["packets"]
    return bool(received)


def ipv6_inside(kind: str, *key: str) -> dict[str, int]:
    """Send an IPv6 packet into the tunnel; return what the device counted."""
    lay_underlay()
    must(HOST, "link", "add", "t1", "type", kind, "local", HOST_UNDERLAY, "remote", HAVIP_1, *key)
    must(HOST, "link", "set", "t1", "up")
    ip(HOST, "-6", "addr", "add", "fd00::1/64", "dev", "t1", "nodad")
    before = counters(HOST, "t1")
    answers(HOST, "fd00::1", "fd00::2")
    after = counters(HOST, "t1")
    return {name: after[name] - before[name] for name in after}


def main() -> None:
    """Ask everything."""
    key_7, key_8 = ("key", "7"), ("key", "8")
    lay_underlay()
    results = {
        "key refused": {
            "ipip": bool(ip(HOST, "link", "add", "t1", "type", "ipip", "local", HOST_UNDERLAY, *key_7)),
            "gre": bool(ip(HOST, "link", "add", "t1", "type", "gre", "local", HOST_UNDERLAY, *key_7)),
        },
        "second device, same local": {
            "ipip": two_devices("ipip"),
            "gre, another key": two_devices("gre", key_7, key_8),
            "gre, same key": two_devices("gre", key_7, key_7),
        },
        "neighbour": {"ipip": neighbour("ipip"), "gre": neighbour("gre", *key_7)},
        "wrong customer": {"ipip": wrong_customer("ipip"), "gre": wrong_customer("gre", key_7, key_8)},
        "IPv6 inside": {"ipip": ipv6_inside("ipip"), "gre": ipv6_inside("gre", *key_7)},
    }
    json.dump(results, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
