"""A sidecar and its callers as arithmetic: one queue, one server, callers who each have one request at a time.

The server is the event loop: whatever comes lies in the queue until it is its turn. A request takes two turns, when it
is passed on and when its answer is; a refusal takes one. The flight under test says who is let in, and is told of the
lag as `LagProbe` measures it. Who is refused is put off as `http.phase.Phase.PUT_OFF` tells.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

from meshproxy.limits.flight import INTERVAL
from meshproxy.wire.lag import EVERY
from meshproxy.wire.sweep import TICK

if TYPE_CHECKING:
    from meshproxy.limits.flight import Flight

AWAY = 2.0  # seconds that the refused are told to stay away
NOT_HEARD = 1.25, 1.75  # and are not heard, from the last tick on, until the next one


class News(Enum):
    ASKS = auto()
    ANSWERS = auto()
    PROBE = auto()
    TICKS = auto()


@dataclass(eq=False)
class Caller:
    rude: bool
    asked_at: float = 0.0
    deaf_until: float = 0.0  # put off until then; 0: it is not
    came_early: bool = False
    refused: int = 0  # times in a row
    is_taken_back: bool = False  # its next request is let in
    served: int = 0


@dataclass(frozen=True)
class Costs:
    """Seconds of the loop's time, and of waiting elsewhere."""

    request: float = 130e-6
    refusal: float = 150e-6
    glance: float = 10e-6
    service: float = 1e-3
    way: float = 1e-3  # from an answer to the caller's next request


@dataclass
class Loop:
    """Let `run` so many callers for so long, again and again; `served` are the latencies of each run."""

    flight: Flight
    costs: Costs = field(default_factory=Costs)
    in_flight: int = 0
    now: float = 100.0
    refused: int = 0
    served: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.flight.pools.add(self)
        self._dice = random.Random(1)
        self._numbers = itertools.count()
        self._coming: list[tuple[float, int, News, Caller | None]] = []
        self._queue: deque[tuple[float, News, Caller | None]] = deque()
        self._put_off: list[Caller] = []
        self._callers: list[Caller] = []
        self._busy, self._ticked_at = 0.0, self.now
        self._at(self.now, News.TICKS)
        self._at(self.now, News.PROBE)

    def __hash__(self) -> int:
        return id(self)

    def run(self, callers: int, seconds: float, *, rude: bool = True) -> float:
        """Returns how many were served in each second."""
        self.refused, self.served = 0, []
        while len(self._callers) < callers:
            self._callers.append(Caller(rude))
            self._at(self.now + len(self._callers) * 1e-4, News.ASKS, self._callers[-1])
        self._leaving = set(self._callers[callers:])
        del self._callers[callers:]
        until = self.now + seconds
        while self.now < until:
            while self._coming and self._coming[0][0] <= self.now:
                at, _, news, caller = heapq.heappop(self._coming)
                self._queue.append((at, news, caller))
            if not self._queue:
                self.now = self._coming[0][0]
                continue
            at, news, caller = self._queue.popleft()
            cost = self._take(at, news, caller)
            self.now += cost
            self._busy += cost
        return len(self.served) / seconds

    @property
    def never_served(self) -> int:
        """How many of those that call now have never been served."""
        return sum(not caller.served for caller in self._callers)

    def p99(self) -> float:
        served = sorted(self.served)
        return served[int(len(served) * 0.99)]

    def _at(self, when: float, news: News, caller: Caller | None = None) -> None:
        heapq.heappush(self._coming, (when, next(self._numbers), news, caller))

    def _take(self, at: float, news: News, caller: Caller | None) -> float:
        if news is News.PROBE:
            self.flight.observe(self.now - at, self.now)
            self._at(self.now + EVERY, News.PROBE)
            return self.costs.glance
        if caller is None:
            return self._tick()
        if news is News.ASKS:
            caller.asked_at = at
            if caller.deaf_until:
                caller.came_early = True
                return self.costs.glance
            return self._ask(caller)
        self.in_flight -= 1
        caller.refused, caller.served = 0, caller.served + 1
        self.served.append(self.now - caller.asked_at)
        self._goes_on(caller, self.costs.way)
        return self.costs.request / 2

    def _tick(self) -> float:
        self._ticked_at = self.now
        self._at(self.now + TICK, News.TICKS)
        self.flight.saturation, self._busy = min(self._busy / INTERVAL, 1.0), 0.0
        due = [each for each in self._put_off if each.deaf_until <= self.now]
        self._put_off = [each for each in self._put_off if each.deaf_until > self.now]
        cost = 0.0
        for caller in due:
            caller.deaf_until = 0.0
            if caller.came_early:
                cost += self._refuse(caller) if self.flight.is_bounded else self._let_in(caller)
        return cost

    def _ask(self, caller: Caller) -> float:
        flight = self.flight
        is_let_in = not flight.is_bounded or caller.is_taken_back or flight.has_room()
        if not is_let_in and not (caller.refused and flight.takes_back()):
            return self._refuse(caller)
        return self._let_in(caller)

    def _let_in(self, caller: Caller) -> float:
        caller.came_early = caller.is_taken_back = False
        self.in_flight += 1
        self._at(self.now + self.costs.service, News.ANSWERS, caller)
        return self.costs.request / 2

    def _refuse(self, caller: Caller) -> float:
        self.refused += 1
        caller.refused += 1
        caller.is_taken_back = caller.came_early and self.flight.takes_back()
        caller.came_early = False
        if not caller.is_taken_back:
            caller.deaf_until = self._ticked_at + self._dice.uniform(*NOT_HEARD)
            self._put_off.append(caller)
        self._goes_on(caller, self.costs.way if caller.rude else AWAY)
        return self.costs.refusal

    def _goes_on(self, caller: Caller, after: float) -> None:
        if caller not in self._leaving:
            self._at(self.now + after, News.ASKS, caller)
