"""What is secret, and text without it. Pure.

By name: keys of documents and variables that are called like a secret. By value: whatever is known to be one is taken
out of any text, wherever it turns up. By form: passwords in addresses, keepalived's `auth_pass`, bearer tokens, keys.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

REMOVED = "***"
MIN_LENGTH = 5
"""Shorter values are not looked for in texts, nor are these: they would take half of it away."""
_NO_SECRETS = frozenset({"false", "proxypool"})
_NAME = re.compile(
    r"(?i)(secret|passw|passphrase|pwd|credential|private_?key|access_?key|api_?key|token|auth|digest|bearer|cookie)"
)
_HARMLESS = re.compile(r"(?i)(_file|_path|_dir|_s|_ms|_interval|_timeout|_id)$")
"""Ends of names of what is said about secrets and is none: where they are, how long they last."""
_KEY_ID = re.compile(r"(?i)access_?key_?id$")
_WORD = r"[\w.-]{0,40}(?:secret|passw(?:or)?d|passphrase|auth_pass|api_?key|access_?key|private_?key|token)[\w.-]{0,40}"
_ASSIGNMENT = re.compile(rf"(?i)({_WORD}[\"']?\s*[:=]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;&}}]+)")
_STATEMENT = re.compile(rf"(?im)^(\s*{_WORD}[ \t]+)(\S+)[ \t]*$")
"""As in keepalived's files: `auth_pass word`."""
_FILE_ASSIGNMENT = re.compile(r"(?i)_(?:file|path|dir)[\"']?\s*[:=]?\s*$")
_USERINFO = re.compile(r"([a-z][a-z0-9+.-]{0,20}://)[^/\s:@\"']*:[^/\s@\"']*@")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)


def is_secret_name(name: str) -> bool:
    """Whether a key or variable of this name holds a secret."""
    if _KEY_ID.search(name):
        return True
    return bool(_NAME.search(name)) and not _HARMLESS.search(name)


def redacted(value: Any) -> Any:
    """A document of plain values without what is secret by the names of its keys, or by its form."""
    if isinstance(value, Mapping):
        return {
            key: REMOVED if item and is_secret_name(str(key)) and not isinstance(item, Mapping) else redacted(item)
            for key, item in value.items()
        }
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [redacted(item) for item in value]
    return _USERINFO.sub(rf"\1{REMOVED}@", value) if isinstance(value, str) else value


def secrets_in(value: Any, name: str = "") -> Iterator[str]:
    """The texts in a document that are secret by their names, and passwords in its addresses."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from secrets_in(item, str(key))
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for item in value:
            yield from secrets_in(item, name)
    elif isinstance(value, str):
        if name and is_secret_name(name):
            yield value
        for found in re.finditer(r"://[^/\s:@]*:([^/\s@]+)@", value):
            yield found[1]


def without(text: str, secrets: Collection[str]) -> str:
    """A text without known secrets, and without what looks like one."""
    for secret in sorted(
        (one for one in secrets if len(one) >= MIN_LENGTH and one not in _NO_SECRETS), key=len, reverse=True
    ):
        for form in {secret, quote(secret, safe="")}:
            text = text.replace(form, REMOVED)
    text = _PEM.sub(REMOVED, text)
    text = _USERINFO.sub(rf"\1{REMOVED}@", text)
    text = _BEARER.sub(rf"\1 {REMOVED}", text)
    return _STATEMENT.sub(_assignment, _ASSIGNMENT.sub(_assignment, text))


def _assignment(found: re.Match[str]) -> str:
    return found[0] if _FILE_ASSIGNMENT.search(found[1]) else f"{found[1]}{REMOVED}"
