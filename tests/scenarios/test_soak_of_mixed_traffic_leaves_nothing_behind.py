"""Everything at once for a long time leaves nothing behind: no task, no connection, no descriptor, no memory.

Keep-alive, close, bulk both ways, WebSocket, TCP streams with half-close, and aborts of both sides at random bytes; all
that is answered is compared with what was asked. `MESHPROXY_SOAK` is how many seconds it lasts (60; `make soak`: 600).
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import PATTERN, Service, client_context, crc_of_pattern, dial, reset, send_pattern
from tests.scenarios.http_actors import (
    CLOSES,
    Caller,
    Ended,
    Talk,
    chunked,
    fingerprint,
    mtls_caller,
    request,
    response,
)
from tests.scenarios.stage import Sidecar, inbound, outbound, poll

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.scenarios.actors import Visit
    from tests.scenarios.http_actors import Message
    from tests.scenarios.stage import Stage

SOAK = float(os.environ.get("MESHPROXY_SOAK", "60"))
MOST_GROWTH = 6 * 1024 * 1024  # bytes, from the end of the first third: an allocator breathes, a leak adds up
CROWD = 2  # actors of each kind
BULK = 8 * 1024 * 1024
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
WISH = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")


# The services: what is asked for is said in the path.


def serve(sock: socket.socket, visit: Visit) -> None:
    """Answer one request after the other; remember nothing, or this process would grow."""
    talk = Talk(sock)
    while (asked := talk.read_head()) is not None:
        kind = asked.target.split("/")[1]
        if kind == "socket":
            talk.say(SWITCH)
            echo(sock, visit)  # the caller waits for the switch, so nothing of the stream is in the talk's hands
            return
        if kind == "abort":
            _abort(talk, asked)
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


# The callers: each does its thing once, on connections of its own, and tells what came of it.


class Crowd:
    """Where the callers call, and what they have heard."""

    def __init__(self, web: Sidecar, api: Sidecar, context: ssl.SSLContext) -> None:
        self._web, self._api, self._context = web, api, context
        self.heard: Counter[str] = Counter()
        self._telling = threading.Lock()

    def tell(self, what: str, *, right: bool) -> None:
        with self._telling:
            self.heard[what if right else f"WRONG {what}"] += 1

    def caller(self, dice: random.Random) -> Caller:
        """A caller at web's sidecar, or with its own identity straight at api's."""
        if dice.random() < 0.2:
            return mtls_caller(self._api, self._context)
        return Caller(dial(self._web.address("to-api")))

    def keep_alive(self, dice: random.Random) -> None:
        with self.caller(dice) as caller:
            for number in range(dice.randrange(1, 60)):
                method, body = dice.choice(["GET", "POST", "PUT"]), dice.randbytes(dice.choice([0, 10, 1000, 100_000]))
                target = f"/{dice.choice(['length', 'chunked'])}/{number}/{dice.random()}"
                answer = caller.ask(method, target, body=body or None)
                self.tell("keep-alive", right=answer.body == fingerprint(method, target, body))

    def closing(self, dice: random.Random) -> None:
        target = f"/length/{dice.random()}"
        with self.caller(dice) as caller:
            answer = caller.ask("GET", target, CLOSES)
            self.tell("close", right=answer.body == fingerprint("GET", target, b"") and caller.has_ended())

    def download(self, dice: random.Random) -> None:
        size = dice.randrange(BULK)
        with self.caller(dice) as caller:
            caller.say(request("GET", f"/download/{size}"))
            self.tell("download", right=caller.weigh_body(caller.hear_head()) == (size, crc_of_pattern(size)))

    def upload(self, dice: random.Random) -> None:
        size = dice.randrange(BULK)
        with self.caller(dice) as caller:
            caller.say(request("POST", "/upload", f"Content-Length: {size}"))
            for start in range(0, size, len(PATTERN)):
                caller.say(PATTERN[: min(size - start, len(PATTERN))])
            self.tell("upload", right=caller.hear().body == b"%d %08x" % (size, crc_of_pattern(size)))

    def web_socket(self, dice: random.Random) -> None:
        with self.caller(dice) as caller:
            caller.say(request("GET", "/socket/1", *WISH))
            right = caller.hear_head().status == 101
            for _ in range(dice.randrange(30)):
                words = dice.randbytes(dice.randrange(1, 100))
                caller.say(words)
                right = right and caller.read(len(words)) == words
            self.tell("socket", right=right)
            if dice.random() < 0.3:
                reset(caller.sock)

    def tunnel(self, dice: random.Random) -> None:
        words = dice.randbytes(dice.randrange(200_000))
        with contextlib.closing(dial(self._web.address("to-tunnel"))) as sock:
            talking = threading.Thread(target=_say_and_end, args=(sock, words))
            talking.start()
            heard = b"".join(iter(lambda: sock.recv(65536), b""))
            talking.join()
            self.tell("tunnel", right=heard == words)

    def leave(self, dice: random.Random) -> None:
        """Go away at a random byte of a request, an upload, or the answer."""
        said = dice.choice(
            [
                request("GET", "/length/left"),
                request("POST", "/upload", body=PATTERN[:100_000]),
                request("PUT", "/chunked/left", "Transfer-Encoding: chunked")
                + chunked(PATTERN[:1000], PATTERN[:50_000]),
                request("GET", f"/download/{BULK}"),
            ]
        )
        tunnelled = dice.random() < 0.2
        with Caller(dial(self._web.address("to-tunnel"))) if tunnelled else self.caller(dice) as caller:
            caller.say(said[: dice.randrange(len(said) + 1)])
            if dice.random() < 0.3:
                caller.sock.settimeout(0.02)
                with contextlib.suppress(OSError):
                    caller.sock.recv(dice.randrange(1, 100_000))
            if dice.random() < 0.5:
                reset(caller.sock)
        self.tell("left", right=True)

    def be_left(self, dice: random.Random) -> None:
        """Ask a service that goes away at a random byte of its answer: nothing short may look whole."""
        with self.caller(dice) as caller:
            caller.say(request("GET", f"/abort/{dice.randrange(100_000)}/{dice.choice(['fin', 'reset'])}"))
            try:
                right = caller.hear().status == 502
            except ConnectionError:
                right = True
            self.tell("be left", right=right)


def _say_and_end(sock: socket.socket, words: bytes) -> None:
    sock.sendall(words)
    sock.shutdown(socket.SHUT_WR)


def again_and_again(deed: Callable[[random.Random], None], seed: int, until: float, faults: list[str]) -> None:
    """Do it until the time is over; what it does not expect is a fault."""
    dice = random.Random(seed)
    while time.monotonic() < until:
        try:
            deed(dice)
        except ConnectionError as error:
            faults.append(f"{deed.__name__}: {error!r}")
        except TimeoutError:
            faults.append(f"{deed.__name__}: no answer in time")


def state(sidecar: Sidecar) -> dict[str, float]:
    """What must be as before when all is over."""
    return {
        "tasks": sidecar.metric("meshproxy_tasks"),
        "descriptors": sidecar.descriptors,
        "connections": sum(listener.open for listener in sidecar.status().listeners),
    }


@pytest.mark.long
def test_a_soak_of_mixed_traffic(stage: Stage) -> None:
    origin, tunnelled = stage.keep(Service(serve)), stage.keep(Service(echo))
    quick = 'pool_idle = "1s"'
    api = stage.sidecar(
        "api",
        inbound(forward=origin.address, protocol="http", more=quick) + inbound("tunnel", forward=tunnelled.address),
    )
    web = stage.sidecar(
        "web",
        outbound(endpoints=[api.address("api")], protocol="http", more=quick)
        + outbound("to-tunnel", endpoints=[api.address("tunnel")]),
    )
    crowd = Crowd(web, api, client_context(stage.identity("/web")))
    before = {sidecar: state(sidecar) for sidecar in (api, web)}
    until, faults = time.monotonic() + SOAK, list[str]()
    deeds = [
        crowd.keep_alive, crowd.closing, crowd.download, crowd.upload, crowd.web_socket, crowd.tunnel, crowd.leave,
        crowd.be_left,
    ]  # fmt: skip
    actors = [
        threading.Thread(target=again_and_again, args=(deed, number, until, faults), daemon=True)
        for number, deed in enumerate(deeds * CROWD)
    ]
    for actor in actors:
        actor.start()
    while time.monotonic() < until - SOAK * 2 / 3:
        time.sleep(0.1)
    warm = {sidecar: sidecar.resident for sidecar in (api, web)}
    for actor in actors:
        actor.join()

    print(dict(crowd.heard))
    assert faults == []
    assert {what for what in crowd.heard if what.startswith("WRONG")} == set()
    assert len(crowd.heard) == len(deeds)
    for sidecar in (api, web):
        poll(lambda sidecar=sidecar: _is_as_before(state(sidecar), before[sidecar]), f"all is as before: {before}")  # type: ignore[misc]
        grown = sidecar.resident - warm[sidecar]
        print(f"{sidecar.file.stem}: {warm[sidecar] >> 20} MiB after a third, {grown >> 10} KiB more at the end")
        assert grown <= MOST_GROWTH


def _is_as_before(now: dict[str, float], before: dict[str, float]) -> bool:
    return all(now[what] <= before[what] for what in before)
