"""Owns the vendor's SDK: requests in its words, answers as our structs, failures as the contract's errors.

Each method is one request; it decides nothing and repeats nothing. Names of fields and states are from the reference of
the VPC API, version 1 (https://cloud.baidu.com/doc/VPC/index.html, "API Reference").
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import msgspec
from baidubce.auth.bce_credentials import BceCredentials
from baidubce.bce_client_configuration import BceClientConfiguration
from baidubce.exception import BceHttpClientError, BceServerError
from baidubce.retry.retry_policy import NoRetryPolicy
from baidubce.services.eni.eni_client import EniClient
from baidubce.services.eni.eni_model import EniIPSet
from baidubce.services.havip.havip_client import HavipClient
from baidubce.services.subnet.subnet_client import SubnetClient
from msgspec import Struct

from proxypool.providers.baidu.naming import Purpose
from proxypool.providers.baidu.settings import Credentials, Place
from proxypool.providers.contract import (
    NotAuthorised,
    ProviderError,
    QuotaExceeded,
    Refused,
    Throttled,
    Unavailable,
)

# At level debug it logs the key that requests are signed with.
logging.getLogger("baidubce").setLevel(logging.WARNING)

PAGE = 1000
MAX_PAGES = 100
"""More cards than any VPC has."""
T = TypeVar("T", bound=Struct)


class NotFound(Refused):
    """There is no such thing, or not yet."""


class Conflict(Refused):
    """Not in the state that it is in: it is changing, or it is so already."""


class PrivateIp(Struct, frozen=True, rename="camel"):
    """An address of a card."""

    private_ip_address: str
    primary: bool = False


class Card(Struct, frozen=True, rename="camel"):
    """An elastic network interface."""

    eni_id: str
    name: str = ""
    description: str = ""
    mac_address: str | None = None
    status: str = ""
    """available, attaching, inuse, detaching."""
    instance_id: str | None = None
    private_ip_set: tuple[PrivateIp, ...] = ()
    created_time: str = ""


class Bound(Struct, frozen=True, rename="camel"):
    """What a HAVIP is bound to."""

    instance_id: str
    instance_type: str = ""
    """SERVER or ENI."""


class Vip(Struct, frozen=True, rename="camel"):
    """A HAVIP."""

    ha_vip_id: str
    name: str = ""
    description: str = ""
    private_ip_address: str = ""
    status: str = ""
    binded_instances: tuple[Bound, ...] | None = None
    created_time: str = ""


class _Page(Struct, frozen=True, rename="camel"):
    is_truncated: bool = False
    next_marker: str | None = None


class _Cards(_Page, frozen=True, rename="camel"):
    enis: tuple[Card, ...] = ()


class _Vips(_Page, frozen=True, rename="camel"):
    ha_vips: tuple[Vip, ...] = ()


class _NewCard(Struct, frozen=True, rename="camel"):
    eni_id: str


class _NewVip(Struct, frozen=True, rename="camel"):
    ha_vip_id: str


class _Subnet(Struct, frozen=True, rename="camel"):
    cidr: str


class _SubnetAnswer(Struct, frozen=True, rename="camel"):
    subnet: _Subnet


P = TypeVar("P", bound=_Page)


class Cloud:
    """Requests until a moment.

    Args:
        endpoint: scheme, host and port.
        credentials: whose requests they are.
        timeout_s: of one request.
        deadline: monotonic seconds; no request begins after it.

    Raises (every method): one of the contract's errors; `NotFound` and `Conflict` are of the kind refused.
    """

    def __init__(self, endpoint: str, credentials: Credentials, timeout_s: float, deadline: float) -> None:
        keys = BceCredentials(credentials.access_key_id, credentials.secret_access_key)
        config = BceClientConfiguration(credentials=keys, endpoint=endpoint, retry_policy=NoRetryPolicy())
        self._cards = EniClient(config)
        self._vips = HavipClient(config)
        self._subnets = SubnetClient(config)
        self._timeout_s = timeout_s
        self._deadline = deadline

    def cards(self, vpc: str, name: str | None = None) -> list[Card]:
        """Those of a VPC; with a name, of that name."""
        only = {} if name is None else {"name": name}
        pages = self._pages(_Cards, f"listing the cards of {vpc}", self._cards.list_eni, vpc_id=vpc, **only)
        # Looked at again: an endpoint that does not know the filter answers with all.
        return [card for page in pages for card in page.enis if name is None or card.name == name]

    def card(self, eni_id: str) -> Card:
        """One card, as it is now."""
        return self._ask(Card, f"looking at card {eni_id}", self._cards.get_eni_details, eni_id=eni_id)

    def create_card(self, purpose: Purpose, place: Place, token: str) -> str:
        """Its id."""
        groups = {"security_group_ids": list(place.security_groups)} if place.security_groups else {}
        answer = self._ask(
            _NewCard,
            f"creating {purpose.description}",
            self._cards.create_eni,
            name=purpose.name,
            subnet_id=place.subnet,
            description=purpose.description,
            # An empty address: the platform chooses.
            eni_ip_address_list=[EniIPSet(public_ip="", private_ip="", primary=True)],
            client_token=token,
            **groups,
        )
        return answer.eni_id

    def attach_card(self, eni_id: str, instance: str) -> None:
        """To a virtual machine; it takes some seconds after the answer."""
        what = f"attaching card {eni_id} to {instance}"
        self._do(what, self._cards.attach_eni_instance, eni_id=eni_id, instance_id=instance)

    def detach_card(self, eni_id: str, instance: str) -> None:
        """From its virtual machine; it takes some seconds after the answer."""
        what = f"detaching card {eni_id} from {instance}"
        self._do(what, self._cards.detach_eni_instance, eni_id=eni_id, instance_id=instance)

    def delete_card(self, eni_id: str) -> None:
        """One that is not attached."""
        self._do(f"deleting card {eni_id}", self._cards.delete_eni, eni_id=eni_id)

    def vips(self, vpc: str) -> list[Vip]:
        """The HAVIPs of a VPC."""
        pages = self._pages(_Vips, f"listing the HAVIPs of {vpc}", self._vips.get_havip_detail_list, vpc_id=vpc)
        return [vip for page in pages for vip in page.ha_vips]

    def vip(self, vip_id: str) -> Vip:
        """One HAVIP, as it is now."""
        return self._ask(Vip, f"looking at HAVIP {vip_id}", self._vips.get_havip_detail, havip_id=vip_id)

    def create_vip(self, purpose: Purpose, subnet: str, token: str) -> str:
        """Its id."""
        answer = self._ask(
            _NewVip,
            f"creating {purpose.description}",
            self._vips.create_havip,
            name=purpose.name,
            subnet_id=subnet,
            private_ip_address="",
            description=purpose.description,
            client_token=token,
        )
        return answer.ha_vip_id

    def bind_vip(self, vip_id: str, instances: list[str], kind: str) -> None:
        """To virtual machines (SERVER) or cards (ENI)."""
        what = f"binding HAVIP {vip_id} to {', '.join(instances)}"
        self._do(what, self._vips.havip_attach_instance, instance_ids=instances, instance_type=kind, havip_id=vip_id)

    def unbind_vip(self, vip_id: str, instances: list[str], kind: str) -> None:
        """From virtual machines (SERVER) or cards (ENI)."""
        what = f"unbinding HAVIP {vip_id} from {', '.join(instances)}"
        self._do(what, self._vips.havip_detach_instance, instance_ids=instances, instance_type=kind, havip_id=vip_id)

    def delete_vip(self, vip_id: str) -> None:
        """One that is bound to nothing."""
        self._do(f"deleting HAVIP {vip_id}", self._vips.delete_havip, havip_id=vip_id)

    def cidr(self, subnet: str) -> str:
        """Of one of the cloud's subnets."""
        what = f"looking at subnet {subnet}"
        return self._ask(_SubnetAnswer, what, self._subnets.get_subnet, subnet_id=subnet).subnet.cidr

    def _pages(self, kind: type[P], what: str, method: Callable[..., Any], **arguments: Any) -> Iterator[P]:
        page = self._ask(kind, what, method, max_keys=PAGE, **arguments)
        yield page
        seen: set[str] = set()
        while page.is_truncated and page.next_marker:
            if page.next_marker in seen or len(seen) >= MAX_PAGES:
                raise Unavailable(f"{what}: the list has no end")
            seen.add(page.next_marker)
            page = self._ask(kind, what, method, max_keys=PAGE, marker=page.next_marker, **arguments)
            yield page

    def _ask(self, kind: type[T], what: str, method: Callable[..., Any], **arguments: Any) -> T:
        answer = self._do(what, method, **arguments)
        try:
            return msgspec.json.decode(answer or "{}", type=kind)
        except (ValueError, RecursionError) as error:
            raise Unavailable(f"{what}: the answer is not understood: {error}") from error

    def _do(self, what: str, method: Callable[..., Any], **arguments: Any) -> str | None:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise Unavailable(f"{what}: no time is left")
        timeout_s = min(left_s, self._timeout_s)
        overlay = BceClientConfiguration(
            connection_timeout_in_mills=max(int(timeout_s * 1000), 1), retry_policy=NoRetryPolicy()
        )
        try:
            answer: str | None = method(**arguments, config=overlay).raw_data
        except BceHttpClientError as error:
            raise failure(what, error) from error
        return answer


