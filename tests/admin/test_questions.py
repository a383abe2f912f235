"""Queries are read strictly: what is misspelt is refused with a sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.admin.questions import BadQuestion, Query


def test_values_are_decoded_as_browsers_encode_them() -> None:
    query = Query(b"caller=%2Fweb&path=DELETE+%2Fa%2520b&name=caf%C3%A9&empty=&bare")
    assert query.text("caller") == "/web"
    assert query.text("path") == "DELETE /a%20b"
    assert query.text("name") == "café"
    assert query.text("empty") == query.text("bare") == ""
    assert query.text("missing") is None
    query.done()


@pytest.mark.parametrize(("raw", "default", "found"), [(b"", 600.0, 600.0), (b"n=5", 1.0, 5.0), (b"n=1e1", 1.0, 10.0)])
def test_numbers(raw: bytes, default: float, found: float) -> None:
    assert Query(raw).number("n", default, least=0, most=600) == found


@pytest.mark.parametrize("value", [b"", b"x", b"nan", b"inf", b"-1", b"601", b"0x10", b"1_0_0_0", b"\x30\x2d"])
def test_what_is_no_number_in_its_bounds_is_refused(value: bytes) -> None:
    with pytest.raises(BadQuestion, match="expected a number from 0 to 600"):
        Query(b"n=" + value).number("n", 1, least=0, most=600)


@pytest.mark.parametrize(("raw", "found"), [(b"", False), (b"idle=0", False), (b"idle=1", True)])
def test_flags(raw: bytes, found: bool) -> None:  # noqa: FBT001 - a row of the table
    assert Query(raw).flag("idle") is found


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"a=1&a=2", "'a' is said twice"),
        (b"a=%4", "'%4' has a % that begins no escape"),
        (b"a=%FF", "'%FF' is not UTF-8"),
        (b"a=\xff", "the query has bytes that are not ASCII; write them as %XX"),
        (b"a=" + b"x" * 2047, "the query has 2049 bytes; at most 2048 are read"),
        (b"&".join(b"a%d" % n for n in range(17)), "the query has 17 values; at most 16 are read"),
        (b"other=1", "'other' means nothing here; what may be asked: idle"),
        (b"idle=yes", "idle is 'yes'; expected one of: 0 1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(raw: bytes, sentence: str) -> None:
    def ask() -> None:
        query = Query(raw)
        query.flag("idle")
        query.done()

    with pytest.raises(BadQuestion) as refused:
        ask()
    assert str(refused.value) == sentence
    assert str(refused.value).isascii()


@given(st.binary(max_size=100))
def test_no_bytes_are_a_bug(raw: bytes) -> None:
    try:
        query = Query(raw)
        query.number("a", None, least=0, most=1)
        query.done()
    except BadQuestion as refused:
        assert str(refused).isprintable()  # noqa: PT017 - most raise, and some do not
