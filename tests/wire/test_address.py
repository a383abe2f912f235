from __future__ import annotations

import socket

import pytest

from meshproxy.wire.address import TcpAddress, UnixAddress, parse_address


@pytest.mark.parametrize(
    ("text", "address", "told", "local"),
    [
        ("127.0.0.1:80", TcpAddress("127.0.0.1", 80), "127.0.0.1:80", True),
        ("10.0.0.7:0", TcpAddress("10.0.0.7", 0), "10.0.0.7:0", False),
        ("[::1]:8443", TcpAddress("::1", 8443), "[::1]:8443", True),
        ("[2001:DB8::0:1]:1", TcpAddress("2001:db8::1", 1), "[2001:db8::1]:1", False),
        ("LocalHost:65535", TcpAddress("LocalHost", 65535), "LocalHost:65535", True),
        ("ledger.internal:8443", TcpAddress("ledger.internal", 8443), "ledger.internal:8443", False),
        ("my_service-1:1", TcpAddress("my_service-1", 1), "my_service-1:1", False),
        (f"{'a' * 63}.b:1", TcpAddress(f"{'a' * 63}.b", 1), f"{'a' * 63}.b:1", False),
        ("unix:/run/x.sock", UnixAddress("/run/x.sock"), "unix:/run/x.sock", True),
    ],
)
def test_addresses_are_read_and_told(
    text: str,
    address: TcpAddress | UnixAddress,
    told: str,
    local: bool,  # noqa: FBT001 - a row of the table
) -> None:
    parsed = parse_address(text)
    assert parsed == address
    assert str(parsed) == told
    assert parsed.is_local is local


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "host",
        ":80",
        "host:",
        "host:x",
        "host:65536",
        "host:-1",
        "host:\uff18\uff10",
        "host:80\n",
        "ho st:80",
        "host/path:80",
        "-host:80",
        "host-:80",
        "::1:80",
        "[::1:80",
        "[host]:80",
        "[1.2.3.4]:80",
        "h\u00f6st:80",
        "a..b:80",
        ".a:80",
        f"{'a' * 64}:80",
        f"{'a.' * 126}aa:80",
        "unix:",
        "unix:/a\0b",
        f"unix:/{'a' * 107}",
    ],
)
def test_what_is_no_address_is_refused_with_a_phrase(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(a |an |host:port)"):
        parse_address(text)


@pytest.mark.parametrize("text", ["a..b:80", f"{'a' * 64}.example:80"])
def test_names_the_resolver_would_choke_on_never_reach_it(text: str) -> None:
    """`getaddrinfo` raises UnicodeError for them, which is no OSError: nobody below expects it."""
    host, _, port = text.rpartition(":")
    with pytest.raises(UnicodeError):
        socket.getaddrinfo(host, int(port))
    with pytest.raises(ValueError, match="a host name"):
        parse_address(text)
