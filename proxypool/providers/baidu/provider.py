"""What is done in the cloud for a pair: cards made, attached, detached, deleted; HAVIPs made, bound, unbound, deleted.

Nothing is remembered: what was made is found again by its name, so that another controller goes on where one crashed.
What was made twice all the same is given back, when the pair's card is known and at the release.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from proxypool.core.config import section
from proxypool.core.model import MemberSpec, NodeSpec, SubnetSpec
from proxypool.providers.baidu.call import ENI, SERVER, Call, is_attached
from proxypool.providers.baidu.naming import Kind, Purpose, purpose_of
from proxypool.providers.baidu.sdk import Card, Cloud, Vip
from proxypool.providers.baidu.settings import (
    INSTANCE_LABEL,
    NAME,
    VPC_LABEL,
    BaiduConfig,
    Place,
    place_of,
    read_credentials,
)
from proxypool.providers.contract import Addresses, Held, Intent, Offer, PoolView, Refused, Unavailable

MAX_PREFIX = 32


def create(table: Mapping[str, Any], view: Callable[[], PoolView]) -> Baidu:  # noqa: ARG001 - the factory's form
    """See `contract.Factory`."""
    return Baidu(section(table, BaiduConfig, f"provider.{NAME}"))


class Baidu:
    """See the module's text."""

    name = NAME

    def __init__(self, config: BaiduConfig) -> None:
        self._config = config
        self._networks: dict[str, IPv4Network] = {}
        """CIDRs of the cloud's subnets, which never change."""
        self._spent: set[str] = set()
        """Tokens whose thing never came about: it was deleted since, or the platform forgot it. Asking with one again
        would get the same answer for a day. Another controller finds out for itself."""

    def offers(self, subnet: SubnetSpec, nodes: Iterable[NodeSpec], deadline_s: float) -> Mapping[str, Offer]:
        """The platform does not tell how many cards a machine may have, so it is asked for one when it is needed."""
        del deadline_s
        try:
            place_of(subnet)
        except Refused as error:
            return {node.id: Offer(0, str(error)) for node in nodes}
        return {
            node.id: Offer(None)
            if node.labels.get(INSTANCE_LABEL)
            else Offer(0, f"node {node.id} has no label {INSTANCE_LABEL}")
            for node in nodes
        }

    def acquire_addresses(self, intent: Intent, nodes: tuple[NodeSpec, ...], deadline_s: float) -> Addresses:
        """A HAVIP bound to the nodes' machines and no others, as the platform limits how many; an egress address bound
        to those cards of the pair that are there.
        """
        call = self._call(deadline_s)
        config = self._config
        purpose = _purpose(Kind.HAVIP, intent)
        havip = call.have_vip(purpose, config.havip_vpc, config.havip_subnet, intent.request)
        machines = {_instance(node) for node in nodes}
        call.bind(havip, machines, SERVER)
        call.unbind(havip, {bound.instance_id for bound in havip.binded_instances or ()} - machines)
        if not config.egress:
            return Addresses(_address(havip))
        place = place_of(intent.subnet)
        egress = call.have_vip(_purpose(Kind.EGRESS, intent), place.vpc, place.subnet, intent.request)
        call.bind(
            egress, {card.eni_id for card in _cards_of(intent, call.cloud.cards(place.vpc)) if is_attached(card)}, ENI
        )
        return Addresses(_address(havip), _address(egress))

    def acquire_card(self, intent: Intent, node: NodeSpec, deadline_s: float) -> MemberSpec:
        """A card attached to the node's machine; the pair's addresses that are there are bound to both."""
        call = self._call(deadline_s)
        place = place_of(intent.subnet)
        instance = _instance(node)
        card = call.have_card(_purpose(Kind.CARD, intent, node.id), place, instance, intent.request)
        for vip, kind in self._vips_of(call, intent):
            call.bind(vip, {instance if kind == SERVER else card.eni_id}, kind)
        return self._member(call, node, place, card)

    def release_card(self, intent: Intent, node: str, deadline_s: float) -> None:
        """All cards of that name: unbound, detached, deleted."""
        call = self._call(deadline_s)
        place = place_of(intent.subnet)
        cards = call.cloud.cards(place.vpc, _purpose(Kind.CARD, intent, node).name)
        vips = self._vips_of(call, intent) if cards else []
        for card in cards:
            for vip, kind in vips:
                call.unbind(vip, {(card.instance_id or "") if kind == SERVER else card.eni_id})
            call.remove_card(card)

    def release_addresses(self, intent: Intent, deadline_s: float) -> None:
        """All HAVIPs of the pair: unbound, deleted."""
        call = self._call(deadline_s)
        for vip, _ in self._vips_of(call, intent):
            call.remove_vip(vip)

    def held(self, pool: str, subnets: Iterable[SubnetSpec], deadline_s: float) -> tuple[Held, ...]:
        """All that is named by us for this pool, in the function network's VPC and in those of the subnets."""
        call = self._call(deadline_s)
        customers = {subnet.labels[VPC_LABEL] for subnet in subnets if subnet.labels.get(VPC_LABEL)}
        found: list[tuple[Purpose | None, str]] = []
        for vpc in sorted(customers):
            found += [(purpose_of(card.name, card.description), card.eni_id) for card in call.cloud.cards(vpc)]
        for vpc in sorted({self._config.havip_vpc, *(customers if self._config.egress else ())}):
            found += [(purpose_of(vip.name, vip.description), vip.ha_vip_id) for vip in call.cloud.vips(vpc)]
        return tuple(
            Held(purpose.subnet, purpose.pair, purpose.node, handle)
            for purpose, handle in found
            if purpose is not None and purpose.pool == pool
        )

    def _vips_of(self, call: Call, intent: Intent) -> list[tuple[Vip, str]]:
        """The pair's floating addresses, with the kind of what they are bound to."""
        config = self._config
        found = [(vip, SERVER) for vip in call.vips(_purpose(Kind.HAVIP, intent), config.havip_vpc)]
        if config.egress:
            found += [(vip, ENI) for vip in call.vips(_purpose(Kind.EGRESS, intent), place_of(intent.subnet).vpc)]
        return found

    def _call(self, deadline_s: float) -> Call:
        config = self._config
        deadline = time.monotonic() + deadline_s
        credentials = read_credentials(config.credentials_file)
        cloud = Cloud(config.endpoint, credentials, config.request_timeout_s, deadline)
        return Call(cloud, deadline, config.poll_interval_s, self._spent)

    def _member(self, call: Call, node: NodeSpec, place: Place, card: Card) -> MemberSpec:
        network = self._networks.get(place.subnet)
        if network is None:
            network = self._networks[place.subnet] = _network(place.subnet, call.cloud.cidr(place.subnet))
        addresses = sorted(card.private_ip_set, key=lambda address: not address.primary)
        if not addresses or not card.mac_address:
            raise Unavailable(f"card {card.eni_id} is attached and has no address or MAC yet")
        try:
            address = IPv4Interface(f"{addresses[0].private_ip_address}/{network.prefixlen}")
        except ValueError as error:
            raise Unavailable(f"card {card.eni_id}: the platform tells no IPv4 address of it: {error}") from error
        if network.prefixlen == MAX_PREFIX:
            raise Refused(f"subnet {place.subnet} is the single address {network}: there is no gateway in it")
        return MemberSpec(
            node=node.id,
            eni=card.mac_address,
            address=address,
            # The first address of every subnet is its gateway's.
            gateway=network.network_address + 1,
        )


