"""Who takes part in a soak: the services, honest callers, and the book in which it is written what became of each.

An honest caller does its thing once, on connections of its own, and tells what came of it: "served", or a word for what
went wrong. Hostile ones (soak_attackers.py) tell "refused", or that they got in.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from tests.scenarios.actors import PATTERN, Service, crc_of_pattern, dial, reset, send_pattern
from tests.scenarios.http_actors import (
    CLOSES,
    Caller,
    Ended,
    Talk,
    chunked,
    fingerprint,
    request,
    response,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from tests.scenarios.actors import Visit
    from tests.scenarios.http_actors import Message
    from tests.scenarios.stage import Sidecar

DEADLINE = 120.0  # seconds; a starved machine is slow, and that is no failure of the sidecars
BULK = 8 * 1024 * 1024
SERVED = "served"
REFUSED = "refused"
LATE = f"no answer in {DEADLINE:g} s"
GOT_IN = "GOT IN"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
WISH = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
NONSENSE = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
)


class Book:
    """What became of everybody; safe to write from many threads."""

    def __init__(self) -> None:
        self._writing = threading.Lock()
        self._told: Counter[tuple[str, str]] = Counter()
        self.oddities: list[str] = []  # of what was not expected, the first hundred in full

    def tell(self, who: str, outcome: str, detail: str = "") -> None:
        """Write down one outcome; `detail` is kept where it is neither of the two that are expected."""
        with self._writing:
            self._told[who, outcome] += 1
            if outcome not in {SERVED, REFUSED} and len(self.oddities) < 100:
                self.oddities.append(f"{time.strftime('%H:%M:%S')} {who}: {outcome} {detail}".rstrip())

    def told(self) -> Counter[tuple[str, str]]:
        """How often which outcome was told of whom."""
        with self._writing:
            return self._told.copy()


# The services: what is asked for is said in the path.


class Forgetful(Service):
    """A service that forgets its visits once in a while, or this process would grow."""

    def forget(self) -> None:
        self.visits.clear()


def serve(sock: socket.socket, visit: Visit) -> None:
    """Answer one request after the other; remember nothing."""
    talk = Talk(sock)
    while (asked := talk.read_head()) is not None:
        kind = asked.target.split("/")[1]
        if kind == "socket":
            talk.say(SWITCH)
            echo(sock, visit)  # the caller waits for the switch, so nothing of the stream is in the talk's hands
            return
        if kind == "abort":
            _abort(talk, asked)
        elif kind == "nonsense":
            talk.say(NONSENSE[int(asked.target.split("/")[2]) % len(NONSENSE)])
            raise Ended
        elif kind == "download":
            _say_bulk(talk, int(asked.target.split("/")[2]))
        elif kind == "upload":
            talk.say(response(200, b"%d %08x" % talk.weigh_body(asked)))
        else:
            answer = fingerprint(asked.method, asked.target, talk.read_body(asked))
            talk.say(CHUNKED + chunked(answer[:10], answer[10:]) if kind == "chunked" else response(200, answer))


def _abort(talk: Talk, asked: Message) -> None:
    """Go away in the middle of an answer, at the byte that is asked for."""
    answer = response(200, PATTERN[:100_000])
    talk.say(answer[: int(asked.target.split("/")[2])])
    if asked.target.endswith("reset"):
        reset(talk.sock)
    raise Ended


def _say_bulk(talk: Talk, size: int) -> None:
    talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    send_pattern(talk.sock, size)


def echo(sock: socket.socket, _visit: Visit) -> None:
    """Say everything back; end when the caller ends."""
    while data := sock.recv(65536):
        sock.sendall(data)


# The callers.


class Crowd:
    """Honest callers: where they call, and what they have heard."""

    def __init__(self, web: Sidecar, api: Sidecar, context: ssl.SSLContext, book: Book) -> None:
        self._web, self._api, self._context, self._book = web, api, context, book

    def deeds(self) -> list[Callable[[random.Random], None]]:
        """What they do."""
        return [self.keep_alive, self.closing, self.download, self.upload, self.web_socket, self.tunnel]

    def tell(self, what: str, *, right: bool, detail: str = "") -> None:
        self._book.tell(what, SERVED if right else "wrong answer", detail)

    @contextlib.contextmanager
    def caller(self, dice: random.Random) -> Iterator[Caller]:
        """A caller at web's sidecar, or with its own identity straight at api's."""
        if dice.random() < 0.2:
            sock = patient(self._api.address("api"))
            try:
                sock = self._context.wrap_socket(sock)
            except BaseException:
                sock.close()
                raise
        else:
            sock = patient(self._web.address("to-api"))
        with Caller(sock) as caller:
            yield caller

    def keep_alive(self, dice: random.Random) -> None:
        with self.caller(dice) as caller:
            for number in range(dice.randrange(1, 60)):
                method, body = dice.choice(["GET", "POST", "PUT"]), dice.randbytes(dice.choice([0, 10, 1000, 100_000]))
                target = f"/{dice.choice(['length', 'chunked'])}/{number}/{dice.random()}"
                answer = caller.ask(method, target, body=body or None)
                right = answer.body == fingerprint(method, target, body)
                self.tell("keep-alive", right=right, detail=said(answer))
                if answer.value("connection").lower() == "close":
                    return

    def closing(self, dice: random.Random) -> None:
        target = f"/length/{dice.random()}"
        with self.caller(dice) as caller:
            answer = caller.ask("GET", target, CLOSES)
            right = answer.body == fingerprint("GET", target, b"") and caller.has_ended()
            self.tell("closing", right=right, detail=said(answer))

    def download(self, dice: random.Random) -> None:
        size = dice.randrange(BULK)
        with self.caller(dice) as caller:
            caller.say(request("GET", f"/download/{size}"))
            answer = caller.hear_head()
            right = caller.weigh_body(answer) == (size, crc_of_pattern(size))
            self.tell("download", right=right, detail=said(answer))

    def upload(self, dice: random.Random) -> None:
        size = dice.randrange(BULK)
        with self.caller(dice) as caller:
            caller.say(request("POST", "/upload", f"Content-Length: {size}"))
            for start in range(0, size, len(PATTERN)):
                caller.say(PATTERN[: min(size - start, len(PATTERN))])
            answer = caller.hear()
            self.tell("upload", right=answer.body == b"%d %08x" % (size, crc_of_pattern(size)), detail=said(answer))

    def web_socket(self, dice: random.Random) -> None:
        with self.caller(dice) as caller:
            caller.say(request("GET", "/socket/1", *WISH))
            answer = caller.hear_head()
            right = answer.status == 101
            for _ in range(dice.randrange(30) if right else 0):
                words = dice.randbytes(dice.randrange(1, 100))
                caller.say(words)
                right = right and caller.read(len(words)) == words
            self.tell("web socket", right=right, detail=said(answer))
            if dice.random() < 0.3:
                reset(caller.sock)

    def tunnel(self, dice: random.Random) -> None:
        words = dice.randbytes(dice.randrange(200_000))
        with contextlib.closing(patient(self._web.address("to-tunnel"))) as sock:
            talking = threading.Thread(target=_say_and_end, args=(sock, words))
            talking.start()
            try:
                heard = b"".join(iter(lambda: sock.recv(65536), b""))
            finally:
                talking.join()
            self.tell("tunnel", right=heard == words, detail=f"{len(heard)} of {len(words)} bytes")


def patient(address: str) -> socket.socket:
    """A plain connection that waits as long as a starved machine may take."""
    sock = dial(address)
    sock.settimeout(DEADLINE)
    return sock


def said(answer: Message) -> str:
    """An answer in one line."""
    return f"{answer.start} {answer.value('proxy-status')} {answer.body[:200]!r}"


def _say_and_end(sock: socket.socket, words: bytes) -> None:
    with contextlib.suppress(OSError):  # whoever listens tells how it ended
        sock.sendall(words)
        sock.shutdown(socket.SHUT_WR)


def again_and_again(
    deed: Callable[[random.Random], None], seed: int, over: threading.Event, book: Book, pause: float
) -> None:
    """Do it until the time is over, and rest between; what it does not expect is written down as it is called."""
    dice, name = random.Random(seed), deed.__name__.replace("_", " ").replace("keep alive", "keep-alive")
    while not over.wait(dice.random() * pause):
        try:
            deed(dice)
        except TimeoutError:
            book.tell(name, LATE)
        except (OSError, AssertionError) as error:
            book.tell(name, type(error).__name__, str(error))
