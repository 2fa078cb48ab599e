"""Calls to the provider, on threads of their own: the main loop goes on, and a call that hangs holds up one action."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from proxypool.core.addressing import KEY_RANGE
from proxypool.core.errors import PermanentError, ProxypoolError
from proxypool.core.model import NodeSpec, SubnetSpec
from proxypool.core.scaling.documents import Action, Key
from proxypool.core.scaling.leaks import Thing
from proxypool.core.scaling.placement import CardOffer
from proxypool.core.scaling.retry import ErrorKind
from proxypool.core.scaling.turns import (
    AcquireAddresses,
    AcquireCard,
    Answer,
    AskOffers,
    Call,
    Failed,
    GotAddresses,
    GotCard,
    Offered,
    ReleaseAddresses,
    ReleaseCard,
    Released,
)
from proxypool.daemons.controller_messages import HeldSeen, Message, ProviderAnswered
from proxypool.providers.contract import Intent, Provider, ProviderError

log = logging.getLogger(__name__)

THREADS = 8


@dataclass(frozen=True, slots=True)
class Pool:
    """What calls are about."""

    name: str
    subnets: Mapping[str, SubnetSpec]
    nodes: Mapping[str, NodeSpec]

    def intent(self, subnet: str, pair: str, request: str) -> Intent:
        """Of a pair; also of a subnet that is gone: what was acquired for it must be given back."""
        spec = self.subnets.get(subnet) or SubnetSpec(id=subnet, cidrs=(), key=KEY_RANGE.start)
        return Intent(self.name, spec, pair, request)


class ProviderCalls:
    """Owner of the threads. `post` gets the answers, on them; `count` each call's name and how it ended."""

    def __init__(
        self,
        provider: Provider,
        post: Callable[[Message], None],
        count: Callable[[str, str], None],
        deadline_s: float,
    ) -> None:
        """Nothing is started. `deadline_s`: of each call."""
        self._provider, self._post, self._count, self._deadline_s = provider, post, count, deadline_s
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._busy: set[Key] = set()
        self._threads = [
            threading.Thread(target=self._run, name=f"provider-{number}", daemon=True) for number in range(THREADS)
        ]

    @property
    def provider(self) -> str:
        """The provider's name."""
        return self._provider.name

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End those that wait. A call under way is left behind: asked again, it answers the same."""
        for _ in self._threads:
            self._jobs.put(None)

    def is_busy(self, action: Action) -> bool:
        """Whether a call for this action is under way."""
        return action.key in self._busy

    def ask(self, action: Action, call: Call, pool: Pool) -> None:
        """Begin a call, unless one for this action is under way."""
        if action.key in self._busy:
            return
        self._busy.add(action.key)

        def job() -> None:
            answer = self._answer(action, call, pool)
            self._post(ProviderAnswered(action, answer))

        self._jobs.put(job)

    def done(self, action: Action) -> None:
        """The answer has arrived."""
        self._busy.discard(action.key)

    def ask_held(self, pool: Pool) -> None:
        """Ask for everything that is held."""

        def job() -> None:
            try:
                held = self._provider.held(pool.name, tuple(pool.subnets.values()), self._deadline_s)
            except Exception as error:  # noqa: BLE001 - see `_failed`
                self._failed("held", error)
                return
            self._count("held", "ok")
            self._post(HeldSeen(frozenset((one.subnet, one.pair, one.node) for one in held)))

        self._jobs.put(job)

    def release(self, thing: Thing, pool: Pool) -> None:
        """Give back what belongs to nothing. A failure is tried again when it is found the next time."""
        subnet, pair, node = thing

        def job() -> None:
            intent = pool.intent(subnet, pair, f"leak-{pair}")
            try:
                self._do(ReleaseCard(node) if node else ReleaseAddresses(), intent, pool)
            except Exception as error:  # noqa: BLE001 - see `_failed`
                self._failed("release", error)
                return
            self._count("release", "ok")

        self._jobs.put(job)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def _answer(self, action: Action, call: Call, pool: Pool) -> Answer:
        name = _NAMES[type(call)]
        try:
            answer = self._do(call, pool.intent(action.subnet, action.pair, action.id), pool)
        except Exception as error:  # noqa: BLE001 - see `_failed`
            kind = self._failed(name, error)
            retry_after_s = error.retry_after_s if isinstance(error, ProviderError) else 0.0
            node = call.node if isinstance(call, AcquireCard) else ""
            return Failed(str(error) or type(error).__name__, kind, node=node, retry_after_s=retry_after_s)
        self._count(name, "ok")
        return answer

    def _failed(self, name: str, error: Exception) -> ErrorKind:
        """What to make of an error. One that a provider must not raise says nothing: what was asked may be done."""
        match error:
            case ProviderError():
                kind = error.kind
            case PermanentError():
                kind = ErrorKind.REFUSED
            case ProxypoolError():
                kind = ErrorKind.UNAVAILABLE
            case _:
                log.error("the provider %s fails in %s", self._provider.name, name, exc_info=error)
                kind = ErrorKind.UNAVAILABLE
        self._count(name, kind.value)
        return kind

    def _do(self, call: Call, intent: Intent, pool: Pool) -> Answer:
        match call:
            case AskOffers():
                offers = self._provider.offers(intent.subnet, tuple(pool.nodes.values()), self._deadline_s)
                return Offered({node: CardOffer(offer.cards, offer.why_not) for node, offer in offers.items()})
            case AcquireAddresses(nodes):
                specs = tuple(_node(pool, node) for node in nodes)
                found = self._provider.acquire_addresses(intent, specs, self._deadline_s)
                return GotAddresses(found.havip, found.egress_address)
            case AcquireCard(node):
                return GotCard(self._provider.acquire_card(intent, _node(pool, node), self._deadline_s))
            case ReleaseCard(node):
                self._provider.release_card(intent, node, self._deadline_s)
                return Released(node)
            case ReleaseAddresses():
                self._provider.release_addresses(intent, self._deadline_s)
                return Released()


_NAMES: Mapping[type[Call], str] = {
    AskOffers: "offers",
    AcquireAddresses: "acquire-addresses",
    AcquireCard: "acquire-card",
    ReleaseCard: "release-card",
    ReleaseAddresses: "release-addresses",
}


def _node(pool: Pool, name: str) -> NodeSpec:
    found = pool.nodes.get(name)
    if found is None:
        raise PermanentError(f"node {name} is no longer registered")
    return found
