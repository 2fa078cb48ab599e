"""The table of who may do what in ZooKeeper: what must never be in it."""

from __future__ import annotations

import pytest

from proxypool.core import access
from proxypool.core.access import ALL, HELD, READ, RULES, UNKNOWN, Access, AccessRole, digest_of, grants_of, rule_of

ADMIN, CONTROLLER, NODE, HOST, VIEWER = AccessRole
EVERYBODY = Access(digests=tuple(f"{role}:hash" for role in AccessRole))
OWNER = "machine:hash"
WRITES = frozenset("cdwa")


def permissions(suffix: str, owner: str = "") -> dict[str, str]:
    """User -> what it may."""
    return {one.who.partition(":")[0]: one.permissions for one in grants_of(rule_of(suffix), EVERYBODY, owner)}


@pytest.mark.parametrize("rule", RULES, ids=[rule.path or "root" for rule in RULES])
def test_the_administrator_may_everything_and_all_others_no_access_list(rule: access.Rule) -> None:
    """Who may change a list may give themselves the rest; and everybody reads."""
    for owner in ("", OWNER):
        found = {one.who.partition(":")[0]: one.permissions for one in grants_of(rule, EVERYBODY, owner)}
        assert found[ADMIN] == ALL
        assert all(READ in letters for who, letters in found.items() if who != "machine")
        assert [who for who, letters in found.items() if "a" in letters] == [ADMIN]
        assert found[VIEWER] == READ
    assert rule.why


@pytest.mark.parametrize(
    "suffix", ["", "access", "spec", "subnets", "subnets/s1", "subnets/s1/spares", "nodes/n1/orders"]
)
def test_what_a_pool_is_belongs_to_the_administrator(suffix: str) -> None:
    assert {who for who, letters in permissions(suffix).items() if WRITES & set(letters)} == {ADMIN}


@pytest.mark.parametrize(
    "suffix",
    [
        *("version", "subnets/s1/pairs", "subnets/s1/pairs/p1", "subnets/s1/pairs/p1/election"),
        *("subnets/s1/pairs/p1/status/n1", "nodes", "nodes/n1", "controller", "controller/actions", "history"),
    ],
)
def test_a_host_writes_nothing_of_pairs_nodes_and_controllers(suffix: str) -> None:
    assert permissions(suffix)[HOST] == READ


@pytest.mark.parametrize(
    "suffix", ["version", "subnets/s1/pairs", "subnets/s1/pairs/p1", "subnets/s1/hosts", "hosts/h1"]
)
def test_a_node_writes_no_spec_and_nothing_of_hosts(suffix: str) -> None:
    assert permissions(suffix)[NODE] == READ


def test_what_hosts_make_is_its_owners_alone() -> None:
    """Unless nobody knows whose it is."""
    for suffix in ("hosts/h1", "subnets/s1/hosts/h1", "tunnel-addresses/100.64.0.1"):
        assert permissions(suffix, OWNER)[HOST] == READ
        assert set("cdw") <= set(permissions(suffix, OWNER)["machine"])
        assert set("cdw") <= set(permissions(suffix)[HOST])


def test_where_many_may_delete_an_entry_is_held_by_a_child() -> None:
    """`subnets/s1/hosts` lets every host delete: what is below it must have a child that only its owner deletes."""
    by_path = {rule.path: rule for rule in RULES}
    for rule in RULES:
        if not rule.owner:
            continue
        parent, _, name = rule.path.rpartition("/")
        if name != HELD and "d" in by_path[parent].grants.get(HOST, ""):
            assert rule.is_held, rule.path
    for rule in RULES:
        if rule.is_held:
            assert f"{rule.path}/{HELD}" in by_path


def test_a_path_that_is_not_known_is_closed() -> None:
    assert rule_of("subnets/s1/something/else") is UNKNOWN
    assert permissions("new-things") == {ADMIN: ALL, **dict.fromkeys((CONTROLLER, NODE, HOST, VIEWER), READ)}


def test_a_role_without_a_secret_is_on_no_list_and_one_with_two_is_there_twice() -> None:
    few = Access(digests=("admin:one", "host:old", "host:new"))
    found = grants_of(rule_of("hosts"), few)
    assert {(one.who, one.permissions) for one in found} == {("admin:one", ALL), ("host:old", "cr"), ("host:new", "cr")}


def test_the_digest_is_zookeepers_own() -> None:
    """From `DigestAuthenticationProvider`'s documentation: super:test."""
    assert digest_of("super", "test") == "super:D/InIHSb7yEEbrWz8b9l71RjZJU="
