"""From a request to an answer: which there are, who gets them, and what a query does to them."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxypool.cli.output import to_json
from proxypool.core.scaling.overview import ScaleStatus, only_managed
from proxypool.core.status import PoolStatus
from proxypool.core.topology import Topology
from proxypool.web import openapi
from proxypool.web.answers import Answer, Request
from proxypool.web.page import Documents, Face
from proxypool.web.site import SAFETY, Site
from tests.unit.shown_pools import Shown, eventful, well

TOKEN = "correct horse battery staple"  # noqa: S105 - nobody's
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"
FACE = Face("controller", "ctl1", "0.1.0", "")


def site(daemon: Shown | None = None, token: str = "") -> Site:
    texts = {"PP001": "# PP001 no-master\n\nNobody <serves>."}
    return Site(daemon or Shown(eventful()), "production", FACE, texts.get, token)


def ask(path: str, of: Site | None = None, **more: str) -> Answer:
    bare, _, query = path.partition("?")
    return (of or site()).answer(Request(more.pop("method", "GET"), bare, query, **more))


def document(path: str, of: Site | None = None) -> Any:
    answer = ask(path, of)
    assert (answer.status, answer.kind) == (200, "application/json"), answer
    return json.loads(answer.body)


def refusal(answer: Answer) -> tuple[int, str]:
    assert answer.kind == "application/problem+json"
    found = json.loads(answer.body)
    assert found["status"] == answer.status
    return answer.status, found["code"]


# ---- documents -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["status", "history", "topology"])
def test_a_document_is_what_the_command_prints(name: str) -> None:
    """Byte for byte the same content as `-o json` of the same type."""
    documents = eventful()
    assert document(f"/api/v1/{name}", site(Shown(documents))) == json.loads(to_json(getattr(documents, name)))


def test_sizes_are_those_of_managed_subnets_unless_one_is_named() -> None:
    """As `scale status` prints them."""
    documents = eventful()
    assert documents.scaling is not None
    asked = site(Shown(documents))
    assert document("/api/v1/scaling", asked) == json.loads(to_json(only_managed(documents.scaling)))
    assert [one["id"] for one in document("/api/v1/scaling", asked)["subnets"]] == ["orders-db"]


def test_every_document_has_a_version_and_a_kind() -> None:
    kinds = {name: document(f"/api/v1/{name}")["kind"] for name in ("status", "history", "topology", "scaling")}
    assert kinds == {"status": "PoolStatus", "history": "RecordList", "topology": "Topology", "scaling": "ScaleStatus"}
    assert document("/api/v1/status")["apiVersion"] == "proxypool/v1"


def test_a_document_says_how_old_it_is() -> None:
    assert ask("/api/v1/status", site(Shown(well(), age_s=12.4))).headers["Age"] == "12"


def test_one_subnet_can_be_asked_for() -> None:
    found = document("/api/v1/status?subnet=billing")
    assert [one["id"] for one in found["subnets"]] == ["billing"]
    assert {one["id"] for one in found["nodes"]} == {"node-e", "node-f"}
    assert [one["id"] for one in document("/api/v1/topology?subnet=billing")["subnets"]] == ["billing"]
    assert [one["id"] for one in document("/api/v1/scaling?subnet=billing")["subnets"]] == ["billing"]
    assert {one["subnet"] for one in document("/api/v1/history?subnet=billing")["items"]} == {"billing"}
    page = ask("/?subnet=billing").body.decode()
    assert "subnet-billing" in page
    assert "subnet-orders-db" not in page


def test_history_can_be_narrowed() -> None:
    def pairs(query: str) -> list[tuple[str, str]]:
        return [(one["kind"], one["pair"]) for one in document(f"/api/v1/history?{query}")["items"]]

    assert pairs("subnet=orders-db&pair=p1") == [("failover", "p1")]
    assert pairs("kind=size") == [("scale-out", "p2"), ("scale-out", "p3")]
    assert pairs("kind=switchover") == [("switchover", "p1")]
    assert pairs("limit=1") == [("failover", "p1")]
    assert pairs("limit=999999") == pairs("")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/api/v1/status?subnet=nope", "there is no subnet 'nope'"),
        ("/?subnet=nope", "there is no subnet 'nope'"),
        ("/api/v1/status?subnt=s1", "unknown parameter 'subnt'; there are subnet"),
        ("/api/v1/history?limit=0", "limit '0'"),
        ("/api/v1/history?limit=-1", "limit '-1'"),
        ("/api/v1/history?limit=²", "limit"),
        (f"/api/v1/history?limit={'9' * 400}", "limit"),
        (f"/api/v1/status?subnet={'s' * 600}", "longer than 500"),
    ],
)
def test_a_query_that_is_not_understood_is_refused_and_said_why(path: str, words: str) -> None:
    answer = ask(path)
    assert refusal(answer) == (400, "invalid")
    assert words in json.loads(answer.body)["detail"]


def test_without_documents_there_is_no_answer_yet_and_it_says_why() -> None:
    nothing = site(Shown(None, "ZooKeeper does not answer."))
    assert refusal(ask("/api/v1/status", nothing)) == (503, "not-ready")
    page = ask("/", nothing)
    assert page.status == 503
    assert "ZooKeeper does not answer." in page.body.decode()


def test_a_node_has_no_sizes() -> None:
    documents = well()
    node = Shown(Documents(documents.status, documents.history, documents.topology))
    assert refusal(ask("/api/v1/scaling", site(node))) == (404, "no-such-resource")


def test_the_same_answer_is_given_again_until_something_is_new() -> None:
    """However many ask, and whatever they ask for: it is made once."""
    shown = Shown(well())
    asked = site(shown)
    first = ask("/", asked)
    assert ask("/", asked) is first
    assert ask("/api/v1/status", asked) is ask("/api/v1/status", asked)
    shown.seen = Shown(eventful()).seen
    assert ask("/", asked) is not first
    for number in range(300):
        ask(f"/api/v1/history?limit={number + 1}", asked)
    assert len(asked._kept) <= 64


# ---- other places ----------------------------------------------------------------------------------------------------


def test_probes_tell_whether_it_lives_and_whether_it_works() -> None:
    shown = Shown(well())
    asked = site(shown)
    assert (ask("/healthz", asked).status, ask("/readyz", asked).body) == (200, b"ok\n")
    shown.is_hanging, shown.trouble = True, "not connected to ZooKeeper"
    assert ask("/healthz", asked).status == 503
    assert (ask("/readyz", asked).status, ask("/readyz", asked).body) == (503, b"not connected to ZooKeeper\n")


def test_prometheus_gets_a_bare_list_of_groups() -> None:
    shown = Shown(well())
    shown.groups = [{"targets": ["192.168.4.1:9477"], "labels": {"role": "node", "node": "node-a", "pool": "p"}}]
    assert document("/api/v1/prometheus/targets", site(shown)) == shown.groups
    ask("/api/v1/prometheus/targets", site(shown, TOKEN), host="ctl1", authorization=f"Bearer {TOKEN}")
    assert shown.hosts_asked == ["", "ctl1"]
    shown.groups = None
    assert refusal(ask("/api/v1/prometheus/targets", site(shown))) == (503, "not-ready")


def test_a_runbook_is_text_and_an_unknown_one_is_not_there() -> None:
    assert "Nobody &lt;serves&gt;." in ask("/runbooks/PP001").body.decode()
    assert "docs/runbooks/checks" in ask("/runbooks/PP002").body.decode(), "none is installed, which is said"
    for name in ("PP999", "../PP001", "PP001/../../etc/passwd", ""):
        assert refusal(ask(f"/runbooks/{name}")) == (404, "no-such-resource")


def test_files_of_the_page_may_be_kept_and_documents_may_not() -> None:
    for path, kind in (("/style.css", "text/css"), ("/live.js", "text/javascript"), ("/icon-ok.svg", "image/svg+xml")):
        answer = ask(path)
        assert answer.kind.startswith(kind)
        assert "immutable" in answer.headers["Cache-Control"]
    assert "Cache-Control" not in ask("/api/v1/status").headers


def test_what_is_not_there_is_answered_with_what_there_is() -> None:
    answer = ask("/api/v1/pairs")
    assert refusal(answer) == (404, "no-such-resource")
    assert "/api/v1/status" in json.loads(answer.body)["detail"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get", "HACK"])
def test_nothing_can_be_changed(method: str) -> None:
    answer = ask("/api/v1/status", method=method)
    assert refusal(answer) == (405, "method")
    assert answer.headers["Allow"] == "GET, HEAD"


def test_a_defect_is_an_answer_and_tells_nothing() -> None:
    class Broken(Shown):
        def sight(self) -> Any:
            raise KeyError("secret")

    answer = ask("/", site(Broken(None)))
    assert refusal(answer) == (500, "defect")
    assert b"secret" not in answer.body


def test_the_policy_allows_no_inline_script_and_nothing_from_elsewhere() -> None:
    policy = SAFETY["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "*" not in policy


# ---- who may see it --------------------------------------------------------------------------------------------------


def basic(text: str) -> str:
    return f"Basic {b64encode(text.encode()).decode()}"


@pytest.mark.parametrize("given", [f"Bearer {TOKEN}", f"bearer  {TOKEN}", basic(f"kim:{TOKEN}"), basic(f":{TOKEN}")])
def test_who_knows_the_token_is_answered(given: str) -> None:
    assert ask("/api/v1/status", site(token=TOKEN), authorization=given).status == 200


@pytest.mark.parametrize(
    "given",
    [
        *(
            "",
            "Bearer",
            "Bearer ",
            f"Bearer {TOKEN[:-1]}",
            f"Bearer {TOKEN}x",
            TOKEN,
            f"Digest {TOKEN}",
            "Bearer é\udcff",
        ),
        *(basic(TOKEN), basic(f"{TOKEN}:kim"), "Basic !!!", "Basic", "Basic é"),
    ],
)
@pytest.mark.parametrize(
    "path", ["/", "/api/v1/status", "/api/v1/openapi.json", "/style.css", "/runbooks/PP001", "/nope"]
)
def test_who_does_not_learns_nothing(given: str, path: str) -> None:
    answer = ask(path, site(token=TOKEN), authorization=given)
    assert refusal(answer) == (401, "token")
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert TOKEN.encode() not in answer.body


def test_probes_need_no_token() -> None:
    """Load balancers have none, and they tell nothing."""
    assert ask("/healthz", site(token=TOKEN)).status == 200
    assert ask("/readyz", site(token=TOKEN)).status == 200


@pytest.mark.parametrize("host", ["", "localhost", "127.0.0.1", "::1", "192.168.4.9"])
def test_without_a_token_an_address_is_answered(host: str) -> None:
    assert ask("/", host=host).status == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "?"])
def test_without_a_token_a_name_is_not_answered(host: str) -> None:
    """A web page could give its name our address after it was loaded, and read what its reader's browser is given."""
    assert refusal(ask("/", host=host)) == (421, "host")
    assert ask("/", site(token=TOKEN), host=host, authorization=f"Bearer {TOKEN}").status == 200


