"""The algebra of patterns, against paths spelt out: what covers, what is left, what overlaps."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.policy.match import PathPattern, Segments
from meshproxy.policy.overlaps import OverlapTree
from meshproxy.policy.regions import Steps, TooIntricate, covers, intersection, overlap, regions, uncovered

# Two names and one that is never named tell apart all that patterns over two names can tell apart; four segments are
# one more than the longest pattern has.
_SEGMENTS = ("a", "b", "zz")
PATHS = [path for length in range(1, 5) for path in product(_SEGMENTS, repeat=length)]
PATHS += [("",), *((*path, "") for path in PATHS if len(path) < 4)]

literal = st.sampled_from(["a", "b", "*"])
patterns = st.builds(Segments, st.lists(literal, max_size=3).map(tuple), st.booleans()).filter(
    lambda each: bool(each.fixed) or each.open_ended
)
with_empty_end = st.builds(
    lambda fixed, open_ended, slash: Segments((*fixed, *([""] if slash and not open_ended else [])), open_ended),
    st.lists(literal, max_size=2).map(tuple),
    st.booleans(),
    st.booleans(),
).filter(lambda each: bool(each.fixed) or each.open_ended)


def pattern(text: str) -> Segments:
    return PathPattern.parse(text).segments


def matched(each: Segments) -> set[tuple[str, ...]]:
    return {path for path in PATHS if each.match(path)}


@given(with_empty_end, st.lists(with_empty_end, max_size=5))
def test_what_is_uncovered_is_just_what_no_pattern_matches(within: Segments, others: list[Segments]) -> None:
    left = matched(within) - set().union(*map(matched, others))
    found = uncovered(within, others, empty_end=True)
    assert (found is None) == (not left)
    if found is not None:
        assert within.match(found)
        assert not any(other.match(found) for other in others)


@given(patterns, st.lists(patterns, max_size=5))
def test_identities_never_end_in_an_empty_segment(within: Segments, others: list[Segments]) -> None:
    sound = {path for path in matched(within) if "" not in path}
    found = uncovered(within, others, empty_end=False)
    assert (found is None) == (not sound - set().union(*map(matched, others)))
    assert found is None or "" not in found


@given(with_empty_end, st.lists(with_empty_end, max_size=4))
def test_regions_are_all_the_ways_in_which_paths_match_and_each_example_is_one(
    within: Segments, others: list[Segments]
) -> None:
    found = list(regions(within, others, empty_end=True, steps=Steps()))
    for region in found:
        assert within.match(region.example)
        assert region.among == {number for number, other in enumerate(others) if other.match(region.example)}
    wanted = {frozenset(number for number, other in enumerate(others) if other.match(path)) for path in matched(within)}
    assert {region.among for region in found} == wanted
    assert len(found) == len(wanted)


@given(with_empty_end, with_empty_end)
def test_covering_and_overlapping_and_what_is_common(one: Segments, other: Segments) -> None:
    assert covers(one, other) == (matched(other) <= matched(one))
    assert overlap(one, other) == bool(matched(one) & matched(other))
    common = intersection(one, other)
    assert (set() if common is None else matched(common)) == matched(one) & matched(other)


@pytest.mark.parametrize(
    ("within", "others", "example"),
    [
        ("/docs/**", ["/docs", "/docs/*", "/docs/*/**"], ("docs", "")),
        ("/docs/**", ["/docs/**"], None),
        ("/a/*", ["/a/x", "/a/other"], ("a", "other-2")),
        ("/**", ["/*/**", "/"], None),
    ],
)
def test_examples(within: str, others: list[str], example: tuple[str, ...] | None) -> None:
    assert uncovered(pattern(within), [pattern(each) for each in others], empty_end=True) == example


def test_ten_thousand_patterns_cover_in_one_walk() -> None:
    many = [pattern(f"/v1/things/{number}") for number in range(10_000)]
    assert uncovered(pattern("/v1/things/77"), many, empty_end=True) is None
    assert uncovered(pattern("/v1/things/*"), many, empty_end=True) == ("v1", "things", "other")
    assert uncovered(pattern("/v1/things/*"), [*many, pattern("/*/things/**")], empty_end=True) is None


def test_an_intricate_question_is_given_up_and_not_guessed() -> None:
    # Each pattern names one segment of twenty: their sets of matches are all subsets.
    many = [
        Segments(tuple("a" if here == place else "*" for here in range(20)), open_ended=False) for place in range(20)
    ]
    with pytest.raises(TooIntricate):
        list(regions(Segments(("*",) * 20, open_ended=False), many, empty_end=True, steps=Steps()))


def test_steps_of_one_question_are_taken_from_those_of_all() -> None:
    steps = Steps(5)
    steps.at_most(3).take(3)
    with pytest.raises(TooIntricate):
        steps.at_most(3).take(3)
    with pytest.raises(TooIntricate):
        Steps(5).at_most(1).take(2)


@given(st.lists(with_empty_end, max_size=5), st.sampled_from(PATHS))
def test_what_is_kept_for_patterns_is_found_by_a_path(kept: list[Segments], path: tuple[str, ...]) -> None:
    tree = OverlapTree[Segments]()
    for each in kept:
        tree.setdefault(each, lambda each=each: each)  # type: ignore[misc]
    found = list(tree.matching(path))
    assert len(found) == len(set(found))
    assert set(found) == {each for each in kept if each.match(path)}
