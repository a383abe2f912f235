"""What one sidecar is told to do, as values that cannot be wrong. `read` makes them, everything else only looks.

Times are seconds, paths are absolute (or relative to what the caller named), addresses are parsed.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal

from meshproxy.policy.decide import Mode
from meshproxy.telemetry.wanted import Wanted
from meshproxy.wire.address import Address, TcpAddress
from meshproxy.wire.ends import PeerEof

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_ADMIN: Final = TcpAddress("127.0.0.1", 9900)
HTTP_ALPN: Final = "http/1.1"  # RFC 7301 section 6
BODY_RATE_WINDOW: Final = 10.0  # seconds that `Limits.body_min_rate` is averaged over

AUTO: Final = "auto"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Workers = int | Literal["auto"]

_KIB: Final = 1 << 10
_MIB: Final = 1 << 20


class Protocol(StrEnum):
    """What a listener carries; declared, never guessed."""

    HTTP = "http"
    TCP = "tcp"


class TlsVersion(StrEnum):
    """The least version of TLS that is spoken to a far end."""

    TLS_1_2 = "1.2"  # for servers that know no other; see `identity.contexts`
    TLS_1_3 = "1.3"


class StaleDenyList(StrEnum):
    """What follows when the CA's deny-list is older than it says it may be."""

    ALLOW = "allow"  # go on by the last one, and warn
    DENY = "deny"  # believe nobody new, and nobody at all without a list


class Audited(StrEnum):
    """Which decisions of a listener the audit log holds."""

    OFF = "off"
    DENIALS = "denials"  # and what would be denied but for `mode = "audit"`
    ALL = "all"


class WhenFull(StrEnum):
    """What follows when a decision cannot be recorded now."""

    REFUSE = "refuse"  # whatever was asked is refused
    WAIT = "wait"  # nothing more is read from callers; who waited too long is refused


class Sandboxing(StrEnum):
    """Whether the sidecar keeps itself to its own files and ports, where the kernel can hold it to that (Landlock)."""

    AUTO = "auto"  # where the kernel can
    OFF = "off"
    REQUIRE = "require"  # else it does not start


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """Where decisions are recorded. A checkpoint is signed when there is news after so many seconds, or lines.

    Beyond `rotate_size` bytes a file is put aside and another begun. With several workers each has a file of its own.
    """

    file: Path
    when_full: WhenFull = WhenFull.REFUSE
    checkpoint_every: float = 60.0
    checkpoint_lines: int = 10_000
    rotate_size: int = 64 * _MIB


@dataclass(frozen=True, slots=True)
class CollectorEndpoint:
    """Where spans are sent: `url` as it was written."""

    url: str
    address: TcpAddress
    path: str
    is_tls: bool


@dataclass(frozen=True, slots=True)
class TracingSettings:
    """Which share of the traces that begin here is sampled, and the collector of what is (OTLP/HTTP).

    `to`: over TLS, the only identity accepted at the far end, as in `Outbound`. `service`: what these spans are called
    by; None is the path of the identity.
    """

    endpoint: CollectorEndpoint
    sample: float = 0.01
    to: str | None = None
    service: str | None = None


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """Where this sidecar's key, chain and bundle are; `unsafe_key_mode` accepts files that others may read or write.

    `ca` is where the CA is: with it the sidecar enrols (by the join token in `token_file`) and renews itself.
    """

    dir: Path
    passphrase_file: Path | None = None
    unsafe_key_mode: bool = False
    stale_deny_list: StaleDenyList = StaleDenyList.ALLOW
    ca: tuple[TcpAddress, ...] = ()
    token_file: Path | None = None


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """Where the admin API listens (always local), and where its harmless part may be reached from outside."""

    listen: Address = DEFAULT_ADMIN
    public_listen: Address | None = None


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """How the process runs and ends: `drain_delay` after SIGTERM accepting stops, `drain_timeout` later all is cut.

    `workers` is how many processes share the listeners; `"auto"` is one for each core this machine lets us use.
    `max_lag` is how long what has come may lie unread (seconds) before new work is refused; None never refuses for it.
    """

    workers: Workers = 1
    drain_timeout: float = 30.0
    drain_delay: float = 0.0
    sandbox: Sandboxing = Sandboxing.AUTO
    max_lag: float | None = 0.1


