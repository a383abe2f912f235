from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.policy.match import PathPattern, Segments
from meshproxy.policy.tree import PatternTree


def tree_of(patterns: list[Segments]) -> PatternTree[list[Segments]]:
    tree: PatternTree[list[Segments]] = PatternTree()
    for pattern in patterns:
        tree.setdefault(pattern, []).append(pattern)
    return tree


PATTERNS = st.builds(Segments, st.lists(st.sampled_from(["a", "b", "*"]), max_size=4).map(tuple), st.booleans())
# What a request may hold, and no pattern does: segments `*` and `**`; what no judged path holds: empty ones inside.
PATHS = st.lists(st.sampled_from(["a", "b", "c", "", "*", "**"]), max_size=7).map(
    lambda segments: "".join(f"/{segment}" for segment in segments)
)


@given(st.lists(PATTERNS, max_size=12), PATHS)
def test_the_tree_finds_what_trying_each_pattern_finds(patterns: list[Segments], path: str) -> None:
    found = [pattern for kept in tree_of(patterns).find(path) for pattern in kept]
    assert sorted(found, key=str) == sorted((p for p in patterns if p.match(path.split("/")[1:])), key=str)


def test_one_pattern_keeps_one_thing() -> None:
    tree: PatternTree[list[int]] = PatternTree()
    for text in ("/a", "/a/*", "/a/**", "/"):
        kept = tree.setdefault(PathPattern.parse(text).segments, [])
        assert tree.setdefault(PathPattern.parse(text).segments, []) is kept
        assert sum(found is kept for found in tree.find(text.replace("*", "x"))) == 1
    assert repr(tree) == "<PatternTree of 2 literals and 2 patterns, 2 deep>"


@pytest.mark.parametrize("path", ["/*" * 4000, "/a" * 4000, "/" * 8000, "/a" * 12 + "/" * 8000])
def test_a_hostile_path_finds_each_pattern_once_at_most(path: str) -> None:
    patterns = [Segments(("*",) * depth, open_ended) for depth in range(1, 12) for open_ended in (True, False)]
    found = [pattern for kept in tree_of(patterns).find(path) for pattern in kept]
    assert len(found) == len(set(found))
    assert set(found) == {pattern for pattern in patterns if pattern.match(path.split("/")[1:])}


def test_patterns_of_thousands_of_segments_are_walked_flat() -> None:
    deep = Segments(("a",) * 4000 + ("*",), open_ended=False)
    assert tree_of([deep]).find("/a" * 4001) == [[deep]]
    assert tree_of([deep]).find("/a" * 4002) == []
