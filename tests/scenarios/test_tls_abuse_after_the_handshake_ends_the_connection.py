"""Once the handshake is over, a peer may speak application bytes, change its keys now and then, and say goodbye.

Whatever else it says ends its connection with an alert, whatever it says without end is cut, and nobody else notices.
There is no renegotiation in TLS 1.3, and no early data: nothing is handed out that it could be made with.
"""

from __future__ import annotations

import contextlib
import ssl
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Ended, Service, client_context, dial, echo, listen_to, place, sink, tls_exchange
from tests.scenarios.programs import require
from tests.scenarios.stage import PATIENCE, inbound, outbound
from tests.scenarios.tls_actors import (
    ALERT,
    APPLICATION,
    CERTIFICATE,
    CERTIFICATE_REQUEST,
    CHANGE_CIPHER_SPEC,
    CLIENT_HELLO,
    FINISHED,
    HANDSHAKE,
    KEY_UPDATE,
    NEW_SESSION_TICKET,
    Rogue,
    message,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from tests.scenarios.actors import Visit
    from tests.scenarios.stage import Sidecar, Stage

HELLO = message(CLIENT_HELLO, b"\3\3" + bytes(32) + b"\0\0\2\x13\2\1\0")
TICKET = message(NEW_SESSION_TICKET, bytes(8) + b"\1a" + b"\0\1b" + b"\0\0")
UNEXPECTED = "SSLV3_ALERT_UNEXPECTED_MESSAGE"
ILLEGAL = "SSLV3_ALERT_ILLEGAL_PARAMETER"
STORM = 5000  # KeyUpdates; 27 bytes each
FLOOD = "the peer floods control messages"

# What is said, the alert as the peer's OpenSSL names it, and the beginning of the log's word.
ABUSE: dict[str, tuple[Callable[[Rogue], object], str, str]] = {
    "a renegotiation": (lambda rogue: rogue.say(HANDSHAKE, HELLO), UNEXPECTED, "unexpected message"),
    "a ticket of its own": (lambda rogue: rogue.say(HANDSHAKE, TICKET), UNEXPECTED, "unexpected message"),
    "another end of the handshake": (
        lambda rogue: rogue.say(HANDSHAKE, message(FINISHED, bytes(48))),
        UNEXPECTED,
        "unexpected message",
    ),
    "a question for our certificate": (
        lambda rogue: rogue.say(HANDSHAKE, message(CERTIFICATE_REQUEST, bytes(3))),
        UNEXPECTED,
        "unexpected message",
    ),
    "another certificate": (
        lambda rogue: rogue.say(HANDSHAKE, message(CERTIFICATE, bytes(4))),
        UNEXPECTED,
        "unexpected message",
    ),
    "a message of 16 MiB": (
        lambda rogue: rogue.say(HANDSHAKE, bytes((KEY_UPDATE,)) + b"\xff\xff\xff"),
        ILLEGAL,
        "excessive message size",
    ),
    "a change of keys of a third kind": (
        lambda rogue: rogue.say(HANDSHAKE, message(KEY_UPDATE, b"\2")),
        ILLEGAL,
        "bad key update",
    ),
    "application bytes within a message": (
        lambda rogue: rogue.sock.sendall(
            rogue.record(HANDSHAKE, bytes((KEY_UPDATE,))) + rogue.record(APPLICATION, b"hello")
        ),
        UNEXPECTED,
        "mixed handshake and non handshake data",
    ),
    "a change of cipher": (lambda rogue: rogue.say(CHANGE_CIPHER_SPEC, b"\1"), UNEXPECTED, "bad record type"),
    "a heartbeat": (lambda rogue: rogue.say(24, b"\1\x40\0"), UNEXPECTED, "bad record type"),
    "bytes in clear": (
        lambda rogue: rogue.sock.sendall(b"\x17\3\3\0\5hello"),
        "SSLV3_ALERT_BAD_RECORD_MAC",
        "decryption failed or bad record mac",
    ),
    "a record of 20 KiB": (
        lambda rogue: rogue.sock.sendall(b"\x17\3\3\x50\0" + bytes(0x5000)),
        "TLSV1_ALERT_RECORD_OVERFLOW",
        "packet length too long",
    ),
    "empty records without end": (
        lambda rogue: rogue.sock.sendall(b"".join(rogue.record(APPLICATION, b"") for _ in range(1000))),
        UNEXPECTED,
        "record too small",
    ),
    "warnings without end": (
        lambda rogue: rogue.sock.sendall(b"".join(rogue.record(ALERT, b"\1\x5a") for _ in range(1000))),
        UNEXPECTED,
        "too many warn alerts",
    ),
    "new keys without end": (lambda rogue: storm(rogue, requested=False), "", FLOOD),
    "new keys without end, of both sides": (lambda rogue: storm(rogue, requested=True), "", FLOOD),
}


def storm(rogue: Rogue, *, requested: bool) -> None:
    """Change keys again and again; what comes back is read, so that nothing piles up on the way."""
    records = b"".join(rogue.key_update(requested=requested) for _ in range(STORM))
    reader = threading.Thread(target=_read_all, args=(rogue.sock,))
    reader.start()
    with contextlib.suppress(OSError):
        rogue.sock.sendall(records)
    reader.join(PATIENCE)


def _read_all(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while sock.recv(65536):
            pass


@pytest.fixture(scope="module")
def services(shared_stage: Stage) -> tuple[Service, Sidecar]:
    service = shared_stage.keep(Service(echo))
    return service, shared_stage.sidecar("api", inbound(forward=service.address))


@pytest.mark.parametrize("name", ABUSE)
def test_it_ends_a_stream(shared_stage: Stage, services: tuple[Service, Sidecar], name: str) -> None:
    service, api = services
    says, alert, detail = ABUSE[name]
    api.log.turn_page()
    web = shared_stage.identity("/web")
    with Rogue(dial(api.address("api")), client_context(web)) as rogue:
        with contextlib.suppress(OSError):  # cut before it was all said
            says(rogue)
        if alert:
            assert rogue.alert() == alert

        assert tls_exchange(api.address("api"), client_context(web), b"hello") == b"hello"  # beside it

    told = api.log.connection(end="corrupt")
    assert told.side == "tls"
    assert told.detail.startswith(detail)
    assert service.visit(0).count == 0
    service.visits.clear()


@pytest.mark.long
@pytest.mark.parametrize("name", ["a renegotiation", "new keys without end", "new keys without end, of both sides"])
def test_it_ends_an_http_connection(stage: Stage, name: str) -> None:
    """In the middle of a request, so that there is one to be told of."""
    service = stage.keep(Service(sink))
    api = stage.sidecar("api", inbound(forward=service.address, protocol="http"))
    says, _, detail = ABUSE[name]
    with Rogue(dial(api.address("api")), client_context(stage.identity("/web"))) as rogue:
        rogue.say(APPLICATION, b"POST /half HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
        service.arrival(0)
        with contextlib.suppress(OSError):
            says(rogue)
        told = api.log.request(path="/half")

    assert (told.failure, told.bytes_in) == ("client_gone", 4)
    assert told.detail.startswith(detail)
    assert service.visit(0).ended is Ended.RESET


def test_a_few_new_keys_are_no_abuse(shared_stage: Stage, services: tuple[Service, Sidecar]) -> None:
    """However many there are: application bytes come between them."""
    service, api = services
    with Rogue(dial(api.address("api")), client_context(shared_stage.identity("/web"))) as rogue:
        for number in range(200):
            words = b"%d" % number
            rogue.sock.sendall(b"".join(rogue.key_update(requested=True) for _ in range(30)))
            rogue.say(APPLICATION, words)
            heard = b""
            while len(heard) < len(words):
                heard += rogue.hear()
            assert heard == words
    service.visit(0)
    service.visits.clear()


def test_a_far_end_that_hands_out_tickets_without_end_is_left(shared_stage: Stage) -> None:
    """Two are usual, and are no use to us; the caller is reset, and not served by the rest of it."""
    api = shared_stage.identity("/api")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(api.chain, api.key)
    context.load_verify_locations(api.bundle)
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0  # those of OpenSSL itself: the records are counted

    def rogue(sock: socket.socket, visit: Visit) -> None:
        with Rogue(sock, context, server_side=True) as far, contextlib.suppress(OSError):
            sock.sendall(b"".join(far.record(HANDSHAKE, TICKET) for _ in range(STORM)))
            visit.take(far.hear())

    far = shared_stage.keep(Service(rogue))
    web = shared_stage.sidecar("web", outbound(endpoints=[far.address]))

    assert listen_to(web.address("to-api")) == (b"", Ended.RESET)

    told = web.log.connection()
    assert (told.end, told.detail) == ("corrupt", FLOOD)


def test_nothing_is_handed_out_for_early_data(shared_stage: Stage, services: tuple[Service, Sidecar]) -> None:
    """openssl s_client keeps no session, so there is none to begin another connection with before it is judged."""
    _, api = services
    web = shared_stage.identity("/web")
    kept = shared_stage.workspace / "session.pem"
    early = shared_stage.write("early", "early")
    host, port = place(api.address("api"))
    who = ["-cert", web.chain, "-cert_chain", web.chain, "-key", web.key, "-CAfile", web.bundle]
    command = list(map(str, [require("openssl"), "s_client", "-connect", f"{host}:{port}", *who, "-sess_out", kept]))

    said = subprocess.run(command, input=b"hello", capture_output=True, timeout=PATIENCE, check=False)

    assert b"New, TLSv1.3" in said.stdout
    assert b"Early data was not sent" in said.stdout
    assert b"Compression: NONE" in said.stdout
    assert b"Secure Renegotiation IS NOT supported" in said.stdout  # there is none in TLS 1.3
    assert b"Post-Handshake New Session Ticket" not in said.stdout
    if kept.exists():  # what it has is of no use: the next handshake is a whole one
        again = subprocess.run(
            [*command[:-2], "-sess_in", str(kept), "-early_data", str(early)],
            input=b"",
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert b"Reused" not in again.stdout
        assert b"Early data was accepted" not in again.stdout
