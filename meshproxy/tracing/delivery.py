"""What follows from a collector's answer, or from none; pure (OTLP specification, "OTLP/HTTP Response", "Failures")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from ca import json_text

# What may go well another time; any other refusal would be repeated word for word.
_TRY_AGAIN: Final = frozenset({429, 502, 503, 504})

_FIRST_PAUSE: Final = 1.0  # seconds, doubled each time
_LONGEST_PAUSE: Final = 30.0
_MOST_TRIES: Final = 6  # about a minute; meanwhile what is new waits, up to the bound of its queue


@dataclass(frozen=True, slots=True)
class Reply:
    """What a collector said; `retry_after` in seconds."""

    status: int
    body: bytes = b""
    retry_after: float | None = None


class NotSent(Exception):
    """Nobody could be told; the text is a phrase that says why."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The batch is the collector's now, but for so many spans that it did not want, for a reason."""

    rejected: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Again:
    """Try again after so many seconds."""

    after: float
    why: str


@dataclass(frozen=True, slots=True)
class Lost:
    """It is of no use to try again; `refused` if the collector has said so."""

    why: str
    refused: bool = False


class _Partial(msgspec.Struct, rename="camel"):
    rejected_spans: int | str = 0
    error_message: str = ""


class _Answer(msgspec.Struct, rename="camel"):
    partial_success: _Partial | None = None


def what_follows(reply: Reply | NotSent, tries: int, jitter: float) -> Sent | Again | Lost:
    """Judge what came of the try number `tries`, counted from 1; `jitter` is a random number from 0 to 1."""
    if isinstance(reply, Reply):
        if 200 <= reply.status < 300:
            return _sent(reply.body)
        why = f"it answered {reply.status}"
        if reply.status not in _TRY_AGAIN:
            return Lost(why, refused=True)
        asked_for = reply.retry_after
    else:
        why, asked_for = str(reply), None
    if tries >= _MOST_TRIES:
        return Lost(f"{why}, {tries} times")
    pause = min(_FIRST_PAUSE * 2 ** (tries - 1), _LONGEST_PAUSE)
    # Many sidecars meet one collector that comes back: not all at once.
    jittered = pause * (0.5 + jitter / 2)
    return Again(jittered if asked_for is None else min(max(asked_for, jittered), _LONGEST_PAUSE), why)


def _sent(body: bytes) -> Sent:
    """Read what was not wanted: that is never sent again. What cannot be read says nothing."""
    try:
        partial = json_text.read(body or b"{}", _Answer).partial_success
        rejected = 0 if partial is None else int(partial.rejected_spans)
    except ValueError:
        return Sent()  # protobuf, perhaps
    return Sent(max(rejected, 0), "" if partial is None else partial.error_message)
