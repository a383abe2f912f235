"""JSON of others: whatever is wrong with it is a ValueError, nesting beyond the stack too."""

from __future__ import annotations

import msgspec
import pytest

from ca import json_text, signed


class Said(msgspec.Struct, frozen=True):
    word: str


DEEP = b"[" * 200_000
WHOLE = b'{"later": ' + DEEP + b"]" * 200_000 + b"}"


def test_what_is_meant_is_read() -> None:
    assert json_text.read(b'{"word": "yes", "later": [1]}', Said) == Said("yes")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'{"word": 1}',
        b'{"word": "\xff"}',
        DEEP,
        b'{"later": ' + DEEP,
        b'{"later": ' + DEEP + b"]" * 200_000,
    ],
    ids=["nothing", "torn", "a list", "a number", "no text", "deep", "deep and torn", "deep and whole"],
)
def test_what_is_not_is_one_kind_of_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        json_text.read(text, Said)


def test_a_signed_document_nested_too_deeply_is_no_signed_document() -> None:
    with pytest.raises(signed.SignatureError, match="nested too deeply"):
        signed.verify(b'{"x": ' + DEEP, kind="any", roots=(), now=None)
