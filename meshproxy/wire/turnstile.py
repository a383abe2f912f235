"""Handshakes in a row: a few at a time, and everybody else in between.

A step of a handshake is half a millisecond of arithmetic. When five hundred callers connect at once, all of them are
there in one turn of the loop, and whoever has a request open would wait for a quarter of a second. So the steps are
done when the engine says so: while there is other work, for half a millisecond now and then, and handshakes get a
fifth of the time. While there is none, some in a row: what OpenSSL and what Python need of the processor's caches does
not fit in there together, and each that comes behind one of its own kind finds its things where it wants them. That
takes a tenth less time than a handshake from its beginning to its end, and then the next.

Whoever is in the middle of his handshake goes before those who begin theirs. A flood of first words costs somebody who
means it one queue then, and not two; and who has been answered is soon gone, so that nobody begins the later for it.
"""

from __future__ import annotations

import ssl
import time
import types
from typing import TYPE_CHECKING, Protocol

from meshproxy.wire.fiber import Signal

if TYPE_CHECKING:
    from collections.abc import Generator

    from meshproxy.wire.readiness import Readiness


class Session(Protocol):
    """What there is of an `ssl.SSLObject` here."""

    def do_handshake(self) -> None:
        """Go on as far as it goes. Raises ssl.SSLWantReadError where the peer is to speak, ssl.SSLError."""


class Step(Signal):
    """One session's next step; set when it has been taken. `waited`: how many seconds others had their turn before."""

    __slots__ = ("_error", "_is_last", "_session", "waited")

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.waited = -time.perf_counter()
        self._is_last = False
        self._error: Exception | None = None

    def take(self) -> None:
        """Do the arithmetic."""
        self.waited += time.perf_counter()
        try:
            self._session.do_handshake()
            self._is_last = True
        except ssl.SSLWantReadError:
            pass
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            self._error = error

    def is_last(self) -> bool:
        """Whether it was, once it was taken; otherwise the peer is to speak. Raises ssl.SSLError."""
        if self._error is not None:
            raise self._error
        return self._is_last


class Turnstile:
    """Has steps taken in the order in which they come, those of newcomers behind all others."""

    def __init__(self, engine: Readiness) -> None:
        self._engine = engine
        self._newcomers: dict[Step, None] = {}
        self._others: dict[Step, None] = {}
        self._is_called = False  # the engine is going to let somebody pass

    def __repr__(self) -> str:
        return f"<Turnstile waiting={len(self._newcomers) + len(self._others)}>"

    @types.coroutine
    def wait_for(self, step: Step, *, newcomer: bool) -> Generator[object, None, None]:
        """Return when the step was taken; `newcomer`: it is the first of somebody who has called us."""
        row = self._newcomers if newcomer else self._others
        row[step] = None
        self._call()
        try:
            yield from step.wait()
        finally:
            row.pop(step, None)  # it is there still if who waits for it is cancelled

    def _call(self) -> None:
        if not self._is_called and (self._others or self._newcomers):
            self._is_called = True
            self._engine.later(self._let_pass)

    def _let_pass(self, until: float) -> None:
        self._is_called, taken = False, []
        while row := self._others or self._newcomers:
            step = next(iter(row))
            del row[step]
            step.take()
            taken.append(step)
            if time.perf_counter() >= until:
                break
        for step in taken:
            step.set()
        self._call()
