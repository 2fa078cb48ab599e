"""The provider `baidu` where the API behaves badly: throttling, time-outs, lost answers, promises not kept, duplicates."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxypool.core.scaling.retry import ErrorKind
from proxypool.providers.contract import (
    Intent,
    NotAuthorised,
    ProviderError,
    QuotaExceeded,
    Refused,
    Unavailable,
)
from tests.contract.provider_platforms import NODES, POOL, SUBNETS, BaiduPlatform, baidu_platform
from tests.fakes.baidu import SECRET_KEY, Fault

A, B, C = NODES
S1, S2 = SUBNETS
INTENT = Intent(POOL, S1, "p1", "1-s1")
LONG_S = 10.0
SHORT_S = 1.0


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[BaiduPlatform]:
    with baidu_platform(tmp_path) as platform:
        yield platform


def test_a_card_is_attached_by_its_mac_with_the_clouds_prefix_and_gateway(platform: BaiduPlatform) -> None:
    card = platform.provider().acquire_card(INTENT, A, LONG_S)
    (thing,) = platform.api.cards.values()
    document = thing.now()
    assert (document["status"], document["instanceId"]) == ("inuse", "i-a")
    assert card.eni == document["macAddress"]
    assert str(card.address) == document["privateIpSet"][0]["privateIpAddress"] + "/24"
    assert str(card.gateway) == "172.16.101.1"


def test_what_is_made_says_for_whom(platform: BaiduPlatform) -> None:
    """People find it in the console by its description."""
    provider = platform.provider()
    provider.acquire_addresses(INTENT, (A, B), LONG_S)
    provider.acquire_card(INTENT, A, LONG_S)
    things = [*platform.api.cards.values(), *platform.api.vips.values()]
    assert sorted(thing.document["description"] for thing in things) == [
        "proxypool card test/s1/p1/node-a",
        "proxypool egress test/s1/p1",
        "proxypool havip test/s1/p1",
    ]


def test_the_havip_is_bound_to_the_machines_and_the_egress_address_to_the_cards(platform: BaiduPlatform) -> None:
    provider = platform.provider()
    addresses = provider.acquire_addresses(INTENT, (A, B), LONG_S)
    provider.acquire_card(INTENT, A, LONG_S)
    provider.acquire_card(INTENT, B, LONG_S)
    bound = {
        vip.document["privateIpAddress"]: {
            (one["instanceType"], one["instanceId"]) for one in vip.document["bindedInstances"]
        }
        for vip in platform.api.vips.values()
    }
    assert bound == {
        str(addresses.havip): {("SERVER", "i-a"), ("SERVER", "i-b")},
        str(addresses.egress_address): {("ENI", card) for card in platform.api.cards},
    }


def test_the_havip_is_bound_to_no_machine_but_the_nodes_of_the_pair(platform: BaiduPlatform) -> None:
    """The platform allows five; an action that tries other nodes must not use them up."""
    provider = platform.provider(egress=False)
    provider.acquire_addresses(INTENT, (A, B), LONG_S)
    provider.acquire_addresses(INTENT, (A, C), LONG_S)
    (vip,) = platform.api.vips.values()
    assert {one["instanceId"] for one in vip.document["bindedInstances"]} == {"i-a", "i-c"}


def test_no_key_is_logged(platform: BaiduPlatform, caplog: pytest.LogCaptureFixture) -> None:
    """At level debug the SDK would log what requests are signed with."""
    with caplog.at_level(logging.DEBUG):
        platform.provider().acquire_card(INTENT, A, LONG_S)
    assert "sign_key" not in caplog.text
    assert SECRET_KEY not in caplog.text


def test_a_released_card_is_unbound_from_both_addresses(platform: BaiduPlatform) -> None:
    provider = platform.provider()
    provider.acquire_addresses(INTENT, (A, B), LONG_S)
    provider.acquire_card(INTENT, A, LONG_S)
    provider.acquire_card(INTENT, B, LONG_S)
    provider.release_card(INTENT, B.id, LONG_S)
    bound = {one["instanceId"] for vip in platform.api.vips.values() for one in vip.document["bindedInstances"]}
    (left,) = platform.api.cards
    assert bound == {"i-a", left}


def test_without_egress_a_pair_has_only_a_havip(platform: BaiduPlatform) -> None:
    addresses = platform.provider(egress=False).acquire_addresses(INTENT, (A, B), LONG_S)
    assert addresses.egress_address is None
    assert len(platform.api.vips) == 1


def test_a_token_is_the_same_for_the_same_intent_and_another_for_another(platform: BaiduPlatform) -> None:
    """The first answer is lost; the second request must not make another card."""
    platform.api.faults.append(Fault("create-eni", "deaf"))
    with pytest.raises(Unavailable):
        platform.provider().acquire_card(INTENT, A, LONG_S)
    # As if the list did not know it yet: only the token can tell.
    platform.api.lag_s = 0.0
    (made,) = platform.api.cards.values()
    made.visible_at = time.monotonic() + 0.2
    platform.provider().acquire_card(INTENT, A, LONG_S)
    first, second = platform.api.asked("create-eni")
    assert first.token == second.token
    assert len(platform.api.cards) == 1
    platform.provider().acquire_card(INTENT, B, LONG_S)
    assert platform.api.asked("create-eni")[-1].token != first.token


def test_what_cannot_be_seen_at_once_is_waited_for(platform: BaiduPlatform) -> None:
    platform.api.lag_s = 0.2
    platform.provider().acquire_card(INTENT, A, LONG_S)
    assert len(platform.api.cards) == 1


@pytest.mark.parametrize("operation", ["create-eni", "attach-eni"])
def test_an_answer_that_was_lost_changes_nothing(operation: str, platform: BaiduPlatform) -> None:
    """The platform did it, nobody heard so; asking again finds out."""
    platform.api.faults.append(Fault(operation, "deaf"))
    with pytest.raises(Unavailable):
        platform.provider().acquire_card(INTENT, A, LONG_S)
    platform.provider().acquire_card(INTENT, A, LONG_S)
    assert [card.now()["status"] for card in platform.api.cards.values()] == ["inuse"]


@pytest.mark.parametrize("operation", ["unbind-havip", "detach-eni", "delete-eni"])
def test_a_release_whose_answer_was_lost_is_finished_later(operation: str, platform: BaiduPlatform) -> None:
    provider = platform.provider()
    provider.acquire_addresses(INTENT, (A, B), LONG_S)
    provider.acquire_card(INTENT, A, LONG_S)
    platform.api.faults.append(Fault(operation, "deaf"))
    with pytest.raises(Unavailable):
        provider.release_card(INTENT, A.id, LONG_S)
    platform.provider().release_card(INTENT, A.id, LONG_S)
    assert platform.api.cards == {}


@pytest.mark.parametrize(
    ("operation", "problem"),
    [
        ("attach-eni", "is not attached to i-a: the platform had agreed"),
        ("create-eni", "eni-ghost was made and never seen"),
    ],
)
def test_a_promise_that_is_not_kept_is_noticed_and_asked_for_again(
    operation: str, problem: str, platform: BaiduPlatform
) -> None:
    """The platform answers that it is done, and nothing is."""
    platform.api.faults.append(Fault(operation, "lie"))
    provider = platform.provider()
    with pytest.raises(Unavailable, match=problem):
        provider.acquire_card(INTENT, A, SHORT_S)
    provider.acquire_card(INTENT, A, LONG_S)
    assert [card.now()["status"] for card in platform.api.cards.values()] == ["inuse"]


@pytest.mark.parametrize("operation", ["bind-havip", "create-havip"])
def test_a_promised_address_that_does_not_come_is_asked_for_again(operation: str, platform: BaiduPlatform) -> None:
    platform.api.faults.append(Fault(operation, "lie"))
    provider = platform.provider(egress=False)
    with pytest.raises(Unavailable):
        provider.acquire_addresses(INTENT, (A, B), SHORT_S)
    provider.acquire_addresses(INTENT, (A, B), LONG_S)
    (vip,) = platform.api.vips.values()
    assert {one["instanceId"] for one in vip.document["bindedInstances"]} == {"i-a", "i-b"}


@pytest.mark.parametrize("operation", ["detach-eni", "delete-eni"])
def test_a_promised_release_that_does_not_come_is_no_release(operation: str, platform: BaiduPlatform) -> None:
    provider = platform.provider()
    provider.acquire_card(INTENT, A, LONG_S)
    platform.api.faults.append(Fault(operation, "lie"))
    with pytest.raises(Unavailable, match="the platform had agreed"):
        provider.release_card(INTENT, A.id, SHORT_S)
    provider.release_card(INTENT, A.id, LONG_S)
    assert platform.api.cards == {}


def test_what_was_made_twice_is_given_back(platform: BaiduPlatform) -> None:
    """The list shows both of them the next time."""
    platform.api.faults.append(Fault("create-eni", "twice"))
    provider = platform.provider()
    card = provider.acquire_card(INTENT, A, LONG_S)
    assert len(platform.api.cards) == 2
    assert platform.provider().acquire_card(INTENT, A, LONG_S) == card
    assert [thing.document["macAddress"] for thing in platform.api.cards.values()] == [card.eni]


def test_duplicates_are_released_together(platform: BaiduPlatform) -> None:
    platform.api.faults += [Fault("create-eni", "twice"), Fault("create-havip", "twice", times=2)]
    provider = platform.provider()
    provider.acquire_addresses(INTENT, (A, B), LONG_S)
    provider.acquire_card(INTENT, A, LONG_S)
    assert len(platform.api.vips) == 4
    provider.release_card(INTENT, A.id, LONG_S)
    provider.release_addresses(INTENT, LONG_S)
    assert platform.api.cards == {}
    assert platform.api.vips == {}


def test_a_change_that_is_under_way_is_waited_for(platform: BaiduPlatform) -> None:
    """A conflict is no refusal: the attachment that a crashed controller began is still coming about."""
    platform.api.change_s = 2.0
    with pytest.raises(Unavailable, match="not attached"):
        platform.provider().acquire_card(INTENT, A, SHORT_S)
    platform.provider().acquire_card(INTENT, A, LONG_S)
    assert len(platform.api.asked("attach-eni")) > 1


def test_a_card_can_be_released_while_it_is_being_attached(platform: BaiduPlatform) -> None:
    platform.api.change_s = 0.3
    with pytest.raises(Unavailable):
        platform.provider().acquire_card(INTENT, A, 0.15)
    platform.provider().release_card(INTENT, A.id, LONG_S)
    assert platform.api.cards == {}


def test_a_node_that_is_another_machine_now_gets_its_card(platform: BaiduPlatform) -> None:
    """Its name is the same, its instance is not."""
    platform.provider().acquire_card(INTENT, A, LONG_S)
    reborn = type(A)(id=A.id, underlay=A.underlay, labels={"baidu-instance": "i-new"})
    platform.provider().acquire_card(INTENT, reborn, LONG_S)
    assert [card.now()["instanceId"] for card in platform.api.cards.values()] == ["i-new"]


def test_a_platform_that_never_answers_costs_no_more_than_the_deadline(platform: BaiduPlatform) -> None:
    platform.api.faults.append(Fault("*", "hang", times=-1))
    began = time.monotonic()
    with pytest.raises(Unavailable):
        platform.provider(request_timeout_s=60.0).acquire_card(INTENT, A, SHORT_S)
    assert time.monotonic() - began < SHORT_S + 2.0


def test_an_api_that_is_not_there_is_unavailable(platform: BaiduPlatform) -> None:
    with pytest.raises(Unavailable, match="refused"):
        platform.provider(endpoint="http://127.0.0.1:1").acquire_card(INTENT, A, LONG_S)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (429, "Whatever", ErrorKind.THROTTLED),
        (400, "RateLimit", ErrorKind.THROTTLED),
        (403, "BceRateLimitExceeded", ErrorKind.THROTTLED),
        (400, "SubnetHasNoMoreIpException", ErrorKind.QUOTA),
        (400, "VmMemoryCanNotAttachMoreIpException", ErrorKind.QUOTA),
        (400, "ExceedLimitException", ErrorKind.QUOTA),
        (403, "QuotaLimitExceeded", ErrorKind.QUOTA),
        (403, "AccessDenied", ErrorKind.AUTH),
        (403, "QualifyNotPass", ErrorKind.AUTH),
        (400, "RequestExpired", ErrorKind.AUTH),
        (401, "Anything", ErrorKind.AUTH),
        (404, "NoSuchSubnet", ErrorKind.REFUSED),
        (400, "InappropriateJSON", ErrorKind.REFUSED),
        (500, "InternalError", ErrorKind.UNAVAILABLE),
        (503, "ServiceUnavailable", ErrorKind.UNAVAILABLE),
    ],
)
def test_the_platforms_codes_are_sorted(status: int, code: str, kind: ErrorKind, platform: BaiduPlatform) -> None:
    platform.api.faults.append(Fault("create-eni", "error", status, code))
    with pytest.raises(ProviderError, match=code) as caught:
        platform.provider().acquire_card(INTENT, A, LONG_S)
    assert caught.value.kind is kind


def test_a_quota_that_is_used_up_is_told(platform: BaiduPlatform) -> None:
    platform.api.card_quota = 0
    with pytest.raises(QuotaExceeded, match="no more cards"):
        platform.provider().acquire_card(INTENT, A, LONG_S)


def test_a_wrong_key_is_told_and_a_right_one_is_read_without_a_restart(platform: BaiduPlatform) -> None:
    provider = platform.provider()
    right = platform.credentials.read_text()
    platform.credentials.write_text(right.replace("SK-test", "SK-wrong"))
    with pytest.raises(NotAuthorised, match="SignatureDoesNotMatch"):
        provider.acquire_card(INTENT, A, LONG_S)
    platform.credentials.write_text(right)
    provider.acquire_card(INTENT, A, LONG_S)


@pytest.mark.parametrize(
    ("text", "mode", "problem"),
    [
        ("", 0o600, "must have access_key_id"),
        ("access_key_id = \n", 0o600, "must have access_key_id"),
        ('access_key_id = "a"\nsecret_access_key = "b"\n', 0o604, "chmod 600"),
        ('access_key_id = "a"\nsecret_access_key = "b"\n', 0o620, "others can .* change .*mode 0620"),
        (None, 0, "No such file"),
    ],
)
def test_credentials_that_cannot_be_used_are_explained(
    text: str | None, mode: int, problem: str, platform: BaiduPlatform
) -> None:
    if text is None:
        platform.credentials.unlink()
    else:
        platform.credentials.write_text(text)
        platform.credentials.chmod(mode)
    with pytest.raises(NotAuthorised, match=problem):
        platform.provider().acquire_card(INTENT, A, LONG_S)


def test_a_missing_label_is_named(platform: BaiduPlatform) -> None:
    provider = platform.provider()
    bare_subnet = type(S1)(id="s9", cidrs=S1.cidrs, key=9)
    bare_node = type(A)(id="node-z", underlay=A.underlay)
    with pytest.raises(Refused, match="subnet s9 has no label baidu-vpc"):
        provider.acquire_card(Intent(POOL, bare_subnet, "p1"), A, LONG_S)
    with pytest.raises(Refused, match="node node-z has no label baidu-instance"):
        provider.acquire_card(INTENT, bare_node, LONG_S)
    assert provider.offers(S1, (bare_node,), LONG_S)["node-z"].cards == 0
    assert "baidu-vpc" in provider.offers(bare_subnet, (A,), LONG_S)[A.id].why_not


def test_a_havip_is_released_though_its_subnet_is_gone(platform: BaiduPlatform) -> None:
    """With the subnet its labels are gone; the function network is known without."""
    provider = platform.provider(egress=False)
    provider.acquire_addresses(INTENT, (A, B), LONG_S)
    gone = type(S1)(id="s1", cidrs=(), key=1)
    provider.release_addresses(Intent(POOL, gone, "p1", "2"), LONG_S)
    assert platform.api.vips == {}
    with pytest.raises(Refused, match="baidu-vpc"):
        provider.release_card(Intent(POOL, gone, "p1", "2"), A.id, LONG_S)


def test_what_others_made_is_neither_held_nor_touched(platform: BaiduPlatform) -> None:
    """Another pool's, and what looks like ours but is not named by us."""
    provider = platform.provider()
    provider.acquire_card(Intent("other", S1, "p1", "1"), A, LONG_S)
    provider.acquire_card(INTENT, A, LONG_S)
    forged = platform.api._create_card(
        {"name": "mine", "subnetId": "sbn-c1", "description": "proxypool card test/s1/p2/node-a"}
    )
    assert [held.handle for held in provider.held(POOL, SUBNETS, LONG_S)] == ["eni-3"]
    provider.release_card(INTENT, A.id, LONG_S)
    assert set(platform.api.cards) == {"eni-1", forged["eniId"]}


def test_all_pages_of_a_list_are_read(platform: BaiduPlatform) -> None:
    """The fake has two on a page."""
    provider = platform.provider(egress=False)
    wanted = [Intent(POOL, S1, f"p{number}", f"{number}") for number in range(5)]
    for intent in wanted:
        provider.acquire_addresses(intent, (A,), LONG_S)
        provider.acquire_card(intent, A, LONG_S)
    held = {(one.pair, one.node) for one in provider.held(POOL, SUBNETS, LONG_S)}
    assert held == {(intent.pair, node) for intent in wanted for node in ("", A.id)}


def test_a_subnets_security_groups_are_given_to_its_cards(platform: BaiduPlatform) -> None:
    guarded = type(S1)(id="s1", cidrs=S1.cidrs, key=1, labels={**S1.labels, "baidu-security-groups": "g-1, g-2"})
    platform.provider().acquire_card(Intent(POOL, guarded, "p1", "1"), A, LONG_S)
    (card,) = platform.api.cards.values()
    assert card.document["securityGroupIds"] == ["g-1", "g-2"]
