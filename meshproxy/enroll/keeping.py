"""What a keeper is told, how it is going, and the words for that; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from meshproxy.enroll.faults import ClockApart, RefusedByCa, Unreachable, Untrusted
from meshproxy.enroll.plan import Left
from meshproxy.enroll.token_file import TokenFileError
from meshproxy.units import format_duration

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from meshproxy.enroll.holding import Held
    from meshproxy.enroll.judging import Believed
    from meshproxy.wire.address import TcpAddress

_USUAL_HINT: Final = 300.0  # seconds; SPIFFE_Trust_Domain_and_Bundle.md 4.1.2, where a bundle says nothing
_HINTS: Final = (1.0, 3600.0)


@dataclass(frozen=True, slots=True)
class Orders:
    """What a keeper is told: where the CA is (nothing: as the token or the directory says), and where a token may come.

    `left` is with how much of its life left a certificate is renewed.
    """

    addresses: tuple[TcpAddress, ...] = ()
    token_file: Path | None = None
    left: Left = field(default_factory=Left)


@dataclass(frozen=True, slots=True)
class KeeperState:
    """How it goes, for `/status`; times are aware, None is never or nothing."""

    renewed_at: datetime | None = None
    next_renewal: datetime | None = None
    last_error: str = ""
    remedy: str = ""
    failing_since: datetime | None = None
    next_try: datetime | None = None
    trust_at: datetime | None = None
    trust_error: str = ""
    sequence_loaded: int | None = None
    sequence_known: int | None = None


def hint(believed: Believed | None) -> float:
    """How often the CA wants to be asked, within what is sane."""
    said = None if believed is None else believed.bundle.refresh_hint
    return min(max(float(said or _USUAL_HINT), _HINTS[0]), _HINTS[1])


def result(error: Exception) -> str:
    """What became of an attempt, in the word for the metric."""
    kinds = ((Unreachable, "unreachable"), (Untrusted, "untrusted"), (ClockApart, "clock"), (RefusedByCa, "refused"))
    for kind, word in (*kinds, (TokenFileError, "token_file")):
        if isinstance(error, kind):
            return word
    return "unwritable"


def effect(held: Held | None, now: datetime) -> str:
    """What it means for who serves that nothing was got from the CA."""
    if held is None:
        return "there is no identity yet, and nobody is served"
    left = held.leaf.not_after - now
    if left < timedelta(0):
        return f"the certificate expired {in_words(-left)} ago, and nobody is served"
    return f"none yet: the certificate is valid for another {in_words(left)}"


def in_words(span: timedelta) -> str:
    """A span in whole seconds, as people say it."""
    return format_duration(float(int(span.total_seconds())))