@dataclass(frozen=True, slots=True)
class Limits:
    """What one listener bears: deadlines in seconds, sizes in bytes; those from `head_timeout` on are for HTTP.

    handshake_timeout         from accepting a connection to the end of its TLS handshake
    connect_timeout           for one address of an upstream to accept
    idle_timeout              nothing moved in either direction; for HTTP also between two requests of a caller
    max_connections           open at once; what is beyond is reset before the handshake
    max_connection_age        of a connection, which never outlives a certificate either; None is off ("0s")
    max_handshakes            inbound: callers that have not proved yet who they are; see `limits.waiting_room`
    max_connections_per_peer  inbound: of one address before the handshake, of one identity after it
    head_timeout              from the first byte of a request head to its last, so that a trickle does not help
    response_timeout          from the end of a request to the last byte of the response head
    request_timeout           from the first byte of a request to the last of its answer; None is off ("0s")
    body_min_rate             bytes per second, averaged over `BODY_RATE_WINDOW`: a slower body is cut; None: off ("0B")
    head_bytes                of a request or response head, first line and empty line included
    max_fields                field lines of one head, or of one trailer section
    target_bytes              of a request target, query included (RFC 9110 section 4.1 asks for at least 8000)
    max_body_bytes            of a request's body; None is off ("0B")
    max_pipelined             requests answered in a row that were sent without waiting for the answers before
    pool_idle                 how long an unused upstream connection is kept for the next request; 0 keeps none
    max_upstream_connections  to the upstream of this listener, in use and at rest; in each worker
    max_upstream_queue        requests that wait for one of them; 0: none waits
    upstream_queue_timeout    how long each waits
    """

    handshake_timeout: float = 10.0
    connect_timeout: float = 5.0
    idle_timeout: float = 300.0
    max_connections: int = 10_000
    max_connection_age: float | None = None
    max_handshakes: int = 512
    max_connections_per_peer: int = 5000
    head_timeout: float = 10.0
    response_timeout: float = 60.0
    request_timeout: float | None = None
    body_min_rate: int | None = 500
    head_bytes: int = 32 * _KIB
    max_fields: int = 100
    target_bytes: int = 8 * _KIB
    max_body_bytes: int | None = None
    max_pipelined: int = 100
    pool_idle: float = 3.0
    max_upstream_connections: int = 1024
    max_upstream_queue: int = 1024
    upstream_queue_timeout: float = 5.0


@dataclass(frozen=True, slots=True)
class PolicyDirectory:
    """The allow-lists of a whole mesh: ours is the one that mirrors the path of our identity."""

    path: Path


@dataclass(frozen=True, slots=True)
class Inbound:
    """One listener for others calling this service, with the allow-list that judges them.

    `accept_proxy` are the load balancers whose word counts for where a caller is: each of their connections begins with
    a PROXY header. `send_proxy` says the same to the own service.
    """

    name: str
    listen: Address
    forward: Address
    protocol: Protocol
    policy: Path | PolicyDirectory
    mode: Mode = Mode.ENFORCE
    limits: Limits = Limits()
    peer_eof: PeerEof = PeerEof.STRICT
    unsafe_forward: bool = False
    audit: Audited = Audited.OFF
    accept_proxy: tuple[Network, ...] = ()
    send_proxy: bool = False

    @property
    def offered_alpn(self) -> tuple[str, ...]:
        """What to offer in the handshake (RFC 7301); nothing in TCP mode."""
        return (HTTP_ALPN,) if self.protocol is Protocol.HTTP else ()


@dataclass(frozen=True, slots=True)
class Outbound:
    """One listener for this service calling others.

    `to` is the only identity accepted at the far end, as written: short (`/ledger`, in the own trust domain, which only
    the loaded identity knows) or a full SPIFFE ID. `allow_uids` None means any local user may connect.
    `host` (HTTP only) is the Host field of what is sent there (RFC 9110 section 7.2); None leaves the caller's.
    """

    name: str
    listen: Address
    to: str
    endpoints: tuple[Address, ...]
    protocol: Protocol
    limits: Limits = Limits()
    peer_eof: PeerEof = PeerEof.STRICT
    allow_uids: frozenset[int] | None = None
    server_name: str | None = None
    alpn: tuple[str, ...] = ()
    unsafe_listen: bool = False
    host: str | None = None
    min_tls: TlsVersion = TlsVersion.TLS_1_3

    @property
    def offered_alpn(self) -> tuple[str, ...]:
        """What to offer in the handshake (RFC 7301): always `http/1.1` in HTTP mode, what `alpn` says in TCP mode."""
        return (HTTP_ALPN,) if self.protocol is Protocol.HTTP else self.alpn


@dataclass(frozen=True, slots=True)
class Settings:
    """One sidecar's file. `limits` are the defaults, already merged into each listener's own."""

    identity: IdentitySettings
    inbound: tuple[Inbound, ...] = ()
    outbound: tuple[Outbound, ...] = ()
    admin: AdminSettings = AdminSettings()
    runtime: RuntimeSettings = RuntimeSettings()
    limits: Limits = Limits()
    audit: AuditSettings | None = None
    tracing: TracingSettings | None = None
    telemetry: Wanted = field(default_factory=Wanted)

    @property
    def listeners(self) -> tuple[Inbound | Outbound, ...]:
        """The listeners of both directions, inbound first."""
        return (*self.inbound, *self.outbound)
