"""What is familiar is read, and written, as if it were new."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from meshproxy.http.familiar import FamiliarAnswers, FamiliarRequests
from meshproxy.http.fast_lane import recognise_request, recognise_response
from meshproxy.http.forwarded import ForwardedAnswer, forwarded_head
from meshproxy.http.head import FramingKind, HeadLimits, RequestHead
from meshproxy.http.kept import KeptAnswers, KeptRequests
from tests.http.near_heads import LIMITS, near_head

_LIMITS = HeadLimits()
_TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_LINES = (
    b"GET / HTTP/1.1",
    b"POST /a/b?c=d HTTP/1.1",
    b"GET /a%20b HTTP/1.1",
    b"GET //a HTTP/1.1",
    b"CONNECT / HTTP/1.1",
    b"GET /a HTTP/1.0",
    b"GET / HTTP/1.1\r\nHost: b",
    b"get / HTTP/1.1",
    b"",
)
_STATUSES = (b"HTTP/1.1 200 OK", b"HTTP/1.1 304 Not Modified", b"HTTP/1.1 100 Continue", b"HTTP/1.0 200 OK")
_TAILS = (
    b"",
    b"\r\nx-request-id: r\r\ntraceparent: " + _TRACE,
    b"\r\nx-request-id: r\r\ntraceparent: " + _TRACE[:-1],
    b"\r\nx-request-id: r\r\ntraceparent: " + _TRACE + b" ",
    b"\r\nx-request-id: r",
    b"\r\nx-request-id: " + b"r" * 129,
    b"\r\nX-Request-Id: r",
    b"\r\ntraceparent: " + _TRACE,
    b"\r\nx-request-id: r\r\nx-request-id: s",
    b"\r\nx-request-id: r\r\nHost: c",
    b"\r\nx-request-id: \x00",
    b"\r\nX: y",
    b"\r\nx-request-id: r\r\nX: y",
    b"\r\nx-request-id: r\r\ntraceparent: " + _TRACE + b"\r\nX: y",
    b"\r\ntraceparent: " + _TRACE + b"\r\nX: y",
    b"\r\nTraceparent: " + _TRACE.replace(b"b7", b"c8") + b"\r\nX: y",
    b"\r\ntraceparent: " + _TRACE + b"\r\ntraceparent: " + _TRACE,
    b"\r\ntraceparent: " + _TRACE + b"\r\nx-request-id: r\r\ntraceparent: " + _TRACE,
    b"\r\ntraceparent: " + _TRACE + b"-x",
    b"\r\ntraceparent: " + _TRACE + b"\r\ntracestate: a=1",
    b"\r\nb3: 0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
    b"\r\nX-B3-Sampled: 1\r\ntraceparent: " + _TRACE,
)


def _varied(rng: Random, raw: bytes, starts: tuple[bytes, ...]) -> bytes:
    """The fields of a head behind another start line, or before other last fields."""
    start, _, fields = raw.partition(b"\r\n")
    fields = fields.removesuffix(b"\r\n\r\n")
    if rng.random() < 0.6:
        fields = fields.rpartition(b"\r\nx-request-id: ")[0] or fields
    return rng.choice((start, *starts)) + b"\r\n" + fields + rng.choice(_TAILS) + b"\r\n\r\n"


@pytest.mark.parametrize("limits", LIMITS)
def test_familiar_requests_are_read_as_new_ones(limits: HeadLimits) -> None:
    rng, hits = Random(7541), 0
    for _ in range(1_000):
        familiar = FamiliarRequests(limits)
        raw = near_head(rng, response=False)
        for _ in range(6):
            taken = familiar.recognise(raw + rng.choice((b"", b"body")))
            head = recognise_request(raw, limits) if raw.find(b"\r\n\r\n") == len(raw) - 4 else None
            if head is not None:
                assert taken == (head, len(raw)), raw
            elif taken is not None:  # it ended sooner than it seemed
                assert taken == (recognise_request(raw[: taken[1]], limits), taken[1]), raw
            hits += head is not None
            raw = _varied(rng, raw, _LINES)
    assert hits > 500


def test_familiar_answers_are_read_as_new_ones() -> None:
    rng, hits = Random(7541), 0
    for limits in LIMITS:
        familiar = FamiliarAnswers(limits)
        for _ in range(1_000):
            raw = near_head(rng, response=True)
            for method in (b"GET", b"HEAD", b"GET"):
                taken = familiar.recognise(method, raw + b"body")
                head = recognise_response(method, raw, limits) if raw.find(b"\r\n\r\n") == len(raw) - 4 else None
                assert head is None or taken == (head, len(raw)), raw
                assert taken is None or taken[0] == recognise_response(method, raw[: taken[1]], limits), raw
                hits += head is not None
                raw = _varied(rng, raw, _STATUSES)
    assert hits > 500


def test_what_is_familiar_is_one_value_and_is_bounded() -> None:
    familiar = FamiliarRequests(_LIMITS)
    raw = b"GET /%d HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n"

    def fields(path: int, x: bytes) -> object:
        found = familiar.recognise(raw % (path, x))
        assert found is not None
        return found[0].fields

    first = fields(1, b"a")
    assert fields(2, b"a") is first
    for number in range(1000):
        fields(1, b"%d" % number)
    assert repr(familiar) < "<FamiliarRequests with 65>"
    for number in range(1000):
        fields(number, b"a")
        fields(1, b"a" * (number + 1))
    assert 0 < len(familiar._said_alone) <= 64
    long = fields(1, b"b" * 3000)
    assert fields(2, b"b" * 3000) is not long


def test_what_was_said_before_is_the_same_head_and_only_its_ids_are_read_again() -> None:
    familiar, said = FamiliarRequests(_LIMITS), b"GET /a?b HTTP/1.1\r\nHost: a\r\nX: y"

    def read(tail: bytes) -> RequestHead | None:
        found = familiar.recognise(said + tail)
        assert found is None or found[1] == (said + tail).index(b"\r\n\r\n") + 4
        return None if found is None else found[0]

    read(b"\r\n\r\n")
    first = read(b"\r\n\r\n")
    assert first is not None
    assert read(b"\r\n\r\n") is first
    assert read(b"\r\n\r\nbehind it") is first
    for request_id in (b"r", b"s"):
        again = read(b"\r\nx-request-id: %b\r\ntraceparent: %b\r\n\r\n" % (request_id, _TRACE))
        assert again == msgspec.structs.replace(first, request_id=request_id, traceparent=_TRACE)
    for incomplete in (b"", b"\r", b"\r\n", b"\r\n\r", b"\r\nx-request-id: r\r\n"):
        assert read(incomplete) is None
    other = read(b"\r\nX-Request-Id: r\r\n\r\n")
    assert other == msgspec.structs.replace(first, request_id=b"r", fields=other.fields if other else None)


def test_heads_that_were_written_before_are_written_alike() -> None:
    rng, familiar, written = Random(9112), FamiliarRequests(_LIMITS), 0
    kept = {host: KeptRequests(host) for host in (None, b"other")}
    for _ in range(300):
        raw = near_head(rng, response=False)
        for _ in range(5):
            found = familiar.recognise(raw)
            raw = _varied(rng, raw, _LINES)
            if found is None:
                continue
            for host, writer in kept.items():
                for client_id in (None, b"spiffe://td/a", b"spiffe://td/b", b"spiffe://td/a"):
                    request_id = b"%d" % rng.randrange(10**9)
                    asked = found[0], client_id, request_id, _TRACE
                    assert writer.head(*asked) == forwarded_head(*asked, host)
                    written += 1
    assert written > 1_000


def test_an_answer_whose_head_is_not_there_to_its_end_is_not_familiar() -> None:
    familiar, said = FamiliarAnswers(_LIMITS), b"HTTP/1.1 200 OK\r\nContent-Length: 2"
    first = familiar.recognise(b"GET", said + b"\r\n\r\nhi")
    assert first is not None
    for told in (b"r", b"s", None):
        assert familiar.recognise(b"GET", said + b"\r\nx-request-id: r\r\n\r\nhi", told) == (first[0], len(said) + 21)
        assert familiar.recognise(b"GET", said + b"\r\nx-request-id: \r\n\r\nhi", told) is None
    for tail in (b"", b"!", b"\r", b"\r\n", b"\r\n\r", b"\r\nx-request-id: r", b"\r\nx-request-id: r\r\n"):
        assert familiar.recognise(b"GET", said + tail) is None


def test_answers_that_were_written_before_are_written_alike() -> None:
    rng, familiar, kept, written = Random(9112), FamiliarAnswers(_LIMITS), KeptAnswers(), 0
    request = recognise_request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", _LIMITS)
    assert request is not None
    for _ in range(1_000):
        raw = near_head(rng, response=True)
        found = familiar.recognise(b"GET", raw)
        if found is None or found[0].framing.kind not in {FramingKind.NONE, FramingKind.LENGTH}:
            continue
        for close in (True, False, True, False):
            request_id = b"%d" % rng.randrange(10**9)
            answer = ForwardedAnswer(request, request_id).begin(found[0], close=close)
            assert kept.whole(found[0], b"body", request, request_id, close=close) == answer + b"body"
            written += 1
    assert written > 300
