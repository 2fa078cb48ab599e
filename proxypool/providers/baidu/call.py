"""One call of the provider's: until its deadline, what is wanted is asked for and looked at until it is so.

What is *made* carries a token derived from the intent, so that asking twice makes one. What is *changed* (attached,
bound, deleted) is compared with what is there, before and after: the platform's "done" is believed when it can be seen,
and its "already so" is no error. A change needs no token; a remembered one would only answer for what was undone since.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TypeVar

from proxypool.providers.baidu.naming import Purpose
from proxypool.providers.baidu.sdk import Card, Cloud, Conflict, NotFound, Vip
from proxypool.providers.baidu.settings import Place
from proxypool.providers.contract import Unavailable

T = TypeVar("T")
SERVER = "SERVER"
ENI = "ENI"


class Vanished(Unavailable):
    """What was there is deleted. When something is wanted, asking again makes another."""


class Call:
    """One call of the provider's: until its deadline, what is wanted is asked for and looked at until it is so."""

    def __init__(self, cloud: Cloud, deadline: float, poll_interval_s: float, spent: set[str]) -> None:
        self.cloud = cloud
        self._deadline = deadline
        self._poll_interval_s = poll_interval_s
        self._spent = spent

    # -- cards ---

    def have_card(self, purpose: Purpose, place: Place, instance: str, request: str) -> Card:
        """Made, if it is not there, and attached to the machine."""
        # Of several, the one that may be in use already: attached where it should be; then the oldest.
        cards = sorted(
            self.cloud.cards(place.vpc, purpose.name),
            key=lambda card: (card.instance_id != instance, card.created_time, card.eni_id),
        )
        if not cards:
            card = self._make(
                purpose, request, lambda token: self.cloud.create_card(purpose, place, token), self.cloud.card
            )
        else:
            card = cards[0]
        if card.instance_id and card.instance_id != instance:
            # The node is another machine now.
            card = self._detached(card)
        card = self._settled(
            f"card {card.eni_id} is not attached to {instance}",
            card,
            lambda: self.cloud.card(card.eni_id),
            lambda seen: is_attached(seen) and seen.instance_id == instance,
            lambda: self.cloud.attach_card(card.eni_id, instance),
        )
        for surplus in cards[1:]:
            if not surplus.instance_id:
                self.remove_card(surplus)
        return card

    def remove_card(self, card: Card) -> None:
        """Detached and deleted."""
        if card.instance_id:
            try:
                card = self._detached(card)
            except Vanished:
                return
        self._gone(
            f"card {card.eni_id} is not deleted",
            lambda: self.cloud.card(card.eni_id),
            lambda: self.cloud.delete_card(card.eni_id),
        )

    def _detached(self, card: Card) -> Card:
        return self._settled(
            f"card {card.eni_id} is not detached from {card.instance_id}",
            card,
            lambda: self.cloud.card(card.eni_id),
            lambda seen: not seen.instance_id and seen.status == "available",
            lambda: self.cloud.detach_card(card.eni_id, card.instance_id or ""),
        )

    # -- HAVIPs ---

    def vips(self, purpose: Purpose, vpc: str) -> list[Vip]:
        """Those that were made for a purpose: one, as a rule."""
        return [vip for vip in self.cloud.vips(vpc) if vip.name == purpose.name]

    def have_vip(self, purpose: Purpose, vpc: str, subnet: str, request: str) -> Vip:
        """Made, if it is not there."""
        vips = self.vips(purpose, vpc)
        if vips:
            # Of several, one that is in use; then the oldest. The others go when the pair does.
            return min(vips, key=lambda vip: (not vip.binded_instances, vip.created_time, vip.ha_vip_id))
        return self._make(purpose, request, lambda token: self.cloud.create_vip(purpose, subnet, token), self.cloud.vip)

    def bind(self, vip: Vip, instances: set[str], kind: str) -> None:
        """To these as well."""
        missing = instances - _bound(vip)
        if missing:
            self._settled(
                f"HAVIP {vip.ha_vip_id} is not bound to {', '.join(sorted(missing))}",
                vip,
                lambda: self.cloud.vip(vip.ha_vip_id),
                lambda seen: instances <= _bound(seen),
                lambda: self.cloud.bind_vip(vip.ha_vip_id, sorted(missing), kind),
            )

    def unbind(self, vip: Vip, instances: set[str]) -> None:
        """From these."""
        for kind in (SERVER, ENI):
            of_kind = {bound.instance_id for bound in vip.binded_instances or () if bound.instance_type == kind}
            surplus = of_kind & instances
            if surplus:
                self._unbound(vip, surplus, kind)

    def _unbound(self, vip: Vip, surplus: set[str], kind: str) -> None:
        with contextlib.suppress(Vanished):
            self._settled(
                f"HAVIP {vip.ha_vip_id} is still bound to {', '.join(sorted(surplus))}",
                vip,
                lambda: self.cloud.vip(vip.ha_vip_id),
                lambda seen: not surplus & _bound(seen),
                lambda: self.cloud.unbind_vip(vip.ha_vip_id, sorted(surplus), kind),
            )

    def remove_vip(self, vip: Vip) -> None:
        """Unbound and deleted."""
        self.unbind(vip, _bound(vip))
        self._gone(
            f"HAVIP {vip.ha_vip_id} is not deleted",
            lambda: self.cloud.vip(vip.ha_vip_id),
            lambda: self.cloud.delete_vip(vip.ha_vip_id),
        )

    # -- until it is so ---

    def _make(self, purpose: Purpose, request: str, make: Callable[[str], str], look: Callable[[str], T]) -> T:
        """What was made, once it can be seen."""
        tokens = (purpose.token(request, number) for number in range(len(self._spent) + 1))
        token = next(token for token in tokens if token not in self._spent)
        handle = make(token)
        is_missing = False
        while True:
            try:
                seen = _seen(lambda: look(handle))
            except NotFound:
                is_missing = True
            else:
                if seen is not None:
                    return seen
            if not self._has_time():
                if is_missing:
                    self._spent.add(token)
                raise Unavailable(f"{purpose.description}: {handle} was made and never seen")

    def _settled(
        self, problem: str, now: T, look: Callable[[], T], is_so: Callable[[T], bool], act: Callable[[], None]
    ) -> T:
        """What is seen when it is as wanted; acts only if it is not."""
        if is_so(now):
            return now
        try:
            refusal = _done(act)
            while True:
                seen = _seen(look)
                if seen is not None and is_so(seen):
                    return seen
                if not self._has_time():
                    raise Unavailable(f"{problem}: {refusal or 'the platform had agreed'}") from refusal
                if refusal:
                    refusal = _done(act)
        except NotFound as error:
            raise Vanished(f"{problem}: {error}") from error

    def _gone(self, problem: str, look: Callable[[], object], act: Callable[[], None]) -> None:
        """When it cannot be seen any more."""
        try:
            refusal = _done(act)
            while True:
                _seen(look)
                if not self._has_time():
                    raise Unavailable(f"{problem}: {refusal or 'the platform had agreed'}") from refusal
                if refusal:
                    refusal = _done(act)
        except NotFound:
            return

    def _has_time(self) -> bool:
        """Sleeps until the next look, if there is time for one."""
        if time.monotonic() + self._poll_interval_s >= self._deadline:
            return False
        time.sleep(self._poll_interval_s)
        return True


def _done(act: Callable[[], None]) -> Conflict | None:
    """Asked for. A conflict may mean that it is so already, which the next look tells, or not now."""
    try:
        act()
    except Conflict as error:
        return error
    return None


def _seen(look: Callable[[], T]) -> T | None:
    """What there is; None: it could not be looked at this time, which the next look may make good."""
    try:
        return look()
    except Unavailable:
        return None


def is_attached(card: Card) -> bool:
    """To whichever machine it names."""
    return card.status == "inuse"


def _bound(vip: Vip) -> set[str]:
    return {bound.instance_id for bound in vip.binded_instances or ()}
