"""Sound input, spoilt by a few edits: how Hypothesis comes by bytes that get past the first line of a parser.

An example is a seed and a list of edits, so what Hypothesis shrinks it to is a seed with the one edit that matters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

if TYPE_CHECKING:
    from tests.fuzz.target import Target

Edit = tuple[str, int, int, bytes]

_KINDS = ("insert", "delete", "replace", "repeat", "move", "flip")
_MOST_EDITS = 6
_LONGEST = 64 * 1024  # bytes of an example: repeats of repeats grow fast


def spoilt(target: Target) -> st.SearchStrategy[bytes]:
    """Examples for a target; a tenth of them have nothing to do with its seeds."""
    word = st.one_of(st.sampled_from(target.words or (b"\0",)), st.binary(min_size=1, max_size=4))
    edit = st.tuples(st.sampled_from(_KINDS), st.integers(0, 1 << 16), st.integers(1, 64), word)
    near = st.builds(_edited, st.sampled_from(target.seeds), st.lists(edit, max_size=_MOST_EDITS))
    return st.integers(0, 9).flatmap(lambda roll: st.binary(max_size=200) if roll == 0 else near)


def _edited(seed: bytes, edits: list[Edit]) -> bytes:
    data = bytearray(seed)
    for kind, place, size, word in edits:
        at = place % (len(data) + 1)
        match kind:
            case "insert":
                data[at:at] = word
            case "delete":
                del data[at : at + size]
            case "replace":
                data[at : at + len(word)] = word
            case "repeat":
                data[at:at] = data[at : at + size] * (size % 7 + 1)
            case "move":
                moved = data[at : at + size]
                del data[at : at + size]
                to = place // 7 % (len(data) + 1)
                data[to:to] = moved
            case _:
                if at < len(data):
                    data[at] ^= 1 << (size % 8)
        del data[_LONGEST:]
    return bytes(data)
