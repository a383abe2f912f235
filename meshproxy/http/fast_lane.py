"""The common heads, recognised in one strict pass.

It accepts a subset of what guard and h11 accept, and reads it exactly as they do; everything else it declines, and they
decide. It never guesses and never refuses: HTTP/1.1 only, one space between the parts of a start line, no tab, nothing
behind a value, no Expect, no Connection but `keep-alive` or `close`. A path with escapes, or a Host that is not a plain
name, is judged by the same rooms as in the other lane.

Two passes of `re` over the head, one that judges every byte of it and one that splits it, take a tenth of h11's time.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

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
    from collections.abc import Sequence

    from meshproxy.http.head import Field, HeadLimits

# Every repetition is possessive: no byte is looked at again, so no head takes longer than its length.
_SECTION: Final = rb"((?:" + TOKEN + rb"+: *+[\x20-\x7e\x80-\xff]*+(?<! )\r\n)++)\r\n"

# A path that is forwarded as it stands: no escape, no segment that is empty or begins with a dot.
_PCHAR: Final = rb"[A-Za-z0-9_~!$&'()*+,;=:@-]"
_SEGMENT: Final = _PCHAR + rb"(?:" + _PCHAR + rb"|\.)*+"
_PLAIN: Final = rb"(/(?:" + _SEGMENT + rb"/)*+(?:" + _SEGMENT + rb")?+)(?:\?([\x21\x22\x24-\x7e]*+))?+"

_REQUEST: Final = re.compile(rb"(?!CONNECT )([A-Z]++) (?:" + _PLAIN + rb"|(/[\x21-\x7e]*+)) HTTP/1\.1\r\n" + _SECTION)
_RESPONSE: Final = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9]) ([\x20-\x7e]*+)\r\n" + _SECTION)
_FIELD: Final = re.compile(rb"([^:]++): *+([^\r]*+)\r\n")  # of a section that is judged

_PLAIN_HOST: Final = re.compile(rb"[A-Za-z0-9._-]++(?::(?:[1-5]?[0-9]{1,4}|6[0-4][0-9]{3}))?")

_TELLING: Final = frozenset({b"content-length", b"transfer-encoding", b"connection", b"expect"})
_GOES_ON: Final = {b"keep-alive": True, b"Keep-Alive": True, b"close": False, b"Close": False}
_MOST_DIGITS: Final = 18  # of a length: less than 2^63, whatever they are


def recognise_request(raw: bytes, limits: HeadLimits) -> RequestHead | None:
    """Return the value of a whole request head, the one that guard and h11 lead to, or None to leave it to them."""
    found = _REQUEST.fullmatch(raw)
    if found is None or len(raw) > limits.head_bytes:
        return None
    method, path, query, odd, _ = found.groups()
    if len(raw) > limits.target and found.start(5) - len(" HTTP/1.1\r\n") - len(method) - 1 > limits.target:
        return None
    fields = tuple(_FIELD.findall(raw, *found.span(5)))
    names = [name.lower() for name, _ in fields]
    if len(fields) > limits.fields or names.count(b"host") != 1:
        return None
    told = _told(names, fields)
    if told is None:
        return None
    framing, keep_alive = told
    try:
        target = parse_target(method, odd) if odd is not None else Target(TargetForm.ORIGIN, path, query)
        if not _PLAIN_HOST.fullmatch(fields[names.index(b"host")][1]):
            judge_host(b"", target, Version.HTTP_1_1, fields)
    except BadMessage:
        return None
    return RequestHead(method, target, Version.HTTP_1_1, fields, framing or NO_BODY, keep_alive)


def recognise_response(method: bytes, raw: bytes, limits: HeadLimits) -> ResponseHead | None:
    """As `recognise_request`, of the final answer to a `method` request."""
    found = _RESPONSE.fullmatch(raw)
    if found is None or len(raw) > limits.head_bytes:
        return None
    fields = tuple(_FIELD.findall(raw, *found.span(3)))
    names = [name.lower() for name, _ in fields]
    if len(fields) > limits.fields or names.count(b"host") > 1:
        return None
    told = _told(names, fields)
    if told is None:
        return None
    declared, keep_alive = told
    status = int(found[1])
    try:
        framing = framing_of_answer(method, status, declared)
    except BadMessage:
        return None
    keep_alive = keep_alive and framing.kind is not FramingKind.UNTIL_CLOSE
    return ResponseHead(status, found[2], Version.HTTP_1_1, fields, framing, keep_alive)


def _told(names: Sequence[bytes], fields: Sequence[Field]) -> tuple[Framing | None, bool] | None:
    """Return the framing the fields declare and whether the connection goes on; None to decline."""
    framing, goes_on = None, None
    if _TELLING.isdisjoint(names):
        return framing, True
    for name, (_, value) in zip(names, fields, strict=True):
        if name not in _TELLING:
            continue
        if name == b"connection" and goes_on is None:
            goes_on = _GOES_ON.get(value)
            if goes_on is None:
                return None
        elif name == b"content-length" and framing is None and value.isdigit() and len(value) <= _MOST_DIGITS:
            framing = Framing(FramingKind.LENGTH, int(value))
        elif name == b"transfer-encoding" and framing is None and value == b"chunked":
            framing = CHUNKED
        else:
            return None
    return framing, goes_on is not False
