"""Secrets leave neither documents nor texts; what only speaks of them stays."""

from __future__ import annotations

import pytest

from proxypool.core.redaction import is_secret_name, redacted, secrets_in, without


@pytest.mark.parametrize(
    "name",
    ["password", "auth_pass", "secret_access_key", "access_key_id", "API_TOKEN", "BCE_SECRET", "digest", "privateKey"],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["source_token_file", "credentials_file", "key", "underlay", "pool", "keys", "session_timeout_s"]
)
def test_names_of_what_is_none(name: str) -> None:
    assert not is_secret_name(name)


def test_a_document_loses_its_secrets_and_nothing_else() -> None:
    found = redacted(
        {
            "a": [{"password": "x1y2"}],
            "token_file": "/f",
            "url": "http://u:pw@h/",
            "secret": {"inner_token": "t"},
            "password": "",
        }
    )
    assert found == {
        "a": [{"password": "***"}],
        "token_file": "/f",
        "url": "http://***@h/",
        "secret": {"inner_token": "***"},
        "password": "",
    }


def test_secrets_are_found_by_name_and_in_addresses() -> None:
    document = {
        "provider": {"acme": {"api_token": "tok-1", "url": "https://u:pw-2@h"}},
        "tokens": ["tok-3"],
        "pool": "p",
    }
    assert set(secrets_in(document)) == {"tok-1", "pw-2", "tok-3"}


@pytest.mark.parametrize(
    "text",
    [
        "a line with s3cr3t in it",
        'x {"n": 1, "password": "other"} y',
        "    auth_pass other\n",
        "PASSWORD=other BEFORE=1",
        "Authorization: Bearer othertoken123",
        "see https://me:other@example.org/x",
        "-----BEGIN RSA PRIVATE KEY-----\nother\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_a_text_loses_them_too(text: str) -> None:
    found = without(text, ["s3cr3t"])
    assert "s3cr3t" not in found
    assert "other" not in found
    assert "***" in found


def test_a_secret_that_is_quoted_for_an_address_is_one() -> None:
    assert without("q=a%2Fb%2Bc", ["a/b+c"]) == "q=***"


@pytest.mark.parametrize(
    "text", ["token_file = /etc/x", "tunnel key 12", "the weight is 3", "credentials_file: /etc/y"]
)
def test_other_words_stay(text: str) -> None:
    assert without(text, ["", "ab"]) == text
