from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.policy.match import Segments
from meshproxy.policy.tree import PatternTree
from tests.policy.test_patterns import PATHS, PATTERNS, things_of


def tree_of(patterns: list[Segments]) -> PatternTree[list[Segments]]:
    return PatternTree(things_of(patterns))


@given(st.lists(PATTERNS, max_size=12), PATHS)
def test_the_tree_finds_what_trying_each_pattern_finds(patterns: list[Segments], path: str) -> None:
    found = [pattern for kept in tree_of(patterns).find(path) for pattern in kept]
    assert sorted(found, key=str) == sorted((p for p in patterns if p.match(path.split("/")[1:])), key=str)


@pytest.mark.parametrize("path", ["/*" * 4000, "/a" * 4000, "/" * 8000, "/a" * 12 + "/" * 8000])
def test_a_hostile_path_finds_each_pattern_once_at_most(path: str) -> None:
    patterns = [Segments(("*",) * depth, open_ended) for depth in range(1, 12) for open_ended in (True, False)]
    found = [pattern for kept in tree_of(patterns).find(path) for pattern in kept]
    assert len(found) == len(set(found))
    assert set(found) == {pattern for pattern in patterns if pattern.match(path.split("/")[1:])}


def test_patterns_of_thousands_of_segments_are_walked_flat() -> None:
    deep = Segments(("a",) * 4000 + ("*",), open_ended=False)
    tree = tree_of([deep])
    assert tree.find("/a" * 4001) == [[deep]]
    assert tree.find("/a" * 4002) == []
    assert repr(tree) == "<PatternTree of 1 patterns, 4001 deep>"
