"""Callers who are let in and take their time: many at once, in a process of their own.

    python -m tests.scenarios.slow ADDRESS DIRECTORY KIND CONNECTIONS

They connect with the identity in DIRECTORY, and it prints "connected"; each line of its standard input then is a step:
the first begins, and once all connections have ended or the second has come, it prints what became of each as JSON, see
`Fate`. Of a KIND:

idle    asks once, and then no more
head    says a byte of a request's head each second
body    asks for room for a body, and says a byte of it each second
reader  asks for /much with a window of a kilobyte, and reads a few bytes each second
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

HEAD = b"GET /slow HTTP/1.1\r\nHost: api.test\r\nX-Long: " + b"a" * 1000
BODY = b"PUT /slow HTTP/1.1\r\nHost: api.test\r\nContent-Length: 100000\r\n\r\n"
MUCH = b"GET /much HTTP/1.1\r\nHost: api.test\r\n\r\n"
SMALL = b"GET /small HTTP/1.1\r\nHost: api.test\r\n\r\n"

FIRST = {"idle": SMALL, "head": HEAD[:1], "body": BODY, "reader": MUCH}
THEN = {"idle": b"", "head": HEAD[1:], "body": b"a" * 1000, "reader": b""}


@dataclass
class Fate:
    """What became of one connection: how many seconds after its first byte it ended, and the status it heard."""

    ended_after: float | None = None
    status: int = 0


class Slow:
    """One of them."""

    def __init__(self, sock: ssl.SSLSocket, kind: str) -> None:
        self.sock = sock
        self.kind = kind
        self.rest = THEN[kind]
        self.fate = Fate()
        self.began = 0.0

    def begin(self) -> None:
        self.began = time.monotonic()
        self.sock.send(FIRST[self.kind])

    def go_on(self) -> None:
        """Do a little; once a second."""
        try:
            if self.kind == "reader":
                socket.socket.recv(self.sock, 64)
            elif self.rest:
                self.sock.send(self.rest[:1])
                self.rest = self.rest[1:]
        except BlockingIOError:
            pass
        except OSError:
            self.end()

    def hear(self, events: int) -> None:
        if self.kind == "reader":  # below TLS: the window is to stay as small as it is
            if events & (select.EPOLLERR | select.EPOLLHUP):
                self.end()
            return
        try:
            data = self.sock.recv(4096)
        except (ssl.SSLWantReadError, BlockingIOError):
            return
        except OSError:
            data = b""
        if not data:
            self.end()
        elif not self.fate.status:
            self.fate.status = int(data[9:12])

    def end(self) -> None:
        if self.fate.ended_after is None:
            self.fate.ended_after = round(time.monotonic() - self.began, 3)

    @property
    def events(self) -> int:
        return 0 if self.kind == "reader" else select.EPOLLIN


def context_of(directory: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(directory / "bundle.pem")
    context.load_cert_chain(directory / "chain.pem", directory / "key.pem")
    return context


def connected(address: str, context: ssl.SSLContext, kind: str) -> Slow:
    host, _, port = address.rpartition(":")
    plain = socket.socket()
    if kind == "reader":
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    plain.connect((host, int(port)))
    caller = Slow(context.wrap_socket(plain), kind)
    caller.sock.setblocking(False)
    if kind == "idle":  # so that all have asked when they are told of: who never does is not idle but silent
        caller.begin()
    return caller


def attend(callers: dict[int, Slow]) -> None:
    """Until all have ended, or there is something to read for us."""
    epoll = select.epoll()
    epoll.register(0, select.EPOLLIN | select.EPOLLHUP)
    for descriptor, caller in callers.items():
        epoll.register(descriptor, caller.events)
    due = time.monotonic() + 1
    while callers:
        ready = dict(epoll.poll(max(due - time.monotonic(), 0)))
        if 0 in ready:
            return
        for descriptor, events in ready.items():
            callers[descriptor].hear(events)
        if time.monotonic() >= due:
            due += 1
            for caller in callers.values():
                caller.go_on()
        for descriptor, caller in list(callers.items()):
            if caller.fate.ended_after is not None:
                epoll.unregister(descriptor)
                callers.pop(descriptor).sock.close()


def main(address: str, directory: str, kind: str, connections: str) -> None:
    context = context_of(Path(directory))
    callers = [connected(address, context, kind) for _ in range(int(connections))]
    fates = [caller.fate for caller in callers]
    print("connected", flush=True)
    sys.stdin.readline()
    if kind != "idle":
        for caller in callers:
            caller.begin()
    attend({caller.sock.fileno(): caller for caller in callers})
    print(json.dumps([asdict(fate) for fate in fates]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
