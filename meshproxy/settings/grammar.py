"""What each single value of a sidecar's file may be: small parsers whose ValueError completes "expected ..."."""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeVar

from ca.spiffe_id import SpiffeId, TrustDomain, complete
from meshproxy.settings.schema import AUTO, CollectorEndpoint, PolicyDirectory, Protocol
from meshproxy.toml import whole_number, written
from meshproxy.units import parse_duration, parse_size
from meshproxy.wire.address import MAX_PORT, TcpAddress, UnixAddress, parse_address

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from meshproxy.settings.schema import Network, Workers
    from meshproxy.toml import Reader
    from meshproxy.wire.address import Address

MAX_CONNECTIONS: Final = 1_000_000  # per listener; beyond the descriptors any kernel gives a process by default
MAX_FIELDS: Final = (
    1000  # of one head; proxies in use stop at about 100, so more is a wish for trouble rather than for fields
)
MAX_PIPELINED: Final = 10_000  # more small requests than one read can hold
MAX_RATE: Final = 1 << 20  # bytes per second; honest callers on bad networks are slower than any more
MAX_CHECKPOINT_LINES: Final = 1_000_000  # a chain that is signed more rarely says little about its end
MAX_WORKERS: Final = 256  # processes of one sidecar; each takes tens of MiB
MAX_SERVICE_NAME: Final = 128
MAX_UID: Final = (1 << 32) - 2  # uid_t is 32 bits, and its last value means "no change" (setreuid(2))

_S = TypeVar("_S", bound=StrEnum)
_T = TypeVar("_T")
_STAND_IN: Final = TrustDomain("own.trust.domain")  # short identities are completed once the identity is loaded
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # becomes a metric label
# RFC 6066 section 3: a DNS name without a trailing dot, never an IP literal, which ends in a number or has colons.
_SERVER_NAME: Final = re.compile(r"(?=.{1,253}\Z)(?:[A-Za-z0-9_-]{1,63}\.)*(?![0-9]+\Z)[A-Za-z0-9_-]{1,63}")
# RFC 9110 section 7.2: uri-host [ ":" port ]; of RFC 3986 section 3.2.2 only the hosts that name a machine, no escapes.
_HOST_FIELD: Final = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]{2,45})\]"
    r"|(?P<name>(?=[^:]{1,253}(?::|\Z))(?:[A-Za-z0-9_-]{1,63}\.)*(?P<last>[A-Za-z0-9_-]{1,63})))"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
_ALPN: Final = re.compile(r"[!-~]{1,255}")  # RFC 7301 section 3.1 allows any octets; names that are used are visible

# RFC 3986, as much of it as leads to a collector: no user, no query, no escapes.
_URL: Final = re.compile(r"(?P<scheme>https?)://(?P<address>[^/?#@]+)(?P<path>(?:/[A-Za-z0-9._~-]+)*/?)")
_TRACES: Final = "/v1/traces"

_DIRECTORY: Final = "dir:"


def address(base: Path) -> Reader[Address]:
    """Return a reader of addresses; a relative unix socket path is relative to `base`."""

    def parse(text: str) -> Address:
        parsed = parse_address(text)
        return parse_address(f"unix:{base / parsed.path}") if isinstance(parsed, UnixAddress) else parsed

    return written(parse)


def destination(base: Path) -> Reader[Address]:
    """Return a reader of addresses to connect to: port 0 asks the system for a free one, so nobody listens on it."""
    read_address = address(base)

    def read(value: object) -> Address:
        parsed = read_address(value)
        if isinstance(parsed, TcpAddress) and parsed.port == 0:
            raise ValueError("a port from 1 to 65535: nobody can be reached on port 0")
        return parsed

    return read


def file_path(base: Path) -> Reader[Path]:
    """Return a reader of file names, relative to `base` when they are relative."""

    def parse(text: str) -> Path:
        if not text or "\0" in text:
            raise ValueError("a path")
        return base / text

    return written(parse)


def policy(base: Path) -> Reader[Path | PolicyDirectory]:
    """Return a reader of where an allow-list is: a file, or `dir:` and a directory of those of all services."""
    read = file_path(base)

    def parse(value: object) -> Path | PolicyDirectory:
        if isinstance(value, str) and value.startswith(_DIRECTORY):
            return PolicyDirectory(read(value.removeprefix(_DIRECTORY)))
        return read(value)

    return parse


def one_of(choices: type[_S]) -> Reader[_S]:
    """Return a reader of the words of an enumeration."""

    def parse(text: str) -> _S:
        try:
            return choices(text)
        except ValueError:
            raise ValueError(" or ".join(f'"{choice}"' for choice in choices)) from None

    return written(parse)


def each_once(read: Reader[_T]) -> Reader[_T]:
    """Return a reader for the items of one list, which refuses an item that was there before."""
    seen: set[_T] = set()

    def read_once(value: object) -> _T:
        item = read(value)
        if item in seen:
            raise ValueError("each item only once")
        seen.add(item)
        return item

    return read_once


def _ca_address(text: str) -> TcpAddress:
    parsed = parse_address(text)
    if not isinstance(parsed, TcpAddress) or parsed.port == 0:
        raise ValueError("host:port or [v6]:port of a CA, with a port from 1 to 65535")
    return parsed


def _positive_duration(text: str) -> float:
    if (seconds := parse_duration(text)) == 0:
        raise ValueError("a duration above zero: a deadline of nothing refuses everything")
    return seconds


def _duration_or_none(text: str) -> float | None:
    """Read a duration; None for zero, which turns the limit off: nothing lasts for no time."""
    return parse_duration(text) or None


