"""Heads that are right, nearly right, or wrong by a byte or two: dice for holding the two lanes against each other.

`python -m tests.http.near_heads 2000000` throws them as often as you like, and counts.
"""

from __future__ import annotations

import sys
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, TypeVar

from meshproxy.http.fast_lane import recognise_request, recognise_response
from meshproxy.http.head import BadMessage, HeadLimits, RequestHead, ResponseHead
from meshproxy.http.parse import parse_request_head, parse_response_head

if TYPE_CHECKING:
    from collections.abc import Sequence

# Small ones, so that heads pass and miss them.
LIMITS = (HeadLimits(), HeadLimits(head_bytes=200, fields=4, target=20))

# Of each part of a head: what is common, and what is rare, wrong, or a trap.
_METHODS = (
    (b"GET", b"POST", b"HEAD", b"OPTIONS", b"PATCH"),
    (b"CONNECT", b"get", b"X-Y", b"", b"HTTP/1.1", b"CONNECTED"),
)
_TARGETS = (
    (b"/", b"/a", b"/a/b/", b"/a?b=c&d=%2f", b"/a?", b"/%61", b"/a.b/c", b"/~a/b:c@d,e=f", b"/.a", b"/...", b"/a;b"),
    (
        *(b"/a?b?c#", b"/a#b", b"/a%2Fb", b"/a%zz", b"/a%20b", b"//", b"/a//b", b"/.", b"/..", b"/a/../b", b"/a/.."),
        *(b"/%2e", b"/..;/a", b"/..%3bx", b"/\\", b'/"', b"/{}", b"*", b"http://a/b", b"https://a:8080?x", b"a:443"),
        *(b"", b"?a", b"/" + b"a" * 30, b"/a|b", b"/a?\xff", b"/\xc3\xa9", b'/a?"|{}', b"/a%00", b"/a%5c", b"/a?%00"),
    ),
)
_VERSIONS = ((b"HTTP/1.1",), (b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b" HTTP/1.1", b""))
_STATUSES = ((b"200", b"204", b"304", b"404", b"500"), (b"599", b"600", b"100", b"101", b"99", b"2000", b"20x", b"199"))
_REASONS = ((b" OK", b" Not Found", b" "), (b"", b"  x ", b" caf\xe9", b" \t", b" a\x01", b" \xc3\x89", b"  "))
_HOSTS = (
    (b"a", b"a.example:8080", b"127.0.0.1:7001", b"[::1]", b"[::1]:80", b"A_b"),
    (
        *(b"[::x]", b"a:", b"a:0", b"a:65535", b"a:65536", b"a:099999", b"", b"a b", b"a,b", b"a/b", b"u@a", b"a:-1"),
        *(b"a%41", b"a~", b"a;b", b"a:80:80", b"\xe9", b"a:60000", b"a:6553x"),
    ),
)
_Fields = tuple[tuple[bytes, bytes], ...]
_LENGTHS: _Fields = tuple(
    (b"Content-Length", value)
    for value in (
        *(b"5", b"0", b"007", b"1" * 18, b"9" * 19, b"9" * 20, b"0" * 21, b"", b"+5", b"5, 5", b"5 5", b"0x5", b"\xb2"),
        *(b"-1", b"1_0", b"5,", b"5;a"),
    )
)
_CODINGS: _Fields = tuple(
    (b"Transfer-Encoding", value) for value in (b"chunked", b"Chunked", b"gzip, chunked", b"identity", b"", b"chunked,")
)
_OPTIONS: _Fields = tuple(
    (b"Connection", value)
    for value in (
        *(b"keep-alive", b"Keep-Alive", b"close", b"Close", b"KEEP-ALIVE", b"close, keep-alive", b"Upgrade", b"host"),
        *(b"x-mesh-client-id", b"X_Mesh_Client_Id", b"", b",", b"keep-alive,", b"keep-alive, TE", b"user-agent"),
    )
)
_PLAIN_FIELDS: _Fields = (
    *(
        (b"User-Agent", b"curl/8.5.0"),
        (b"Accept", b"*/*"),
        (b"Cookie", b"a=b; c=d"),
        (b"Cookie", b"e=\xe9"),
        (b"X", b""),
    ),
    *((b"Set-Cookie", b"a=b; Path=/"), (b"Set-Cookie", b'c="d"'), (b"Server", b"nginx"), (b"ETag", b'"6921b0d0-400"')),
    *((b"Keep-Alive", b"timeout=5"), (b"TE", b"trailers"), (b"X-Forwarded-For", b"10.0.0.1"), (b"Upgrade", b"h2c")),
    *(
        (b"X", b"\x80\xff\xa0\x85"),
        (b"!#$%&'*+-.^_`|~9", b"b"),
        (b"x-mesh-client-id", b"me"),
        (b"X", b"a: b"),
        (b"X", b":"),
    ),
)
_TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_IDS: _Fields = (
    *((b"traceparent", _TRACE), (b"traceparent", _TRACE[:-1]), (b"traceparent", _TRACE.replace(b"b7", b"B7"))),
    *(
        (b"traceparent", b"01" + _TRACE[2:] + b"-x"),
        (b"tracestate", b"a=1"),
        (b"Tracestate", b"b=2"),
        (b"trace-state", b"c"),
    ),
    *((b"x-request-id", b"r"), (b"x-request-id", b"r" * 129), (b"X-Request-Id", b"a b"), (b"X_Request_Id", b"r")),
)
_FIELDS = (
    (*_PLAIN_FIELDS, *_PLAIN_FIELDS, *_IDS, *_LENGTHS[:3], _CODINGS[0], *_OPTIONS[:4]),
    (
        *(
            *_LENGTHS,
            *_CODINGS,
            *_OPTIONS,
            (b"Expect", b"100-continue"),
            (b"Expect", b"x"),
            (b"Expect", b""),
            (b"Host", b"b"),
        ),
        *(
            (b"X A", b"b"),
            (b"", b"b"),
            (b"X:", b"b"),
            (b"X ", b"b"),
            (b"X", b" b"),
            (b"X", b"b "),
            (b"X", b"\tb"),
            (b"X", b"b\t"),
        ),
        *((b"X", b"a\tb"), (b"X", b"a\r\n b"), (b"X", b"a\nY: b"), (b"X", b"a\rb"), (b"X", b"a\0b"), (b"\xe9", b"b")),
        *(
            (b"X", b"\x7f"),
            (b"(x)", b"b"),
            (b" X", b"b"),
            (b"X", b"\x0bb"),
            (b"Content_Length", b"5"),
            (b"X", b" "),
            (b"X", b""),
        ),
    ),
)
_COLONS = ((b": ",), (b":", b":  ", b" :", b":\t", b": \t ", b""))
_ENDS = ((b"\r\n",), (b"\n", b"\r", b"\r\r\n", b"", b" \r\n", b"\r\n\r\n"))
_SPOILERS = b'\0\t\n\r "#%,./0:;?A\\a\x7f\x80\xff'

