"""The demo's bad wire does exactly the harm it is made for, however the stream is cut into pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from examples.shop.wire_faults import Damage, Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

HANDSHAKE, APPLICATION_DATA = 22, 23

records = st.lists(
    st.tuples(st.sampled_from([HANDSHAKE, APPLICATION_DATA]), st.binary(min_size=1, max_size=40)), max_size=12
)


def on_the_wire(parts: list[tuple[int, bytes]]) -> bytes:
    return b"".join(bytes([kind, 3, 3]) + len(body).to_bytes(2) + body for kind, body in parts)


def pieces(stream: bytes, sizes: list[int]) -> Iterator[bytes]:
    for size in sizes:
        yield stream[:size]
        stream = stream[size:]
    yield stream


@given(records, st.lists(st.integers(1, 30), max_size=20), st.integers(0, 200))
def test_one_bit_of_one_enciphered_byte_is_flipped_and_no_other(
    parts: list[tuple[int, bytes]], sizes: list[int], after: int
) -> None:
    stream, damage = on_the_wire(parts), Damage(Fault.FLIP, after)
    out = b"".join(map(damage.through, pieces(stream, sizes)))
    changed = [at for at, (before, now) in enumerate(zip(stream, out, strict=True)) if before != now]
    enciphered: set[int] = set()
    at = 0
    for kind, body in parts:
        enciphered |= set(range(at + 5, at + 5 + len(body))) if kind == APPLICATION_DATA else set()
        at += 5 + len(body)
    assert len(changed) == damage.done
    assert all(at in enciphered and at >= after and stream[at] ^ out[at] == 1 for at in changed)


def test_the_next_record_that_begins_after_the_unharmed_bytes_is_hit() -> None:
    stream = on_the_wire([(HANDSHAKE, b"hello"), (APPLICATION_DATA, b"first"), (APPLICATION_DATA, b"second")])
    out = Damage(Fault.FLIP, 16).through(stream)
    assert out == stream.replace(b"second", b"recond")


@given(st.binary(max_size=300), st.lists(st.integers(1, 30), max_size=20), st.integers(1, 200))
def test_a_cut_lets_exactly_so_many_bytes_pass(stream: bytes, sizes: list[int], after: int) -> None:
    damage = Damage(Fault.CUT, after)
    assert b"".join(map(damage.through, pieces(stream, sizes))) == stream[:after]
    assert damage.is_cut == (len(stream) >= after)
