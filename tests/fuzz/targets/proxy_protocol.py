"""PROXY headers out of anything: read whole or refused, never a crash, and nothing read that was not said."""

from __future__ import annotations

import ipaddress

from meshproxy.wire.proxy_protocol import (
    MOST,
    PREFIX,
    Endpoints,
    ProxyProtocolError,
    Session,
    body_length,
    compose,
    endpoints,
)
from tests.fuzz.target import Target

_SESSION = Session("spiffe://mesh.test/fuzz", "TLSv1.3", "TLS_AES_128_GCM_SHA256", "http/1.1", "fuzz")


def check(data: bytes) -> None:
    """Judge some bytes as a connection would bring them; raises AssertionError, or whatever should not be raised."""
    prefix, rest = data[:PREFIX], data[PREFIX:]
    if len(prefix) < PREFIX:
        return  # the shell waits for as much, or its deadline
    try:
        length = body_length(prefix)
    except ProxyProtocolError:
        return
    assert 0 <= length <= MOST
    if len(rest) < length:
        return  # as above
    try:
        found = endpoints(prefix, rest[:length])
    except ProxyProtocolError:
        return
    if found is None:
        return
    for host, port in (found.source, found.destination):
        assert str(ipaddress.ip_address(host)) == host
        assert 0 <= port <= 0xFFFF
    width = 4 if ":" not in found.source[0] else 16
    assert ipaddress.ip_address(found.source[0]).packed == rest[:width]
    again = compose(found, _SESSION)
    assert endpoints(again[:PREFIX], again[PREFIX:]) == found
    assert len(again) == PREFIX + body_length(again[:PREFIX])


_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V4 = Endpoints(("192.0.2.1", 1), ("198.51.100.2", 443))
_V6 = Endpoints(("2001:db8::1", 1), ("2001:db8::2", 443))

TARGET = Target(
    check,
    seeds=(
        compose(_V4, _SESSION),
        compose(_V6, _SESSION),
        compose(None, _SESSION),
        _SIGNATURE + b"\x20\x00\x00\x00",
        _SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216),
        _SIGNATURE + b"\x21\x11\x00\x13" + bytes(12) + b"\x03\x00\x04" + bytes(4),
        b"PROXY TCP4 192.0.2.1 198.51.100.2 1 443\r\n",
    ),
    words=(_SIGNATURE, b"\x21\x11", b"\x20\x00", b"\x03\x00\x04", b"\x20\x00\x05", b"\xff\xff"),
)
