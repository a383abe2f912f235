"""A layout loses nothing, puts nothing upon another, and leads from left to right."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from meshproxy.cli.policy.layout import layered

names = st.sampled_from("abcdefgh")
graphs = st.lists(st.tuples(names, names), max_size=20)


@given(graphs)
def test_every_node_has_a_place_of_its_own_and_every_arrow_a_way(arrows: list[tuple[str, str]]) -> None:
    nodes = {name for pair in arrows for name in pair} | {"lonely"}
    laid = layered(nodes, arrows)
    assert set(laid.layer) == set(laid.row) == nodes
    for start, end in arrows:
        if start != end:
            drawn = [pair for pair in ((start, end), (end, start)) if pair in laid.bends]
            assert drawn
            for left, right in drawn:
                assert laid.layer[left] < laid.layer[right]
                assert len(laid.bends[left, right]) == laid.layer[right] - laid.layer[left] - 1
    for layer in range(laid.layers):
        rows = sorted(laid.row[name] for name in nodes if laid.layer[name] == layer)
        assert all(below - above >= 1 - 1e-9 for above, below in pairwise(rows))
    assert all(0 <= row <= laid.rows for row in (*laid.row.values(), *(r for b in laid.bends.values() for r in b)))
    assert min(laid.layer.values()) >= 0
    assert max(laid.layer.values()) < laid.layers


@given(graphs)
def test_the_order_of_what_is_given_makes_no_difference(arrows: list[tuple[str, str]]) -> None:
    nodes = {name for pair in arrows for name in pair}
    assert layered(nodes, arrows) == layered(sorted(nodes, reverse=True), reversed(arrows))


def test_a_chain_is_a_line_and_what_passes_it_keeps_its_distance() -> None:
    laid = layered(["web", "orders", "ledger"], [("web", "orders"), ("orders", "ledger"), ("web", "ledger")])
    assert laid.layer == {"web": 0, "orders": 1, "ledger": 2}
    [bend] = laid.bends["web", "ledger"]
    assert abs(bend - laid.row["orders"]) >= 0.45 - 1e-9


def test_a_circle_is_drawn_once_in_each_direction_and_ends() -> None:
    laid = layered("abc", [("a", "b"), ("b", "c"), ("c", "a")])
    assert sorted(laid.layer.values()) == [0, 1, 2]


def test_a_caller_stands_right_before_whom_it_calls_first() -> None:
    laid = layered("abcx", [("a", "b"), ("b", "c"), ("x", "c")])
    assert laid.layer["x"] == 1
