"""Somebody who opens connections and lets them be: a process of his own, that says what he has done when told to end.

    python flood.py ADDRESS KIND CONNECTIONS PER_SECOND

He has CONNECTIONS open, and opens others, PER_SECOND at most, for those that are ended. Of a KIND:

silent   says nothing
half     says the beginning of a ClientHello
hello    says a whole ClientHello, which is answered at some cost, and nothing more
garbage  says what is no TLS

Prints "full" once he has had that many open or was cut off, then, when his standard input ends, how many he opened.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import sys
import time

LATE = 0.05  # seconds; what was due before is not made up for: it would come all at once
KINDS = ("silent", "half", "hello", "garbage")


def client_hello() -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    outgoing = ssl.MemoryBIO()
    session = context.wrap_bio(ssl.MemoryBIO(), outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


def words(kind: str) -> bytes:
    hello = client_hello()
    return {"silent": b"", "half": hello[: len(hello) // 2], "hello": hello, "garbage": os.urandom(400)}[kind]


def main(address: str, kind: str, connections: str, per_second: str) -> None:
    host, _, port = address.rpartition(":")
    said, most, rate = words(kind), int(connections), float(per_second)
    epoll = select.epoll()
    epoll.register(0, select.EPOLLIN | select.EPOLLHUP)
    held: dict[int, socket.socket] = {}
    opened, due_at, full = 0, time.monotonic(), False
    while True:
        now = time.monotonic()
        due_at = max(due_at, now - LATE)
        while len(held) < most and due_at <= now:
            due_at += 1 / rate
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex((host, int(port)))
            held[sock.fileno()] = sock
            epoll.register(sock, (select.EPOLLOUT | select.EPOLLIN) if said else select.EPOLLIN)
            opened += 1
        if not full and opened >= most:
            full = True
            print("full", flush=True)
        for descriptor, events in epoll.poll(0.01):
            if descriptor == 0:
                print(opened, flush=True)
                return
            sock = held[descriptor]
            try:
                if events & select.EPOLLOUT:
                    sock.send(said)
                    epoll.modify(descriptor, select.EPOLLIN)
                if events & ~select.EPOLLOUT and not sock.recv(65536):
                    raise ConnectionError
            except BlockingIOError:
                continue
            except OSError:
                epoll.unregister(descriptor)
                held.pop(descriptor).close()


if __name__ == "__main__":
    main(*sys.argv[1:])
