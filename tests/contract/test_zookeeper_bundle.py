"""`proxypool bundle` against a real ZooKeeper: what is in it, and what never is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from proxypool.adapters import secret_file
from proxypool.adapters.machine.archive import Archive
from proxypool.cli.collection import known_secrets
from proxypool.cli.settings import Settings
from tests.contract.test_zookeeper_cli import Cli, cli
from tests.contract.zk import PoolClient, free_port, wait_until

__all__ = ["cli"]

SECRETS = (
    "c0nfig-secret",
    "env-s3cret-word",
    "token-file-s3cret",
    "key-id-AKID77",
    "key-s3cret-9",
    "vrrp-s3cret",
    "url-s3cret",
)


def contents(path: Path) -> dict[str, str]:
    """File without the top directory -> text."""
    with tarfile.open(path) as archive:
        found = {}
        for member in archive.getmembers():
            file = archive.extractfile(member)
            assert file is not None
            found[member.name.partition("/")[2]] = file.read().decode()
        return found


class _Metrics(BaseHTTPRequestHandler):
    """A daemon whose metrics, by some mistake, say a secret."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f'proxypool_x{{why="{SECRETS[0]}"}} 1\n'.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class has it
        """Nothing."""


@pytest.fixture
def metrics_port() -> Iterator[int]:
    """Where a daemon's metrics are."""
    with HTTPServer(("127.0.0.1", 0), _Metrics) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def directory(cli: Cli, tmp_path: Path, metrics_port: int) -> Path:
    """Secrets wherever a machine may have some."""
    keepalived = tmp_path / "keepalived"
    keepalived.mkdir()
    (keepalived / "keepalived.conf").write_text(
        f"vrrp_instance x {{\n  authentication {{\n    auth_pass {SECRETS[5]}\n  }}\n}}\n"
    )
    (tmp_path / "token").write_text(f"{SECRETS[2]}\n")
    (tmp_path / "credentials.toml").write_text(f'access_key_id = "{SECRETS[3]}"\nsecret_access_key = "{SECRETS[4]}"\n')
    Path(cli.environment["PROXYPOOL_CONFIG"]).write_text(f"""
        run_dir = "{tmp_path}/run"
        [node]
        underlay = "eth0"
        keepalived_dir = "{keepalived}"
        [controller]
        source = "https://me:{SECRETS[6]}@prometheus.example:9090"
        source_token_file = "{tmp_path}/token"
        [metrics]
        listen = "127.0.0.1:{metrics_port}"
        [provider.acme]
        api_password = "{SECRETS[0]}"
        credentials_file = "{tmp_path}/credentials.toml"
    """)
    cli.environment["ACME_TOKEN"] = SECRETS[1]
    cli.environment["PROXYPOOL_NOTE"] = f"beside {SECRETS[1]} and {SECRETS[4]}"
    return tmp_path


def test_what_helps_is_in_it_and_no_secret_is(cli: Cli, operator: PoolClient, directory: Path) -> None:
    """Secrets of the configuration, of the files that it names, of the environment, of keepalived: wherever they turn up,
    also in documents of the pool and in metrics.
    """
    cli.ok("pair", "pause", "s1", "p1", "--reason", f"the password is {SECRETS[0]}")
    path = directory / "out.tar.gz"
    done = cli("bundle", "--output", str(path))
    assert done.code == 0, done
    assert done.out.startswith(f"{path}: ")
    assert path.stat().st_mode & 0o777 == 0o600
    found = contents(path)
    for secret in SECRETS:
        for name, text in found.items():
            assert secret not in text, f"{secret} is in {name}"
    raw = subprocess.run(["zcat", str(path)], capture_output=True, check=True).stdout
    assert not [secret for secret in SECRETS if secret.encode() in raw]
    assert json.loads(found["documents/status.json"])["kind"] == "PoolStatus"
    assert json.loads(found["documents/history.json"])["items"]
    tree = json.loads(found["documents/zookeeper.json"])
    (pair,) = [value for key, value in tree.items() if key.endswith("/pairs/p1")]
    assert pair["pause_reason"] == "the password is ***"
    assert json.loads(found["documents/doctor-node.json"])["facts"]["role"] == "node"
    assert found["metrics/node.txt"] == 'proxypool_x{why="***"} 1\n'
    assert "auth_pass ***" in found["keepalived/keepalived.conf"]
    assert 'underlay = "eth0"' in found["configuration.toml"]
    assert "proxypool" in json.loads(found["versions.json"])
    assert "127.0.0.1" in found["kernel/ip-addr.txt"] or "lo" in found["kernel/ip-addr.txt"]


