from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.units import MAX_DURATION, MAX_SIZE, format_duration, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("1ms", 0.001),
        ("0s", 0.0),
        ("30s", 30.0),
        ("0.1s", 0.1),
        ("10m", 600.0),
        ("1.5h", 5400.0),
        ("24h", 86400.0),
        ("7d", 604800.0),
        ("3650d", MAX_DURATION),
    ],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "30", "s", "30 s", " 30s", "30s\n", "-1s", "+1s", "1e3s", ".5s", "5.s", "1h30m", "30S", "30sec", "٣s", "1_0s"],
)
def test_what_is_not_one_number_and_one_unit_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="a duration: a number and one of"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["3651d", "999999999999d", "87601h"])
def test_a_duration_has_a_bound(text: str) -> None:
    with pytest.raises(ValueError, match="at most 3650d"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0B", 0), ("512B", 512), ("64KiB", 65536), ("1MiB", 1048576), ("2GiB", 2147483648), ("1024GiB", MAX_SIZE)],
)
def test_a_size_is_read_in_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "64", "64KB", "64kib", "1.5MiB", "-1B", "1 MiB", "1MiB\n", "٣B"])
def test_what_is_not_one_whole_number_and_one_binary_unit_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="a size: a whole number and one of"):
        parse_size(text)


def test_a_size_has_a_bound() -> None:
    with pytest.raises(ValueError, match="at most 1024GiB"):
        parse_size("1025GiB")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0s"),
        (0.0001, "0s"),
        (-0.0001, "0s"),
        (0.25, "250ms"),
        (1.5, "1s 500ms"),
        (30, "30s"),
        (90, "1m 30s"),
        (600, "10m"),
        (79_800, "22h 10m"),
        (79_859.9, "22h 10m"),
        (86_400, "1d"),
        (86_400 + 300, "1d"),  # five minutes are no neighbour of a day
        (90_000, "1d 1h"),
        (-300, "-5m"),
    ],
)
def test_a_duration_is_told_in_its_two_largest_units(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words


@pytest.mark.parametrize("seconds", [float("inf"), float("-inf"), float("nan")])
def test_no_words_for_what_is_not_a_number_of_seconds(seconds: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        format_duration(seconds)


@given(st.floats(min_value=0, max_value=MAX_DURATION))
def test_what_is_told_never_promises_more_than_there_is(seconds: float) -> None:
    told = sum(parse_duration(part) for part in format_duration(seconds).split(" "))
    assert told <= seconds + 0.0005  # milliseconds are rounded to the nearest
    assert seconds - told <= max(0.0005, seconds / 24)


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused_with_a_phrase(text: str) -> None:
    for parse in (parse_duration, parse_size):
        refusal = ""
        try:
            assert parse(text) >= 0
        except ValueError as error:
            refusal = str(error)
        assert not refusal or refusal.startswith(("a duration", "a size"))
