"""The hostile ones of a soak: each tries one thing, and tells whether it was refused or got in.

Two of them are in their rights, and only rude: who leaves in the middle, and a service that leaves in the middle.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING

from tests.scenarios.actors import PATTERN, reset
from tests.scenarios.http_actors import Caller, chunked, request
from tests.scenarios.soak_actors import BULK, GOT_IN, NONSENSE, REFUSED, patient, said

if TYPE_CHECKING:
    import random
    import socket
    from collections.abc import Callable, Mapping

    from tests.scenarios.soak_actors import Book
    from tests.scenarios.stage import Sidecar

DRIP = 0.5  # seconds between two bytes of a slow head
UNSOUND = (
    b"GET /length/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /length/%2e%2e/secret HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /length/1 HTTP/1.1\nHost: a\n\n",
    b"GET /length/1 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"CONNECT api:443 HTTP/1.1\r\nHost: api:443\r\n\r\n",
    b"GET /length/1 HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
)


class Attackers:
    """They know where both sidecars listen; they show a granted identity, one that no rule names, and `wrong` ones."""

    def __init__(
        self,
        web: Sidecar,
        api: Sidecar,
        book: Book,
        *,
        granted: ssl.SSLContext,
        unlisted: ssl.SSLContext,
        wrong: Mapping[str, ssl.SSLContext],
    ) -> None:
        self._web, self._api, self._book = web, api, book
        self._granted, self._unlisted, self._wrong = granted, unlisted, wrong

    def deeds(self) -> list[Callable[[random.Random], None]]:
        """What they do."""
        return [
            self.garbage, self.half_a_handshake, self.slow_head, self.wrong_certificate, self.denied_caller,
            self.denied_request, self.unsound_request, self.nonsense_from_the_service, self.leave, self.be_left,
        ]  # fmt: skip

    def tell(self, what: str, *, got_in: bool, detail: str = "") -> None:
        self._book.tell(what, GOT_IN if got_in else REFUSED, detail)

    def garbage(self, dice: random.Random) -> None:
        """Say what is no TLS, and wait until one is thrown out."""
        with patient(self._api.address(dice.choice(["api", "tunnel"]))) as sock:
            with contextlib.suppress(ConnectionError):
                sock.sendall(dice.randbytes(dice.randrange(1, 2000)) if dice.random() < 0.7 else UNSOUND[0])
            self.tell("garbage", got_in=b"HTTP/1.1 200" in _all(sock))

    def half_a_handshake(self, dice: random.Random) -> None:
        """Begin a handshake; wait for the end of it, or go."""
        outgoing = ssl.MemoryBIO()
        session = self._granted.wrap_bio(ssl.MemoryBIO(), outgoing)
        with contextlib.suppress(ssl.SSLWantReadError):
            session.do_handshake()
        hello = outgoing.read()
        with patient(self._api.address("api")) as sock:
            sock.sendall(hello[: dice.randrange(len(hello))])
            if dice.random() < 0.2:
                _all(sock)
            elif dice.random() < 0.5:
                reset(sock)
        self.tell("half a handshake", got_in=False)

    def slow_head(self, _dice: random.Random) -> None:
        """A granted caller that says a byte now and then, until it is cut off."""
        with Caller(self._shake(self._granted)) as caller:
            head = request("GET", "/length/slow", "X-Long: " + "x" * 4000)
            caller.sock.settimeout(DRIP)
            for at in range(len(head)):
                try:
                    caller.say(head[at : at + 1])
                    heard = caller.sock.recv(4096)
                except TimeoutError:
                    continue
                except OSError:
                    heard = b""
                self.tell("slow head", got_in=b" 200 " in heard, detail=repr(heard))
                return
            self.tell("slow head", got_in=True, detail="it was never cut off")

    def wrong_certificate(self, dice: random.Random) -> None:
        """Show a certificate of another CA, an expired one, one that is none of a service, or none at all."""
        which = dice.choice(sorted(self._wrong))
        try:
            with Caller(self._shake(self._wrong[which])) as caller:
                answer = caller.ask("GET", "/length/1")
        except (ssl.SSLError, ConnectionError):
            self.tell("wrong certificate", got_in=False)
        else:
            self.tell("wrong certificate", got_in=True, detail=f"{which}: {said(answer)}")

    def denied_caller(self, dice: random.Random) -> None:
        """Somebody with a sound identity whom no rule names."""
        with Caller(self._shake(self._unlisted)) as caller:
            answer = caller.ask("POST", "/length/1", body=dice.randbytes(dice.randrange(1000)))
            self.tell("denied caller", got_in=answer.status != 403, detail=said(answer))

    def denied_request(self, dice: random.Random) -> None:
        """Whom a rule names, on a path it does not."""
        with Caller(self._shake(self._granted)) as caller:
            target = dice.choice(["/secret", "/upload/1", "/Length/1", "/"])
            answer = caller.ask("GET", target)
            self.tell("denied request", got_in=answer.status != 403, detail=said(answer))

    def unsound_request(self, dice: random.Random) -> None:
        """What two programs would read in two ways, from either side."""
        words = dice.choice(UNSOUND)
        sock = self._shake(self._granted) if dice.random() < 0.5 else patient(self._web.address("to-api"))
        with Caller(sock) as caller:
            try:
                caller.say(words)
                answer = caller.hear()
            except ConnectionError:
                self.tell("unsound request", got_in=False)
                return
            self.tell("unsound request", got_in=answer.status < 400, detail=f"{words[:80]!r}: {said(answer)}")

    def nonsense_from_the_service(self, dice: random.Random) -> None:
        """Ask a service that answers with what is no HTTP."""
        with Caller(patient(self._web.address("to-api"))) as caller:
            answer = caller.ask("GET", f"/nonsense/{dice.randrange(len(NONSENSE))}")
            self.tell("nonsense from the service", got_in=answer.status != 502, detail=said(answer))

    def leave(self, dice: random.Random) -> None:
        """Go away at a random byte of a request, an upload, or the answer."""
        words = dice.choice(
            [
                request("GET", "/length/left"),
                request("POST", "/upload", body=PATTERN[:100_000]),
                request("PUT", "/chunked/left", "Transfer-Encoding: chunked")
                + chunked(PATTERN[:1000], PATTERN[:50_000]),
                request("GET", f"/download/{BULK}"),
            ]
        )
        tunnelled = dice.random() < 0.2
        with Caller(patient(self._web.address("to-tunnel" if tunnelled else "to-api"))) as caller:
            with contextlib.suppress(ConnectionError):
                caller.say(words[: dice.randrange(len(words) + 1)])
            if dice.random() < 0.3:
                caller.sock.settimeout(0.02)
                with contextlib.suppress(OSError):
                    caller.sock.recv(dice.randrange(1, 100_000))
            if dice.random() < 0.5:
                reset(caller.sock)
        self.tell("leave", got_in=False)

    def be_left(self, dice: random.Random) -> None:
        """Ask a service that goes away at a random byte of its answer: nothing short may look whole."""
        with Caller(patient(self._web.address("to-api"))) as caller:
            try:
                answer = caller.ask("GET", f"/abort/{dice.randrange(100_000)}/{dice.choice(['fin', 'reset'])}")
            except ConnectionError:
                self.tell("be left", got_in=False)
                return
            self.tell("be left", got_in=answer.status != 502, detail=said(answer)[:100])

    def _shake(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        sock = patient(self._api.address("api"))
        try:
            return context.wrap_socket(sock)
        except BaseException:
            sock.close()
            raise


def _all(sock: socket.socket) -> bytes:
    """What comes until the end, whatever that is."""
    heard = b""
    with contextlib.suppress(ConnectionError):
        while data := sock.recv(65536):
            heard += data
    return heard
