"""PROXY headers, byte by byte: what is read, what is refused and why, and what we say ourselves."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meshproxy.wire.proxy_protocol import (
    MOST,
    PREFIX,
    Endpoints,
    ProxyProtocolError,
    Session,
    body_length,
    compose,
    crc32c,
    endpoints,
)
from tests.fuzz.targets.proxy_protocol import check

if TYPE_CHECKING:
    from collections.abc import Sequence

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
V4 = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + struct.pack(">HH", 56324, 443)
V6 = bytes.fromhex("20010db800000000000000000000000120010db8000000000000000000000002") + struct.pack(">HH", 1, 2)
HERE = Endpoints(("192.0.2.1", 56324), ("198.51.100.2", 443))
SESSION = Session("spiffe://mesh.test/web", "TLSv1.3", "TLS_AES_256_GCM_SHA384")


def header(body: bytes = V4, *, command: int = 0x21, family: int = 0x11, length: int | None = None) -> bytes:
    count = len(body) if length is None else length
    return SIGNATURE + bytes([command, family]) + count.to_bytes(2, "big") + body


def vector(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + len(value).to_bytes(2, "big") + value


def read(data: bytes) -> Endpoints | None:
    length = body_length(data[:PREFIX])
    assert len(data) == PREFIX + length
    return endpoints(data[:PREFIX], data[PREFIX:])


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (header(), HERE),
        (header(V6, family=0x21), Endpoints(("2001:db8::1", 1), ("2001:db8::2", 2))),
        (header(V4 + vector(0x04, b"") + vector(0xEA, b"aws")), HERE),
        (header(V4 + vector(0x05, b"x" * 128)), HERE),
        (header(V4 + vector(0x20, b"\x01\0\0\0\0" + vector(0x21, b"TLSv1.3"))), HERE),
        # For its sender, whatever else it says: a health check.
        (header(b"", command=0x20, family=0x00), None),
        (header(b"\xff" * 7, command=0x20, family=0x21), None),
        # Nothing we could make use of, and no reason to refuse.
        (header(b"", family=0x00), None),
        (header(vector(0x04, b"xx"), family=0x00), None),
        (header(V4, family=0x12), None),
        (header(V4, family=0x10), None),
        (header(bytes(216), family=0x31), None),
    ],
)
def test_what_is_read(data: bytes, found: Endpoints | None) -> None:
    assert read(data) == found


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\r\n", "version 1 of the PROXY protocol; expected version 2"),
        (b"\x16\x03\x01\x02\x00" + bytes(20), "no PROXY header; expected one from this address"),
        (b"\r\n\r\n\0\r\nQUIT\r" + bytes(8), "no PROXY header"),
        (header(command=0x11), "of version 1 and command 1"),
        (header(command=0x31), "of version 3 and command 1"),
        (header(command=0x22), "of version 2 and command 2"),
        (header(family=0x41), "of family 4 and protocol 1"),
        (header(family=0x13), "of family 1 and protocol 3"),
        (header(command=0x20, family=0xF1), "of family 15"),
        (header(b"", length=MOST + 1), f"of {MOST + 1} bytes; expected at most {MOST}"),
        (header(V4[:-1]), "with 11 bytes of addresses; expected 12"),
        (header(V4, family=0x21), "with 12 bytes of addresses; expected 36"),
        (header(b"", family=0x31), "with 0 bytes of addresses; expected 216"),
        (header(V4 + b"\x04"), "ends within a type and length"),
        (header(V4 + b"\x04\x00"), "ends within a type and length"),
        (header(V4 + b"\x04\x00\x01"), "ends within a value"),
        (header(V4 + b"\x04\xff\xff"), "ends within a value"),
        (header(V4 + vector(0x05, b"x" * 129)), "a unique ID of 129 bytes"),
        (header(V4 + vector(0x20, b"\x01\0\0\0")), "TLS facts that are cut off"),
        (header(V4 + vector(0x20, b"\x01\0\0\0\0\x21\x00\x09x")), "ends within a value"),
        (header(V4 + vector(0x03, bytes(4))), "whose checksum is wrong"),
        (header(V4 + vector(0x03, b"")), "whose checksum is wrong"),
    ],
)
def test_what_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(ProxyProtocolError, match=why):
        read(data)


def with_checksum(before: bytes, after: bytes) -> bytes:
    body = before + vector(0x03, bytes(4)) + after
    blank = header(body)
    return header(before + vector(0x03, crc32c(blank).to_bytes(4, "big")) + after)


def test_a_checksum_is_judged_wherever_it_stands() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    for before, after in ((V4, b""), (V4 + vector(0x04, b"pad"), vector(0xE0, b"more"))):
        data = with_checksum(before, after)
        assert read(data) == HERE
        for at in range(PREFIX, PREFIX + len(V4)):
            broken = bytearray(data)
            broken[at] ^= 1
            try:
                found = read(bytes(broken))
            except ProxyProtocolError:
                continue
            pytest.fail(f"byte {at} may be changed: {found}")


def vectors_of(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at < len(data):
        kind, length = data[at], int.from_bytes(data[at + 1 : at + 3], "big")
        found[kind] = data[at + 3 : at + 3 + length]
        at += 3 + length
    return found


@pytest.mark.parametrize(
    ("who", "family", "addresses"),
    [
        (HERE, 0x11, V4),
        (Endpoints(("2001:db8::1", 1), ("2001:db8::2", 2)), 0x21, V6),
        (
            Endpoints(("192.0.2.1", 1), ("2001:db8::2", 2)),
            0x21,
            bytes(10) + b"\xff\xff\xc0\x00\x02\x01" + V6[16:32] + V6[32:],
        ),
        (None, 0x00, b""),
    ],
)
def test_what_we_say_of_a_caller(who: Endpoints | None, family: int, addresses: bytes) -> None:
    session = Session("spiffe://mesh.test/web", "TLSv1.3", "TLS_AES_256_GCM_SHA384", "http/1.1", "web")
    data = compose(who, session)
    assert data.startswith(SIGNATURE + bytes([0x21, family]))
    assert data[PREFIX:].startswith(addresses)
    found = vectors_of(data[PREFIX + len(addresses) :])
    assert found[0x01] == b"http/1.1"
    assert found[0xE0] == b"spiffe://mesh.test/web"
    assert found[0x20][:5] == b"\x07\0\0\0\0"  # TLS, with a certificate, verified
    assert vectors_of(found[0x20][5:]) == {0x21: b"TLSv1.3", 0x22: b"web", 0x23: b"TLS_AES_256_GCM_SHA384"}
    assert len(data) < 536  # never segmented, section 2.2


def test_what_is_not_known_is_not_said() -> None:
    found = vectors_of(compose(None, SESSION)[PREFIX:])
    assert 0x01 not in found
    assert 0x22 not in vectors_of(found[0x20][5:])


V4_ENDS = st.tuples(st.ip_addresses(v=4).map(str), st.integers(0, 65535))
V6_ENDS = st.tuples(st.ip_addresses(v=6).map(str), st.integers(0, 65535))


@given(st.one_of(st.tuples(V4_ENDS, V4_ENDS), st.tuples(V6_ENDS, V6_ENDS)))
def test_what_we_say_is_what_we_read(ends: tuple[tuple[str, int], tuple[str, int]]) -> None:
    who = Endpoints(*ends)
    data = compose(who, SESSION)
    assert read(data) == who


def mutated(data: bytes, cuts: Sequence[tuple[int, int]]) -> bytes:
    made = bytearray(data)
    for at, value in cuts:
        made[at % len(made)] = value
    return bytes(made)


@given(
    st.one_of(
        st.binary(max_size=64),
        st.binary(max_size=300).map(lambda rest: SIGNATURE + rest),
        st.tuples(
            st.sampled_from([header(), header(V6, family=0x21), with_checksum(V4, b""), compose(HERE, SESSION)]),
            st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
        ).map(lambda pair: mutated(*pair)),
    )
)
@example(header())
@example(compose(HERE, SESSION))
def test_anything_is_read_whole_or_refused(data: bytes) -> None:
    check(data)
