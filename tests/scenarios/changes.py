"""What changes while sidecars run, and who would notice: files rewritten, reloads asked for, and a steady load.

    allow(stage, "/batch")                                # rewritten in place, as an editor does
    reload_changes(api)                                   # POST /reload, where the admin server is a unix socket
    with Load(pair.caller) as load:                       # clients that ask without a pause ...
        ...
    load.judge(at_least=100)                              # ... and all of them were served, each with its own answer

The watch of a sidecar looks every second and waits until a file rests; whoever is not about that asks for the reload.
"""

from __future__ import annotations

import itertools
import signal
import threading
from typing import TYPE_CHECKING, Self

from tests.scenarios.http_actors import Ended, fingerprint
from tests.scenarios.stage import poll

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from tests.scenarios.http_actors import Caller, Message, Talk
    from tests.scenarios.stage import Answer, Sidecar, Stage

UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
_TOO_MANY = 50  # failures of one load after which there is nothing more to learn


def unix_admin(name: str) -> str:
    """An [admin] table where POST is allowed."""
    return f'[admin]\nlisten = "unix:{name}.admin.sock"\n'


def allow_list(*callers: str, more: str = "") -> str:
    """A rule for each caller, named after it; `more` goes into every rule."""
    return "".join(f'[[allow]]\nname = "{each[1:]}-calls"\nfrom = "{each}"\n{more}\n' for each in callers)


def allow(stage: Stage, *callers: str, more: str = "") -> None:
    """Write the allow-list in place."""
    stage.write("web.allow.toml", allow_list(*callers, more=more))


def reload(sidecar: Sidecar) -> Answer:
    """Ask for a reload at the admin socket, and wait for what came of it."""
    return sidecar.get("/reload", method="POST")


def reload_changes(sidecar: Sidecar) -> None:
    """Have what was changed put in force; the watch may have come before us."""
    answer = reload(sidecar)
    assert answer.json["result"] in {"loaded", "unchanged"}, answer


def until_first_look(sidecar: Sidecar) -> None:
    """Wait until the watch has read everything once: it would take up what changes meanwhile before anybody asks."""
    poll(lambda: sidecar.metric("meshproxy_reloads_total", result="unchanged") > 0, "the watch's first look")


def until_generation(sidecar: Sidecar, number: int) -> None:
    """Wait until settings and allow-lists were swapped that often, counted from 1."""
    poll(lambda: sidecar.status().configuration.generation == number, f"generation {number}")


def until_identity(sidecar: Sidecar, number: int) -> None:
    """Wait until it has had so many identities."""
    poll(lambda: sidecar.status().identity.generation == number, f"identity {number} is taken up")


def take_up(sidecar: Sidecar, generation: int) -> None:
    """Have the files looked at now, not at the watch's next look, and wait until they are in force."""
    sidecar.signal(signal.SIGHUP)
    until_generation(sidecar, generation)


def echo_upgraded(talk: Talk, asked: Message) -> None:
    """Agree to an upgrade and say everything back."""
    assert asked.value("upgrade") == "websocket", asked
    talk.say(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    while data := talk.sock.recv(1 << 16):
        talk.sock.sendall(data)
    raise Ended


class Load:
    """Clients that POST one request after another until `stop`; each answer belongs to one request only.

    They keep their connection until they are told that it closes, or open a new one after `per_connection` requests;
    `pause` seconds lie between an answer and the next request. What stands behind has to answer with `fingerprints`.
    POST, because nobody may send one again on a guess.
    """

    def __init__(
        self,
        connect: Callable[[], Caller],
        *,
        clients: int = 20,
        per_connection: int | None = None,
        target: str = "/orders",
        pause: float = 0.0,
    ) -> None:
        self._connect = connect
        self._per_connection = per_connection
        self._target = target
        self._pause = pause
        self._over = threading.Event()
        self._leaving = threading.Event()
        self._threads = [threading.Thread(target=self._come, args=(number,)) for number in range(clients)]
        self._served = [0] * clients
        self.failures: list[str] = []
        self.told_to_close = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def served(self) -> int:
        """How many requests were answered rightly so far."""
        return sum(self._served)

    def wait_for(self, more: int) -> None:
        """Wait until so many more requests were served than now."""
        wanted = self.served + more
        poll(lambda: self.served >= wanted or len(self.failures) >= _TOO_MANY, f"{more} more requests served")

    def let_go(self) -> None:
        """From now on a client that is told that its connection closes does not come back."""
        self._leaving.set()

    def stop(self) -> None:
        """End every client with the answer it waits for."""
        self._over.set()
        self.join()

    def join(self) -> None:
        """Wait until every client has ended."""
        for thread in self._threads:
            thread.join()

    def judge(self, *, at_least: int) -> None:
        """All were served, and enough that it means something."""
        assert self.failures == []
        assert self.served >= at_least

    def _come(self, number: int) -> None:
        words = (f"{number}-{count}".encode() for count in itertools.count())
        while not self._over.is_set() and len(self.failures) < _TOO_MANY:
            try:
                with self._connect() as caller:
                    closes = self._converse(caller, number, words)
            except OSError as error:
                self.failures.append(repr(error))
            else:
                if closes and self._leaving.is_set():
                    return

    def _converse(self, caller: Caller, number: int, words: Iterator[bytes]) -> bool:
        """Ask on one connection; returns whether it was ended by the other side's wish."""
        for count, word in enumerate(words, 1):
            answer = caller.ask("POST", self._target, body=word)
            if (answer.status, answer.body) != (200, fingerprint("POST", self._target, word)):
                self.failures.append(f"{answer.status} {answer.body!r}")
            else:
                self._served[number] += 1
            if answer.value("connection").lower() == "close":
                self.told_to_close += 1
                return True
            if self._over.wait(self._pause) or count == self._per_connection:
                return False
        raise AssertionError("counting does not end")