def _size_or_none(text: str) -> int | None:
    """Read a size; None for zero, which turns the limit off."""
    return parse_size(text) or None


def _listener_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("a name of 1 to 64 letters, digits, dots, hyphens and underscores")
    return text


def _far_identity(text: str) -> str:
    try:
        identity: SpiffeId = complete(text, _STAND_IN)
    except ValueError as error:
        rule = str(error).rpartition(" is not a SPIFFE ID: ")[2]
        example = "one identity such as /ledger or spiffe://example.org/ledger"
        raise ValueError(example if "*" in text or rule == str(error) else f"{example} ({rule})") from None
    if not identity.path:
        raise ValueError("a path behind the trust domain: its own ID belongs to no service (X509-SVID 5.2)")
    return text


def _server_name(text: str) -> str:
    if not _SERVER_NAME.fullmatch(text):
        raise ValueError("a DNS name, no IP address (RFC 6066 3)")
    return text


def _host_field(text: str) -> str:
    expected = "a Host field: a DNS name or IP address (IPv6 in brackets), and optionally a port from 1 to 65535"
    parts = _HOST_FIELD.fullmatch(text)
    if parts is None or (parts["port"] is not None and not 1 <= int(parts["port"]) <= MAX_PORT):
        raise ValueError(expected)
    try:
        if parts["v6"] is not None:
            ipaddress.IPv6Address(parts["v6"])
        elif parts["last"].isdigit():  # no DNS name ends in a number: 10.0.0.300 is a slip of the pen
            ipaddress.IPv4Address(parts["name"])
    except ValueError:
        raise ValueError(expected) from None
    return text


def _collector(text: str) -> CollectorEndpoint:
    parts = _URL.fullmatch(text)
    if parts is None:
        raise ValueError("http:// or https://, host:port, and perhaps a path, such as http://127.0.0.1:4318")
    address = parse_address(parts["address"])
    if not isinstance(address, TcpAddress) or address.port == 0:
        raise ValueError("host:port or [v6]:port behind the scheme, with a port from 1 to 65535")
    path = (parts["path"] or "").rstrip("/")
    # As OpenTelemetry has it for an endpoint of all signals; one that names the whole path means it.
    path = path if path.endswith(_TRACES) else f"{path}{_TRACES}"
    return CollectorEndpoint(text, address, path, is_tls=parts["scheme"] == "https")


def share(value: object) -> float:
    """Read a share, from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError("a number from 0 to 1")
    return float(value)


def _service_name(text: str) -> str:
    if not text.isprintable() or not 0 < len(text) <= MAX_SERVICE_NAME:
        raise ValueError(f"a name of 1 to {MAX_SERVICE_NAME} printable characters")
    return text


def _alpn_name(text: str) -> str:
    if not _ALPN.fullmatch(text):
        raise ValueError('an ALPN protocol name such as "h2" (RFC 7301 3.1)')
    return text


def _size(lowest: str, highest: str) -> Reader[int]:
    """Return a reader of sizes in bytes between two that are written as in a file."""
    bounds = (parse_size(lowest), parse_size(highest))

    def parse(text: str) -> int:
        size = parse_size(text)
        if not bounds[0] <= size <= bounds[1]:
            raise ValueError(f"a size from {lowest} to {highest}")
        return size

    return written(parse)


def _rate(text: str) -> int | None:
    """Read a size per second; None for zero, which turns the limit off: no size is slower than nothing."""
    rate = parse_size(text)
    if rate > MAX_RATE:
        raise ValueError(f"a size per second of at most {MAX_RATE >> 20}MiB, or 0B for none")
    return rate or None


def _bounded(lowest: int, highest: int, expected: str) -> Callable[[object], int]:
    def read(value: object) -> int:
        number = whole_number(value)
        if not lowest <= number <= highest:
            raise ValueError(expected)
        return number

    return read


def worker_count(value: object) -> Workers:
    """Read how many processes share the listeners, or "auto"."""
    if value == AUTO:
        return AUTO
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_WORKERS:
        raise ValueError(f'a whole number from 1 to {MAX_WORKERS}, or "{AUTO}"')
    return value


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ValueError('an address or a network such as "10.0.0.0/8", without bits beyond its length') from None


network = written(_network)
ca_address = written(_ca_address)
duration = written(parse_duration)
duration_or_none = written(_duration_or_none)
positive_duration = written(_positive_duration)
listener_name = written(_listener_name)
protocol = one_of(Protocol)
far_identity = written(_far_identity)
server_name = written(_server_name)
host_field = written(_host_field)
alpn_name = written(_alpn_name)
collector = written(_collector)
service_name = written(_service_name)
head_size = _size("1KiB", "1MiB")
target_size = _size("256B", "64KiB")
audit_file_size = _size("64KiB", "64GiB")
checkpoint_lines = _bounded(1, MAX_CHECKPOINT_LINES, f"a whole number from 1 to {MAX_CHECKPOINT_LINES}")
field_count = _bounded(10, MAX_FIELDS, f"a whole number from 10 to {MAX_FIELDS}")
body_rate = written(_rate)
size_or_none = written(_size_or_none)
pipelining_depth = _bounded(1, MAX_PIPELINED, f"a whole number from 1 to {MAX_PIPELINED}")
queue_length = _bounded(0, MAX_CONNECTIONS, f"a whole number from 0 to {MAX_CONNECTIONS}")
connection_cap = _bounded(1, MAX_CONNECTIONS, f"a whole number from 1 to {MAX_CONNECTIONS}")
uid = _bounded(0, MAX_UID, f"a user ID from 0 to {MAX_UID}")
