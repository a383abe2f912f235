from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.telemetry.text import printable

ANYTHING = st.text(st.characters(), max_size=600)  # lone surrogates included


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("ünïcödé 漢字", "ünïcödé 漢字"),
        ("a\nlevel=error forged", "a\\nlevel=error forged"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("a\u2028b", "a\\u2028b"),
        ("\ud800", "\\ud800"),
        ("", ""),
    ],
)
def test_what_is_unprintable_is_spelled_out(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_long_text_is_cut_and_the_cut_is_shown() -> None:
    assert printable("a" * 512) == "a" * 512
    assert printable("a" * 513) == "a" * 511 + "…"


@given(ANYTHING)
def test_the_result_is_always_one_printable_line_and_stays_it(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert not set(shown) & {"\n", "\r", "\x1b", "\x00", "\u2028"}
    assert len(shown.splitlines()) <= 1
    shown.encode()
    assert printable(shown[:512]) == shown[:512]
