"""A ring keeps what happened in the last so many steps, all of it, in so many bytes."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.telemetry.flows import Point
from meshproxy.telemetry.rings import BYTES_PER_EDGE, TIERS, Ring, Tier, counts_of

SMALL = Tier("small", 1, 5, has_histogram=True)
POINTS = st.builds(
    Point,
    *(st.integers(0, 2**31) for _ in range(3)),
    *(st.integers(0, 2**63) for _ in range(3)),
    st.integers(0, 2**31),
    st.tuples(*(st.integers(0, 2**31) for _ in range(15))),
)


@given(st.lists(st.tuples(st.integers(0, 3), POINTS), max_size=30), st.integers(0, 40))
def test_a_ring_has_what_a_table_of_the_last_steps_would_have(news: list[tuple[int, Point]], since: int) -> None:
    ring, table, column = Ring(SMALL), dict[int, Point](), 10
    for steps, point in news:
        column += steps
        ring.add(column, counts_of(point))
        # Two of the largest in one step are more than a record holds: it says the most that it can.
        table[column] = _held(table[column] + point if column in table else point)
    expected = {at: point for at, point in table.items() if at > column - SMALL.columns and at >= since}
    assert dict(ring.since(since)) == expected
    assert list(dict(ring.since(since))) == sorted(expected)


def _held(point: Point) -> Point:
    most, bytes_most = 2**32 - 1, 2**64 - 1
    return Point(
        min(point.requests, most),
        min(point.errors, most),
        min(point.denied, most),
        min(point.bytes_in, bytes_most),
        min(point.bytes_out, bytes_most),
        min(point.micros, bytes_most),
        min(point.opened, most),
        tuple(min(count, most) for count in point.histogram),
    )


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), max_size=12), st.integers(5, 30), st.integers(0, 9))
def test_after_the_clock_was_set_back_a_ring_goes_on_from_there(
    news: list[tuple[int, int]], back_to: int, more: int
) -> None:
    ring, table, column = Ring(SMALL), dict[int, int](), 10
    for steps, requests in news:
        column += steps
        ring.add(column, counts_of(Point(requests)))
        table[column] = table.get(column, 0) + requests
    table = {at: n for at, n in table.items() if column - SMALL.columns < at < back_to}
    ring.forget_from(back_to)
    assert {at: point.requests for at, point in ring.since(0)} == table
    ring.add(back_to, counts_of(Point(more)))
    assert {at: point.requests for at, point in ring.since(back_to)} == {back_to: more}
    assert len(ring) == len(list(ring.since(0)))


def test_an_earlier_step_counts_as_the_last() -> None:
    ring = Ring(SMALL)
    ring.add(10, counts_of(Point(1)))
    ring.add(9, counts_of(Point(1)))
    assert [(column, point.requests) for column, point in ring.since(0)] == [(10, 2)]


@pytest.mark.parametrize(("column", "left"), [(9, [9, 10, 12]), (10, [10, 12]), (11, [12]), (13, [])])
def test_what_is_old_is_forgotten(column: int, left: list[int]) -> None:
    ring = Ring(SMALL)
    for at in (9, 10, 12):
        ring.add(at, counts_of(Point(at)))
    ring.forget_before(column)
    assert [at for at, _ in ring.since(0)] == left
    ring.add(3 if not left else 12, counts_of(Point(1)))
    assert len(ring) == max(len(left), 1)


@pytest.mark.parametrize(("column", "left"), [(9, []), (10, [9]), (11, [9, 10]), (13, [9, 10, 12])])
def test_what_has_not_been_yet_is_forgotten_when_the_clock_is_set_back(column: int, left: list[int]) -> None:
    ring = Ring(SMALL)
    for at in (9, 10, 12):
        ring.add(at, counts_of(Point(at)))
    ring.forget_from(column)
    assert [at for at, _ in ring.since(0)] == left
    ring.add(column, counts_of(Point(1)))
    assert [at for at, _ in ring.since(0)] == [*left, column][: len(left) + 1]


@pytest.mark.parametrize("tier", TIERS.values(), ids=TIERS)
def test_an_edge_that_never_rests_takes_the_bytes_that_are_stated(tier: Tier) -> None:
    ring = Ring(tier)
    counts = counts_of(Point(1, 1, 1, 2**40, 2**40, 2**40, 1, (2**20,) * 15))
    for column in range(3 * tier.columns):
        ring.add(column, counts)
    assert len(ring) == tier.columns
    held = sys.getsizeof(ring._records)
    # The last step is not bytes yet; a bytearray grows by an eighth at a time.
    assert tier.bytes_per_edge - tier.layout.size <= held <= tier.bytes_per_edge * 1.3 + 1024


def test_the_bytes_of_an_edge_are_what_the_documentation_says() -> None:
    assert BYTES_PER_EDGE == 26_400 + 224_640 + 299_520 == 550_560


def test_a_resting_edge_takes_next_to_nothing() -> None:
    ring = Ring(TIERS["1m"])
    for hour in range(48):
        ring.add(hour * 60, counts_of(Point(1)))
    assert sys.getsizeof(ring._records) < 48 * 104 * 1.3 + 1024
