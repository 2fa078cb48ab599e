"""A call of the plug-in, carried out on attachments."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxypool.core.errors import PermanentError, TransientError
from proxypool.daemons.cni import handle
from tests.unit.cni_calls import ADDRESS, OWNER, RESULT, FakeAttachments, annotated, body, environment, headers


def call(attachments: FakeAttachments, command: str, **members: Any) -> tuple[int, Any]:
    """Status and decoded body of the answer."""
    status, answer = handle(headers(environment(command)), body(**members), attachments)
    return status, json.loads(answer) if answer else None


def test_the_life_of_an_annotated_pod() -> None:
    pods = FakeAttachments()
    annotation = annotated("s1")
    assert call(pods, "ADD", runtimeConfig=annotation) == (200, RESULT)
    assert pods.of == {OWNER: {(ADDRESS, "s1")}}
    assert call(pods, "CHECK", runtimeConfig=annotation) == (200, None)
    assert call(pods, "DEL", runtimeConfig=annotation) == (200, None)
    assert pods.of == {}
    assert call(pods, "DEL", prevResult=...) == (200, None)


def test_a_pod_without_annotation_does_not_inherit_its_addresss_attachments() -> None:
    pods = FakeAttachments()
    pods.of = {"cni:cbr0:gone:eth0": frozenset({(ADDRESS, "s1")})}
    assert call(pods, "ADD") == (200, RESULT)
    assert pods.of == {}


def test_check_says_what_is_wrong() -> None:
    pods = FakeAttachments()
    status, answer = call(pods, "CHECK", runtimeConfig=annotated("s1"))
    assert (status, answer["code"], answer["msg"]) == (409, 101, "10.244.1.2 is not attached to s1")


def test_an_attachment_that_cannot_be_is_refused() -> None:
    status, answer = call(FakeAttachments(), "ADD", runtimeConfig=annotated("s9"), cniVersion="0.4.0")
    assert (status, answer) == (409, {"cniVersion": "0.4.0", "code": 100, "msg": "the pool has no subnet s9"})


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(TransientError("ZooKeeper is away"), 503, 11), (PermanentError("the set is of another type"), 409, 100)],
)
@pytest.mark.parametrize("command", ["ADD", "CHECK", "DEL"])
def test_a_failure_below_is_an_answer(command: str, error: TransientError, status: int, code: int) -> None:
    pods = FakeAttachments()
    pods.fail_next = error
    found, answer = call(pods, command)
    assert (found, answer["code"], answer["msg"]) == (status, code, str(error))


def test_a_call_that_is_not_understood_is_the_callers_fault() -> None:
    status, answer = call(FakeAttachments(), "ADD", prevResult=...)
    assert (status, answer["code"]) == (400, 7)


def test_status_is_that_there_is_an_answer() -> None:
    assert call(FakeAttachments(), "STATUS", cniVersion="1.1.0") == (200, None)


def test_gc_releases_as_many_as_it_can_and_then_reports() -> None:
    pods = FakeAttachments()
    stale = [f"cni:cbr0:c{number}:eth0" for number in range(3)]
    pods.of = {owner: frozenset({(ADDRESS, "s1")}) for owner in [*stale, OWNER, "api"]}
    valid = [{"containerID": OWNER.split(":")[2], "ifname": "eth0"}]
    release = pods.release
    refused: list[str] = []

    def refuse_the_first(owner: str) -> None:
        if not refused:
            refused.append(owner)
            raise TransientError("busy")
        release(owner)

    pods.release = refuse_the_first  # type: ignore[method-assign]
    status, answer = call(pods, "GC", cniVersion="1.1.0", **{"cni.dev/valid-attachments": valid})
    assert (status, answer["code"], answer["msg"]) == (503, 11, f"{stale[0]}: busy")
    assert set(pods.of) == {stale[0], OWNER, "api"}
    assert call(pods, "GC", cniVersion="1.1.0", **{"cni.dev/valid-attachments": valid}) == (200, None)
    assert set(pods.of) == {OWNER, "api"}
