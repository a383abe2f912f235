from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meshproxy.policy.match import PathPattern, Segments
from meshproxy.policy.patterns import only_literal, patterns_of

PATTERNS = st.builds(Segments, st.lists(st.sampled_from(["a", "b", "*"]), max_size=4).map(tuple), st.booleans())
# What a request may hold, and no pattern does: segments `*` and `**`; what no judged path holds: empty ones inside.
PATHS = st.lists(st.sampled_from(["a", "b", "c", "", "*", "**"]), max_size=7).map(
    lambda segments: "".join(f"/{segment}" for segment in segments)
)


def things_of(patterns: list[Segments]) -> dict[Segments, list[Segments]]:
    things: dict[Segments, list[Segments]] = {}
    for pattern in patterns:
        things.setdefault(pattern, []).append(pattern)
    return things


def parsed(*texts: str) -> dict[Segments, str]:
    return {PathPattern.parse(text).segments: text for text in texts}


# From one pattern, which is looked at alone, over a few shapes, to more of them than are looked up one by one.
@given(st.lists(PATTERNS, max_size=3) | st.lists(PATTERNS, max_size=40), PATHS)
@example([], "/a")
@example([Segments((), open_ended=True)], "")
@example([Segments(("*",), open_ended=True)], "//")
@example([Segments(("a", "*"), open_ended=False)], "/a/")
def test_all_is_found_that_trying_each_pattern_finds(patterns: list[Segments], path: str) -> None:
    found = [pattern for kept in patterns_of(things_of(patterns)).find(path) for pattern in kept]
    assert sorted(found, key=str) == sorted((p for p in patterns if p.match(path.split("/")[1:])), key=str)


@given(st.lists(PATTERNS, max_size=3) | st.lists(PATTERNS, max_size=40), st.sampled_from(["*", "a", "a/b", "*/a"]))
def test_what_is_no_path_is_matched_by_none(patterns: list[Segments], target: str) -> None:
    assert patterns_of(things_of(patterns)).find(target) == []


def test_the_list_is_the_callers_own() -> None:
    for texts in (["/a"], ["/a", "/b"], ["/*"], ["/*", "/a/**"], ["/*" * n + "/a" for n in range(20)]):
        patterns = patterns_of(parsed(*texts))
        patterns.find(texts[0]).append("mine")
        assert "mine" not in patterns.find(texts[0])


def test_few_shapes_are_looked_up_and_many_are_walked() -> None:
    few = parsed("/a", "/b", *(f"/*/{n}" for n in range(100)), *(f"/{n}/**" for n in range(100)), "/a/*/b/**")
    assert repr(patterns_of(few)) == "<Patterns: 2 literals and 201 patterns of 3 shapes>"
    many = parsed("/a", *("/" + "/".join(mask) for mask in itertools.product(["a", "*"], repeat=5)))
    assert repr(patterns_of(many)) == "<Patterns: 2 literals and <PatternTree of 31 patterns, 5 deep>>"
    deep = parsed("/a" * 17 + "/*", "/b/*")
    assert repr(patterns_of(deep)) == "<Patterns: 0 literals and <PatternTree of 2 patterns, 18 deep>>"
    assert repr(patterns_of(parsed("/a/*"))) == "<Patterns: one of 2 segments>"
    assert repr(patterns_of(parsed("/a", "/b"))) == "<Patterns: 2 literals>"


def test_as_many_lengths_as_there_are_may_each_have_some_shapes() -> None:
    texts = [f"{'/a' * depth}/*{'/b' * tail}" for depth in range(8) for tail in range(7)]
    patterns = patterns_of(parsed(*texts))
    assert repr(patterns) == "<Patterns: 0 literals and 56 patterns of 56 shapes>"
    assert [patterns.find(text.replace("*", "x")) for text in texts] == [[text] for text in texts]


@pytest.mark.parametrize("path", ["/*" * 4000, "/a" * 4000, "/" * 8000, "/a" * 12 + "/" * 8000])
@pytest.mark.parametrize("depths", [range(1, 2), range(1, 7), range(1, 12)], ids=["one", "shapes", "tree"])
def test_a_hostile_path_finds_each_pattern_once_at_most(path: str, depths: range) -> None:
    patterns = [Segments(("*",) * depth, open_ended=True) for depth in depths]
    found = [pattern for kept in patterns_of(things_of(patterns)).find(path) for pattern in kept]
    assert len(found) == len(set(found))
    assert set(found) == {pattern for pattern in patterns if pattern.match(path.split("/")[1:])}


def test_one_literal_is_told_apart() -> None:
    assert only_literal(parsed("/a/b")) == ("/a/b", "/a/b")
    assert only_literal({}) is None
    assert only_literal(parsed("/a/*")) is None
    assert only_literal(parsed("/a", "/b")) is None
