"""Callers who each ask again as soon as they are answered, and a service that answers at once: one process, one thread.

    python closed_loop.py ADDRESS DIRECTORY PORT  CALLERS:SECONDS ...

It serves on PORT (a plain service for the sidecar at ADDRESS), and calls that sidecar over TLS with the identity in
DIRECTORY: in turn with so many callers for so many seconds each. It prints one line of JSON per turn, see `Turn`.
Callers are rude: whoever is refused asks again at once, whatever Retry-After says, and who is cut off comes back after
a tenth of a second. They have a process of their own, for threads of one interpreter wait for each other.
"""

from __future__ import annotations

import json
import selectors
import socket
import ssl
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path

REQUEST = b"GET /small HTTP/1.1\r\nHost: api.test\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nserved"
BACK_AFTER = 0.1  # seconds


@dataclass
class Turn:
    """What became of so many callers; `latencies` of those that were served, in ms: p50, p90, p99."""

    callers: int
    seconds: float
    effort: float = 0.0  # seconds of the processor that calling and serving took
    served: int = 0
    refused: int = 0
    cut: int = 0
    wrong: int = 0
    latencies: tuple[float, float, float] = (0.0, 0.0, 0.0)
    by_second: list[int] = field(default_factory=list)  # served in each
    slowest_by_second: list[float] = field(default_factory=list)  # p99 of each, in ms

    @property
    def rate(self) -> float:
        """Served per second."""
        return self.served / self.seconds

    @property
    def goodput(self) -> float:
        """Served per second of a machine on which calling and serving takes a second for all of them together.

        A shared machine is now and then half as fast for a minute. These two do the same for each answer in every turn,
        on a processor of their own: what they take for it is how fast the machine is.
        """
        return self.rate * self.effort / max(self.served + self.refused, 1)

    @property
    def p99(self) -> float:
        return self.latencies[2]


class Caller:
    """One keep-alive connection, and what is on it."""

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        self.sock: ssl.SSLSocket | None = None
        self.asked_at = 0.0
        self.heard = b""
        self.shaking = False

    def come(self) -> None:
        plain = socket.socket()
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            plain.connect(self.crew.address)
            plain.setblocking(False)
            self.sock = self.crew.context.wrap_socket(plain, do_handshake_on_connect=False)
        except OSError:
            plain.close()
            self.crew.cut(self)
            return
        self.heard, self.shaking = b"", True
        self.crew.selector.register(self.sock, selectors.EVENT_READ, self.on_news)
        self.on_news()

    def on_news(self) -> None:
        assert self.sock is not None
        try:
            if self.shaking:
                self.sock.do_handshake()
                self.shaking = False
                self.ask()
                return
            data = self.sock.recv(16384)
        except ssl.SSLWantReadError:
            return
        except OSError:
            data = b""
        if not data:
            self.leave()
            self.crew.cut(self)
            return
        self.heard += data
        head, blank, body = self.heard.partition(b"\r\n\r\n")
        at = head.find(b"Content-Length: ")
        if blank and len(body) >= int(head[at + 16 :].split(b"\r\n", 1)[0]):
            status, self.heard = head[9:12], b""
            if self.crew.answered(self, status, body):
                self.ask()

    def ask(self) -> None:
        assert self.sock is not None
        self.asked_at = time.perf_counter()
        try:
            self.sock.send(REQUEST)
        except OSError:
            self.leave()
            self.crew.cut(self)

    def leave(self) -> None:
        if self.sock is not None:
            self.crew.selector.unregister(self.sock)
            self.sock.close()
            self.sock = None


class Crew:
    """All callers, and the service they call."""

    def __init__(self, address: tuple[str, int], directory: Path, port: int) -> None:
        self.address = address
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self.context.load_verify_locations(directory / "bundle.pem")
        self.context.load_cert_chain(directory / "chain.pem", directory / "key.pem")
        self.selector = selectors.DefaultSelector()
        self.callers: list[Caller] = []
        self.coming: deque[tuple[float, Caller]] = deque()
        self.turn = Turn(0, 0.0)
        self.latencies: list[list[float]] = []
        self.began = 0.0
        self.leaving: set[Caller] = set()
        listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        listener.setblocking(False)
        self.selector.register(listener, selectors.EVENT_READ, lambda: self.welcome(listener))

    def welcome(self, listener: socket.socket) -> None:
        sock, _ = listener.accept()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.selector.register(sock, selectors.EVENT_READ, lambda: self.serve(sock))

    def serve(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(65536)
            if data:
                sock.send(ANSWER)
                return
        except OSError:
            pass
        self.selector.unregister(sock)
        sock.close()

    def answered(self, caller: Caller, status: bytes, body: bytes) -> bool:
        """Take an answer; returns whether to ask again."""
        now = time.perf_counter()
        second = int(now - self.began)
        while len(self.latencies) <= second:
            self.latencies.append([])
        if status == b"200" and body == b"served":
            self.latencies[second].append((now - caller.asked_at) * 1000)
        elif status in {b"503", b"429"}:
            self.turn.refused += 1
        else:
            self.turn.wrong += 1
        if caller in self.leaving:
            caller.leave()
            return False
        return True

    def cut(self, caller: Caller) -> None:
        self.turn.cut += 1
        if caller not in self.leaving:
            self.coming.append((time.perf_counter() + BACK_AFTER, caller))

    def _have_gone(self) -> bool:
        """Whether everybody was to leave, and has."""
        return not (self.callers or self.coming) and all(caller.sock is None for caller in self.leaving)

    def work(self, callers: int, seconds: float) -> Turn:
        """Have so many callers for so long."""
        self.turn, self.latencies, self.began = Turn(callers, seconds), [], time.perf_counter()
        effort = time.process_time()
        while len(self.callers) < callers:
            self.callers.append(Caller(self))
            self.coming.append((0.0, self.callers[-1]))
        self.leaving = set(self.callers[callers:])
        del self.callers[callers:]
        until = self.began + seconds
        while (now := time.perf_counter()) < until and not self._have_gone():
            for _ in range(4):
                if self.coming and self.coming[0][0] <= now:
                    self.coming.popleft()[1].come()
            for key, _ in self.selector.select(0.0 if self.coming else 0.02):
                key.data()
        self.turn.seconds, self.turn.effort = time.perf_counter() - self.began, time.process_time() - effort
        served = sorted(latency for each in self.latencies for latency in each)
        self.turn.served = len(served)
        self.turn.latencies = tuple(quantile(served, q) for q in (0.5, 0.9, 0.99))  # type: ignore[assignment]
        self.turn.by_second = [len(each) for each in self.latencies]
        self.turn.slowest_by_second = [round(quantile(sorted(each), 0.99), 2) for each in self.latencies]
        return self.turn


def quantile(values: list[float], share: float) -> float:
    """Of values in order; 0 of none."""
    return values[min(int(len(values) * share), len(values) - 1)] if values else 0.0


def main(address: str, directory: str, port: str, *turns: str) -> None:
    host, _, number = address.rpartition(":")
    crew = Crew((host, int(number)), Path(directory), int(port))
    for turn in turns:
        callers, _, seconds = turn.partition(":")
        print(json.dumps(asdict(crew.work(int(callers), float(seconds)))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
