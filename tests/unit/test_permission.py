"""What the kernel is granted in mode strict, and what is remembered of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from proxypool.adapters.keepalived import TrackFile
from proxypool.core.errors import TransientError
from proxypool.core.role import LeaseSeen, MemberState
from proxypool.daemons.permission import Permission

FIRST, SECOND = LeaseSeen(1, 10.0), LeaseSeen(1, 12.5)
CLOSED = MemberState("n1", is_strict=True)
OPEN = replace(CLOSED, lease=FIRST, is_permitted=True, permitted_epoch=7)


@dataclass
class FakeKernel:
    """A lease set that can be told to refuse."""

    granted: list[int] = field(default_factory=list)
    """Seconds; 0: it was ended."""
    refuses: bool = False

    def grant(self, duration_s: int) -> None:
        if self.refuses:
            raise TransientError("no such set")
        self.granted.append(duration_s)

    def end(self) -> None:
        self.grant(0)


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel()


@pytest.fixture
def permission(tmp_path: Path) -> Permission:
    return Permission(TrackFile(str(tmp_path / "permit")), "s1/p1")


def test_what_is_left_of_the_lease_is_granted_in_whole_seconds(permission: Permission, kernel: FakeKernel) -> None:
    permission.follow(CLOSED, OPEN, kernel, 6.5)
    assert kernel.granted == [3]


def test_the_same_lease_is_granted_once_and_a_longer_one_anew(permission: Permission, kernel: FakeKernel) -> None:
    permission.follow(CLOSED, OPEN, kernel, 6.0)
    permission.follow(OPEN, OPEN, kernel, 7.0)
    permission.follow(OPEN, replace(OPEN, lease=SECOND), kernel, 8.0)
    assert kernel.granted == [4, 4]


@pytest.mark.parametrize("closed", [replace(OPEN, is_permitted=False), replace(OPEN, must_yield=True)])
def test_whoever_must_not_forward_has_its_lease_ended(
    permission: Permission, kernel: FakeKernel, closed: MemberState
) -> None:
    permission.follow(CLOSED, OPEN, kernel, 6.0)
    permission.follow(OPEN, closed, kernel, 7.0)
    assert kernel.granted == [4, 0]


def test_less_than_a_second_is_nothing(permission: Permission, kernel: FakeKernel) -> None:
    permission.follow(CLOSED, OPEN, kernel, 9.5)
    assert kernel.granted == [0]


def test_what_a_predecessor_granted_is_not_taken_for_ours(permission: Permission, kernel: FakeKernel) -> None:
    waits = replace(OPEN, is_permitted=False)
    permission.follow(waits, waits, kernel, 6.0)
    permission.follow(waits, waits, kernel, 7.0)
    assert kernel.granted == [0]


def test_what_the_kernel_refused_is_tried_again(permission: Permission, kernel: FakeKernel) -> None:
    kernel.refuses = True
    permission.follow(CLOSED, OPEN, kernel, 6.0)
    kernel.refuses = False
    permission.follow(OPEN, OPEN, kernel, 7.0)
    assert kernel.granted == [3]


def test_without_a_namespace_or_a_lease_only_the_epoch_is_kept(permission: Permission, kernel: FakeKernel) -> None:
    permission.follow(CLOSED, OPEN, None, 6.0)
    permission.follow(OPEN, replace(OPEN, lease=None), kernel, 6.0)
    assert (kernel.granted, permission.remembered()) == ([], 7)


def test_the_epoch_outlives_the_daemon_and_not_the_pair(tmp_path: Path, kernel: FakeKernel) -> None:
    file = TrackFile(str(tmp_path / "permit"))
    Permission(file, "s1/p1").follow(CLOSED, OPEN, kernel, 6.0)
    again = Permission(file, "s1/p1")
    assert again.remembered() == 7
    again.forget()
    assert again.remembered() == 0
