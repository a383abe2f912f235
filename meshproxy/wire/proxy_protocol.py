"""The PROXY protocol, version 2: who really called, said in a header before a connection's first byte; pure.

The rules are those of proxy-protocol.txt (haproxy.org), sections 2.2 and 2.2.1 to 2.2.8. Version 1 is refused: its end
has to be searched for, and whatever sends it can send this one.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from meshproxy.wire.address import host_and_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PREFIX: Final = 16  # bytes: signature, version and command, family and protocol, length of what follows
MOST: Final = 4096  # bytes that may follow: 216 of addresses, and what load balancers add of TLS and their cloud

_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_VERSION_1: Final = b"PROXY "
_VERSION: Final = 2
_LOCAL, _PROXY = 0, 1
_UNSPEC, _INET, _INET6, _UNIX = range(4)
_STREAM, _DGRAM = 1, 2
_ADDRESSES: Final = {_UNSPEC: 0, _INET: 12, _INET6: 36, _UNIX: 216}  # bytes
_TYPE_AND_LENGTH: Final = struct.Struct(">BH")
_CLIENT_AND_VERIFY: Final = struct.Struct(">BI")
_CHECKSUM_BYTES: Final = 4
_LONGEST_ID: Final = 128

# PP2_CLIENT_SSL, PP2_CLIENT_CERT_CONN, PP2_CLIENT_CERT_SESS: over TLS, with a certificate, shown on this connection.
_MUTUAL_TLS: Final = 0x01 | 0x02 | 0x04


class Type(IntEnum):
    """PP2_TYPE_* and PP2_SUBTYPE_SSL_*; the last is ours, of those set aside for applications."""

    ALPN = 0x01
    CRC32C = 0x03
    UNIQUE_ID = 0x05
    SSL = 0x20
    SSL_VERSION = 0x21
    SSL_CN = 0x22
    SSL_CIPHER = 0x23
    SPIFFE_ID = 0xE0  # PP2_TYPE_MIN_CUSTOM


class ProxyProtocolError(Exception):
    """What came is no such header; the text says how, and holds nothing of what came."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The two ends of the connection as whoever accepted it first saw them."""

    source: tuple[str, int]
    destination: tuple[str, int]

    def __str__(self) -> str:
        """Return the caller's end as an access line tells it."""
        return host_and_port(*self.source)


@dataclass(frozen=True, slots=True)
class Session:
    """What is told of a caller's TLS session; `common_name` is empty where its certificate has none."""

    identity: str
    version: str
    cipher: str
    alpn: str = ""
    common_name: str = ""


def body_length(prefix: bytes) -> int:
    """Return how many bytes follow the first `PREFIX` of a header, at most `MOST`. Raises ProxyProtocolError."""
    if prefix[: len(_SIGNATURE)] != _SIGNATURE:
        if prefix.startswith(_VERSION_1):
            raise ProxyProtocolError("version 1 of the PROXY protocol; expected version 2 (send-proxy-v2)")
        raise ProxyProtocolError("no PROXY header; expected one from this address")
    version, command = prefix[12] >> 4, prefix[12] & 0x0F
    if version != _VERSION or command not in (_LOCAL, _PROXY):
        raise ProxyProtocolError(f"a PROXY header of version {version} and command {command}; expected 2 and 0 or 1")
    family, protocol = prefix[13] >> 4, prefix[13] & 0x0F
    if family not in _ADDRESSES or protocol > _DGRAM:
        raise ProxyProtocolError(f"a PROXY header of family {family} and protocol {protocol}, which there are none of")
    length = int.from_bytes(prefix[14:16], "big")
    if length > MOST:
        raise ProxyProtocolError(f"a PROXY header of {length} bytes; expected at most {MOST}")
    return length