# ---- the description -------------------------------------------------------------------------------------------------


def test_the_checked_in_description_is_not_stale() -> None:
    assert REFERENCE.read_text(encoding="utf-8") == openapi.text(), "run: python -m proxypool.web.openapi > that file"
    assert document("/api/v1/openapi.json") == json.loads(REFERENCE.read_text(encoding="utf-8"))


def test_the_description_has_every_place_and_every_reference_leads_somewhere() -> None:
    found = openapi.openapi()
    asked = site()
    places = {*found["paths"]}
    assert places == {place for place in (*asked._places, *asked._probes) if place not in {"/", "/api/v1/openapi.json"}}
    references = _references(found)
    assert references <= {f"#/components/schemas/{name}" for name in found["components"]["schemas"]}
    assert len(references) > 10


def _references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(_references, value.values()))
    return set().union(*map(_references, value)) if isinstance(value, list) else set()


@pytest.mark.parametrize(("name", "kind"), [("status", PoolStatus), ("topology", Topology), ("scaling", ScaleStatus)])
def test_an_answer_is_described_field_by_field(name: str, kind: type[msgspec.Struct]) -> None:
    """What is served has the fields of the schema and no other, all the way down."""
    components = openapi.openapi()["components"]["schemas"]
    _require_described(document(f"/api/v1/{name}"), components[kind.__name__], components, name)


def _require_described(value: Any, schema: dict[str, Any], components: dict[str, Any], where: str) -> None:
    if "$ref" in schema:
        schema = components[schema["$ref"].rpartition("/")[2]]
    for choice in schema.get("anyOf", []):
        if "$ref" in choice and isinstance(value, dict):
            _require_described(value, choice, components, where)
    if isinstance(value, dict) and "properties" in schema:
        assert value.keys() == schema["properties"].keys(), where
        for key, item in value.items():
            _require_described(item, schema["properties"][key], components, f"{where}.{key}")
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for item in value:
            _require_described(item, schema["items"], components, f"{where}[]")
