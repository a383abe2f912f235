from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.settings import grammar
from meshproxy.settings.schema import Protocol
from meshproxy.wire.address import TcpAddress, UnixAddress
from meshproxy.wire.ends import PeerEof

if TYPE_CHECKING:
    from meshproxy.toml import Reader

BASE = Path("/etc/meshproxy")
address = grammar.address(BASE)
destination = grammar.destination(BASE)
file_path = grammar.file_path(BASE)


@pytest.mark.parametrize(
    ("read", "value", "meaning"),
    [
        (address, "0.0.0.0:8443", TcpAddress("0.0.0.0", 8443)),
        (address, "[::1]:0", TcpAddress("::1", 0)),
        (address, "unix:run/x.sock", UnixAddress("/etc/meshproxy/run/x.sock")),
        (address, "unix:/run/x.sock", UnixAddress("/run/x.sock")),
        (destination, "ledger.internal:8443", TcpAddress("ledger.internal", 8443)),
        (destination, "unix:x", UnixAddress("/etc/meshproxy/x")),
        (file_path, "a/b.toml", Path("/etc/meshproxy/a/b.toml")),
        (file_path, "/a/b.toml", Path("/a/b.toml")),
        (grammar.duration, "0s", 0.0),
        (grammar.positive_duration, "250ms", 0.25),
        (grammar.listener_name, "api-v1.eu_west", "api-v1.eu_west"),
        (grammar.protocol, "tcp", Protocol.TCP),
        (grammar.protocol, "http", Protocol.HTTP),
        (grammar.one_of(PeerEof), "lenient", PeerEof.LENIENT),
        (grammar.far_identity, "/ledger", "/ledger"),
        (grammar.far_identity, "spiffe://partner.net/a/b", "spiffe://partner.net/a/b"),
        (grammar.server_name, "ledger.internal", "ledger.internal"),
        (grammar.server_name, "1a", "1a"),
        (grammar.alpn_name, "http/1.1", "http/1.1"),
        (grammar.host_field, "ledger.internal", "ledger.internal"),
        (grammar.host_field, "Ledger_1:8080", "Ledger_1:8080"),
        (grammar.host_field, "10.0.0.7:65535", "10.0.0.7:65535"),
        (grammar.host_field, "[2001:db8::7]", "[2001:db8::7]"),
        (grammar.host_field, "[::ffff:10.0.0.7]:1", "[::ffff:10.0.0.7]:1"),
        (grammar.head_size, "1KiB", 1024),
        (grammar.head_size, "1MiB", 1 << 20),
        (grammar.target_size, "256B", 256),
        (grammar.target_size, "64KiB", 1 << 16),
        (grammar.field_count, 10, 10),
        (grammar.field_count, 1000, 1000),
        (grammar.body_rate, "500B", 500),
        (grammar.body_rate, "0B", None),
        (grammar.body_rate, "0MiB", None),
        (grammar.body_rate, "1MiB", 1 << 20),
        (grammar.connection_cap, 1, 1),
        (grammar.uid, 0, 0),
        (grammar.worker_count, 1, 1),
        (grammar.worker_count, 256, 256),
        (grammar.worker_count, "auto", "auto"),
    ],
)
def test_a_good_value_is_what_it_means(read: Reader[object], value: object, meaning: object) -> None:
    assert read(value) == meaning


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        (address, "8443", "host:port"),
        (address, 8443, "a string"),
        (address, "unix:" + "a" * 100, "at most 107 bytes"),  # 117 once the directory stands before it
        (destination, "127.0.0.1:0", "a port from 1 to 65535"),
        (file_path, "", "a path"),
        (file_path, "a\0b", "a path"),
        (grammar.duration, "30", "a duration"),
        (grammar.positive_duration, "0s", "above zero"),
        (grammar.listener_name, "a b", "1 to 64"),
        (grammar.listener_name, "a\n", "1 to 64"),
        (grammar.protocol, "TCP", '"http" or "tcp"'),
        (grammar.one_of(PeerEof), "loose", '"strict" or "lenient"'),
        (grammar.far_identity, "ledger", "one identity such as /ledger"),
        (grammar.far_identity, "/ledger/*", "one identity such as /ledger"),
        (grammar.far_identity, "/ledger/", "a trailing / is not allowed"),
        (grammar.far_identity, "spiffe://Partner.net/a", "must be lower case"),
        (grammar.far_identity, "spiffe://partner.net", "belongs to no service"),
        (grammar.server_name, "10.0.0.7", "no IP address"),
        (grammar.server_name, "::1", "no IP address"),
        (grammar.server_name, "a.b.", "a DNS name"),
        (grammar.server_name, "", "a DNS name"),
        (grammar.server_name, "a" * 64, "a DNS name"),
        (grammar.server_name, "a\n", "a DNS name"),
        (grammar.alpn_name, "", "an ALPN protocol name"),
        (grammar.alpn_name, "h 2", "an ALPN protocol name"),
        (grammar.host_field, "", "a Host field"),
        (grammar.host_field, "a b", "a Host field"),
        (grammar.host_field, "a\n", "a Host field"),
        (grammar.host_field, "a\r\nX: y", "a Host field"),
        (grammar.host_field, "https://a", "a Host field"),
        (grammar.host_field, "me@a", "a Host field"),
        (grammar.host_field, "a/b", "a Host field"),
        (grammar.host_field, "a%2eb", "a Host field"),
        (grammar.host_field, "a..b", "a Host field"),
        (grammar.host_field, "a.", "a Host field"),
        (grammar.host_field, "a:", "a Host field"),
        (grammar.host_field, "a:0", "a Host field"),
        (grammar.host_field, "a:65536", "a Host field"),
        (grammar.host_field, "a:٣", "a Host field"),
        (grammar.host_field, "::1", "a Host field"),
        (grammar.host_field, "[::1", "a Host field"),
        (grammar.host_field, "[fe80::1%eth0]", "a Host field"),
        (grammar.host_field, "[1:2]", "a Host field"),
        (grammar.host_field, "10.0.0.300", "a Host field"),
        (grammar.host_field, "1", "a Host field"),
        (grammar.host_field, "a" * 64, "a Host field"),
        (grammar.host_field, "a." * 126 + "ab", "a Host field"),
        (grammar.host_field, 1, "a string"),
        (grammar.head_size, "1023B", "a size from 1KiB to 1MiB"),
        (grammar.head_size, "1025KiB", "a size from 1KiB to 1MiB"),
        (grammar.head_size, "32k", "a size: a whole number"),
        (grammar.target_size, "255B", "a size from 256B to 64KiB"),
        (grammar.target_size, "65KiB", "a size from 256B to 64KiB"),
        (grammar.field_count, 9, "from 10 to 1000"),
        (grammar.field_count, 1001, "from 10 to 1000"),
        (grammar.body_rate, "2MiB", "at most 1MiB"),
        (grammar.body_rate, "500", "a size: a whole number"),
        (grammar.body_rate, "-1B", "a size: a whole number"),
        (grammar.connection_cap, 0, "from 1 to 1000000"),
        (grammar.connection_cap, True, "a whole number"),
        (grammar.uid, -1, "a user ID"),
        (grammar.uid, 1 << 32, "a user ID"),
        (grammar.worker_count, 0, 'a whole number from 1 to 256, or "auto"'),
        (grammar.worker_count, 257, 'a whole number from 1 to 256, or "auto"'),
        (grammar.worker_count, "2", 'a whole number from 1 to 256, or "auto"'),
    ],
)
def test_a_bad_value_is_refused_with_what_was_expected(read: Reader[object], value: object, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        read(value)


def test_an_item_may_be_there_only_once() -> None:
    read = grammar.each_once(destination)
    read("a:1")
    read("a:2")
    with pytest.raises(ValueError, match="only once"):
        read("a:1")


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    readers: tuple[Reader[object], ...] = (
        *(address, destination, file_path, grammar.far_identity, grammar.server_name, grammar.protocol),
        *(grammar.host_field, grammar.head_size, grammar.body_rate),
    )
    for read in readers:
        try:
            read(text)
        except ValueError as error:
            refusal = str(error)
        else:
            refusal = ""
        assert refusal.isprintable()
