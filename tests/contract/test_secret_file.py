"""Files with secrets: which are used, which are refused and why."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest

from proxypool.adapters import secret_file as secrets
from proxypool.adapters.secret_file import make_secret, path_of, read_secret, require_private
from proxypool.adapters.tls import client_context
from proxypool.core.errors import AccessDenied
from proxypool.lab.authority import Authority

SECRET = "a secret of 27 characters.."  # noqa: S105 - nobody's


def secret_file(folder: Path, mode: int = 0o600, text: str = f"{SECRET}\n") -> str:
    path = folder / "secret"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_of_ours_alone_is_read(tmp_path: Path, mode: int) -> None:
    assert read_secret(secret_file(tmp_path, mode)) == SECRET


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o666, 0o610])
def test_a_file_that_a_group_or_all_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    name = secret_file(tmp_path, mode)
    for use in (read_secret, require_private):
        with pytest.raises(
            AccessDenied, match=rf"can be read or written by others \(mode {mode:04o}.*chmod 600 {name}"
        ):
            use(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to give a file away")
def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    name = secret_file(tmp_path)
    os.chown(name, 65534, 0)
    with pytest.raises(AccessDenied, match="owner 65534"):
        read_secret(name)


@pytest.mark.parametrize(("text", "why"), [("", "has 0 characters"), ("short\n", "has 5 characters")])
def test_what_can_be_guessed_is_no_secret(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(AccessDenied, match=why) as caught:
        read_secret(secret_file(tmp_path, text=text))
    assert "short" not in str(caught.value).replace("too short", "")


def test_what_is_not_there_or_no_text_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(AccessDenied, match="No such file"):
        read_secret(str(tmp_path / "none"))
    with pytest.raises(AccessDenied, match="Is a directory"):
        read_secret(str(tmp_path))
    (tmp_path / "binary").write_bytes(b"\xff\xfe" * 20)
    (tmp_path / "binary").chmod(0o600)
    with pytest.raises(AccessDenied, match="it is no text"):
        read_secret(str(tmp_path / "binary"))


def test_a_credential_of_systemd_is_a_file_in_the_directory_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the unit has a user, systemd shows the mask of an access list as the group's bits: that is fine."""
    secret_file(tmp_path, 0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_secret("credential:secret") == SECRET
    (tmp_path / "secret").chmod(0o444)
    with pytest.raises(AccessDenied, match="by others"):
        read_secret("credential:secret")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(AccessDenied, match="LoadCredential=secret:FILE"):
        path_of("credential:secret")


@pytest.mark.parametrize("unit", ["node", "host", "controller"])
def test_a_command_uses_the_credential_of_the_service_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str
) -> None:
    """As it would use the service's file: else the configuration of a machine with credentials would be of no use to
    `status`. A service that does not run has none.
    """
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setattr(secrets, "OF_SERVICES", tmp_path)
    folder = tmp_path / f"proxypool-{unit}.service"
    with pytest.raises(AccessDenied, match="LoadCredential=secret:FILE"):
        read_secret("credential:secret")
    folder.mkdir()
    secret_file(folder, 0o440)
    assert read_secret("credential:secret") == SECRET


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to give a file away")
def test_root_reads_what_belongs_to_the_user_of_our_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a controller, for `status`; the daemon itself could not read a file of root's."""
    monkeypatch.setattr(secrets, "SERVICE_USER", "nobody")
    name = secret_file(tmp_path)
    os.chown(name, pwd.getpwnam("nobody").pw_uid, 0)
    assert read_secret(name) == SECRET
    os.chmod(name, 0o640)
    with pytest.raises(AccessDenied, match="by others"):
        read_secret(name)


def test_certificates_may_be_credentials_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    identity = Authority(tmp_path).issue("us")
    for path in (identity.certificate, identity.key):
        path.chmod(0o440)
    context = client_context("credential:ca.pem", "credential:us.pem", "credential:us.key")
    assert context.get_ca_certs()


def test_a_secret_that_is_made_is_new_long_private_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "made"
    secret = make_secret(path)
    assert len(secret) >= 43
    assert secret != make_secret(tmp_path / "other")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_secret(str(path)) == secret
    with pytest.raises(AccessDenied, match="File exists"):
        make_secret(path)
