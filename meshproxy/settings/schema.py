"""What one sidecar is told to do, as values that cannot be wrong. `read` makes them, everything else only looks.

Times are seconds, paths are absolute (or relative to what the caller named), addresses are parsed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from meshproxy.policy.decide import Mode
from meshproxy.wire.address import Address, TcpAddress
from meshproxy.wire.ends import PeerEof

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_ADMIN: Final = TcpAddress("127.0.0.1", 9900)


class Protocol(StrEnum):
    """What a listener carries; declared, never guessed."""

    HTTP = "http"
    TCP = "tcp"


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """Where this sidecar's key, chain and bundle are; `unsafe_key_mode` accepts files that others may read or write."""

    dir: Path
    passphrase_file: Path | None = None
    unsafe_key_mode: bool = False


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """Where the admin API listens (always local), and where its harmless part may be reached from outside."""

    listen: Address = DEFAULT_ADMIN
    public_listen: Address | None = None


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """How the process runs and ends: `drain_delay` after SIGTERM accepting stops, `drain_timeout` later all is cut."""

    workers: int = 1
    drain_timeout: float = 30.0
    drain_delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """The deadlines (seconds) and the connection cap of one listener."""

    handshake_timeout: float = 10.0
    head_timeout: float = 10.0
    connect_timeout: float = 5.0
    idle_timeout: float = 300.0
    max_connections: int = 10_000


@dataclass(frozen=True, slots=True)
class Inbound:
    """One listener for others calling this service, with the allow-list that judges them."""

    name: str
    listen: Address
    forward: Address
    protocol: Protocol
    policy: Path
    mode: Mode = Mode.ENFORCE
    limits: Limits = Limits()
    peer_eof: PeerEof = PeerEof.STRICT
    unsafe_forward: bool = False


@dataclass(frozen=True, slots=True)
class Outbound:
    """One listener for this service calling others.

    `to` is the only identity accepted at the far end, as written: short (`/ledger`, in the own trust domain, which only
    the loaded identity knows) or a full SPIFFE ID. `allow_uids` None means any local user may connect.
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


@dataclass(frozen=True, slots=True)
class Settings:
    """One sidecar's file. `limits` are the defaults, already merged into each listener's own."""

    identity: IdentitySettings
    inbound: tuple[Inbound, ...] = ()
    outbound: tuple[Outbound, ...] = ()
    admin: AdminSettings = AdminSettings()
    runtime: RuntimeSettings = RuntimeSettings()
    limits: Limits = Limits()
