"""Heads whose fields were read before.

Who asks often says the same fields each time and changes the target, the ids of the request, or nothing at all; so does
who answers. The fields that were read lately are kept with what was made of them: where they stand again byte for byte,
nothing of them is judged anew, and what is left is judged as ever. HTTP/2 saves the same repetitions (RFC 7541, its
dynamic table). What is not familiar is the fast lane's, and it alone teaches.

All connections of a listener share what is familiar: it is a function of the bytes, whoever sent them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeVar

from meshproxy.http import parse
from meshproxy.http.fast_lane import PLAIN_REQUEST_LINE, recognise_request, recognise_response
from meshproxy.http.fields import PLAIN_REQUEST_ID, PLAIN_TRACEPARENT, REQUEST_ID, TRACEPARENT, TRACESTATE
from meshproxy.http.head import RequestHead, Target, TargetForm, Version

if TYPE_CHECKING:
    from meshproxy.http.head import HeadLimits, RequestFields, ResponseHead

Key = TypeVar("Key")
Thing = TypeVar("Thing")

_LINE: Final = re.compile(PLAIN_REQUEST_LINE)

# What another sidecar writes last, for it differs each time (see `forwarded`), and the blank line.
_BEFORE_IDS: Final = b"\r\n%b: " % REQUEST_ID
_TO_ID: Final = len(_BEFORE_IDS)
_LAST_OF_REQUEST: Final = re.compile(
    rb"(?:\r\n%b: (%b)\r\n%b: (%b))?\r\n\r\n" % (REQUEST_ID, PLAIN_REQUEST_ID, TRACEPARENT, PLAIN_TRACEPARENT)
)
_LAST_OF_ANSWER: Final = re.compile(rb"(?:\r\n%b: %b)?\r\n\r\n" % (REQUEST_ID, PLAIN_REQUEST_ID))

# What an application that traces says somewhere in between: it differs each time, and all else does not.
_TRACE: Final = re.compile(rb"\r\n[tT]raceparent: (%b)(?=\r\n)" % PLAIN_TRACEPARENT)

# Where a name is said twice, or a state comes without its trace, the fast lane has a say.
_NOT_KEPT: Final = (REQUEST_ID, TRACEPARENT, TRACESTATE)

# How many are kept, of how many bytes each; a peer that never says the same costs no more than that.
_MOST_KEPT: Final = 64
_LONGEST_KEPT: Final = 2048

_ORIGIN: Final = TargetForm.ORIGIN
_VERSION: Final = Version.HTTP_1_1


def keep(kept: dict[Key, Thing], key: Key, thing: Thing) -> None:
    """Keep one thing more; when there are too many, all others are forgotten."""
    if len(kept) >= _MOST_KEPT:
        kept.clear()
    kept[key] = thing


class FamiliarRequests:
    """Recognises the heads of requests, as `recognise_request` does."""

    __slots__ = ("_known", "_limits", "_most_bytes", "_said", "_said_alone")

    def __init__(self, limits: HeadLimits) -> None:
        """Know nothing yet."""
        self._limits = limits
        self._most_bytes = min(limits.head_bytes, limits.target)  # a target is within its limit where its head is
        self._known: dict[bytes, RequestFields] = {}  # by the fields, from the line end before them on, without ids
        self._said: dict[bytes, RequestHead] = {}  # by what stands before the ids, and made without them
        self._said_alone: dict[bytes, RequestHead] = {}  # by all of a head that says none; other sidecars always do

    def __repr__(self) -> str:
        return f"<FamiliarRequests with {len(self._known)}>"

    def recognise(self, data: bytes) -> tuple[RequestHead, int] | None:
        """Return the head that `data` begins with, and where it ends; None to leave it to the slow lane."""
        if self._said_alone and parse.USE_FAST_LANE:
            again = self._said_alone.get(data)
            if again is not None:
                return again, len(data)
        end = data.find(b"\r\n\r\n") + 4
        if end < 4 or not parse.USE_FAST_LANE:
            return None
        ids_at = data.rfind(_BEFORE_IDS, 0, end)
        if ids_at < 0:
            return self._without_ids(data[:end])
        if end > self._most_bytes:
            return self._new(data[:end], ids_at)
        said = data[:ids_at]
        again = self._said.get(said) or self._with_known_fields(said, ids_at, self._said)
        if again is not None:
            last = _LAST_OF_REQUEST.fullmatch(data, ids_at, end)
            if last is not None:
                return RequestHead(again.method, again.target, _VERSION, again.fields, *last.groups()), end
        return self._new(data[:end], ids_at)

    def _without_ids(self, raw: bytes) -> tuple[RequestHead, int] | None:
        """Do as `recognise` of a head that says no ids."""
        end, kept = len(raw), self._said_alone
        if end <= self._most_bytes:
            head = kept.get(raw) or self._with_known_fields(raw, end - 4, kept) or self._traced(raw)
            if head is not None:
                return head, end
        return self._new(raw, end - 4)

    def _new(self, raw: bytes, ids_at: int) -> tuple[RequestHead, int] | None:
        """Do as `recognise` of a head that is not familiar, and learn it."""
        recognised = recognise_request(raw, self._limits)
        if recognised is None:
            return None
        if _LAST_OF_REQUEST.fullmatch(raw, ids_at):
            text = raw[raw.find(b"\r\n") : ids_at]
            # Of the fields nothing hangs on the trace but a state, with which they are not kept.
            self._learn(_TRACE.sub(b"", text, 1) if ids_at == len(raw) - 4 else text, recognised.fields)
        return recognised, len(raw)

    def _traced(self, raw: bytes) -> RequestHead | None:
        """Return the head that says a trace among fields that were read before."""
        found = _TRACE.search(raw, raw.find(b"\r\n"), len(raw) - 2)
        if found is None:
            return None
        rest, kept = raw[: found.start()] + raw[found.end() :], self._said_alone
        again = kept.get(rest) or self._with_known_fields(rest, len(rest) - 4, kept)
        if again is None:
            return None
        return RequestHead(again.method, again.target, _VERSION, again.fields, None, found[1])

    def _with_known_fields(self, said: bytes, fields_end: int, kept: dict[bytes, RequestHead]) -> RequestHead | None:
        """Return the head, if its fields were read before, and only its target is another; it is `kept`."""
        fields_at = said.find(b"\r\n")
        fields = self._known.get(said[fields_at:fields_end]) if fields_at >= 0 else None
        line = _LINE.fullmatch(said, 0, fields_at) if fields is not None else None
        if line is None or fields is None:
            return None
        method, path, query = line.groups()
        head = RequestHead(method, Target(_ORIGIN, path, query), _VERSION, fields)
        if len(said) <= _LONGEST_KEPT:
            keep(kept, said, head)
        return head

    def _learn(self, text: bytes, fields: RequestFields) -> None:
        folded = text.lower()
        if (
            len(text) <= _LONGEST_KEPT
            and text.count(b"\r\n") + 2 <= self._limits.fields
            and not any(name in folded for name in _NOT_KEPT)
        ):
            keep(self._known, text, fields)


class FamiliarAnswers:
    """Recognises the heads of answers, as `recognise_response` does."""

    __slots__ = ("_known", "_limits")

    def __init__(self, limits: HeadLimits) -> None:
        """Know nothing yet."""
        self._limits = limits
        self._known: dict[tuple[bytes, bytes], ResponseHead] = {}  # by the method asked and the head without its id

    def __repr__(self) -> str:
        return f"<FamiliarAnswers with {len(self._known)}>"

    def recognise(self, method: bytes, data: bytes, request_id: bytes | None = None) -> tuple[ResponseHead, int] | None:
        """As `FamiliarRequests.recognise`, of the final answer to a `method` request that was told this id.

        Another sidecar says the id back, which takes no pattern to see.
        """
        if not parse.USE_FAST_LANE:
            return None
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            return None
        id_at = data.rfind(_BEFORE_IDS, 0, end)
        if id_at < 0:
            id_at = end - 4
        head = self._known.get((method, data[:id_at]))
        if (
            head is not None
            and end <= self._limits.head_bytes
            and (
                id_at == end - 4
                or data[id_at + _TO_ID : end - 4] == request_id
                or _LAST_OF_ANSWER.fullmatch(data, id_at, end)
            )
        ):
            return head, end
        raw = data[:end]
        recognised = recognise_response(method, raw, self._limits)
        if recognised is None:
            return None
        if _LAST_OF_ANSWER.fullmatch(raw, id_at):
            self._learn(method, raw[:id_at], recognised)
        return recognised, end

    def _learn(self, method: bytes, text: bytes, head: ResponseHead) -> None:
        if (
            len(text) <= _LONGEST_KEPT
            and 0 < text.count(b"\r\n") < self._limits.fields
            and REQUEST_ID not in text.lower()
        ):
            keep(self._known, (method, text), head)
