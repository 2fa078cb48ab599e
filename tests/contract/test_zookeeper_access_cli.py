"""Closing a pool from the command line: what is printed, what is refused, and that no secret turns up anywhere."""

from __future__ import annotations

import json
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxypool.adapters.secret_file import make_secret
from proxypool.adapters.zookeeper import PoolSession
from proxypool.core.access import AccessRole
from proxypool.core.config import ZooKeeperConfig
from proxypool.core.documents import to_builtins
from tests.contract.conftest import _serve
from tests.contract.test_zookeeper_cli import Cli
from tests.contract.zk import ZooKeeperServer, pool_request


@pytest.fixture(scope="module")
def guarded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperServer]:
    """What all pools stand in is closed with the first of them."""
    yield from _serve(ZooKeeperServer(tmp_path_factory.mktemp("zookeeper")))


@pytest.fixture
def cli(guarded_server: ZooKeeperServer, pool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    (tmp_path / "proxypool.toml").write_text("[controller]\n")
    monkeypatch.delenv("PROXYPOOL_USER", raising=False)
    return Cli(
        {
            "PROXYPOOL_ZOOKEEPER": guarded_server.address,
            "PROXYPOOL_POOL": pool,
            "PROXYPOOL_CONFIG": str(tmp_path / "proxypool.toml"),
            "NO_COLOR": "",
        }
    )


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One administrator for all pools of the server: another could make none."""
    folder = tmp_path_factory.mktemp("secrets")
    for role in AccessRole:
        make_secret(folder / f"{role}.secret")
    return folder


def become(cli: Cli, role: str, secrets: Path) -> None:
    cli.environment |= {"PROXYPOOL_USER": role, "PROXYPOOL_SECRET_FILE": str(secrets / f"{role}.secret")}


def closed(cli: Cli, secrets: Path) -> None:
    """A pool that is at work, and closed."""
    become(cli, "admin", secrets)
    cli.ok("pool", "apply", "-", stdin=json.dumps(to_builtins(pool_request())))
    cli.ok("pool", "secure", str(secrets))


def test_secrets_are_made_once_and_for_their_owner_alone(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert cli.ok("pool", "credentials", str(folder), "--dry-run").startswith(f"would make {folder}/admin.secret\n")
    assert not folder.exists()
    text = cli.ok("pool", "credentials", str(folder))
    names = ["admin", "controller", "node", "host", "viewer"]
    assert text.splitlines() == [f"made {folder}/{name}.secret" for name in names]
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert (stat.S_IMODE(folder.stat().st_mode), modes) == (0o700, {0o600})
    before = {path: path.read_text() for path in folder.iterdir()}
    assert len(set(before.values())) == 5
    assert not any(secret.strip() in text for secret in before.values())
    (folder / "viewer.secret").unlink()
    assert cli.ok("pool", "credentials", str(folder)).splitlines()[-2:] == [
        f"kept {folder}/host.secret",
        f"made {folder}/viewer.secret",
    ]
    assert (folder / "admin.secret").read_text() == before[folder / "admin.secret"]


def test_a_pool_is_closed_seen_by_a_viewer_and_opened(cli: Cli, secrets: Path, pool: str) -> None:
    become(cli, "admin", secrets)
    cli.ok("pool", "apply", "-", stdin=json.dumps(to_builtins(pool_request())))
    before = cli.ok("pool", "secure", str(secrets), "--dry-run")
    assert f"/proxypool/{pool}/subnets/s1: anyone=cdrwa -> admin=cdrwa controller=r host=r node=r viewer=r\n" in before
    assert before.splitlines()[-1].startswith("would change ")
    assert "pool-open" not in cli.ok("pool", "show"), "nothing was done"
    done = cli.ok("pool", "secure", str(secrets))
    assert done.startswith(f"pool {pool} is open to admin, controller, node, host, viewer alone: ")
    assert cli.ok("pool", "secure", str(secrets)).endswith(": 0 access lists changed\n")
    assert cli.ok("pool", "secure", str(secrets), "--dry-run") == "unchanged\n"
    become(cli, "viewer", secrets)
    assert "s1" in cli.ok("status")
    refused = cli("scale", "set", "s1", "--min", "1")
    assert (refused.code, refused.out) == (8, "")
    assert refused.err.startswith("error: ZooKeeper refuses access (NoAuthError): it takes another user")
    become(cli, "admin", secrets)
    unsure = cli("pool", "secure", "--open")
    assert unsure.code == 7
    assert "is open to everybody" in cli.ok("pool", "secure", "--open", "--yes")
    del cli.environment["PROXYPOOL_USER"], cli.environment["PROXYPOOL_SECRET_FILE"]
    assert "s1" in cli.ok("status")


def test_without_a_secret_a_closed_pool_is_not_seen(cli: Cli, secrets: Path) -> None:
    closed(cli, secrets)
    del cli.environment["PROXYPOOL_USER"], cli.environment["PROXYPOOL_SECRET_FILE"]
    for words in (("status",), ("pool", "show"), ("pair", "drain", "s1", "p1"), ("pool", "secure", str(secrets))):
        done = cli(*words)
        assert (done.code, done.out) == (8, ""), done
        assert "zookeeper.secret_file" in done.err


def test_what_cannot_be_is_told(cli: Cli, secrets: Path, tmp_path: Path) -> None:
    become(cli, "admin", secrets)
    cli.ok("pool", "init")
    assert "give the directory of the secrets, or --open" in cli("pool", "secure").err
    assert (
        "is no directory: make it with `proxypool pool credentials" in cli("pool", "secure", str(tmp_path / "no")).err
    )
    other = tmp_path / "other"
    cli.ok("pool", "credentials", str(other))
    locked = cli("pool", "secure", str(other))
    assert (locked.code, "would lock itself out" in locked.err) == (1, True)
    (other / "admin.secret").unlink()
    assert "there is no admin.secret" in cli("pool", "secure", str(other)).err
    (secrets / "node.secret").chmod(0o644)
    loose = cli("pool", "secure", str(secrets))
    assert (loose.code, "node.secret keeps a secret and can be read or written by others" in loose.err) == (8, True)
    become(cli, "node", secrets)
    assert (cli("status").code, "chmod 600" in cli("status").err) == (8, True)
    (secrets / "node.secret").chmod(0o600)
    assert "only the administrator may do this" in cli("pool", "secure", str(secrets)).err
    cli.environment["PROXYPOOL_USER"] = "root"
    assert "there is no user 'root'; there are admin, controller" in cli("status").err
    del cli.environment["PROXYPOOL_USER"]
    assert "belong together" in cli("status").err


def findings(cli: Cli) -> dict[str, str]:
    done = cli("doctor", "--role", "controller", "-o", "json")
    return {one["code"]: one["message"] for one in json.loads(done.out)["findings"]}


def test_doctor_finds_a_pool_and_nodes_that_are_open(cli: Cli, secrets: Path, pool: str) -> None:
    """Also as a role that is not shown the digests."""
    become(cli, "admin", secrets)
    cli.ok("pool", "init")
    assert "has no access lists" in findings(cli)["PD054"]
    cli.ok("pool", "secure", str(secrets))
    for role in ("admin", "controller"):
        become(cli, role, secrets)
        assert not {"PD053", "PD054", "PD055"} & findings(cli).keys()
    become(cli, "admin", secrets)
    said = ZooKeeperConfig(
        hosts=(cli.environment["PROXYPOOL_ZOOKEEPER"],),
        user=AccessRole.ADMIN,
        secret_file=str(secrets / "admin.secret"),
    )
    session = PoolSession(said, pool)
    session.connect(10)
    session.wait(session.client.create_async(session.layout.path("subnets/by-hand"), b"{}"))
    session.stop(close_session=True)
    for role in ("admin", "controller"):
        become(cli, role, secrets)
        assert f"at /proxypool/{pool}/subnets/by-hand" in findings(cli)["PD055"]
    become(cli, "admin", secrets)
    assert "1 access list changed" in cli.ok("pool", "secure", str(secrets))
    assert "PD055" not in findings(cli)


def test_no_secret_is_shown_or_collected(cli: Cli, secrets: Path, tmp_path: Path) -> None:
    """Of `config show` the path; in a bundle nothing, though the file's content is planted where it looks."""
    closed(cli, secrets)
    secret = (secrets / "admin.secret").read_text().strip()
    config = Path(cli.environment["PROXYPOOL_CONFIG"])
    config.write_text(
        f'[zookeeper]\nuser = "admin"\nsecret_file = "{secrets}/admin.secret"\n[controller]\n'
        f"# somebody wrote it here: {secret}\n"
    )
    shown = cli("config", "show", "--sources", "-o", "json").out
    assert f"{secrets}/admin.secret" in shown
    assert "environment PROXYPOOL_SECRET_FILE" in shown
    assert secret not in shown
    archive = tmp_path / "bundle.tar.gz"
    done = cli("bundle", "--output", str(archive), "--timeout", "60")
    assert done.code == 0, done
    with tarfile.open(archive) as found:
        files = {one.name.partition("/")[2]: found.extractfile(one) for one in found if one.isfile()}
        texts = {name: file.read() for name, file in files.items() if file is not None}
    assert any(name == "documents/zookeeper.json" for name in texts), sorted(texts)
    tree = json.loads(texts["documents/zookeeper.json"])
    assert [value["digests"] for path, value in tree.items() if path.endswith("/access")] == ["***"]
    assert [name for name, text in texts.items() if secret.encode() in text] == []
    assert b"somebody wrote it here: ***" in texts["configuration.toml"]
