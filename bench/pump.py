"""A bare pump: bytes in, the same bytes out, nothing else. Only its kernel time is looked at.

    python -m bench.pump LISTEN_PORT TARGET_PORT

It makes the system calls that no proxy gets around: accept, connect, one wait for whatever is ready, one receive and
one send for each message, close. What Python adds is user time, and that is not counted.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
from typing import Final

_READ: Final = 256 << 10  # bytes at a time, as the product reads bulk
_QUIET: Final = 0


class _End:
    """One end of a pumped connection: what it still has to be sent, and whether it has said its last."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self.descriptor = link.fileno()
        self.other = self
        self.rest = memoryview(b"")
        self.has_ended = False


class _Pump:
    def __init__(self, listener: socket.socket, target: int) -> None:
        self._listener = listener
        self._target = target
        self._epoll = select.epoll()
        self._ends: dict[int, _End] = {}

    def run(self) -> None:
        self._epoll.register(self._listener, select.EPOLLIN)
        while True:
            for descriptor, events in self._epoll.poll():
                end = self._ends.get(descriptor)
                if descriptor == self._listener.fileno():
                    self._accept()
                elif end is not None:
                    try:
                        self._move(end, events)
                    except OSError:  # reset by one side: the other learns it by the close
                        self._close(end)

    def _accept(self) -> None:
        link, _ = self._listener.accept()
        one, two = _End(link), _End(socket.create_connection(("127.0.0.1", self._target)))
        one.other, two.other = two, one
        for end in (one, two):
            end.link.setblocking(False)
            end.link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
            self._ends[end.descriptor] = end
            self._epoll.register(end.descriptor, select.EPOLLIN)

    def _move(self, end: _End, events: int) -> None:
        if end.rest:
            self._send(end, end.rest)
            if not end.rest:
                self._epoll.modify(end.descriptor, _QUIET if end.has_ended else select.EPOLLIN)
                self._epoll.modify(end.other.descriptor, select.EPOLLIN)
        elif events & ~select.EPOLLOUT:
            received = end.link.recv(_READ)
            if received:
                self._send(end.other, memoryview(received))
                if end.other.rest:
                    self._epoll.modify(end.other.descriptor, select.EPOLLOUT)
                    self._epoll.modify(end.descriptor, _QUIET)
            elif end.other.has_ended:
                self._close(end)
            else:
                end.has_ended = True
                self._epoll.modify(end.descriptor, _QUIET)
                end.other.link.shutdown(socket.SHUT_WR)

    def _send(self, end: _End, data: memoryview) -> None:
        sent = 0
        with contextlib.suppress(BlockingIOError):
            sent = end.link.send(data)
        end.rest = data[sent:]

    def _close(self, end: _End) -> None:
        for each in (end, end.other):
            del self._ends[each.descriptor]
            each.link.close()


def main() -> None:
    """Pump until ended."""
    listen, target = map(int, sys.argv[1:])
    with socket.create_server(("127.0.0.1", listen), backlog=4096) as listener:
        _Pump(listener, target).run()


if __name__ == "__main__":
    main()