def _address(vip: Vip) -> IPv4Address:
    try:
        return IPv4Address(vip.private_ip_address)
    except ValueError as error:
        raise Unavailable(f"HAVIP {vip.ha_vip_id}: the platform tells no IPv4 address of it: {error}") from error


def _network(subnet: str, cidr: str) -> IPv4Network:
    try:
        return IPv4Network(cidr)
    except ValueError as error:
        raise Unavailable(f"subnet {subnet}: the platform tells no IPv4 network of it: {error}") from error


def _cards_of(intent: Intent, cards: Iterable[Card]) -> list[Card]:
    """Those of a pair."""
    wanted = (intent.pool, intent.subnet.id, intent.pair)
    found = [(card, purpose_of(card.name, card.description)) for card in cards]
    return [card for card, to in found if to is not None and (to.pool, to.subnet, to.pair) == wanted]


def _purpose(kind: Kind, intent: Intent, node: str = "") -> Purpose:
    return Purpose(kind, intent.pool, intent.subnet.id, intent.pair, node)


def _instance(node: NodeSpec) -> str:
    instance = node.labels.get(INSTANCE_LABEL)
    if not instance:
        raise Refused(f"node {node.id} has no label {INSTANCE_LABEL}: set it in its configuration, [node.labels]")
    return instance
