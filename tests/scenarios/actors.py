"""Who speaks and who answers: plain services as threads, plain and TLS callers, and a wire that can be meddled with."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Self

import pytest

from tests.scenarios.stage import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from tests.factory import Identity

_CHUNK = 256 * 1024
_REMEMBERED = 64 * 1024


class Ended(StrEnum):
    """How the other side stopped talking, as an application sees it."""

    EOF = "eof"
    RESET = "reset"


@dataclass
class Visit:
    """What one connection brought to a service."""

    received: bytearray = field(default_factory=bytearray)  # the first 64 KiB
    count: int = 0
    crc: int = 0
    ended: Ended | None = None
    over: threading.Event = field(default_factory=threading.Event)

    def take(self, data: bytes) -> None:
        self.count += len(data)
        self.crc = zlib.crc32(data, self.crc)
        if len(self.received) < _REMEMBERED:
            self.received += data


Behaviour = Callable[[socket.socket, Visit], None]


def chunks(sock: socket.socket, visit: Visit) -> Iterator[bytes]:
    """What comes, until it ends; the visit knows how."""
    while True:
        try:
            data = sock.recv(_CHUNK)
        except ConnectionError:
            visit.ended = Ended.RESET
            return
        if not data:
            visit.ended = Ended.EOF
            return
        visit.take(data)
        yield data


def echo(sock: socket.socket, visit: Visit) -> None:
    """Say everything back; end when the caller ends."""
    for data in chunks(sock, visit):
        sock.sendall(data)


def sink(sock: socket.socket, visit: Visit) -> None:
    """Listen to the end, and only then say what came: an answer after the caller's half-close."""
    for _ in chunks(sock, visit):
        pass
    if visit.ended is Ended.EOF:
        sock.sendall(f"{visit.count} {visit.crc:08x}".encode())


def farewell(sock: socket.socket, visit: Visit) -> None:
    """Say goodbye and half-close at once, then listen to the end."""
    sock.sendall(b"goodbye")
    sock.shutdown(socket.SHUT_WR)
    for _ in chunks(sock, visit):
        pass


def source(size: int) -> Behaviour:
    """Say `size` bytes and half-close, then listen to the end."""

    def say(sock: socket.socket, visit: Visit) -> None:
        say_all(sock, size)
        for _ in chunks(sock, visit):
            pass

    return say


def say_all(sock: socket.socket, size: int) -> None:
    """Say `size` bytes and half-close."""
    send_pattern(sock, size)
    sock.shutdown(socket.SHUT_WR)


def full_duplex(size: int) -> Behaviour:
    """Say `size` bytes while listening."""

    def say(sock: socket.socket, visit: Visit) -> None:
        talking = threading.Thread(target=say_all, args=(sock, size))
        talking.start()
        for _ in chunks(sock, visit):
            pass
        talking.join()

    return say


PATTERN = bytes(range(256)) * 1024


def send_pattern(sock: socket.socket, size: int) -> None:
    """Send `size` bytes of a pattern."""
    for start in range(0, size, len(PATTERN)):
        sock.sendall(PATTERN[: min(size - start, len(PATTERN))])


