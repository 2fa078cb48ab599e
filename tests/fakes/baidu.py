"""A small Baidu AI Cloud on loopback: VPC API v1, as far as the provider uses it, with state, tokens and signatures.

It behaves as its reference says, and as badly as real ones do when told to: `faults` are taken in order by the requests
they match; `lag_s` is how long what was made cannot be seen, `change_s` how long a change of state takes.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address, IPv4Network
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

ACCESS_KEY = "AK-test"
SECRET_KEY = "SK-test"  # noqa: S105 - of a fake
MAX_BOUND = 5


@dataclass(slots=True)
class Fault:
    """What goes wrong with the next requests of an operation."""

    operation: str
    """As `create-eni`, or `*`."""
    how: str
    """error; lie (answer and do nothing); deaf (do it and never answer); hang (neither); twice (make two)."""
    status: int = 500
    code: str = "InternalError"
    times: int = 1


@dataclass(slots=True)
class Request:
    """What was asked."""

    operation: str
    token: str
    body: dict[str, Any]


class ApiError(Exception):
    def __init__(self, status: int, code: str, message: str = "as the test wants it") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(slots=True)
class Thing:
    """A card or HAVIP."""

    document: dict[str, Any]
    visible_at: float
    pending: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    """Changes that come into force later."""

    def now(self) -> dict[str, Any]:
        for at, changes in list(self.pending):
            if time.monotonic() >= at:
                self.document.update(changes)
                self.pending.remove((at, changes))
        return self.document


class FakeBaidu:
    """The service; `url` is its endpoint."""

    def __init__(self) -> None:
        self.subnets = {
            "sbn-function": ("vpc-function", IPv4Network("192.168.0.0/20")),
            "sbn-c1": ("vpc-c1", IPv4Network("172.16.101.0/24")),
            "sbn-c2": ("vpc-c2", IPv4Network("172.16.101.0/24")),
        }
        self.cards: dict[str, Thing] = {}
        self.vips: dict[str, Thing] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.lag_s = 0.0
        self.change_s = 0.02
        self.card_quota = 100
        self.secret = SECRET_KEY
        self._tokens: dict[str, tuple[str, dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._released = threading.Event()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                fake._answer(self)

            do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - http.server's names

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's
                """It would be written to standard error."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def asked(self, operation: str) -> list[Request]:
        """The requests of an operation."""
        return [request for request in self.requests if request.operation == operation]

    # -- one request ---

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        url = urlsplit(handler.path)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        status = 200
        document: dict[str, Any] = {}
        how = ""
        try:
            self._check_signature(handler, url.path, url.query)
            operation, act = self._route(handler.command, unquote(url.path), query)
            arguments = json.loads(body) if body else {}
            with self._lock:
                self.requests.append(Request(operation, query.get("clientToken", ""), arguments))
                how, document = self._obey(operation, act, query, arguments)
        except ApiError as error:
            status, document = error.status, {"code": error.code, "message": str(error), "requestId": "r-1"}
        if how in {"deaf", "hang"}:
            # Never answers; the client's time runs out.
            self._released.wait(30)
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        payload = json.dumps(document).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json;charset=UTF-8")
        handler.send_header("Content-Length", str(len(payload)))
        handler.send_header("Connection", "close")
        handler.end_headers()
        # Whoever asked may have given up.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            handler.wfile.write(payload)

    def _obey(
        self,
        operation: str,
        act: Callable[[dict[str, Any]], dict[str, Any]],
        query: dict[str, str],
        body: dict[str, Any],
    ) -> tuple[str, dict[str, Any]]:
        fault = self._fault(operation)
        how = fault.how if fault else ""
        if fault and how == "error":
            raise ApiError(fault.status, fault.code)
        if how == "hang":
            return how, {}
        token = query.get("clientToken")
        changes = not operation.startswith(("list", "get"))
        if changes and not token:
            raise ApiError(400, "BadRequest", "no clientToken")
        if token and token in self._tokens:
            before, document = self._tokens[token]
            if before != operation + json.dumps(body, sort_keys=True):
                raise ApiError(400, "InvalidClientToken", "the token was used for something else")
            return how, document
        if how == "lie":
            made = {"eniId": "eni-ghost"} if operation == "create-eni" else {"haVipId": "havip-ghost"}
            document = made if operation.startswith("create") else {}
        else:
            document = act(body)
            if how == "twice":
                act(body)
        if token:
            self._tokens[token] = (operation + json.dumps(body, sort_keys=True), document)
        return how, document

    def _fault(self, operation: str) -> Fault | None:
        for fault in self.faults:
            if fault.operation in {operation, "*"}:
                fault.times -= 1
                if fault.times == 0:
                    self.faults.remove(fault)
                return fault
        return None

    def _check_signature(self, handler: BaseHTTPRequestHandler, path: str, query: str) -> None:
        """As https://cloud.baidu.com/doc/Reference/s/njwvz1yfu describes it."""
        parts = handler.headers.get("Authorization", "").split("/")
        if len(parts) != 6 or parts[0] != "bce-auth-v1":
            raise ApiError(400, "InvalidHTTPAuthHeader")
        if parts[1] != ACCESS_KEY:
            raise ApiError(403, "InvalidAccessKeyId")
        key = hmac.new(self.secret.encode(), "/".join(parts[:4]).encode(), hashlib.sha256).hexdigest()
        signed = {
            name.lower(): value.strip()
            for name, value in handler.headers.items()
            if name.lower() in {"host", "content-length", "content-type", "content-md5"}
            or name.lower().startswith("x-bce-")
        }
        headers = sorted(f"{quote(name, safe='')}:{quote(value, safe='')}" for name, value in signed.items() if value)
        pairs = sorted(query.split("&")) if query else []
        text = "\n".join([handler.command, path, "&".join(pairs), "\n".join(headers)])
        if hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest() != parts[5]:
            raise ApiError(403, "SignatureDoesNotMatch")

    def _route(
        self, method: str, path: str, query: dict[str, str]
    ) -> tuple[str, Callable[[dict[str, Any]], dict[str, Any]]]:
        _, noun, key, *_ = [*path.strip("/").split("/"), "", ""]
        change = next((word for word in ("attach", "detach") if word in query), "")
        routes: dict[tuple[str, str, bool, str], tuple[str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
            ("GET", "subnet", True, ""): ("get-subnet", lambda _: self._subnet(key)),
            ("GET", "eni", False, ""): ("list-eni", lambda _: self._list_cards(query)),
            ("POST", "eni", False, ""): ("create-eni", self._create_card),
            ("GET", "eni", True, ""): ("get-eni", lambda _: self._see(self.cards, key).now()),
            ("PUT", "eni", True, "attach"): ("attach-eni", lambda body: self._attach(key, body["instanceId"])),
            ("PUT", "eni", True, "detach"): ("detach-eni", lambda body: self._detach(key, body["instanceId"])),
            ("DELETE", "eni", True, ""): ("delete-eni", lambda _: self._delete_card(key)),
            ("GET", "havip", False, ""): ("list-havip", lambda _: self._list_vips(query)),
            ("POST", "havip", False, ""): ("create-havip", self._create_vip),
            ("GET", "havip", True, ""): ("get-havip", lambda _: self._see(self.vips, key).now()),
            ("PUT", "havip", True, "attach"): ("bind-havip", lambda body: self._bind(key, body)),
            ("PUT", "havip", True, "detach"): ("unbind-havip", lambda body: self._unbind(key, body)),
            ("DELETE", "havip", True, ""): ("delete-havip", lambda _: self._delete_vip(key)),
        }
        route = routes.get((method, noun, bool(key), change))
        if route is None:
            raise ApiError(404, "InvalidURI")
        return route

    # -- cards ---

    def _create_card(self, body: dict[str, Any]) -> dict[str, Any]:
        if len(self.cards) >= self.card_quota:
            raise ApiError(403, "QuotaExceeded", "no more cards")
        vpc, _ = self._vpc_of(body["subnetId"])
        number = next(self._numbers)
        key = f"eni-{number}"
        document = {
            "eniId": key,
            "name": body["name"],
            "description": body.get("description", ""),
            "vpcId": vpc,
            "subnetId": body["subnetId"],
            "status": "available",
            "instanceId": None,
            "macAddress": f"fa:f6:00:00:00:{number:02x}",
            "privateIpSet": [{"primary": True, "privateIpAddress": str(self._address(body["subnetId"]))}],
            "securityGroupIds": body.get("securityGroupIds", []),
            "createdTime": f"2026-01-01T00:00:{number:02d}Z",
        }
        self.cards[key] = Thing(document, time.monotonic() + self.lag_s)
        return {"eniId": key}

    def _attach(self, key: str, instance: str) -> dict[str, Any]:
        card = self._see(self.cards, key)
        if card.now()["status"] != "available":
            raise ApiError(400, "EniStatusException", f"the card is {card.document['status']}")
        card.document.update(status="attaching", instanceId=instance)
        card.pending.append((time.monotonic() + self.change_s, {"status": "inuse"}))
        return {}

    def _detach(self, key: str, instance: str) -> dict[str, Any]:
        card = self._see(self.cards, key)
        if card.now()["status"] != "inuse" or card.document["instanceId"] != instance:
            raise ApiError(400, "EniStatusException", f"the card is {card.document['status']}")
        card.document["status"] = "detaching"
        card.pending.append((time.monotonic() + self.change_s, {"status": "available", "instanceId": None}))
        return {}

    def _delete_card(self, key: str) -> dict[str, Any]:
        card = self._see(self.cards, key)
        if card.now()["status"] != "available":
            raise ApiError(400, "EniStatusException", f"the card is {card.document['status']}")
        if any(key in self._bound(vip) for vip in self.vips.values()):
            raise ApiError(400, "EniInUseException", "a HAVIP is bound to the card")
        del self.cards[key]
        return {}

    def _list_cards(self, query: dict[str, str]) -> dict[str, Any]:
        if "vpcId" not in query:
            raise ApiError(400, "BadRequest", "no vpcId")
        return self._page(self.cards, query, "enis")

    # -- HAVIPs ---

    def _create_vip(self, body: dict[str, Any]) -> dict[str, Any]:
        vpc, _ = self._vpc_of(body["subnetId"])
        number = next(self._numbers)
        key = f"havip-{number}"
        document = {
            "haVipId": key,
            "name": body["name"],
            "description": body["description"],
            "vpcId": vpc,
            "subnetId": body["subnetId"],
            "status": "available",
            "privateIpAddress": str(self._address(body["subnetId"])),
            "createdTime": f"2026-01-01T00:00:{number:02d}Z",
        }
        self.vips[key] = Thing(document, time.monotonic() + self.lag_s)
        return {"haVipId": key}

    def _bind(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        vip = self._see(self.vips, key)
        bound = list(vip.now().get("bindedInstances", ()))
        if set(body["instanceIds"]) & self._bound(vip):
            raise ApiError(409, "HaVipAlreadyBinded")
        if body["instanceType"] == "ENI" and not set(body["instanceIds"]) <= set(self.cards):
            raise ApiError(404, "EniIdException")
        bound += [
            {"instanceId": one, "instanceType": body["instanceType"], "master": False} for one in body["instanceIds"]
        ]
        if len(bound) > MAX_BOUND:
            raise ApiError(400, "HaVipBindExceedLimitException")
        vip.document.update(bindedInstances=bound, status="bound")
        return {}

    def _unbind(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        vip = self._see(self.vips, key)
        if not set(body["instanceIds"]) <= self._bound(vip):
            raise ApiError(404, "NoSuchObject", "not bound to it")
        bound = [one for one in vip.document["bindedInstances"] if one["instanceId"] not in body["instanceIds"]]
        vip.document.update(bindedInstances=bound, status="bound" if bound else "available")
        return {}

    def _delete_vip(self, key: str) -> dict[str, Any]:
        if self._bound(self._see(self.vips, key)):
            raise ApiError(400, "HaVipInUseException")
        del self.vips[key]
        return {}

    def _list_vips(self, query: dict[str, str]) -> dict[str, Any]:
        return self._page(self.vips, query, "haVips")

    # -- both ---

    def _page(self, things: dict[str, Thing], query: dict[str, str], field_name: str) -> dict[str, Any]:
        """Two on a page: whoever forgets the next page is found out."""
        now = time.monotonic()
        found = [
            thing.now()
            for thing in things.values()
            if now >= thing.visible_at
            and thing.document["vpcId"] == query.get("vpcId", thing.document["vpcId"])
            and thing.document["name"] == query.get("name", thing.document["name"])
        ]
        start = int(query.get("marker", 0))
        page = {field_name: found[start : start + 2], "isTruncated": len(found) > start + 2, "maxKeys": 2}
        return page | ({"nextMarker": str(start + 2)} if page["isTruncated"] else {})

    def _see(self, things: dict[str, Thing], key: str) -> Thing:
        thing = things.get(key)
        if thing is None or time.monotonic() < thing.visible_at:
            raise ApiError(404, "NoSuchObject", f"there is no {key}")
        return thing

    def _bound(self, vip: Thing) -> set[str]:
        return {one["instanceId"] for one in vip.document.get("bindedInstances", ())}

    def _vpc_of(self, subnet: str) -> tuple[str, IPv4Network]:
        if subnet not in self.subnets:
            raise ApiError(404, "NoSuchSubnet")
        return self.subnets[subnet]

    def _subnet(self, key: str) -> dict[str, Any]:
        vpc, network = self._vpc_of(key)
        return {"subnet": {"subnetId": key, "vpcId": vpc, "cidr": str(network), "zoneName": "cn-bj-a"}}

    def _address(self, subnet: str) -> IPv4Address:
        return self.subnets[subnet][1].network_address + 10 + next(self._numbers)
