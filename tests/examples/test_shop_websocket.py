"""The shop's WebSocket speaks as RFC 6455 has it, by the RFC's own examples."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.shop.websocket import Opcode, accept, frame, read_frame

HELLO = bytes.fromhex("8105 48656c6c6f")  # section 5.7: unmasked, and masked
MASK = bytes.fromhex("37fa213d")
MASKED_HELLO = bytes.fromhex("8185 37fa213d 7f9f4d5158")


def test_the_handshake_is_answered_as_in_section_1_3() -> None:
    assert accept("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_frames_are_those_of_section_5_7() -> None:
    assert frame(Opcode.TEXT, b"Hello") == HELLO
    assert frame(Opcode.TEXT, b"Hello", mask=MASK) == MASKED_HELLO


@given(st.sampled_from(Opcode), st.binary(max_size=125), st.sampled_from([b"", MASK]))
def test_what_was_framed_is_read(opcode: Opcode, payload: bytes, mask: bytes) -> None:
    assert read_frame(io.BytesIO(frame(opcode, payload, mask=mask))) == (opcode, payload)


@pytest.mark.parametrize("stream", [b"", b"\x81", b"\x81\x7e\x01\x00"], ids=["ended", "half a head", "a long frame"])
def test_what_is_no_short_frame_ends_the_talk(stream: bytes) -> None:
    assert read_frame(io.BytesIO(stream))[0] == Opcode.CLOSE


def test_a_long_message_is_refused() -> None:
    with pytest.raises(ValueError, match="126 bytes"):
        frame(Opcode.TEXT, bytes(126))
