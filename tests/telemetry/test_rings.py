"""A ring keeps what happened in the last so many steps, all of it, in so many bytes."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.telemetry.flows import Point
from meshproxy.telemetry.rings import BYTES_PER_EDGE, TIERS, Ring, Tier

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
        ring.add(column, point)
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


def test_an_earlier_step_counts_as_the_last() -> None:
    ring = Ring(SMALL)
    ring.add(10, Point(1))
    ring.add(9, Point(1))
    assert [(column, point.requests) for column, point in ring.since(0)] == [(10, 2)]


@pytest.mark.parametrize(("column", "left"), [(9, [9, 10, 12]), (10, [10, 12]), (11, [12]), (13, [])])
def test_what_is_old_is_forgotten(column: int, left: list[int]) -> None:
    ring = Ring(SMALL)
    for at in (9, 10, 12):
        ring.add(at, Point(at))
    ring.forget_before(column)
    assert [at for at, _ in ring.since(0)] == left
    ring.add(3 if not left else 12, Point(1))
    assert len(ring) == max(len(left), 1)


@pytest.mark.parametrize(("column", "left"), [(9, []), (10, [9]), (11, [9, 10]), (13, [9, 10, 12])])
def test_what_has_not_been_yet_is_forgotten_when_the_clock_is_set_back(column: int, left: list[int]) -> None:
    ring = Ring(SMALL)
    for at in (9, 10, 12):
        ring.add(at, Point(at))
    ring.forget_from(column)
    assert [at for at, _ in ring.since(0)] == left
    ring.add(column, Point(1))
    assert [at for at, _ in ring.since(0)] == [*left, column][: len(left) + 1]


@pytest.mark.parametrize("tier", TIERS.values(), ids=TIERS)
def test_an_edge_that_never_rests_takes_the_bytes_that_are_stated(tier: Tier) -> None:
    ring = Ring(tier)
    point = Point(1, 1, 1, 2**40, 2**40, 2**40, 1, (2**20,) * 15)
    for column in range(3 * tier.columns):
        ring.add(column, point)
    assert len(ring) == tier.columns
    held = sys.getsizeof(ring._records)
    # A bytearray grows by an eighth at a time.
    assert tier.bytes_per_edge <= held <= tier.bytes_per_edge * 1.3 + 1024


def test_the_bytes_of_an_edge_are_what_the_documentation_says() -> None:
    assert BYTES_PER_EDGE == 26_400 + 224_640 + 299_520 == 550_560


def test_a_resting_edge_takes_next_to_nothing() -> None:
    ring = Ring(TIERS["1m"])
    for hour in range(48):
        ring.add(hour * 60, Point(1))
    assert sys.getsizeof(ring._records) < 48 * 104 * 1.3 + 1024
