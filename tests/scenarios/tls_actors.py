"""A TLS 1.3 peer who, once the handshake is over, says what no library lets one say.

The handshake is OpenSSL's. From there on the records are made here, with the keys that the handshake told us by the
log of secrets (RFC 8446 section 7): any content type, any message, any length. What comes back is read by OpenSSL
again, which knows the alerts by their names.

    with Rogue(dial(api.address("api")), client_context(identity)) as rogue:
        rogue.say_handshake(KEY_UPDATE, b"\\x01")
        assert rogue.alert() == "SSLV3_ALERT_UNEXPECTED_MESSAGE"
"""

from __future__ import annotations

import os
import ssl
import tempfile
from typing import TYPE_CHECKING, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

if TYPE_CHECKING:
    import socket
    from types import TracebackType

# RFC 8446 section 5.1, ContentType, and section 4, HandshakeType.
CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION = 20, 21, 22, 23
CLIENT_HELLO, NEW_SESSION_TICKET, CERTIFICATE, CERTIFICATE_REQUEST, FINISHED, KEY_UPDATE = 1, 4, 11, 13, 20, 24

_CHUNK = 64 * 1024
_SUITES = {"TLS_AES_256_GCM_SHA384": (hashes.SHA384(), 32), "TLS_AES_128_GCM_SHA256": (hashes.SHA256(), 16)}


class Rogue:
    """One such connection; it never answers, and reads only when it is asked what it has heard."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, *, server_side: bool = False) -> None:
        self.sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        with tempfile.TemporaryDirectory() as folder:
            context.keylog_filename = os.path.join(folder, "secrets")  # noqa: PTH118 - a text, as ssl wants it
            self._session = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
            self._shake_hands()
            with open(context.keylog_filename, encoding="ascii") as file:  # noqa: PTH123
                told = dict(line.split()[::2] for line in file if not line.startswith("#"))
        cipher = self._session.cipher()
        assert cipher is not None
        self._hash, self._key_size = _SUITES[cipher[0]]
        self._secret = bytes.fromhex(told[f"{'SERVER' if server_side else 'CLIENT'}_TRAFFIC_SECRET_0"])
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    def _shake_hands(self) -> None:
        while True:
            try:
                self._session.do_handshake()
            except ssl.SSLWantReadError:
                self.sock.sendall(self._outgoing.read())
                self._incoming.write(self.sock.recv(_CHUNK))
            else:
                self.sock.sendall(self._outgoing.read())
                return

    def record(self, kind: int, content: bytes) -> bytes:
        """A protected record of this type (RFC 8446 section 5.2)."""
        key = AESGCM(self._derived("key", self._key_size))
        nonce = int.from_bytes(self._derived("iv", 12), "big") ^ self._sequence
        self._sequence += 1
        inner = content + bytes((kind,))
        header = bytes((APPLICATION, 3, 3)) + (len(inner) + 16).to_bytes(2, "big")
        return header + key.encrypt(nonce.to_bytes(12, "big"), inner, header)

    def key_update(self, *, requested: bool) -> bytes:
        """A record that changes our keys, and asks for the same of the other side if it is requested (4.6.3)."""
        record = self.record(HANDSHAKE, message(KEY_UPDATE, bytes((requested,))))
        self._secret = self._derived("traffic upd", self._hash.digest_size)
        self._sequence = 0
        return record

    def say(self, kind: int, content: bytes) -> None:
        """Say something in a record of this type."""
        self.sock.sendall(self.record(kind, content))

    def hear(self) -> bytes:
        """Some bytes of the application; empty at a proper end. Raises ssl.SSLError for an alert, OSError."""
        while True:
            try:
                return self._session.read(_CHUNK)
            except ssl.SSLWantReadError:
                self._incoming.write(self._received())

    def alert(self) -> str:
        """OpenSSL's name of the alert that ends the connection; empty if it ends without one."""
        try:
            while self.hear():
                pass
        except ssl.SSLError as error:
            return error.reason or ""
        except OSError:
            return ""
        return ""

    def _received(self) -> bytes:
        data = self.sock.recv(_CHUNK)
        if not data:
            raise ConnectionResetError("closed without close_notify")
        return data

    def _derived(self, label: str, size: int) -> bytes:
        """HKDF-Expand-Label of the current secret, without context (RFC 8446 section 7.1)."""
        name = b"tls13 " + label.encode()
        info = size.to_bytes(2, "big") + bytes((len(name),)) + name + b"\0"
        return HKDFExpand(self._hash, size, info).derive(self._secret)


def message(kind: int, body: bytes) -> bytes:
    """A handshake message (RFC 8446 section 4)."""
    return bytes((kind,)) + len(body).to_bytes(3, "big") + body