def test_credentials_of_systemd_are_known_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the service that runs on this machine; one that nobody has given is left out."""
    monkeypatch.setattr(secret_file, "OF_SERVICES", tmp_path)
    (tmp_path / "proxypool-node.service").mkdir()
    (tmp_path / "proxypool-node.service" / "zookeeper").write_text(f"{SECRETS[2]}\n")
    config = tmp_path / "proxypool.toml"
    config.write_text('[zookeeper]\nsecret_file = "credential:zookeeper"\n[metrics]\ntoken_file = "credential:none"\n')
    assert SECRETS[2] in known_secrets(Settings(config=str(config)))


@pytest.mark.long
def test_what_failed_is_in_the_manifest(cli: Cli, directory: Path) -> None:
    """ZooKeeper is away: the rest is there, and the manifest says what is not and why."""
    cli.environment["PROXYPOOL_ZOOKEEPER"] = f"127.0.0.1:{free_port()}"
    path = directory / "out.tar.gz"
    done = cli("bundle", "--output", str(path))
    assert done.code == 0
    assert "steps found nothing, see manifest.json" in done.out
    found = contents(path)
    manifest = {entry["file"]: entry for entry in json.loads(found["manifest.json"])}
    assert "ZooKeeper cannot be reached" in manifest["documents/status.json"]["why_not"]
    assert "documents/status.json" not in found
    assert "bytes" in manifest["kernel/ip-addr.txt"]
    assert manifest.keys() >= found.keys() - {"README.txt", "manifest.json"}


def test_it_overwrites_nothing(cli: Cli, directory: Path) -> None:
    path = directory / "there"
    path.write_text("mine")
    done = cli("bundle", "--output", str(path))
    assert (done.code, path.read_text()) == (1, "mine")
    assert "is there already" in done.err
    assert cli("bundle", "--output", str(directory / "no" / "x")).code == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(cli: Cli, directory: Path, number: signal.Signals) -> None:
    """No half file, no temporary one; exit code 130."""
    cli.environment["PROXYPOOL_ZOOKEEPER"] = f"127.0.0.1:{free_port()}"
    out = directory / "out"
    out.mkdir()
    process = cli.start("bundle", "--output", str(out / "x.tar.gz"))
    try:
        wait_until(lambda: any(out.iterdir()), "it has begun", 20)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "interrupted: nothing was written" in err
    assert "Traceback" not in err
    assert list(out.iterdir()) == []


def test_the_time_of_all_is_limited(cli: Cli, directory: Path) -> None:
    """What is not begun is said."""
    path = directory / "out.tar.gz"
    assert cli("bundle", "--output", str(path), "--timeout", "0.2").code == 0
    manifest = json.loads(contents(path)["manifest.json"])
    assert "was over" in manifest[-1]["why_not"]
    assert cli("bundle", "--output", str(directory / "y"), "--timeout", "0").code == 1


def test_a_file_that_is_too_long_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says so."""
    monkeypatch.setattr("proxypool.adapters.machine.archive.MAX_BYTES", 10)
    path = tmp_path / "x.tar.gz"
    with Archive(path, "top", (), 0.0) as archive:
        archive.add("long", "0123456789abcdef")
        archive.finish()
    assert contents(path)["long"] == "0123456789\n[cut: it has 16 bytes]\n"


def test_an_archive_that_is_not_finished_is_not_there(tmp_path: Path) -> None:
    """Whatever ends it."""
    with pytest.raises(RuntimeError, match="full"):
        _fail_within(tmp_path)
    assert os.listdir(tmp_path) == []


def _fail_within(directory: Path) -> None:
    with Archive(directory / "x", "top", (), 0.0) as archive:
        archive.add("a", "b")
        assert os.listdir(directory) != []
        raise RuntimeError("full")
