"""What stands outside a hardened node daemon's unit: it does what it is asked if that is its business, and no more."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import queue
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from proxypool.adapters import netlink
from proxypool.adapters.keepalived_process import KeepalivedProcess
from proxypool.adapters.netns_names import Mounts, Names, namespace_path
from proxypool.adapters.outside import ANSWER_S, OutsideKeepalived, OutsideNames
from proxypool.daemons import outside
from proxypool.daemons.outside import QUESTION_S, Outside, listen, serve_one
from tests.contract.netns import own_namespace

NAME = f"pp-out{os.getpid()}"
FOREIGN = f"out{os.getpid()}"


class _Keepalived:
    """One that is as it is told to be."""

    def __init__(self) -> None:
        self.process: int | None = 4711

    def pid(self) -> int | None:
        return self.process

    def age_s(self) -> float | None:
        return 2.5

    def vrrp_process(self, fifo: str) -> int | None:
        return 4712 if fifo == "/run/proxypool/vrrp.fifo" else None

    def is_stopped(self) -> bool:
        return True


class _Server:
    """Answers until it is closed."""

    def __init__(self, path: Path, outside: Outside) -> None:
        self._listener = listen(path)
        self._outside = outside
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    serve_one(connection, self._outside.answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def keepalived() -> _Keepalived:
    return _Keepalived()


@pytest.fixture
def path(tmp_path: Path, keepalived: _Keepalived) -> Iterator[str]:
    """The socket of one that answers."""
    place = tmp_path / "socket"
    with closing(_Server(place, Outside(Mounts(), keepalived))):
        yield str(place)


@pytest.fixture(params=["itself", "outside"])
def names(request: pytest.FixtureRequest) -> Names:
    """Both ways to name a namespace: they must be the same."""
    return Mounts() if request.param == "itself" else OutsideNames(request.getfixturevalue("path"))


@pytest.fixture
def namespace() -> Iterator[int]:
    """An open descriptor of one that has no name."""
    with own_namespace():
        fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    yield fd
    os.close(fd)
    for name in (NAME, FOREIGN):
        subprocess.run(["umount", "--lazy", namespace_path(name)], capture_output=True, check=False)
        with suppress(FileNotFoundError):
            os.unlink(namespace_path(name))


@pytest.mark.root
class TestNames:
    """See `names`."""

    def test_a_name_leads_to_the_namespace_until_it_is_taken(self, names: Names, namespace: int) -> None:
        names.give(NAME, namespace)
        assert netlink.namespace_inode(NAME) == os.fstat(namespace).st_ino
        names.take(NAME)
        assert not os.path.exists(namespace_path(NAME))

    def test_it_is_seen_by_programs_in_other_mount_namespaces(self, names: Names, namespace: int) -> None:
        """`ip netns` is one: keepalived's notify lines are others."""
        names.give(NAME, namespace)
        done = subprocess.run(["unshare", "--mount", "ip", "netns", "exec", NAME, "true"], check=False)
        assert done.returncode == 0
        names.take(NAME)

    def test_what_a_crash_left_is_replaced(self, names: Names, namespace: int) -> None:
        os.makedirs("/run/netns", exist_ok=True)
        Path(namespace_path(NAME)).touch(mode=0)
        names.give(NAME, namespace)
        assert netlink.namespace_inode(NAME) == os.fstat(namespace).st_ino
        names.take(NAME)

    def test_an_absent_name_is_taken_without_an_error(self, names: Names) -> None:
        names.take(NAME)

    def test_a_plain_file_is_taken_away(self, names: Names, namespace: int) -> None:
        os.makedirs("/run/netns", exist_ok=True)
        Path(namespace_path(NAME)).touch()
        names.take(NAME)
        assert not os.path.exists(namespace_path(NAME))


