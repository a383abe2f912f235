"""The lexical judge: which bytes a head may be made of, before anything believes a field in it.

h11, the parser of record, takes bare LF for a line end, unfolds obs-fold, lets control bytes into values, and reports
two equal Content-Length fields, or the list `5, 5`, as one: after it, the evidence is gone. So it only ever sees heads
that have passed here.
"""

from __future__ import annotations

import re
from typing import Final

from meshproxy.http.head import BadMessage, HeadLimits

# RFC 9112 section 2.2: we take CRLF and nothing else for a line end. RFC 9110 section 5.5: no NUL; other controls are
# never needed either, and a backend may stop at them. HTAB is judged by the line it stands in.
_SOUND: Final = re.compile(rb"(?:[^\x00-\x08\x0a-\x1f\x7f]++|\r\n)*")

# A field line, RFC 9112 section 5: a name that is a token, no whitespace before the colon, none before the name (that
# would be obs-fold, section 5.2, or the trick of section 2.2).
TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_FIELD_LINE: Final = re.compile(TOKEN + rb":")

# Said twice, each of these has two readings; h11 would make one of them. RFC 9112 sections 3.2, 6.1 and 6.3.
_ONCE: Final = frozenset({b"host", b"content-length", b"transfer-encoding"})
_DIGITS: Final = re.compile(rb"[0-9]+")

# What a start line must at least look like for the rest of its head to be waited for (RFC 9112 sections 3 and 4).
_START_LINE: Final = re.compile(rb"HTTP/[0-9]\.[0-9] .*|[^ ]+ [^ ]+ HTTP/[0-9]\.[0-9]")

_RESPONSE: Final = b"HTTP/"  # `/` is in no method, so this begins a status line and never a request line


def find_head_end(buffer: bytes | bytearray, start: int, scanned: int, limits: HeadLimits) -> int:
    """Return the offset behind the blank line that ends the head at `start` of `buffer`, or -1 while there is none.

    As `find_section_end`, and 414 where it is the request line that has no end.
    """
    end = buffer.find(b"\r\n\r\n", max(start, scanned - 3))
    if 0 <= end <= start + limits.head_bytes - 4:
        return end + 4
    if (
        len(buffer) - start > limits.head_bytes
        and not buffer.startswith(_RESPONSE, start)
        and buffer.find(b"\r\n", start, start + limits.head_bytes) < 0
    ):
        refuse_controls(buffer, max(start, scanned - 1), start + limits.head_bytes)
        raise BadMessage(414, f"a request line of more than {limits.head_bytes} bytes", limit="head_bytes")
    return find_section_end(buffer, start, scanned, limits)


def find_section_end(buffer: bytes | bytearray, start: int, scanned: int, limits: HeadLimits) -> int:
    """Return the offset behind the blank line that ends the lines at `start` of `buffer`, or -1 while there is none.

    `scanned` is the offset up to which earlier calls have seen them (so all calls together are linear). Raises
    BadMessage at once: 400 for bytes no head can contain (a bare LF, a TLS record), 431 when the limit is passed
    without an end.
    """
    # The end may straddle what was seen; a lone CR at the very end may still become CRLF.
    end = buffer.find(b"\r\n\r\n", max(start, scanned - 3))
    if end < 0:
        unseen = max(start, scanned - 1)
        if unseen > start and buffer[unseen] == 0x0A:
            unseen -= 1  # its CR is seen already
        stop = len(buffer) - 1 if buffer.endswith(b"\r") else len(buffer)
        refuse_controls(buffer, unseen, stop)
    if (len(buffer) if end < 0 else end + 4) - start > limits.head_bytes:
        raise BadMessage(431, f"a head of more than {limits.head_bytes} bytes", limit="head_bytes")
    return -1 if end < 0 else end + 4


def judge_start_line(buffer: bytes | bytearray, start: int, scanned: int) -> bool:
    """Tell whether the start line of an incomplete head is complete, and if so judge it at once.

    A PROXY header or a line of another protocol would otherwise be waited on until a deadline. `scanned` as in
    `find_section_end`; not to be asked again once it was complete. Raises BadMessage (400).
    """
    end = buffer.find(b"\r\n", max(start, scanned - 1))
    if end >= 0 and not _START_LINE.fullmatch(buffer, start, end):
        raise BadMessage(400, f"not a start line: {_shown(bytes(buffer[start:end]))}")
    return end >= 0


def judge_head(raw: bytes, limits: HeadLimits) -> None:
    """Judge a whole head, from the first byte of its start line to its blank line.

    Returns nothing when every rule of this module holds. The start line's own grammar is left to h11, which knows it
    exactly. Raises BadMessage with 414 (target too long), 431 (too large, too many fields) or 400.
    """
    if len(raw) > limits.head_bytes:
        raise BadMessage(431, f"a head of {len(raw)} bytes, limit {limits.head_bytes}", limit="head_bytes")
    refuse_controls(raw, 0, len(raw))
    start, _, section = raw.partition(b"\r\n")
    if b"\t" in start:
        raise BadMessage(400, "a tab in the start line (RFC 9112 section 3)")
    if not raw.startswith(_RESPONSE):
        target = start.split(b" ", 2)[1:2]
        if target and len(target[0]) > limits.target:
            raise BadMessage(414, f"a target of {len(target[0])} bytes, limit {limits.target}", limit="target_bytes")
    names = judge_fields(section, limits)
    for name in _ONCE:
        if names.count(name) > 1:
            raise BadMessage(400, f"{_shown(name)} more than once")


def judge_fields(section: bytes, limits: HeadLimits) -> list[bytes]:
    """Judge the field lines of a head or a trailer section, blank line included; its controls are judged already.

    Returns the names in lower case, in order. Raises BadMessage with 431 (too many) or 400.
    """
    if section != b"\r\n" and not section.endswith(b"\r\n\r\n"):
        raise BadMessage(400, "no blank line at the end (RFC 9112 section 2.1)")
    lines = section[:-4].split(b"\r\n") if len(section) > 2 else []
    if len(lines) > limits.fields:
        raise BadMessage(431, f"{len(lines)} fields, limit {limits.fields}", limit="max_fields")
    names = []
    for line in lines:
        found = _FIELD_LINE.match(line)
        if found is None:
            raise BadMessage(400, f"not a field line: {_shown(line)} (RFC 9112 section 5)")
        name = line[: found.end() - 1].lower()
        if name == b"content-length" and not _DIGITS.fullmatch(line[found.end() :].strip(b" \t")):
            raise BadMessage(400, f"not a length: {_shown(line)} (RFC 9110 section 8.6)")
        names.append(name)
    return names


def refuse_controls(raw: bytes | bytearray, start: int, stop: int) -> None:
    """Raise BadMessage (400) unless every byte between may stand in a head and every line end there is CRLF."""
    sound = _SOUND.match(raw, start, stop)
    reached = sound.end() if sound else start
    if reached < stop:
        raise BadMessage(400, f"byte 0x{raw[reached]:02x} where it may not stand (RFC 9112 section 2.2)")


def _shown(text: bytes) -> str:
    """Say a peer's bytes in our log: the beginning, escaped."""
    return repr(text[:40])[1:]
