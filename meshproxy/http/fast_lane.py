"""The common heads, recognised in one strict pass.

It accepts a subset of what guard and h11 accept, and reads it exactly as they do; everything else it declines, and they
decide. It never guesses and never refuses: HTTP/1.1 only, fields written `name: value`, no tab, no Expect, no
Connection but `keep-alive` or `close`, nothing said twice that a proxy reads. A path with escapes, or a Host that is
not a plain name, is judged by the same rooms as in the other lane.

Three passes of `re` do it: one that judges every byte, one that finds the few fields a proxy reads, and one that leaves
them out. The rest is never split: to what it is about, we are a bystander.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from meshproxy.http.fields import (
    OURS_IN_REQUESTS,
    OURS_IN_RESPONSES,
    REQUEST_ID,
    TRACEPARENT,
    TRACESTATE,
    judged_request_id,
    judged_traceparent,
    spelt,
    takes_trailers,
)
from meshproxy.http.framing import framing_of_answer
from meshproxy.http.guard import TOKEN
from meshproxy.http.head import (
    CHUNKED,
    NO_BODY,
    BadMessage,
    Framing,
    FramingKind,
    RequestHead,
    ResponseHead,
    Target,
    TargetForm,
    Version,
)
from meshproxy.http.target import judge_host, parse_target

if TYPE_CHECKING:
    from meshproxy.http.head import HeadLimits

# Every repetition is possessive: no byte is looked at again, so no head takes longer than its length.
_SECTION: Final = rb"((?:\r\n" + TOKEN + rb"+: [\x21-\x7e\x80-\xff][\x20-\x7e\x80-\xff]*+(?<! ))++)\r\n\r\n"

# A path that is forwarded as it stands: no escape, no segment that is empty or begins with a dot.
_PCHAR: Final = rb"[A-Za-z0-9_~!$&'()*+,;=:@-]"
_SEGMENT: Final = _PCHAR + rb"(?:" + _PCHAR + rb"|\.)*+"
_PLAIN: Final = rb"(/(?:" + _SEGMENT + rb"/)*+(?:" + _SEGMENT + rb")?+)(?:\?([\x21\x22\x24-\x7e]*+))?+"

_REQUEST: Final = re.compile(rb"(?!CONNECT )([A-Z]++) (?:" + _PLAIN + rb"|(/[\x21-\x7e]*+)) HTTP/1\.1" + _SECTION)
_RESPONSE: Final = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9]) ([\x20-\x7e]*+)" + _SECTION)

_READ_IN_REQUESTS: Final = spelt(OURS_IN_REQUESTS)
_READ_IN_RESPONSES: Final = spelt(OURS_IN_RESPONSES | {b"host"})

_PLAIN_HOST: Final = re.compile(rb"[A-Za-z0-9._-]++(?::(?:[1-5]?[0-9]{1,4}|6[0-4][0-9]{3}))?")

_GOES_ON: Final = {None: True, b"keep-alive": True, b"Keep-Alive": True, b"close": False, b"Close": False}
_MOST_DIGITS: Final = 18  # of a length: less than 2^63, whatever they are

# Bound once: to look a member up in its class takes ten times as long on Python 3.11.
_ORIGIN: Final = TargetForm.ORIGIN
_VERSION: Final = Version.HTTP_1_1
_LENGTH: Final = FramingKind.LENGTH
_UNTIL_CLOSE: Final = FramingKind.UNTIL_CLOSE


def recognise_request(raw: bytes, limits: HeadLimits) -> RequestHead | None:
    """Return the value of a whole request head, the one that guard and h11 lead to, or None to leave it to them."""
    found = _REQUEST.fullmatch(raw)
    if found is None:
        return None
    method, path, query, odd, section = found.groups()
    if len(raw) > limits.target and found.start(5) - len(" HTTP/1.1") - len(method) - 1 > limits.target:
        return None
    told = _told(_READ_IN_REQUESTS, raw, section, limits)
    if told is None or b"host" not in told or b"expect" in told:
        return None
    host = told[b"host"]
    keep_alive = _GOES_ON.get(told.get(b"connection"))
    framing = _declared(told)
    traceparent = judged_traceparent(told.get(TRACEPARENT))
    if keep_alive is None or framing is None or (traceparent is None and TRACESTATE in section.lower()):
        return None
    try:
        target = Target(_ORIGIN, path, query) if odd is None else parse_target(method, odd)
        if not _PLAIN_HOST.fullmatch(host):
            judge_host(b"", target, _VERSION, [(b"host", host)])
    except BadMessage:
        return None
    return RequestHead(
        method,
        target,
        _VERSION,
        host,
        _READ_IN_REQUESTS.sub(b"", section),
        framing,
        keep_alive,
        takes_trailers=b"te" in told and takes_trailers(told.items()),
        request_id=judged_request_id(told.get(REQUEST_ID)),
        traceparent=traceparent,
    )


def recognise_response(method: bytes, raw: bytes, limits: HeadLimits) -> ResponseHead | None:
    """As `recognise_request`, of the final answer to a `method` request."""
    found = _RESPONSE.fullmatch(raw)
    if found is None:
        return None
    digits, reason, section = found.groups()
    told = _told(_READ_IN_RESPONSES, raw, section, limits)
    if told is None or b"host" in told:
        return None
    keep_alive = _GOES_ON.get(told.get(b"connection"))
    declared = _declared(told)
    if keep_alive is None or declared is None:
        return None
    status = int(digits)
    try:
        framing = framing_of_answer(method, status, None if declared is NO_BODY else declared)
    except BadMessage:
        return None
    keep_alive = keep_alive and framing.kind is not _UNTIL_CLOSE
    return ResponseHead(status, reason, _VERSION, _READ_IN_RESPONSES.sub(b"", section), framing, keep_alive)


def _told(read: re.Pattern[bytes], raw: bytes, section: bytes, limits: HeadLimits) -> dict[bytes, bytes] | None:
    """Return the fields that are `read`, by their names in lower case; None if one is said twice, or beyond a limit."""
    if len(raw) > limits.head_bytes or section.count(b"\r\n") > limits.fields:
        return None
    said = read.findall(section)
    told = {name.lower(): value for name, value in said}
    return told if len(told) == len(said) else None


def _declared(told: dict[bytes, bytes]) -> Framing | None:
    """Return the framing that is declared, `NO_BODY` where there is none; None to decline."""
    length = told.get(b"content-length")
    coding = told.get(b"transfer-encoding")
    if coding is not None:
        return CHUNKED if length is None and coding == b"chunked" else None
    if length is None:
        return NO_BODY
    if not length.isdigit() or len(length) > _MOST_DIGITS:
        return None
    return Framing(_LENGTH, int(length))