@pytest.mark.root
class TestRefused:
    """What is none of its business."""

    @pytest.mark.parametrize(
        "name", [FOREIGN, "pp-../../etc/shadow", "pp-", "pp-a/b", "pp-A", "pp-a\n", "pp-" + "a" * 41]
    )
    def test_other_names(self, path: str, namespace: int, name: str) -> None:
        with pytest.raises(PermissionError):
            OutsideNames(path).give(name, namespace)
        with pytest.raises(PermissionError):
            OutsideNames(path).take(name)

    def test_the_machines_own_namespace(self, path: str) -> None:
        """Else what is done in a subnet's namespace would be done to the machine."""
        fd = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        with pytest.raises(PermissionError):
            OutsideNames(path).give(NAME, fd)
        os.close(fd)

    @pytest.mark.parametrize("file", ["/proc/self/ns/mnt", "/proc/self/ns/user", "/etc/passwd", "/dev/null"])
    def test_what_is_no_network_namespace(self, path: str, file: str) -> None:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        with pytest.raises(PermissionError):
            OutsideNames(path).give(NAME, fd)
        os.close(fd)
        assert not os.path.exists(namespace_path(NAME))


@pytest.mark.parametrize(
    "sent",
    [b"", b"{", b"[]", b"7", b'{"do": "reboot"}', b'{"do": "name"}', b'{"do": "name", "name": 7}', b"\xff" * 5000],
)
def test_whatever_is_sent_the_next_one_is_answered(path: str, sent: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(path)
        connection.send(sent)
    assert OutsideKeepalived(path).pid() == 4711


@pytest.mark.parametrize("sent", [b"[" * 4000, b'{"do": "vrrp", "fifo": "' + b"x" * 4000 + b'"}'])
def test_what_is_endless_is_answered(path: str, sent: bytes) -> None:
    """Lists in lists are no end of it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(10)
        connection.connect(path)
        connection.send(sent)
        assert connection.recv(4096)
    assert OutsideKeepalived(path).pid() == 4711


def test_who_says_nothing_is_waited_for_a_moment(path: str) -> None:
    """Nobody but root gets that far; and the daemon waits for longer than for one of these."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as idle:
        idle.connect(path)
        assert OutsideKeepalived(path).pid() == 4711
    assert QUESTION_S < ANSWER_S


SETRESUID = {"x86_64": 117, "aarch64": 147}
"""The system call itself is about the calling thread alone; what the C library makes of it is about all of them."""


@pytest.mark.root
@pytest.mark.skipif(os.uname().machine not in SETRESUID, reason="setresuid has another number here")
def test_somebody_else_is_neither_answered_nor_waited_for(keepalived: _Keepalived) -> None:
    """Even if the modes of the socket and its directory let them in: the kernel says who they are."""
    refused: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def ask() -> None:
        assert ctypes.CDLL(None).syscall(SETRESUID[os.uname().machine], -1, 65534, -1) == 0
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.connect(str(place))
            refused.put(connection.recv(4096))

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "socket")
        with closing(_Server(place, Outside(Mounts(), keepalived))):
            for path in (folder, place):
                os.chmod(path, 0o777)  # noqa: S103 - what somebody did by mistake
            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()
    assert json.loads(refused.get_nowait()) == {"error": errno.EPERM, "why": "root only"}


@pytest.mark.root
def test_names_are_not_given_without_end(path: str, namespace: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a mount, and the machine has so many only."""
    names = OutsideNames(path)
    names.give(NAME, namespace)
    monkeypatch.setattr(outside, "MAX_NAMES", 1)
    with pytest.raises(PermissionError, match="1 names already"):
        names.give(f"{NAME}b", namespace)
    names.take(NAME)


def test_others_cannot_reach_it(path: str) -> None:
    """The socket is its user's alone."""
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_it_says_what_keepalived_is(path: str) -> None:
    seen: KeepalivedProcess = OutsideKeepalived(path)
    fifos = [seen.vrrp_process(fifo) for fifo in ("/run/proxypool/vrrp.fifo", "/other")]
    assert (seen.pid(), seen.age_s(), fifos, seen.is_stopped()) == (4711, 2.5, [4712, None], True)


def test_while_it_is_away_keepalived_is_what_it_was(tmp_path: Path, keepalived: _Keepalived) -> None:
    """A restart of it must not look like keepalived's death; when it is back the truth is."""
    place = tmp_path / "socket"
    outside = Outside(Mounts(), keepalived)
    seen = OutsideKeepalived(str(place))
    assert seen.pid() is None
    with closing(_Server(place, outside)):
        assert seen.pid() == 4711
    assert seen.pid() == 4711
    keepalived.process = None
    with closing(_Server(place, outside)):
        assert seen.pid() is None
