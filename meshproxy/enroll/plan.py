"""When a certificate is renewed, and when it is tried again: decided by the wall clock and an injected die.

The wall clock, because certificates go by it, and because the clock that waiting goes by stands still in suspend: who
waits, waits for a `nap` and compares again. It may also be set back, by days: an `Appointment` knows how far ahead it
was made, and is kept at once when it is suddenly further away than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from datetime import datetime

HALF: Final = 0.5  # of life: with leaves of 24 h a CA may be down for 12 h, and nobody notices
JITTER: Final = 0.1  # of life, to either side: those who were issued together do not come back together
AT_ONCE: Final = 0.1  # of life, over which "renew now" is spread: the CA has to answer the whole mesh
DISBELIEVED: Final = 0.001  # of life, where others do not believe us until we have another: a minute and a half of 24 h
SPREAD: Final = 0.2  # of the interval between two polls, to either side

_LONGEST_NAP: Final = 30.0  # seconds
_SHORTEST_NAP: Final = 0.05
_NAP_SHARE: Final = 0.02  # of life
_FIRST_PAUSE: Final = 1.0  # seconds
_LONGEST_PAUSE: Final = 60.0
_LONGEST_ASKED: Final = 600.0  # seconds that a CA may ask us to stay away
_PAUSE_SHARE: Final = 0.05  # of life: a leaf of seconds cannot wait a minute
_FIRST_PAUSE_SHARE: Final = 0.01
_MOST_DOUBLINGS: Final = 16  # beyond this nothing changes but the size of the number


class Dice(Protocol):
    """What chance we need of a `random.Random`."""

    def random(self) -> float:
        """Something from 0 to 1."""

    def uniform(self, a: float, b: float) -> float:
        """Something between the two."""


@dataclass(frozen=True, slots=True)
class Life:
    """From when to when a certificate is valid; aware."""

    begin: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        """How long it is, at least one second."""
        return max((self.end - self.begin).total_seconds(), 1.0)


@dataclass(frozen=True, slots=True)
class Left:
    """How much of a life is left when it is renewed: a share of it, or seconds."""

    share: float = HALF
    seconds: float | None = None

    def of(self, life: Life) -> float:
        """In seconds; of a life that is shorter than what was asked for, all of it."""
        return life.seconds * self.share if self.seconds is None else min(self.seconds, life.seconds)


@dataclass(frozen=True, slots=True)
class Appointment:
    """Something to be done `at` a time, which was at most `ahead` away when it was made."""

    at: datetime
    ahead: timedelta

    def is_due(self, now: datetime) -> bool:
        """Whether it is time; also when the clock was set back behind the moment at which this was made."""
        return now >= self.at or self.at - now > self.ahead + timedelta(seconds=1)


def renewal(life: Life, dice: Dice, left: Left | None = None) -> datetime:
    """When a certificate is to be renewed: with half of life left, or `left`, a tenth of it earlier or later.

    Never before it begins, and never so late that less than a twentieth is left for trying again.
    """
    away = (left or Left()).of(life) + life.seconds * JITTER * dice.uniform(-1.0, 1.0)
    return life.end - timedelta(seconds=min(max(away, life.seconds / 20), life.seconds))


def at_once(life: Life, dice: Dice, *, now: datetime, share: float = AT_ONCE) -> datetime:
    """When to renew a certificate that is to be replaced: now, over a `share` of its life, while it still lasts."""
    left = max((life.end - now).total_seconds(), 0.0)
    return now + timedelta(seconds=min(life.seconds * share, left / 2) * dice.random())


def is_due(life: Life, left: Left, *, now: datetime) -> bool:
    """Whether no more than `left` is left: the question of whoever asks once, and needs no jitter."""
    return (life.end - now).total_seconds() <= left.of(life)


def first_try(life: Life | None, dice: Dice) -> float:
    """Seconds before the first attempt at what was due when we started: a machine room comes back all at once."""
    return _first_pause(life) * dice.random()


def pause(failures: int, life: Life | None, dice: Dice, *, asked: float | None = None) -> float:
    """Seconds before the next attempt after so many failures in a row, at least one: with full jitter, and for ever.

    From 1 s up to 60 s, and less for a `life` of seconds, so that it is still renewed in time. `asked` is how long the
    CA itself asks us to stay away: nobody comes back before that, and not all at that moment.
    """
    first, most = _first_pause(life), _LONGEST_PAUSE
    if life is not None:
        most = max(min(most, life.seconds * _PAUSE_SHARE), first)
    ceiling = min(most, first * 2.0 ** min(failures, _MOST_DOUBLINGS))
    drawn = dice.uniform(first, ceiling) if ceiling > first else first * dice.uniform(0.5, 1.0)
    if asked is None:
        return drawn
    return max(drawn, min(asked, _LONGEST_ASKED) * dice.uniform(1.0, 1.0 + SPREAD))


def poll_pause(hint: float, dice: Dice) -> float:
    """Seconds until the CA is asked again whom to believe; `hint` is how often it wants to be."""
    return hint * dice.uniform(1.0 - SPREAD, 1.0 + SPREAD)


def nap(until: datetime, life: Life | None, *, now: datetime) -> float:
    """Seconds to sleep before the wall clock is compared again with what is due at `until`.

    At most 30 s, and two hundredths of a life that is short.
    """
    longest = _LONGEST_NAP if life is None else min(_LONGEST_NAP, life.seconds * _NAP_SHARE)
    return min(max((until - now).total_seconds(), _SHORTEST_NAP), max(longest, _SHORTEST_NAP))


def patience(life: Life | None) -> float:
    """Which part of the usual deadlines an exchange has: a leaf of seconds cannot wait half a minute for an answer."""
    return 1.0 if life is None else min(1.0, max(life.seconds / 150.0, 0.1))


def _first_pause(life: Life | None) -> float:
    return _FIRST_PAUSE if life is None else min(_FIRST_PAUSE, life.seconds * _FIRST_PAUSE_SHARE)
