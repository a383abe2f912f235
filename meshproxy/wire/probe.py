"""Look at a live TLS endpoint without trusting it: connect, shake hands, and tell what was presented.

Blocking, bounded, and for people (`meshproxy inspect HOST:PORT`). Nothing is verified here, which is why the result is
a `Probe` and not a connection: no relay accepts one, and the socket is closed before anybody could use it.
"""

from __future__ import annotations

import errno
import select
import socket
import ssl
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol, cast

from meshproxy.wire.address import TcpAddress
from meshproxy.wire.tls_faults import HandshakeFault, alert_in_words, classify

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from meshproxy.wire.address import Address

_AFTERMATH: Final = 0.5  # seconds to wait for a TLS 1.3 server's verdict on us, which comes after the handshake
_OFFERED_ALPN: Final = ("http/1.1", "h2")


class Outcome(StrEnum):
    """How far a probe came."""

    COMPLETED = "completed"  # the handshake ended well, and nothing objected afterwards
    REFUSED_AFTERWARDS = "refused_afterwards"  # the handshake ended well, then the endpoint turned us away
    TLS_FAILED = "tls_failed"
    NOT_TLS = "not_tls"
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class ClientIdentity:
    """The files of an identity to offer to endpoints that ask for one."""

    chain: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Probe:
    """What an endpoint showed, unverified: `chain` is DER, leaf first, empty when none was seen.

    `detail` is a sentence without a full stop saying what happened. `tls_version`, `cipher` and `alpn` are None when
    the handshake did not get that far (`alpn` also when the endpoint chose none).
    """

    address: str
    outcome: Outcome
    detail: str
    chain: tuple[bytes, ...] = ()
    tls_version: str | None = None
    cipher: str | None = None
    alpn: str | None = None


class IdentityUnusableError(Exception):
    """The identity to offer could not be loaded; the message is a phrase and holds no key material."""


def probe(address: Address, *, timeout: float, identity: ClientIdentity | None = None) -> Probe:
    """Connect to `address`, shake hands within `timeout` seconds, and return what was seen; the socket is closed.

    With an `identity`, it is offered when the endpoint asks for a certificate. Never raises for anything the endpoint
    does; raises IdentityUnusableError when `identity` cannot be loaded. Looking up a name is bounded by the system's
    resolver, not by `timeout`.
    """
    context = _context(identity)
    deadline = time.monotonic() + timeout
    try:
        plain = _connect(address, timeout)
    except TimeoutError:
        return Probe(str(address), Outcome.TIMED_OUT, f"nobody answered within {timeout:g} s")
    except socket.gaierror as error:
        return Probe(str(address), Outcome.UNREACHABLE, f"the name cannot be resolved: {error.strerror}")
    except OSError as error:
        return Probe(str(address), Outcome.UNREACHABLE, _connect_words(error))
    with plain:
        plain.setblocking(False)
        name = address.host if isinstance(address, TcpAddress) and address.ip is None else None
        with context.wrap_socket(plain, server_hostname=name, do_handshake_on_connect=False) as tls:
            return _shake_hands(tls, str(address), deadline, timeout)


def _shake_hands(tls: ssl.SSLSocket, address: str, deadline: float, timeout: float) -> Probe:
    try:
        _until(deadline, tls, tls.do_handshake)
    except TimeoutError:
        return Probe(address, Outcome.TIMED_OUT, f"connected, but the handshake did not end within {timeout:g} s")
    except ssl.SSLError as error:
        told = classify(error)
        outcome = Outcome.NOT_TLS if told.fault is HandshakeFault.NOT_TLS else Outcome.TLS_FAILED
        return Probe(address, outcome, told.detail, chain=_presented(tls))
    except OSError as error:
        words = "the endpoint reset the connection during the handshake"
        if error.errno != errno.ECONNRESET:
            words = f"the handshake failed: {error.strerror}"
        return Probe(address, Outcome.TLS_FAILED, words, chain=_presented(tls))
    # Asked before listening for an objection: a closed connection has forgotten its version.
    version, cipher, alpn, chain = tls.version(), tls.cipher(), tls.selected_alpn_protocol(), _presented(tls)
    objection = _objection(tls, deadline)
    return Probe(
        address,
        Outcome.COMPLETED if objection is None else Outcome.REFUSED_AFTERWARDS,
        objection or "the handshake completed",
        chain=chain,
        tls_version=version,
        cipher=cipher[0] if cipher else None,
        alpn=alpn,
    )