def crc_of_pattern(size: int) -> int:
    """What `Visit.crc` is after `size` bytes of the pattern, sent in whole blocks."""
    crc = 0
    for _ in range(size // len(PATTERN)):
        crc = zlib.crc32(PATTERN, crc)
    return zlib.crc32(PATTERN[: size % len(PATTERN)], crc)


class Service:
    """A plain service on a free port, or on `port`, or at a unix path; each connection is a thread and a `Visit`."""

    def __init__(self, behave: Behaviour, *, path: Path | None = None, port: int = 0, host: str = "127.0.0.1") -> None:
        self._behave = behave
        self._listener = socket.socket(socket.AF_INET if path is None else socket.AF_UNIX)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((host, port) if path is None else str(path))
        self._listener.listen(4096)
        self._arrived = threading.Condition()
        self._open: set[socket.socket] = set()
        self.visits: list[Visit] = []
        self.address = f"unix:{path}" if path else _written(self._listener)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _hang_up(self._listener)
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def hang_up(self) -> None:
        """Say the end on every connection, and go on listening."""
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)

    def visit(self, number: int = 0) -> Visit:
        """A visit that is over; waits for it."""
        visit = self.arrival(number)
        assert visit.over.wait(PATIENCE), f"visit {number} does not end: {visit}"
        return visit

    def arrival(self, number: int = 0) -> Visit:
        """A visit that may still go on; waits for its begin."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.visits) > number, PATIENCE), "nobody came"
        return self.visits[number]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        visit = Visit()
        self._open.add(sock)
        with self._arrived:
            self.visits.append(visit)
            self._arrived.notify_all()
        try:
            self._behave(sock, visit)
        except ConnectionError:
            visit.ended = Ended.RESET
        finally:
            self._open.discard(sock)
            sock.close()
            visit.over.set()


def dial(address: str) -> socket.socket:
    """A plain connection to an address as settings write it."""
    sock = socket.socket(socket.AF_UNIX if address.startswith("unix:") else socket.AF_INET)
    sock.settimeout(PATIENCE)
    try:
        sock.connect(address.removeprefix("unix:") if address.startswith("unix:") else place(address))
    except BaseException:
        sock.close()
        raise
    return sock


def place(address: str) -> tuple[str, int]:
    """`host:port` as a socket wants it."""
    host, _, port = address.rpartition(":")
    return host, int(port)


def read_to_end(sock: socket.socket) -> tuple[bytes, Ended]:
    """All that comes, and how it ended."""
    visit = Visit()
    data = b"".join(chunks(sock, visit))
    assert visit.ended is not None
    return data, visit.ended


def listen_to(address: str) -> tuple[bytes, Ended]:
    """What a plain caller hears who says nothing; an RST may come before `connect` has returned."""
    try:
        with dial(address) as sock:
            return read_to_end(sock)
    except ConnectionResetError:
        return b"", Ended.RESET


def underneath(sock: ssl.SSLSocket) -> tuple[bytes, Ended]:
    """What comes below TLS, and how it ended: through OpenSSL, Python takes an RST for a bare FIN."""
    visit = Visit()
    while visit.ended is None:
        try:
            data = socket.socket.recv(sock, _CHUNK)
        except ConnectionResetError:
            visit.ended = Ended.RESET
        else:
            visit.take(data)
            visit.ended = None if data else Ended.EOF
    return bytes(visit.received), visit.ended


def exchange(address: str, words: bytes) -> bytes:
    """Say something to an echo behind sidecars, and hear it back; ends properly."""
    with dial(address) as sock:
        sock.sendall(words)
        sock.shutdown(socket.SHUT_WR)
        heard, ended = read_to_end(sock)
    assert ended is Ended.EOF
    return heard


def tell_a_sink(address: str, size: int) -> tuple[bytes, Ended]:
    """Say `size` bytes to a sink and half-close; what it answers, and how it ends."""
    with dial(address) as sock:
        say_all(sock, size)
        return read_to_end(sock)


def answer_of_a_sink(size: int) -> tuple[bytes, Ended]:
    """What `tell_a_sink` hears when every byte arrived, and both ends were real ends."""
    return f"{size} {crc_of_pattern(size):08x}".encode(), Ended.EOF


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def client_context(identity: Identity | None, *, trusting: Identity | None = None) -> ssl.SSLContext:
    """A caller's TLS context with a chosen identity, or none; trusts the bundle of `trusting`, or its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    trusted = trusting or identity
    if trusted is None:
        pytest.fail("name an identity whose bundle is to be trusted")
    context.load_verify_locations(trusted.bundle)
    if identity is not None:
        context.load_cert_chain(identity.chain, identity.key)
    return context


def tls_dial(address: str, context: ssl.SSLContext) -> ssl.SSLSocket:
    """A TLS connection whose handshake is over, as the client sees it."""
    return context.wrap_socket(dial(address))


def tls_exchange(address: str, context: ssl.SSLContext, words: bytes) -> bytes:
    """Say something to an echo behind one sidecar, and hear it back; ends properly."""
    with tls_dial(address, context) as sock:
        sock.sendall(words)
        heard = sock.recv(len(words))
        sock.unwrap().close()
    return heard


class Wire:
    """A TCP wire between two sidecars that can flip a byte, or be cut so that both ends see a bare FIN."""

    def __init__(self, target: str) -> None:
        self._target = place(target)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._flip = threading.Event()
        self.address = _written(self._listener)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _hang_up(self._listener)
        self.cut()
        for thread in self._threads:
            thread.join(PATIENCE)
        for sock in self._ends:
            sock.close()

    def flip_a_byte(self) -> None:
        """Change one bit of what goes to the target next."""
        self._flip.set()

    def cut(self) -> None:
        """End all connections by a FIN at a moment of our choice, as anybody on the path can."""
        for sock in self._ends:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._ends += [near, far]
                for there_and_back in ((near, far, self._flip), (far, near, threading.Event())):
                    self._threads.append(threading.Thread(target=self._carry, args=there_and_back, daemon=True))
                    self._threads[-1].start()

    @staticmethod
    def _carry(here: socket.socket, there: socket.socket, flip: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := bytearray(here.recv(_CHUNK)):
                if flip.is_set():
                    flip.clear()
                    data[-1] ^= 1
                there.sendall(data)
            there.shutdown(socket.SHUT_WR)


def _written(listener: socket.socket) -> str:
    host, port = listener.getsockname()
    return f"{host}:{port}"


def _hang_up(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept
    listener.close()
