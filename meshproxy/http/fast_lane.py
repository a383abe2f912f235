"""The common heads, recognised in one strict pass.

It accepts a subset of what guard and h11 accept, and reads it exactly as they do; everything else it declines, and they
decide. It never guesses and never refuses: HTTP/1.1 only, fields written `name: value`, no tab, no Expect, no
Connection but `keep-alive` or `close`, nothing said twice that a proxy reads. A path with escapes, or a Host that is
not a plain name, is judged by the same rooms as in the other lane.

Two passes of `re` do it: one that judges every byte, and one that parts the few fields a proxy reads from those it only
carries. The latter stay one text, for nothing here asks what they say.
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
    RequestFields,
    RequestHead,
    ResponseHead,
    Target,
    TargetForm,
    Version,
)
from meshproxy.http.target import judge_host, parse_target
from meshproxy.http.trace_context import read_b3

if TYPE_CHECKING:
    from meshproxy.http.head import HeadLimits

# What repeats begins with a byte that nothing before it could have taken, so a head that fails takes no longer than its
# length. (Groups are not possessive: Python before 3.11.5 matches those wrongly, cpython#106052.)
_SECTION: Final = rb"((?:\r\n" + TOKEN + rb"+: [\x21-\x7e\x80-\xff][\x20-\x7e\x80-\xff]*+(?<! ))+)\r\n\r\n"

# A path that is forwarded as it stands: no escape, no segment that is empty or begins with a dot or a semicolon.
_SEGMENT: Final = rb"[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9._~!$&'()*+,;=:@-]*+"
_PLAIN: Final = rb"(/(?:" + _SEGMENT + rb"/)*(?:" + _SEGMENT + rb")?)(?:\?([\x21\x22\x24-\x7e]*+))?"

_METHOD: Final = rb"(?!CONNECT )([A-Z]++) "
PLAIN_REQUEST_LINE: Final = _METHOD + _PLAIN + rb" HTTP/1\.1"

_REQUEST: Final = re.compile(_METHOD + rb"(?:" + _PLAIN + rb"|(/[\x21-\x7e]*+)) HTTP/1\.1" + _SECTION)
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
    # A target is within its limit where the whole head is.
    if found is None or (len(raw) > limits.target and _target_size(found) > limits.target):
        return None
    method, path, query, odd, section = found.groups()
    parted = _parted(_READ_IN_REQUESTS, raw, section, limits)
    if parted is None:
        return None
    read, carried = parted
    host = read.get(b"host")
    keep_alive = _GOES_ON.get(read.get(b"connection"))
    framing = _declared(read)
    traceparent = judged_traceparent(read.get(TRACEPARENT))
    if host is None or keep_alive is None or framing is None or b"expect" in read:
        return None
    if traceparent is None and TRACESTATE in carried.lower():
        return None
    try:
        target = Target(_ORIGIN, path, query) if odd is None else parse_target(method, odd)
        if not _PLAIN_HOST.fullmatch(host):
            judge_host(b"", target, _VERSION, [(b"host", host)])
    except BadMessage:
        return None
    trailers = b"te" in read and takes_trailers(read.items())
    fields = RequestFields(host, carried, framing, keep_alive, takes_trailers=trailers, b3=read_b3(carried))
    return RequestHead(method, target, _VERSION, fields, judged_request_id(read.get(REQUEST_ID)), traceparent)


def recognise_response(method: bytes, raw: bytes, limits: HeadLimits) -> ResponseHead | None:
    """As `recognise_request`, of the final answer to a `method` request."""
    found = _RESPONSE.fullmatch(raw)
    if found is None:
        return None
    digits, reason, section = found.groups()
    parted = _parted(_READ_IN_RESPONSES, raw, section, limits)
    if parted is None:
        return None
    read, carried = parted
    keep_alive = _GOES_ON.get(read.get(b"connection"))
    declared = _declared(read)
    if keep_alive is None or declared is None or b"host" in read:
        return None
    status = int(digits)
    try:
        framing = framing_of_answer(method, status, None if declared is NO_BODY else declared)
    except BadMessage:
        return None
    keep_alive = keep_alive and framing.kind is not _UNTIL_CLOSE
    return ResponseHead(status, reason, _VERSION, carried, framing, keep_alive)


def _target_size(found: re.Match[bytes]) -> int:
    return found.start(5) - len(" HTTP/1.1") - (found.end(1) + 1)


def _parted(
    ours: re.Pattern[bytes], raw: bytes, section: bytes, limits: HeadLimits
) -> tuple[dict[bytes, bytes], bytes] | None:
    """Return the fields that are `ours` to read, by their names in lower case, and the text of all others.

    None if one of ours is said twice, or when the head is beyond a limit.
    """
    if len(raw) > limits.head_bytes or section.count(b"\r\n") > limits.fields:
        return None
    parts = ours.split(section)  # a text, then a name, a value and a text for each of ours
    read = {}
    for at in range(1, len(parts), 3):
        read[parts[at].lower()] = parts[at + 1]
    return (read, b"".join(parts[::3])) if 3 * len(read) + 1 == len(parts) else None


def _declared(read: dict[bytes, bytes]) -> Framing | None:
    """Return the framing that is declared, `NO_BODY` where there is none; None to decline."""
    length = read.get(b"content-length")
    coding = read.get(b"transfer-encoding")
    if coding is not None:
        return CHUNKED if length is None and coding == b"chunked" else None
    if length is None:
        return NO_BODY
    if not length.isdigit() or len(length) > _MOST_DIGITS:
        return None
    return Framing(_LENGTH, int(length))
