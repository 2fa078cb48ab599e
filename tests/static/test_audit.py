"""`make audit` tells what a database knows, and never takes silence for good news. The database is a stand-in."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
HOLE = {"schema_version": "1.6.0", "id": "OSV-TEST-1", "aliases": ["CVE-TEST-1"], "summary": "a hole", "affected": []}

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


class Database(ThreadingHTTPServer):
    """Speaks as api.osv.dev does: a question is a POST of a package and a version."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[dict[str, Any]] = []
        self.holes: dict[str, list[dict[str, Any]]] = {}
        self.is_broken = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/query"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Database)
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.asked.append(question)
        found = server.holes.get(question["package"]["name"])
        text = json.dumps({"vulns": found} if found else {}).encode()
        self.send_response(500 if server.is_broken else 200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def database() -> Iterator[Database]:
    with Database() as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def audit(**environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [ROOT / "tools" / "audit"], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if "cannot install the locked pip-audit" in done.stderr:
        pytest.skip("pip-audit is not installed, and no package index is reachable")
    return done


def locked() -> set[str]:
    """Names and versions of what the locks hold for the Python that runs this."""
    texts = "".join((ROOT / "requirements" / f"{name}.txt").read_text() for name in ("dev", "audit"))
    lines = [Requirement(line.rstrip(" \\")) for line in texts.splitlines() if line[:1].isalpha()]
    return {f"{one.name}{one.specifier}" for one in lines if one.marker is None or one.marker.evaluate()}


def test_every_locked_package_is_looked_up_and_nothing_known_is_success(database: Database) -> None:
    done = audit(AUDIT_OSV_URL=database.url)
    assert (done.returncode, done.stderr) == (0, "")
    asked = {f"{one['package']['name']}=={one['version']}" for one in database.asked}
    assert asked == locked()
    assert done.stdout == f"{len(asked)} of {len(asked)} packages looked up, 0 known vulnerabilities\n"


def test_a_known_hole_is_named_and_fails(database: Database) -> None:
    database.holes["kazoo"] = [HOLE]
    done = audit(AUDIT_OSV_URL=database.url)
    assert done.returncode == 1
    assert "kazoo" in done.stdout
    assert "CVE-TEST-1" in done.stdout
    assert "1 known vulnerabilities" in done.stdout


def test_a_database_that_does_not_answer_is_no_good_news(database: Database) -> None:
    """Nor one that is not there."""
    database.is_broken = True
    for environment in ({"AUDIT_OSV_URL": database.url}, {"AUDIT_OSV_URL": "http://127.0.0.1:9/v1/query"}):
        done = audit(**environment)
        assert done.returncode == 2
        assert "nothing is known of them" in done.stderr
        assert "0 known vulnerabilities" not in done.stdout