def endpoints(prefix: bytes, body: bytes) -> Endpoints | None:
    """Return whom a header speaks for; None: for its sender, or it does not say. Raises ProxyProtocolError.

    `prefix` has gone through `body_length`, and `body` is as long as that said.
    """
    if prefix[12] & 0x0F == _LOCAL:
        return None  # a health check: whatever follows is to be discarded
    family, protocol = prefix[13] >> 4, prefix[13] & 0x0F
    size = _ADDRESSES[family]
    if len(body) < size:
        raise ProxyProtocolError(f"a PROXY header with {len(body)} bytes of addresses; expected {size}")
    at = len(prefix) + size
    for kind, value, start in _vectors(body[size:], at):
        if kind == Type.CRC32C:
            _judge_checksum(prefix + body, value, start)
        elif kind == Type.UNIQUE_ID and len(value) > _LONGEST_ID:
            raise ProxyProtocolError(f"a unique ID of {len(value)} bytes; expected at most {_LONGEST_ID}")
        elif kind == Type.SSL:
            if len(value) < _CLIENT_AND_VERIFY.size:
                raise ProxyProtocolError("TLS facts that are cut off")
            for _ in _vectors(value[_CLIENT_AND_VERIFY.size :], 0):
                pass  # nobody's word but the certificate's counts here; they have to be whole all the same
    if protocol != _STREAM or family not in (_INET, _INET6):
        return None
    width = 4 if family == _INET else 16
    source, destination = (str(ipaddress.ip_address(body[n * width : (n + 1) * width])) for n in (0, 1))
    ports = struct.unpack_from(">HH", body, 2 * width)
    return Endpoints((source, ports[0]), (destination, ports[1]))


def compose(who: Endpoints | None, session: Session) -> bytes:
    """Return the header for a connection on behalf of a caller; None: where it calls from is not known."""
    family, addresses = _UNSPEC, b""
    if who is not None:
        source, destination = (ipaddress.ip_address(host) for host, _ in (who.source, who.destination))
        if source.version == destination.version == 4:
            family, packed = _INET, source.packed + destination.packed
        else:
            family, packed = _INET6, _as_v6(source) + _as_v6(destination)
        addresses = packed + struct.pack(">HH", who.source[1], who.destination[1])
    inner = [(Type.SSL_VERSION, session.version), (Type.SSL_CIPHER, session.cipher)]
    if session.common_name:
        inner.append((Type.SSL_CN, session.common_name))
    facts = _CLIENT_AND_VERIFY.pack(_MUTUAL_TLS, 0) + b"".join(_vector(kind, text.encode()) for kind, text in inner)
    vectors = [_vector(Type.SSL, facts), _vector(Type.SPIFFE_ID, session.identity.encode())]
    if session.alpn:
        vectors.insert(0, _vector(Type.ALPN, session.alpn.encode()))
    body = addresses + b"".join(vectors)
    protocol = _STREAM if family else _UNSPEC
    return _SIGNATURE + bytes((_VERSION << 4 | _PROXY, family << 4 | protocol)) + len(body).to_bytes(2, "big") + body


def _as_v6(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bytes:
    """Return 16 bytes: IPv4 as IPv4-mapped IPv6 (RFC 4291 section 2.5.5.2), where the other end is IPv6."""
    return address.packed if address.version == 6 else b"\0" * 10 + b"\xff\xff" + address.packed


def _vector(kind: Type, value: bytes) -> bytes:
    return _TYPE_AND_LENGTH.pack(kind, len(value)) + value


def _vectors(data: bytes, at: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield type, value, and where that begins; `at` is where `data` does. Raises ProxyProtocolError."""
    position = 0
    while position < len(data):
        begins = position + _TYPE_AND_LENGTH.size
        if begins > len(data):
            raise ProxyProtocolError("a PROXY header that ends within a type and length")
        kind, length = _TYPE_AND_LENGTH.unpack_from(data, position)
        position = begins + length
        if position > len(data):
            raise ProxyProtocolError("a PROXY header that ends within a value")
        yield kind, data[begins:position], at + begins


def _judge_checksum(header: bytes, value: bytes, at: int) -> None:
    """Raise ProxyProtocolError unless the checksum, which stands at `at`, is that of the header with zeros there."""
    blank = header[:at] + bytes(_CHECKSUM_BYTES) + header[at + _CHECKSUM_BYTES :]
    if len(value) != _CHECKSUM_BYTES or int.from_bytes(value, "big") != crc32c(blank):
        raise ProxyProtocolError("a PROXY header whose checksum is wrong")


def _table() -> Sequence[int]:
    """The table of the CRC with polynomial 0x1EDC6F41, reflected (RFC 9260 appendix A)."""
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_TABLE: Final = _table()


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of some bytes."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