def _objection(tls: ssl.SSLSocket, deadline: float) -> str | None:
    """What the endpoint said against us after the handshake, if anything.

    In TLS 1.3 (RFC 8446 4.4.2.4) a client's handshake ends before the server has judged its certificate.
    """
    try:
        end = not _until(min(deadline, time.monotonic() + _AFTERMATH), tls, lambda: tls.recv(1))
    except TimeoutError:
        return None  # silence: it waits for us to speak
    except ssl.SSLError as error:
        return alert_in_words(error.reason or "") or "the endpoint broke off after the handshake"
    except OSError:
        return "the endpoint reset the connection right after the handshake (its allow-list may not name us)"
    return "the endpoint closed the connection right after the handshake" if end else None


class _Step(Protocol):
    def __call__(self) -> object: ...


def _until(deadline: float, tls: ssl.SSLSocket, step: _Step) -> object:
    """Repeat a non-blocking TLS step until it succeeds or the deadline passes (TimeoutError).

    A socket timeout would start afresh with every byte, and a trickling endpoint could hold us for ever.
    """
    while True:
        try:
            return step()
        except ssl.SSLWantReadError:
            waits: tuple[Sequence[ssl.SSLSocket], Sequence[ssl.SSLSocket]] = ([tls], [])
        except ssl.SSLWantWriteError:
            waits = ([], [tls])
        left = deadline - time.monotonic()
        if left <= 0 or not any(select.select(*waits, [], left)):
            raise TimeoutError


def _context(identity: ClientIdentity | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # a probe looks; it trusts nothing, and nothing may trust it
    context.set_alpn_protocols(_OFFERED_ALPN)
    if identity is not None:
        try:
            # Without a password callback OpenSSL would prompt on the terminal for a sealed key.
            context.load_cert_chain(identity.chain, identity.key, password=lambda: b"")
        except (OSError, ValueError) as error:
            words = getattr(error, "reason", None) or getattr(error, "strerror", None) or "not usable"
            raise IdentityUnusableError(f"{identity.key} with {identity.chain}: {str(words).lower()}") from error
    return context


def _connect(address: Address, timeout: float) -> socket.socket:
    if isinstance(address, TcpAddress):
        return socket.create_connection((address.host, address.port), timeout=timeout)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(address.path)
    except BaseException:
        sock.close()
        raise
    return sock


def _connect_words(error: OSError) -> str:
    words = {
        errno.ECONNREFUSED: "the connection was refused: nobody listens there",
        errno.EHOSTUNREACH: "there is no way to that host",
        errno.ENETUNREACH: "there is no way to that network",
        errno.ENOENT: "there is no such socket",
    }
    return words.get(error.errno or 0, f"connecting failed: {error.strerror}")


class _Certificate(Protocol):
    def public_bytes(self, encoding: int) -> bytes: ...


class _ChainHolder(Protocol):
    def get_unverified_chain(self) -> Sequence[bytes | _Certificate] | None: ...


def _presented(tls: ssl.SSLSocket) -> tuple[bytes, ...]:
    """The certificates the peer sent, leaf first, also when the handshake failed after they came.

    Public as `SSLSocket.get_unverified_chain` from Python 3.13; the object below has had it since 3.10, and unlike the
    public method also answers after a failed handshake.
    """
    holder = cast("_ChainHolder | None", getattr(tls, "_sslobj", None))
    if holder is None:
        return ()
    encoding_der = 2  # _ssl.ENCODING_DER
    chain = holder.get_unverified_chain() or ()
    return tuple(each if isinstance(each, bytes) else each.public_bytes(encoding_der) for each in chain)
