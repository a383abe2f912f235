"""The whole exchange of one connection: a caller and a service who say anything, and hang up whenever they like.

Bytes are read as a play: each step is a byte that says who acts and how much, and behind it what is said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshproxy.errors import Failure
from meshproxy.http.codec import RequestReader
from meshproxy.http.fields import is_identity_spelling
from meshproxy.http.head import FramingKind, HeadLimits, RequestHead
from meshproxy.http.phase import Need, Phase
from tests.fuzz.target import Target
from tests.fuzz.targets.requests import WORDS
from tests.http.screenplay import Play
from tests.http.texts import fields_in

if TYPE_CHECKING:
    from collections.abc import Callable

_GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
_POST = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
_CHUNKED = b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
_EXPECTING = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
_UPGRADE = b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
_OK_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
_SWITCH = b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# What a step may be; of twelve some mean nothing.
_SAYS, _HEARS = 0, 1
_CALLER: dict[int, Callable[[Play], object]] = {
    2: Play.caller_ends,
    3: Play.caller_breaks,
    7: Play.waits,
    8: lambda play: play.relay.drain(),
}
_SERVICE: dict[int, Callable[[Play], object]] = {
    4: Play.upstream_breaks,
    5: Play.upstream_ends,
    6: lambda play: play.upstream_ends(clean=False),
}


def _step(who: int, said: bytes) -> bytes:
    """A line of the play: the caller (0) or the service (1) says something of at most 8 KiB."""
    return bytes((who, len(said) >> 8, len(said) & 0xFF)) + said


def _run(data: bytes) -> None:
    play, at = Play(), 0
    has_upstream = False
    while at < len(data) and play.stands() not in (Phase.OVER, Phase.UPGRADED):
        act, at = data[at] % 12, at + 1
        if act in (_SAYS, _HEARS):
            size = int.from_bytes(data[at : at + 2], "big") % 8192
            said, at = data[at + 2 : at + 2 + size], at + 2 + size
            if act == _SAYS and (play.relay.wants_downstream or play.stands() is Phase.CONNECTING):
                play.says(said)
            elif act == _HEARS and has_upstream and said:
                play.hears(said)
        elif act in _CALLER:
            _CALLER[act](play)
        elif act in _SERVICE and has_upstream:
            _SERVICE[act](play)
        has_upstream = _serve(play, act, has_upstream=has_upstream)
        _holds(play)


def _serve(play: Play, act: int, *, has_upstream: bool) -> bool:
    """Carry out what the relay needs, as a driver does; what was sent to the service must be sound requests."""
    while needs := play.new_needs():
        for need in needs:
            if need in (Need.UPSTREAM, Need.FRESH_UPSTREAM):
                assert play.stands() is Phase.CONNECTING
                play.gets(reused=bool(act & 1))
                has_upstream = True
            elif need in (Need.RELEASE_UPSTREAM, Need.CLOSE_UPSTREAM, Need.DROP_UPSTREAM):
                has_upstream = False
    return has_upstream


def _holds(play: Play) -> None:
    reader = RequestReader(HeadLimits(head_bytes=1 << 20, fields=1000, target=1 << 16))
    if play.stands() is Phase.UPGRADED:
        return
    reader.feed(play.up)
    heads = 0
    while (event := reader.next()) is not None:  # raises for what is not sound
        if isinstance(event, RequestHead):
            heads += 1
            for name, _ in fields_in(event.fields.carried):
                assert not is_identity_spelling(name)
            assert event.fields.framing.kind in (FramingKind.NONE, FramingKind.LENGTH, FramingKind.CHUNKED)
    assert heads <= 1  # one exchange on one connection at a time
    for exchange in play.told:
        assert exchange.request_id or exchange.failure is Failure.CLIENT_GONE  # in the middle of a head


TARGET = Target(
    _run,
    (
        _step(0, _GET) + _step(1, _OK),
        _step(0, _GET + _POST + _CHUNKED) + _step(1, _OK) * 3,
        _step(0, _POST[:50]) + _step(0, _POST[50:]) + _step(1, _OK_CHUNKED) + _step(0, _GET) + _step(1, _OK),
        _step(0, _EXPECTING) + _step(1, _CONTINUE) + _step(0, b"hello") + _step(1, _OK),
        _step(0, _UPGRADE) + _step(1, _SWITCH),
        _step(0, _GET) + b"\4" + _step(1, _OK),
        _step(0, _GET) + _step(1, _OK[:20]) + b"\5",
        _step(0, _GET) + _step(1, b"HTTP/1.1 200 OK\r\n\r\nhi") + b"\5",
        _step(0, _CHUNKED[:70]) + _step(1, _OK) + _step(0, _CHUNKED[70:]),
        _step(0, b"GET /no HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n")
        + _step(0, b"hello" + _GET)
        + _step(1, _OK),
        _step(0, _GET) + b"\7\7\2\3" + _step(1, _OK) + b"\x08",
    ),
    (
        *WORDS,
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 204 N\r\n\r\n",
        *(bytes((n,)) for n in range(9)),
    ),
)
