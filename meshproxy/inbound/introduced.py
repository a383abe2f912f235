"""Callers behind a load balancer, which introduces them (the PROXY protocol), and how we introduce them to the service.

Only where a listener's settings ask for it; others do not come by here.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio
from cryptography import x509
from cryptography.x509.oid import NameOID

from meshproxy.limits.waiting_room import NO_PLACE
from meshproxy.wire.closing import reset
from meshproxy.wire.fiber import in_task, interruption
from meshproxy.wire.proxy_protocol import (
    PREFIX,
    Endpoints,
    ProxyProtocolError,
    Session,
    body_length,
    compose,
    endpoints,
)

if TYPE_CHECKING:
    from meshproxy.inbound.admit import Guest
    from meshproxy.inbound.visit import Visit
    from meshproxy.settings.schema import Inbound
    from meshproxy.telemetry.record import Recorder


@dataclass(slots=True)
class Introduced:
    """What came of an introduction: `left` are the seconds left for the handshake, 0 when the caller was turned away.

    `ends` is where the connection began; None: at the other end of our socket.
    """

    left: float
    ends: Endpoints | None = None


async def introduced(sock: socket.socket, visit: Visit, settings: Inbound, recorder: Recorder) -> Introduced:
    """Read the header that a trusted sender has to begin with; from anybody else none is read, nor believed.

    Who does not say it in time or says something else is reset, and told of.
    """
    within = settings.limits.handshake_timeout
    sender = _address_of(sock)
    if sender is None or not any(sender in network for network in settings.accept_proxy):
        return Introduced(within)
    await in_task()
    started = trio.current_time()
    if visit.place is not None:  # a stranger: there may be others who need it more
        visit.place.on_lost = interruption(sock)
    try:
        if visit.place is not None and visit.place.lost:  # before there was anybody to tell
            raise trio.ClosedResourceError  # noqa: TRY301 - as who is told later
        with trio.fail_after(within):
            prefix = await _exactly(sock, PREFIX)
            ends = endpoints(prefix, await _exactly(sock, body_length(prefix)))
    except ProxyProtocolError as error:
        fault = str(error)
    except trio.TooSlowError:
        fault = f"no PROXY header within {within:g} s"
    except trio.ClosedResourceError:
        fault = "no PROXY header yet, and too many others wait"
        recorder.reached(visit.listener, NO_PLACE)
    except OSError as error:
        fault = error.strerror or "connection lost"
    else:
        if ends is not None:
            visit.peer = str(ends)
        return Introduced(max(within - (trio.current_time() - started), 0.1), ends)
    reset(sock)
    recorder.refused(visit.listener, "proxy_header", peer=visit.peer, remedy=f"{fault}; see accept_proxy")
    return Introduced(0.0)


def introduction(sock: socket.socket, guest: Guest, ends: Endpoints | None) -> bytes:
    """Return the header that tells the own service who calls: from where, by which TLS session, and as whom."""
    session = guest.tls.session
    cipher = session.cipher()
    return compose(
        ends or _ends_of(sock),
        Session(
            identity=str(guest.leaf.id),
            version=session.version() or "",
            cipher=cipher[0] if cipher else "",
            alpn=session.selected_alpn_protocol() or "",
            common_name=_common_name(guest.tls.peer_certificate),
        ),
    )


async def _exactly(sock: socket.socket, count: int) -> bytes:
    """Return so many bytes and not one more: what follows is TLS. Raises ProxyProtocolError, OSError."""
    data = b""
    while len(data) < count:
        try:
            part = sock.recv(count - len(data))
        except BlockingIOError:
            await trio.lowlevel.wait_readable(sock)
            continue
        if not part:
            raise ProxyProtocolError("a PROXY header that is cut off" if data else "the end of the connection")
        data += part
    return data


def _address_of(sock: socket.socket) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return where a connection comes from; an IPv4 caller of an IPv6 listener by its own address."""
    try:
        name = sock.getpeername()
    except OSError:
        return None  # gone already
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    address = ipaddress.ip_address(name[0].partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def _ends_of(sock: socket.socket) -> Endpoints | None:
    try:
        source, destination = sock.getpeername(), sock.getsockname()
    except OSError:
        return None
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    (there, its_port), (here, our_port) = ((name[0].partition("%")[0], name[1]) for name in (source, destination))
    return Endpoints((there, its_port), (here, our_port))


def _common_name(der: bytes | None) -> str:
    """Return the CN of a judged leaf's subject; most identities have none."""
    if der is None:
        return ""
    names = x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""
