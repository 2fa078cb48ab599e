"""What the documents say of themselves."""

from __future__ import annotations

from tests.unit import builders as make


class TestSnapshot:
    def test_pairs_on_a_node_come_in_a_stable_order(self) -> None:
        pairs = [make.pair("p1", name) for name in ("s2", "s1")]
        pool = make.snapshot(subnets=[make.subnet("s2", key=2), make.subnet("s1")], pairs=pairs)
        assert [one.subnet for one in pool.pairs_on("n1")] == ["s1", "s2"]
        assert pool.pairs_on("n3") == ()

    def test_a_pair_of_an_unknown_subnet_waits(self) -> None:
        assert make.snapshot(subnets=[], pairs=[make.pair()]).pairs_on("n1") == ()

    def test_a_pair_tells_its_members_apart(self) -> None:
        pair = make.pair()
        assert pair.member("n1") == make.N1
        assert pair.peer_of("n1") == make.N2
        assert pair.member("n9") is None
