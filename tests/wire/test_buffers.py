from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshproxy.wire.buffers import Buffers

KIB = 1024


def test_reads_grow_while_they_come_back_full_up_to_a_limit() -> None:
    buffers = Buffers()
    sizes = [buffers.smallest]
    for _ in range(4):
        sizes.append(buffers.grown(sizes[-1]))
    assert sizes == [64 * KIB, 128 * KIB, 256 * KIB, 256 * KIB, 256 * KIB]


def test_reads_are_short_for_everyone_while_too_much_waits_and_recover_after() -> None:
    buffers = Buffers(budget=1000)
    buffers.held = 1001
    assert buffers.grown(256 * KIB) == 16 * KIB
    buffers.held = 1000
    assert buffers.grown(16 * KIB) == 64 * KIB
    assert repr(buffers) == "<Buffers held=1000 budget=1000>"


def test_reads_are_short_in_a_crowd_and_grow_again_after() -> None:
    buffers = Buffers()
    assert buffers.grown(256 * KIB, crowded=True) == 64 * KIB
    assert buffers.grown(64 * KIB, crowded=True) == 64 * KIB
    assert buffers.grown(64 * KIB) == 128 * KIB
    buffers.held = 1 << 30
    assert buffers.grown(256 * KIB, crowded=True) == 16 * KIB


@given(chunk=st.integers(1, 256 * KIB), held=st.integers(0, 1 << 30))
def test_a_read_always_fits_both_buffers(chunk: int, held: int) -> None:
    """Decrypted data may be one record longer than what was fed; it must fit without a second look."""
    buffers = SHARED
    buffers.held = held
    size = buffers.grown(chunk)
    assert 0 < size <= len(buffers.raw)
    assert size + 2 * (16 * KIB + 256) <= len(buffers.clear)


SHARED = Buffers()
