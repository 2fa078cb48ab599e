"""What comes from this machine: keepalived's fifo, the local sockets, a container runtime, and files of our own."""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import threading
import tracemalloc
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxypool.adapters.agent import Agent as Client
from proxypool.adapters.attachment_log import AttachmentLog
from proxypool.adapters.keepalived import Keepalived, NotifyFifo, TrackFile
from proxypool.adapters.keepalived_process import ProcView
from proxypool.adapters.netns_names import namespace_path
from proxypool.adapters.outside import OutsideKeepalived, OutsideNames
from proxypool.adapters.pool_cache import PoolCache
from proxypool.adapters.zookeeper import session_file
from proxypool.core.attachments import Attachment, AttachRequest, DetachRequest
from proxypool.core.errors import InvalidInput, PermanentError, ProxypoolError
from proxypool.core.keepalived import parse_notification, parse_version
from proxypool.daemons.api_server import ApiServer
from proxypool.daemons.host_api import HostApi, Request
from proxypool.daemons.outside import Outside, serve_one
from tests.fuzz.damage import BYTES, TEXTS, anything, damaged
from tests.property.effort import effort
from tests.unit import builders
from tests.unit.cni_calls import FakeAttachments, annotated, config, environment, headers
from tests.unit.test_attachments import Agent

LINE = b'INSTANCE "proxypool/s1/p1" MASTER 240\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For files that each example writes again."""
    return tmp_path_factory.mktemp("fuzz")


# ---- keepalived ------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.one_of(st.just(LINE), st.binary(max_size=80), st.sampled_from((b'INSTANCE "', b'" MASTER', *BYTES))))
)
@effort(100)
def test_any_bytes_in_the_fifo(folder: Path, pieces: list[bytes]) -> None:
    """And a whole line after them is understood."""
    fifo = NotifyFifo(str(folder / "fifo"))
    try:
        writer = os.open(folder / "fifo", os.O_WRONLY | os.O_NONBLOCK)
        os.write(writer, b"".join(pieces) + b"\n" + LINE)
        os.close(writer)
        lines = fifo.lines()
    finally:
        fifo.close()
    parsed = [parse_notification(line) for line in lines]
    assert parsed[-1] is not None
    assert parsed[-1][:2] == ("s1", "p1")


def test_a_line_without_an_end_does_not_fill_the_memory(folder: Path) -> None:
    """It is left out; the next one is read."""
    fifo = NotifyFifo(str(folder / "fifo"))
    try:
        writer = os.open(folder / "fifo", os.O_WRONLY | os.O_NONBLOCK)
        tracemalloc.start()
        for _ in range(200):
            os.write(writer, b"x" * 60_000)
            assert fifo.lines() == []
        _, peak = tracemalloc.get_traced_memory()
        os.write(writer, b"x\n" + LINE)
        os.close(writer)
        assert fifo.lines() == [LINE.decode().strip()]
    finally:
        tracemalloc.stop()
        fifo.close()
    assert peak < 1 << 20


def test_a_writer_that_never_stops_does_not_hold_the_reader(folder: Path) -> None:
    """What is left is there to be read still."""
    fifo = NotifyFifo(str(folder / "fifo"))
    is_over = threading.Event()

    def write() -> None:
        writer = os.open(folder / "fifo", os.O_WRONLY)
        while not is_over.is_set():
            os.write(writer, LINE * 1000)
        os.close(writer)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(20):
            fifo.lines()
        is_over.set()
        while thread.is_alive():
            fifo.lines()
    finally:
        is_over.set()
        thread.join()
        fifo.close()


@given(st.one_of(st.binary(max_size=40), st.sampled_from((b"200\n", b"9" * 100, b"\xff", b" 7 ", b"1_0", b"-5", b""))))
@effort(40)
def test_any_bytes_in_a_track_file(folder: Path, data: bytes) -> None:
    path = folder / "track"
    path.write_bytes(data)
    found = TrackFile(str(path)).read()
    assert found is None or isinstance(found, int)


