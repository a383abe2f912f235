"""Heads that say again what the last one on their connection said.

Who asks often says the same fields each time and changes the target, the ids of the request, or nothing at all; so does
who answers. The fields that were read last are kept with what was made of them: where they stand again byte for byte,
nothing of them is judged anew, and what is left is judged as ever. HTTP/2 saves the same repetitions (RFC 7541, its
dynamic table). What is not familiar is the fast lane's, and it alone teaches.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from meshproxy.http.fast_lane import PLAIN_REQUEST_LINE, recognise_request, recognise_response
from meshproxy.http.fields import PLAIN_REQUEST_ID, PLAIN_TRACEPARENT, REQUEST_ID, TRACEPARENT, TRACESTATE
from meshproxy.http.head import RequestHead, Target, TargetForm, Version

if TYPE_CHECKING:
    from meshproxy.http.head import HeadLimits, RequestFields, ResponseHead

_LINE: Final = re.compile(PLAIN_REQUEST_LINE)

# What another sidecar writes last, for it differs each time (see `forwarded`), and the blank line.
_BEFORE_IDS: Final = b"\r\n%b: " % REQUEST_ID
_LAST_OF_REQUEST: Final = re.compile(
    rb"(?:\r\n%b: (%b)\r\n%b: (%b))?\r\n\r\n" % (REQUEST_ID, PLAIN_REQUEST_ID, TRACEPARENT, PLAIN_TRACEPARENT)
)
_LAST_OF_ANSWER: Final = re.compile(rb"(?:\r\n%b: %b)?\r\n\r\n" % (REQUEST_ID, PLAIN_REQUEST_ID))

# Where a name is said twice, or a state comes without its trace, the fast lane has a say.
_NOT_KEPT: Final = (REQUEST_ID, TRACEPARENT, TRACESTATE)

# Of one head (bytes); whoever needs more is not worth the memory of a connection at rest.
_MOST_KEPT: Final = 4096

_ORIGIN: Final = TargetForm.ORIGIN
_VERSION: Final = Version.HTTP_1_1


class FamiliarRequests:
    """Recognises the heads of one caller's requests, as `recognise_request` does."""

    __slots__ = ("_fields", "_known", "_limits", "_most_bytes")

    def __init__(self, limits: HeadLimits) -> None:
        """Know nothing yet."""
        self._limits = limits
        self._most_bytes = min(limits.head_bytes, limits.target)  # a target is within its limit where its head is
        self._known = b""  # the fields, from the line end before them on
        self._fields: RequestFields | None = None  # what they mean

    def __repr__(self) -> str:
        return f"<FamiliarRequests with {len(self._known)} bytes>"

    def recognise(self, data: bytes) -> tuple[RequestHead, int] | None:
        """Return the head that `data` begins with, and where it ends; None to leave it to the other lane."""
        fields, fields_at = self._fields, data.find(b"\r\n")
        if fields is not None and data.startswith(self._known, fields_at):
            line = _LINE.fullmatch(data, 0, fields_at)
            last = _LAST_OF_REQUEST.match(data, fields_at + len(self._known))
            if line is not None and last is not None and last.end() <= self._most_bytes:
                method, path, query = line.groups()
                target = Target(_ORIGIN, path, query)
                return RequestHead(method, target, _VERSION, fields, *last.groups()), last.end()
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            return None
        raw = data[:end]
        recognised = recognise_request(raw, self._limits)
        if recognised is None:
            return None
        self._learn(raw, fields_at, recognised.fields)
        return recognised, end

    def _learn(self, raw: bytes, fields_at: int, fields: RequestFields) -> None:
        cut = raw.rfind(_BEFORE_IDS)
        if cut < 0 or not _LAST_OF_REQUEST.fullmatch(raw, cut):
            cut = len(raw) - 4
        known = raw[fields_at:cut]
        folded = known.lower()
        is_kept = len(known) <= _MOST_KEPT and known.count(b"\r\n") + 2 <= self._limits.fields
        if is_kept and not any(name in folded for name in _NOT_KEPT):
            self._known, self._fields = known, fields
        else:
            self._known, self._fields = b"", None


class FamiliarAnswers:
    """Recognises the heads of one upstream connection's answers, as `recognise_response` does."""

    __slots__ = ("_known", "_limits", "_method", "_model")

    def __init__(self, limits: HeadLimits) -> None:
        """Know nothing yet."""
        self._limits = limits
        self._known = b""  # all of the head but its end
        self._method = b""  # of the request it answered
        self._model: ResponseHead | None = None

    def __repr__(self) -> str:
        return f"<FamiliarAnswers with {len(self._known)} bytes>"

    def recognise(self, method: bytes, data: bytes) -> tuple[ResponseHead, int] | None:
        """As `FamiliarRequests.recognise`, of the final answer to a `method` request."""
        model = self._model
        if model is not None and method == self._method and data.startswith(self._known):
            last = _LAST_OF_ANSWER.match(data, len(self._known))
            if last is not None and last.end() <= self._limits.head_bytes:
                return model, last.end()
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            return None
        raw = data[:end]
        recognised = recognise_response(method, raw, self._limits)
        if recognised is None:
            return None
        self._learn(method, raw, recognised)
        return recognised, end

    def _learn(self, method: bytes, raw: bytes, head: ResponseHead) -> None:
        cut = raw.rfind(_BEFORE_IDS)
        if cut < 0 or not _LAST_OF_ANSWER.fullmatch(raw, cut):
            cut = len(raw) - 4
        known = raw[:cut]
        is_kept = len(known) <= _MOST_KEPT and known.count(b"\r\n") < self._limits.fields
        if is_kept and REQUEST_ID not in known.lower():
            self._known, self._method, self._model = known, method, head
        else:
            self._known, self._model = b"", None
