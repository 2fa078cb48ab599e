"""The contract of providers, held by all of ours and by the example of the documentation. Loopback only, no root."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxypool.core.model import MemberSpec, SubnetSpec
from proxypool.core.scaling.retry import ErrorKind
from proxypool.providers.contract import Addresses, Held, Intent, Provider, ProviderError, Throttled
from tests.contract.provider_platforms import (
    NODES,
    POOL,
    SUBNETS,
    AcmePlatform,
    BaiduPlatform,
    CommandPlatform,
    Platform,
    SparePlatform,
    baidu_platform,
)

DEADLINE_S = 20.0
A, B, C = NODES
S1, S2 = SUBNETS
MAKERS: dict[str, Callable[[Path, ExitStack], Platform]] = {
    "spare": lambda directory, stack: SparePlatform(),
    "command": lambda directory, stack: CommandPlatform(directory),
    "baidu": lambda directory, stack: stack.enter_context(baidu_platform(directory)),
    "example": lambda directory, stack: AcmePlatform(),
}
BREAKS: dict[str, tuple[ErrorKind, ...]] = {
    "spare": SparePlatform.breaks,
    "command": CommandPlatform.breaks,
    "baidu": BaiduPlatform.breaks,
    "example": AcmePlatform.breaks,
}


@pytest.fixture(params=sorted(MAKERS))
def platform(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Platform]:
    with ExitStack() as stack:
        yield MAKERS[request.param](tmp_path, stack)


def intent(subnet: SubnetSpec = S1, pair: str = "p1", request: str = "1-s1") -> Intent:
    return Intent(POOL, subnet, pair, request)


def acquire(provider: Provider, wanted: Intent) -> tuple[Addresses, MemberSpec, MemberSpec]:
    """All that a pair on nodes A and B needs."""
    addresses = provider.acquire_addresses(wanted, (A, B), DEADLINE_S)
    return addresses, provider.acquire_card(wanted, A, DEADLINE_S), provider.acquire_card(wanted, B, DEADLINE_S)


def release(provider: Provider, wanted: Intent) -> None:
    """All of it."""
    provider.release_card(wanted, A.id, DEADLINE_S)
    provider.release_card(wanted, B.id, DEADLINE_S)
    provider.release_addresses(wanted, DEADLINE_S)


def holdings(provider: Provider) -> set[tuple[str, str, str]]:
    """What is held: subnet, pair and node."""
    return {(held.subnet, held.pair, held.node) for held in provider.held(POOL, SUBNETS, DEADLINE_S)}


ALL_OF_P1 = {("s1", "p1", ""), ("s1", "p1", A.id), ("s1", "p1", B.id)}


def test_nodes_that_can_get_a_card_are_offered(platform: Platform) -> None:
    offers = platform.provider().offers(S1, NODES, DEADLINE_S)
    assert all(offers[node.id].cards is None or (offers[node.id].cards or 0) > 0 for node in NODES)


def test_a_card_is_on_the_wanted_node_in_the_subnet(platform: Platform) -> None:
    _, card, other = acquire(platform.provider(), intent())
    assert card.node == A.id
    assert card.eni
    assert card.address.ip in S1.cidrs[0]
    assert card.address.network == S1.cidrs[0]
    assert (other.eni, other.address) != (card.eni, card.address)


def test_the_same_intent_gets_the_same_again(platform: Platform) -> None:
    """Also when the controller had no time to write down what it got."""
    provider = platform.provider()
    assert acquire(provider, intent()) == acquire(provider, intent())


def test_another_controller_gets_what_the_crashed_one_had(platform: Platform) -> None:
    """Half of it was written down, the other half not."""
    before = platform.provider()
    addresses = before.acquire_addresses(intent(), (A, B), DEADLINE_S)
    card = before.acquire_card(intent(), A, DEADLINE_S)
    platform.note("s1", "p1", (card,), addresses)
    lost = before.acquire_card(intent(), B, DEADLINE_S)
    after = platform.provider()
    assert acquire(after, intent()) == (addresses, card, lost)
    assert holdings(after) == ALL_OF_P1


def test_pairs_that_are_made_at_the_same_time_share_nothing(platform: Platform) -> None:
    """Neither in a subnet nor across subnets, before anything of it is written down."""
    provider = platform.provider()
    wanted = [intent(S1, "p1", "1"), intent(S1, "p2", "2"), intent(S2, "p1", "3"), intent(S2, "p2", "4")]
    with ThreadPoolExecutor(len(wanted)) as pool:
        got = list(pool.map(lambda one: acquire(provider, one), wanted))
    assert len({addresses.havip for addresses, _, _ in got}) == len(wanted)
    cards = [(card.node, card.eni) for _, *both in got for card in both]
    assert len(set(cards)) == len(cards)


def test_everything_that_was_acquired_is_held(platform: Platform) -> None:
    provider = platform.provider()
    acquire(provider, intent())
    provider.acquire_card(intent(S2, "p7", "2"), C, DEADLINE_S)
    assert holdings(provider) == ALL_OF_P1 | {("s2", "p7", C.id)}


def test_a_leak_of_a_crashed_controller_is_seen_or_was_never_taken(platform: Platform) -> None:
    """What nobody wrote down is held by the platform, or is free: the next controller can give it to another pair."""
    leaked = platform.provider().acquire_card(intent(), A, DEADLINE_S)
    after = platform.provider()
    if ("s1", "p1", A.id) in holdings(after):
        after.release_card(intent(), A.id, DEADLINE_S)
    else:
        assert after.acquire_card(intent(pair="p2", request="2"), A, DEADLINE_S) == leaked


def test_what_is_released_is_not_held(platform: Platform) -> None:
    provider = platform.provider()
    addresses, *cards = acquire(provider, intent())
    platform.note("s1", "p1", cards, addresses)
    platform.note("s1", "p1", (), None)
    release(provider, intent(request="9-s1"))
    assert holdings(provider) == set()


def test_releasing_twice_is_no_error(platform: Platform) -> None:
    provider = platform.provider()
    acquire(provider, intent())
    release(provider, intent())
    release(provider, intent())
    release(platform.provider(), intent())
    assert holdings(provider) == set()


def test_releasing_what_never_was_is_no_error(platform: Platform) -> None:
    """An action that is undone does not know how far it had come."""
    release(platform.provider(), intent())


def test_one_release_leaves_the_others_alone(platform: Platform) -> None:
    provider = platform.provider()
    acquire(provider, intent())
    others = acquire(provider, intent(S2, "p1", "2"))
    release(provider, intent())
    assert holdings(provider) == {("s2", "p1", ""), ("s2", "p1", A.id), ("s2", "p1", B.id)}
    assert acquire(provider, intent(S2, "p1", "2")) == others


def test_a_pair_of_an_old_name_gets_what_is_there(platform: Platform) -> None:
    """Not what a platform remembers of the first one of that name."""
    provider = platform.provider()
    acquire(provider, intent())
    release(provider, intent())
    acquire(provider, intent(request="2-s1"))
    assert holdings(provider) == ALL_OF_P1


def test_a_node_can_be_added_to_a_pair(platform: Platform) -> None:
    provider = platform.provider()
    addresses, card, _ = acquire(provider, intent())
    added = provider.acquire_card(intent(request="2-s1"), C, DEADLINE_S)
    assert added.node == C.id
    provider.release_card(intent(request="2-s1"), B.id, DEADLINE_S)
    assert holdings(provider) == {("s1", "p1", ""), ("s1", "p1", A.id), ("s1", "p1", C.id)}
    assert provider.acquire_addresses(intent(), (A, C), DEADLINE_S) == addresses
    assert provider.acquire_card(intent(), A, DEADLINE_S) == card


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kinds in BREAKS.items() for kind in kinds])
def test_an_error_is_told_by_its_kind_and_passes(name: str, kind: ErrorKind, tmp_path: Path) -> None:
    with ExitStack() as stack:
        platform = MAKERS[name](tmp_path, stack)
        provider = platform.provider()
        platform.break_(kind)
        for call in (
            lambda: provider.acquire_addresses(intent(), (A, B), DEADLINE_S),
            lambda: provider.acquire_card(intent(), A, DEADLINE_S),
        ):
            with pytest.raises(ProviderError) as caught:
                call()
            assert caught.value.kind is kind
            assert str(caught.value)
        platform.mend()
        acquire(provider, intent())
        assert holdings(provider) == ALL_OF_P1


def test_a_platform_that_asks_for_patience_is_heard(tmp_path: Path) -> None:
    platform = CommandPlatform(tmp_path)
    platform.break_(ErrorKind.THROTTLED)
    with pytest.raises(Throttled) as caught:
        platform.provider().acquire_card(intent(), A, DEADLINE_S)
    assert caught.value.retry_after_s == 7.0


def test_held_names_the_platforms_own_ids(tmp_path: Path) -> None:
    """So that somebody can look the thing up."""
    with baidu_platform(tmp_path) as platform:
        provider = platform.provider()
        provider.acquire_card(intent(), A, DEADLINE_S)
        assert provider.held(POOL, SUBNETS, DEADLINE_S) == (Held("s1", "p1", A.id, "eni-1"),)
