"""The life of one worker process, as the supervisor sees it: begun, spoken with, and waited for to the end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING

import trio

from meshproxy.runtime.control import (
    Account,
    Answer,
    Broken,
    Channel,
    Commit,
    Ended,
    Hello,
    Prepare,
    Recount,
    Report,
    Roster,
    Tell,
    WhoIsThere,
    Word,
)
from meshproxy.wire.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshproxy.runtime.control import Order
    from meshproxy.telemetry.facts import Facts

_REAP = 2.0  # seconds from the end of its channel to the end of the process

# A worker is told what to do by the supervisor, not by a terminal or a service manager that signals a whole group.
LED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Launch:
    """What every worker of a sidecar is started with.

    `look` is how its log looks (`process.LogLook`), `turn` a descriptor that all lock when they write to it, `shift`
    which set of audit files is theirs.
    """

    file: str
    size: int
    look: str
    turn: int
    shift: int = 0


class Lost(Enum):
    """Why an order has no answer."""

    GONE = auto()
    SILENT = auto()


Said = Answer | Report | Account | Roster | Lost


class Reply:
    """What a worker will say to an order."""

    def __init__(self) -> None:
        self._come = trio.Event()
        self._word: Said = Lost.SILENT

    def come(self, word: Said) -> None:
        """It has been said, or never will."""
        self._word = word
        self._come.set()

    async def get(self, within: float) -> Said:
        """Wait for it, at most `within` seconds."""
        with trio.move_on_after(within):
            await self._come.wait()
        return self._word


class Life:
    """One process and the channel to it. Used as: `begin`, then `run` to its end, with orders meanwhile."""

    def __init__(self, process: subprocess.Popen[bytes], channel: Channel[Word]) -> None:
        self._process = process
        self._channel = channel
        self._number = 0
        self._replies: dict[int, Reply] = {}
        self._asked: Reply | None = None  # how it is, and it has not told yet
        self.there = trio.Event()  # it has come so far as to say so, and what code it runs
        self.version = ""
        self._recounting: Reply | None = None  # the same of what has happened
        self.report: Report | None = None  # the last
        self.accounts: list[Account] = []  # what nobody has taken yet; at most one is under way
        self.facts: Facts | None = None  # the last
        self.nothing_cut = False

    def __repr__(self) -> str:
        return f"<Life pid={self.pid} {self._channel!r}>"

    @classmethod
    def begin(cls, launch: Launch, number: int) -> Life:
        """Start the worker of a place, counted from 0; raises OSError."""
        ours, theirs = socket.socketpair()
        try:
            process = _spawn(theirs, launch, number)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(process, Channel(ours, Word))

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def kill(self) -> None:
        """End it now, whatever it does."""
        self._process.kill()

    def say(self, order: Order, descriptors: Sequence[int] = ()) -> None:
        """Give an order; one that reads nothing is killed."""
        try:
            self._channel.say(order, descriptors)
        except Broken:
            self.kill()

    def prepare(self, generation: int, doors: tuple[tuple[str, str], ...], descriptors: Sequence[int]) -> Reply:
        """Have it make ready to go over."""
        number, reply = self._expect()
        self.say(Prepare(number, generation, doors), descriptors)
        return reply

    def commit(self) -> Reply:
        """Have it go over."""
        number, reply = self._expect()
        self.say(Commit(number))
        return reply

    def tell(self) -> Reply:
        """Ask how it is; who asks while it has not answered waits for the same answer."""
        if self._asked is None:
            number, self._asked = self._expect()
            self.say(Tell(number))
        return self._asked

    def recount(self) -> Reply:
        """Ask what has happened; the answer is in `accounts` then, also when it comes late."""
        if self._recounting is None:
            number, self._recounting = self._expect()
            self.say(Recount(number))
        return self._recounting

    def who_is_there(self, most: int) -> Reply:
        """Ask who is connected."""
        number, reply = self._expect()
        self.say(WhoIsThere(number, most))
        return reply

    async def run(self) -> int:
        """Hear it to its end, and return its exit code; a negative one is the signal that killed it."""
        try:
            async with trio.open_nursery() as speaking:
                speaking.start_soon(self._channel.run)
                await self._hear()
                speaking.cancel_scope.cancel()
        finally:
            self._channel.close()
            for reply in self._replies.values():
                reply.come(Lost.GONE)
            with trio.CancelScope(shield=True):
                code = await self._end()
        return code

    def _expect(self) -> tuple[int, Reply]:
        self._number += 1
        reply = self._replies[self._number] = Reply()
        return self._number, reply

    async def _hear(self) -> None:
        try:
            while (word := await self._channel.hear()) is not None:
                match word:
                    case Hello(version):
                        self.version = version
                        self.there.set()
                    case Answer() | Report() | Account() | Roster():
                        self._heard(word)
                    case Ended(nothing_cut, report, account):
                        self.nothing_cut, self.report = nothing_cut, report or self.report
                        if account is not None:
                            self.accounts.append(account)
        except Broken:
            self.kill()

    def _heard(self, word: Answer | Report | Account | Roster) -> None:
        if isinstance(word, Report):
            self.report, self._asked = word, None
        elif isinstance(word, Account):
            self._recounting, self.facts = None, word.facts
            self.accounts.append(word)
        if (reply := self._replies.pop(word.id, None)) is not None:
            reply.come(word)

    async def _end(self) -> int:
        wait = partial(in_thread, self._process.wait, abandon_on_cancel=True)
        with trio.move_on_after(_REAP):
            return await wait()
        self.kill()
        return await wait()


def in_words(code: int) -> str:
    """Return how a process has ended."""
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def _spawn(control: socket.socket, launch: Launch, number: int) -> subprocess.Popen[bytes]:
    # -P: the current directory is not where a worker's code comes from.
    safe = "-I" if sys.flags.isolated else "-P"
    inherited = (control.fileno(), launch.turn)
    # Last what a person who reads a list of processes wants to know.
    words = [*map(str, inherited), launch.look, f"{number + 1}/{launch.size}{'+' * launch.shift}", launch.file]
    # Blocked until it has said that it ignores them: Ctrl-C reaches a whole process group.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, LED_SIGNALS)
    try:
        command = [sys.executable, safe, "-m", "meshproxy.runtime", *words]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=inherited)  # noqa: S603 - our own
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