@given(st.one_of(st.text(max_size=40), st.sampled_from(TEXTS).map("Keepalived v{}".format)))
@effort(60)
def test_any_program_called_keepalived(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        assert all(part < 10**6 for part in parse_version(text))


def test_keepalived_conf_in_another_encoding(tmp_path: Path) -> None:
    """An operator's comments may be in Latin-1, and what has our file's name may be anything."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "keepalived.conf").write_bytes(b"# f\xfcr alle\ninclude /etc/keepalived/conf.d/*.conf\n")
    (tmp_path / "conf.d" / "proxypool.conf").write_bytes(b"\xff\xfe\x00")
    program = Keepalived(tmp_path)
    assert program.includes_ours()
    assert list(program.installed()) == ["proxypool.conf"]


# ---- what stands outside a node daemon's unit ------------------------------------------------------------------------

QUESTIONS = [
    {"do": "name", "name": "pp-s1"},
    {"do": "unname", "name": "pp-s1"},
    {"do": "vrrp", "fifo": "/run/proxypool/vrrp.fifo"},
    *({"do": what} for what in ("pid", "age", "stopped")),
]


class Names:
    """Remembers which were given and taken."""

    def __init__(self) -> None:
        self.used: set[str] = set()

    def give(self, name: str, fd: int) -> None:
        self.used.add(name)

    def take(self, name: str) -> None:
        self.used.add(name)


@given(anything(QUESTIONS), st.integers(0, 5))
@effort(150)
def test_any_question_to_what_stands_outside(data: bytes, descriptors: int) -> None:
    """It is answered with an object, no name but one of ours is touched, and no descriptor stays open."""
    names = Names()
    outside = Outside(names, ProcView())
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        sent = os.fstat(ours.fileno())
        socket.send_fds(theirs, [data[:MAX_PACKET]], [ours.fileno()] * descriptors)
        serve_one(ours, outside.answer)
        answer = json.loads(theirs.recv(MAX_PACKET))
    assert answer.keys() <= {"value", "error", "why"}
    assert len(answer.get("why", "")) < 200
    assert all(namespace_path(name).startswith("/run/netns/pp-") for name in names.used)
    assert not any("/" in name or "\n" in name for name in names.used)
    assert not descriptors_of(sent)


def descriptors_of(file: os.stat_result) -> list[int]:
    """Those of this process that are open on a file. How many it has in all changes with what other tests left."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            status = os.fstat(int(name))
            if (status.st_dev, status.st_ino) == (file.st_dev, file.st_ino):
                found.append(int(name))
    return found


MAX_PACKET = 1 << 16
ANSWERS = [{"value": 4711}, {"value": 2.5}, {"value": True}, {"value": None}, {"error": 1, "why": "root only"}]


@given(anything(ANSWERS))
@effort(100)
def test_any_answer_of_what_stands_outside(folder: Path, data: bytes) -> None:
    """The daemon gets what it asked for, or None; of a name an error that can be printed."""
    place = folder / "outside.sock"
    with impostor(place, data, socket.SOCK_SEQPACKET):
        keepalived = OutsideKeepalived(str(place))
        pids, age_s = (keepalived.pid(), keepalived.vrrp_process("/x")), keepalived.age_s()
        assert all(pid is None or (type(pid) is int and 0 < pid <= 1 << 22) for pid in pids)
        assert age_s is None or (type(age_s) is float and math.isfinite(age_s))
        assert type(keepalived.is_stopped()) is bool
        with contextlib.suppress(OSError):
            OutsideNames(str(place)).take("pp-s1")


# ---- the local API ---------------------------------------------------------------------------------------------------

ATTACH = {"attachments": [{"address": "10.244.1.2", "subnet": "s1"}], "replace": False, "owner": "me"}
DETACH = {"attachments": [{"address": "10.244.1.2", "subnet": None}]}


@pytest.fixture(scope="module")
def api(folder: Path) -> HostApi:
    return HostApi(Agent(folder / "log").all, lambda: {"host": "h1"})


@given(st.sampled_from(("attach", "detach")), anything([ATTACH, DETACH]))
@effort(150)
def test_any_body_is_carried_out_or_refused_with_a_code(api: HostApi, what: str, body: bytes) -> None:
    answer = api.answer(Request("POST", f"/v1/{what}", {}, body))
    assert answer.status in {200, 400, 404, 409, 422}, answer.body
    document = json.loads(answer.body)
    assert answer.status == 200 or (document["code"] != "defect" and document["detail"].isprintable())


@pytest.mark.parametrize("kind", [AttachRequest, DetachRequest])
def test_a_name_without_an_end_is_refused(api: HostApi, kind: type) -> None:
    """Before anybody compares it with the names of ten thousand subnets."""
    what = "attach" if kind is AttachRequest else "detach"
    body = json.dumps({"attachments": [{"address": "10.244.1.2", "subnet": "s" * 1_000_000}]}).encode()
    answer = api.answer(Request("POST", f"/v1/{what}", {}, body))
    assert (answer.status, len(answer.body) < 3000) == (400, True)


@pytest.fixture(scope="module")
def place(folder: Path, api: HostApi) -> Iterator[Path]:
    path = folder / "host.sock"
    server = ApiServer(path, api, None)
    yield path
    server.close()


def said(place: Path, data: bytes) -> bytes:
    """What comes back for these bytes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(30.0)
        link.connect(str(place))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            link.sendall(data)
            link.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            return b"".join(iter(lambda: link.recv(65536), b""))
    return b""


lengths = st.sampled_from(("0", "5", "-1", "+5", "1e3", "0x5", "9" * 30, "9" * 5000, "\xb2", "5, 5", " 5 ", ""))
lines = st.one_of(
    st.sampled_from(
        (
            "GET / HTTP/1.1",
            "POST /v1/attach HTTP/1.1",
            "GET /v1/status HTTP/9.9",
            "GET",
            "\x16\x03\x01",
            "HEAD * HTTP/1.0",
        )
    ),
    st.text(st.characters(max_codepoint=255, exclude_characters="\n"), max_size=30),
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Bytes that look like HTTP, more or less."""
    head = [draw(lines), f"Content-Length: {draw(lengths)}", *draw(st.lists(lines, max_size=3))]
    body = draw(st.sampled_from((b"", b"{}", b"hello", json.dumps(ATTACH).encode())))
    return "\r\n".join(head).encode("latin-1") + draw(st.sampled_from((b"\r\n\r\n", b"\n\n", b""))) + body


@given(st.one_of(requests(), requests(), st.binary(max_size=60)))
@effort(60)
def test_any_bytes_at_the_socket(place: Path, data: bytes) -> None:
    """It answers or hangs up, and serves the next one."""
    said(place, data)
    assert b'"HostAgent"' in said(place, b"GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize(
    ("length", "status"), [("9" * 5000, 413), ("9" * 30, 413), ("\xb2", 411), ("-1", 411), ("50", 400)]
)
def test_a_length_that_is_none_is_refused(place: Path, length: str, status: int) -> None:
    request = f"POST /v1/attach HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{{}}".encode("latin-1")
    assert said(place, request).split()[1] == str(status).encode()


@contextlib.contextmanager
def impostor(path: Path, answer: bytes, kind: int = socket.SOCK_STREAM) -> Iterator[None]:
    """Something that says this to everybody."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, kind) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    link, _ = server.accept()
                    with link, contextlib.suppress(OSError):
                        link.recv(65536)
                        link.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


ITEMS = {"apiVersion": "proxypool/v1", "kind": "AttachmentList", "items": [{"address": "10.0.0.1", "subnet": "s1"}]}


@given(st.sampled_from((200, 200, 400, 503, 999)), anything([ITEMS, {"code": "x", "detail": "y"}]))
@effort(40)
def test_any_answer_to_our_own_client(folder: Path, status: int, body: bytes) -> None:
    head = f"HTTP/1.1 {status} OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    place = folder / "false.sock"
    with impostor(place, head + body), contextlib.closing(Client(place)) as client:
        try:
            assert isinstance(client.attachments(), list)
        except ProxypoolError as error:
            assert str(error).isprintable()


# ---- a container runtime ---------------------------------------------------------------------------------------------

CALLS = [
    config(subnets=["s1"]),
    config(runtimeConfig=annotated("s1,s2")),
    config(args={"cni": {"PROXYPOOL_SUBNETS": "s1"}}),
    config(cniVersion="1.1.0", **{"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}),
]


@given(
    st.sampled_from(("ADD", "CHECK", "DEL", "GC", "STATUS", "", "add")),
    anything(CALLS),
    st.one_of(st.just(""), st.sampled_from(TEXTS), st.just("PROXYPOOL_SUBNETS=s1;K8S_POD_NAME=a")),
    st.one_of(st.just("b0a3e1c4"), st.sampled_from(TEXTS)),
)
@effort(200)
def test_any_call_is_carried_out_or_answered_as_the_specification_says(
    command: str, body: bytes, args: str, container: str
) -> None:
    api = HostApi(FakeAttachments(), dict)  # type: ignore[arg-type]
    names = headers(environment(command, args=args, container_id=container))
    answer = api.answer(Request("POST", "/v1/cni", names, body))
    assert answer.status in {200, 400, 409, 503}, answer.body
    if answer.status != 200:
        document = json.loads(answer.body)
        assert document["code"] >= 1
        assert document["msg"]


# ---- files of our own ------------------------------------------------------------------------------------------------

KEPT = {"address": "10.244.1.2", "subnet": "s1", "owner": "me", "since": 1.0, "gone": False}


@given(st.lists(anything([KEPT]), max_size=5))
@effort(100)
def test_any_log_of_attachments_is_read_line_by_line(folder: Path, found: list[bytes]) -> None:
    """What is not understood is told of, and what comes after it is kept."""
    path = folder / "attachments"
    path.write_bytes(b"\n".join([*found, b""]))
    log = AttachmentLog(path)
    kept = Attachment(address=IPv4Address("10.244.1.9"), subnet="s9", owner="me", since=2.0)
    log.append([kept], [])
    log.close()
    read, problems = AttachmentLog(path).load()
    assert read[kept.address, "s9"] == kept
    assert all(problem.isprintable() for problem in problems)


def _cache(folder: Path) -> PoolCache:
    return PoolCache(folder / "pool", "h1")


@pytest.fixture(scope="module")
def cached(folder: Path) -> object:
    """What a host writes of a pool with a pair."""
    pool = builders.snapshot(pairs=[builders.pair()], hosts=[builders.host()])
    _cache(folder).save(pool, IPv4Address("100.64.0.1"), ["s1"])
    return msgspec.json.decode((folder / "pool").read_bytes())


@given(st.data())
@effort(100)
def test_any_cache_of_the_pool_is_understood_or_nothing_is_known(
    folder: Path, cached: object, data: st.DataObject
) -> None:
    (folder / "pool").write_bytes(data.draw(anything([cached])))
    found = _cache(folder).load()
    if found is not None:
        assert all(name == spec.id for name, spec in found.snapshot.subnets.items())
        for pair in found.snapshot.all_pairs():
            assert {member.node for member in pair.members} == {"n1", "n2"} or len(pair.members) == 2


def test_a_cache_that_speaks_under_another_name_is_not_believed(folder: Path, cached: object) -> None:
    """Else instances of one customer would be steered by the documents of another."""
    (folder / "pool").write_bytes(
        msgspec.json.encode(cached).replace(b'"s1":{"v":1,"id":"s1"', b'"s1":{"v":1,"id":"s2"')
    )
    assert _cache(folder).load() is None


SESSION = {"pool": "blue", "identity": "n1", "session": 5, "password": "00ff"}


@given(anything([SESSION]))
@effort(60)
def test_any_saved_session_is_resumed_or_begun_anew(folder: Path, data: bytes) -> None:
    path = folder / "session"
    path.write_bytes(data)
    found = session_file.load(path, "blue", "n1")
    if found is not None:
        assert -(2**63) <= found.session < 2**63
        bytes.fromhex(found.password)


@given(damaged([{"instance_cidrs": "x"}]))
@effort(5)
def test_what_is_no_fifo_is_said_to_be_none(folder: Path, data: bytes) -> None:
    path = folder / "no-fifo"
    path.write_bytes(data)
    with pytest.raises(PermanentError, match="is not a fifo"):
        NotifyFifo(str(path))
    assert IPv4Network("10.0.0.0/8").prefixlen == 8