_Choice = TypeVar("_Choice")


def near_head(rng: Random, *, response: bool) -> bytes:
    """A whole head, or what somebody might take for one."""
    odd = rng.choice((0.0, 0.01, 0.05))  # how much of it is

    def one(of: tuple[Sequence[_Choice], Sequence[_Choice]], weight: float = 1.0) -> _Choice:
        return rng.choice(of[rng.random() < odd * weight])

    fields = [one(_FIELDS) for _ in range(rng.choice((0, 1, 1, 2, 3, 5)))]
    # A request has one Host and a response none, but for the odd one.
    for _ in range((0 if response else 1) + rng.choice((-1, 1, 2)) * (rng.random() < odd)):
        name = rng.choice((b"Host", b"Host", b"host", b"HOST"))
        fields.insert(rng.randint(0, len(fields)), (name, one(_HOSTS, 5)))
    parts: tuple[bytes, ...]
    if response:
        parts = (one(_VERSIONS), b" ", one(_STATUSES, 3), one(_REASONS, 3))
    else:
        parts = (one(_METHODS, 3), b" ", one(_TARGETS, 5), b" ", one(_VERSIONS))
    lines = [b"".join(parts), *(_cased(rng, name) + one(_COLONS, 0.3) + value for name, value in fields)]
    return _spoilt(rng, b"".join(line + one(_ENDS, 0.1) for line in lines) + one(_ENDS, 0.3))


def _cased(rng: Random, name: bytes) -> bytes:
    return rng.choice((name, name, name, name.lower(), name.upper()))


def _spoilt(rng: Random, raw: bytes) -> bytes:
    """Half of them as they are, the rest with a few bytes changed, added, taken away or said twice."""
    if not raw or rng.random() < 0.5:
        return raw
    spoilt = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(spoilt) + 1)
        end = at + rng.choice((0, 1, 1, 2, 9))
        what = rng.choice(
            (b"", bytes((rng.choice(_SPOILERS),)), bytes((rng.randrange(256),)), bytes(spoilt[at:end]) * 2)
        )
        spoilt[at:end] = what
    return bytes(spoilt)


def lanes_on_request(raw: bytes, limits: HeadLimits) -> tuple[RequestHead | None, RequestHead | int]:
    """What the fast lane says, and the slow one (a refusal is its status)."""
    fast = recognise_request(raw, limits)
    try:
        return fast, parse_request_head(raw, limits)
    except BadMessage as bad:
        return fast, bad.status


def lanes_on_response(method: bytes, raw: bytes, limits: HeadLimits) -> tuple[ResponseHead | None, ResponseHead | int]:
    """As `lanes_on_request`, of an answer to `method`."""
    fast = recognise_response(method, raw, limits)
    try:
        return fast, parse_response_head(method, raw, limits)
    except BadMessage as bad:
        return fast, bad.status


def throw(rng: Random, times: int) -> Counter[str]:
    """Throw the dice; returns how often each lane took a head. Raises AssertionError where they differ."""
    figures: Counter[str] = Counter()
    for _ in range(times):
        limits = rng.choice(LIMITS)
        fast: object
        slow: object
        if rng.random() < 0.5:
            raw, kind = near_head(rng, response=False), "requests"
            fast, slow = lanes_on_request(raw, limits)
        else:
            method = rng.choice((b"GET", b"HEAD", b"POST"))
            raw, kind = near_head(rng, response=True), "responses"
            fast, slow = lanes_on_response(method, raw, limits)
        assert fast is None or (type(fast) is type(slow) and fast == slow), (raw, limits, fast, slow)
        figures[kind] += 1
        figures[f"{kind} refused"] += isinstance(slow, int)
        figures[f"{kind} taken by the fast lane"] += fast is not None
        figures[f"{kind} left to the slow lane, which took them"] += fast is None and not isinstance(slow, int)
    return figures


def main(arguments: Sequence[str]) -> None:
    """Throw `arguments[0]` times, with the seed `arguments[1]` (0)."""
    figures = throw(Random(int(arguments[1]) if len(arguments) > 1 else 0), int(arguments[0]))
    for what, number in figures.items():
        print(f"{number:>9} {what}")


if __name__ == "__main__":
    main(sys.argv[1:])