_THROTTLED = ("ratelimit", "throttl", "toomanyrequests", "toofrequent", "flowcontrol")
_QUOTA = ("quota", "exceedlimit", "limitexceeded", "hasnomoreip", "cannotattachmore")
_AUTH = ("accessdenied", "accesskey", "signature", "authheader", "qualifynotpass", "requestexpired", "nopermission")
_NOT_FOUND = ("nosuch", "notfound", "notexist", "eniidexception")
_CONFLICT = ("status", "inuse", "alreadyexist", "repeat", "conflict", "binded", "attached")


def failure(what: str, error: BceHttpClientError) -> ProviderError:
    """Which of the contract's errors a failed request is.

    The platform's codes are many, not all documented, and differ between services, so that the words in them decide,
    then the HTTP status. For an answer that is none (a gateway's HTML page) the SDK has no code.
    """
    server = error.last_error
    if not isinstance(server, BceServerError):
        return Unavailable(f"{what}: {type(server).__name__}: {server}")
    status = server.status_code or 0
    code = str(server.code or "")
    message = f"{what}: {code or f'HTTP {status}'}: {server} (request {server.request_id})"
    word = code.lower().replace(".", "")
    for words, statuses, kind in (
        (_THROTTLED, {429}, Throttled),
        (_QUOTA, set(), QuotaExceeded),
        (_AUTH, {401, 403}, NotAuthorised),
        (_NOT_FOUND, {404}, NotFound),
        (_CONFLICT, {409}, Conflict),
    ):
        if status in statuses or any(part in word for part in words):
            return kind(message)
    return Unavailable(message) if status >= 500 or status == 0 else Refused(message)  # noqa: PLR2004 - HTTP's
