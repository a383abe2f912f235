"""Before a row is measured: does the pair carry bytes rightly, and does it refuse whom it must?"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Final

from bench.backend import SMALL_BODY, SMALL_PATH
from bench.bulk import PIECE
from bench.processes import PATIENCE, BenchError

if TYPE_CHECKING:
    from bench.pair import Pair
    from bench.stage import Identity, Stage

_REQUEST: Final = f"GET {SMALL_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()


def check(name: str, pair: Pair, stage: Stage) -> None:
    """Try a pair; raises BenchError naming what it does wrong.

    A right answer must come through both proxies, and to `web` at the door, in TLS 1.3. None may come to `mallory`,
    whose certificate is sound and who is not on the list, nor to a caller without a certificate.
    """
    with socket.create_connection(("127.0.0.1", pair.entry), PATIENCE) as plain:
        if not _is_answer(_ask(plain)):
            raise BenchError(f"{name} does not carry a request")
    answer, version = _knock(pair, stage, stage.web)
    if not _is_answer(answer) or version != "TLSv1.3":
        raise BenchError(f"{name} does not serve the identity on its list in TLS 1.3 (but {version}: {answer[:80]!r})")
    for who, identity in (("an identity that is not on its list", stage.mallory), ("nobody", None)):
        answer, _ = _knock(pair, stage, identity)
        if b" 200 " in answer[:20] or SMALL_BODY in answer:
            raise BenchError(f"{name} serves {who}")


def _knock(pair: Pair, stage: Stage, identity: Identity | None) -> tuple[bytes, str]:
    """Ask at the door as somebody; returns what was answered, empty when refused, and the TLS version."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(stage.web.bundle)
    if identity is not None:
        context.load_cert_chain(identity.chain, identity.key)
    answer, version = b"", "none"
    # A refusal is a reset, an alert or a 403; in TLS 1.3 it comes after the client has finished its handshake.
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", pair.door), PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname=stage.api.name) as connection,
    ):
        version = connection.version() or "none"
        answer = _ask(connection)
    return answer, version


def _ask(connection: socket.socket) -> bytes:
    answer = b""
    connection.sendall(_REQUEST)
    with contextlib.suppress(ssl.SSLEOFError, ConnectionResetError):  # some proxies end a stream without close_notify
        while more := connection.recv(PIECE):
            answer += more
    return answer


def _is_answer(answer: bytes) -> bool:
    return answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(SMALL_BODY)
