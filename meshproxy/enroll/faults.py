"""What can go wrong between a CA and whoever asks it; each kind asks for something else of whoever meets it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ca.refusals import Why

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ca.messages import Refusal

# For these a new token is needed: asking again changes nothing.
_SPENT: Final = frozenset({Why.WRONG_SECRET, Why.TOKEN_LOCKED, Why.TOKEN_REVOKED, Why.TOKEN_EXPIRED, Why.TOKEN_USED})
_ENROL_AGAIN: Final = frozenset({Why.UNKNOWN_CERTIFICATE, Why.REVOKED, Why.SUSPECT, Why.EXPIRED})


class EnrolmentError(Exception):
    """No certificate, or no news: the text is a sentence for people. Asking again may help."""


class Unreachable(EnrolmentError):
    """No CA answered in time, or none with anything that makes sense: try again."""


class Untrusted(EnrolmentError):
    """Whoever answers is not our CA, or what it says is not sound. Nothing secret was sent to it, and nothing kept."""


class ClockApart(EnrolmentError):
    """A certificate is not valid yet, or no more, by our clock: it or the CA's is wrong. Ask again, for it may heal."""


class RefusedByCa(EnrolmentError):
    """The CA says no; `refusal` says why, in a word and a sentence."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.title)
        self.refusal = refusal

    @property
    def needs_token(self) -> bool:
        """Whether only another token leads on."""
        return self.refusal.why in _SPENT | _ENROL_AGAIN

    @property
    def is_about_token(self) -> bool:
        """Whether it is the token that was refused."""
        return self.refusal.why in _SPENT


class Unwritable(EnrolmentError):
    """What the CA gave could not be written: the old identity is still in place."""


class Unusable(Unwritable):
    """What lies in the directory is no identity that could be renewed, and nobody but its owner may take it away."""


def worst(faults: Sequence[EnrolmentError]) -> EnrolmentError | None:
    """What to tell of several: that somebody is not who he should be comes first, and what a CA said next."""
    if not faults:
        return None
    for kind in (Untrusted, RefusedByCa, ClockApart):
        if found := next((each for each in faults if isinstance(each, kind)), None):
            return found
    return faults[0] if len(faults) == 1 else Unreachable("; ".join(dict.fromkeys(map(str, faults))))
