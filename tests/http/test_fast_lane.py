"""The fast lane against the other: it takes what is common, and never what guard and h11 refuse or read otherwise."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.http import parse
from meshproxy.http.fast_lane import recognise_request, recognise_response
from meshproxy.http.head import HeadLimits
from tests.http.corpus import REQUESTS, RESPONSES
from tests.http.near_heads import LIMITS, lanes_on_request, lanes_on_response, throw

_LIMITS = HeadLimits()
_SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "corpus"


def _head(*lines: str) -> bytes:
    return "".join(line + "\r\n" for line in (*lines, "")).encode("latin-1")


_BROWSER = (
    'sec-ch-ua: "Chromium";v="130", "Not?A_Brand";v="99"',
    "sec-ch-ua-mobile: ?0",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Cookie: session=abc.def; theme=dark",
)
_TYPICAL_REQUESTS = {
    "curl": _head("GET /a/b.json?x=1 HTTP/1.1", "Host: localhost:8080", "User-Agent: curl/8.5.0", "Accept: */*"),
    "curl posts": _head(
        *(
            "POST /charges HTTP/1.1",
            "Host: localhost:8080",
            "User-Agent: curl/8.5.0",
            "Accept: */*",
            "Content-Length: 17",
        ),
        "Content-Type: application/json",
    ),
    "wrk": _head("GET / HTTP/1.1", "Host: 127.0.0.1:7001"),
    "hey": _head(
        *("GET / HTTP/1.1", "Host: api", "User-Agent: hey/0.0.1", "Content-Type: text/html", "Accept-Encoding: gzip")
    ),
    "requests": _head(
        *("GET / HTTP/1.1", "Host: api", "User-Agent: python-requests/2.32.3", "Accept-Encoding: gzip, deflate"),
        *("Accept: */*", "Connection: keep-alive"),
    ),
    "httpx streams": _head(
        *(
            "PUT /a HTTP/1.1",
            "Host: api:8000",
            "Accept: */*",
            "Accept-Encoding: gzip, deflate",
            "Connection: keep-alive",
        ),
        *("User-Agent: python-httpx/0.28.1", "Transfer-Encoding: chunked"),
    ),
    "http.client": _head("DELETE /a/1 HTTP/1.1", "Host: api", "Accept-Encoding: identity"),
    "urllib": _head(
        *(
            "GET / HTTP/1.1",
            "Accept-Encoding: identity",
            "Host: api",
            "User-Agent: Python-urllib/3.11",
            "Connection: close",
        )
    ),
    "Go": _head("GET /v1/x?y=z HTTP/1.1", "Host: api:80", "User-Agent: Go-http-client/1.1", "Accept-Encoding: gzip"),
    "Node": _head("GET / HTTP/1.1", "host: api", "connection: keep-alive", "accept: */*", "accept-language: *"),
    "Java": _head("GET / HTTP/1.1", "Content-Length: 0", "Host: api", "User-Agent: Java-http-client/21"),
    "Firefox": _head("GET /docs/ HTTP/1.1", "Host: api.example", *_BROWSER[2:], "DNT: 1", "Connection: keep-alive"),
    "Chrome": _head("GET /?q=a%20b&r=%C3%A9 HTTP/1.1", "Host: api.example", "Connection: keep-alive", *_BROWSER),
    "HAProxy": _head("GET / HTTP/1.1", "host: api", "x-forwarded-for: 10.0.0.1"),
    "another sidecar": _head(
        *(
            "GET / HTTP/1.1",
            "Host: api",
            "Accept: */*",
            "Via: 1.1 meshproxy",
            "x-request-id: f5b165224a58b791df6af1d8303e61cd",
        ),
        *("traceparent: 00-c4bb86c3d1c427103c344c4189eb2f1e-7bd5d47e446fcec2-00", "x-mesh-client-id: spiffe://td/web"),
    ),
    "an escape in the path": _head("GET /a%20b HTTP/1.1", "Host: api"),
    "IPv6": _head("GET / HTTP/1.1", "Host: [::1]:8080"),
}
_TYPICAL_RESPONSES = {
    "nginx": _head(
        *("HTTP/1.1 200 OK", "Server: nginx/1.22.1", "Date: Sat, 22 Nov 2025 10:00:00 GMT", "Content-Type: text/html"),
        *("Content-Length: 1024", "Connection: keep-alive", 'ETag: "6921b0d0-400"', "Accept-Ranges: bytes"),
    ),
    "nginx, chunked": _head("HTTP/1.1 200 OK", "Server: nginx", "Transfer-Encoding: chunked", "Connection: keep-alive"),
    "nginx, not modified": _head(
        "HTTP/1.1 304 Not Modified", "Server: nginx", "Connection: keep-alive", 'ETag: "6921b0d0"'
    ),
    "uvicorn": _head(
        *("HTTP/1.1 200 OK", "date: Sat, 22 Nov 2025 10:00:00 GMT", "server: uvicorn", "content-length: 2"),
        "content-type: application/json",
    ),
    "gunicorn": _head("HTTP/1.1 404 NOT FOUND", "Server: gunicorn", "Connection: close", "Content-Length: 207"),
    "Go": _head(
        "HTTP/1.1 200 OK", "Date: Sat, 22 Nov 2025 10:00:00 GMT", "Content-Length: 5", "Content-Type: text/plain"
    ),
    "Node": _head(
        *("HTTP/1.1 201 Created", "Content-Type: application/json", "Date: Sat, 22 Nov 2025 10:00:00 GMT"),
        *("Connection: keep-alive", "Keep-Alive: timeout=5", "Transfer-Encoding: chunked"),
    ),
    "no content": _head("HTTP/1.1 204 No Content", "Date: Sat, 22 Nov 2025 10:00:00 GMT"),
    "until close": _head("HTTP/1.1 200 OK", "Content-Type: text/event-stream", "Connection: close"),
    "a login": _head(
        *(
            "HTTP/1.1 302 Found",
            "Location: /home",
            "Set-Cookie: a=b; Path=/",
            "Set-Cookie: c=d; HttpOnly",
            "Content-Length: 0",
        )
    ),
}


@pytest.mark.parametrize("raw", _TYPICAL_REQUESTS.values(), ids=_TYPICAL_REQUESTS)
def test_common_requests_take_the_fast_lane(raw: bytes) -> None:
    fast, slow = lanes_on_request(raw, _LIMITS)
    assert fast is not None
    assert fast == slow


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("raw", _TYPICAL_RESPONSES.values(), ids=_TYPICAL_RESPONSES)
def test_common_responses_take_the_fast_lane(raw: bytes, method: bytes) -> None:
    fast, slow = lanes_on_response(method, raw, _LIMITS)
    assert fast is not None
    assert fast == slow


def test_the_lanes_agree_on_thousands_of_heads_right_and_wrong() -> None:
    figures = throw(Random(9110), 10_000)
    for kind in ("requests", "responses"):
        assert figures[f"{kind} taken by the fast lane"] > figures[kind] / 5
        assert figures[f"{kind} refused"] > figures[kind] / 5
        assert figures[f"{kind} left to the slow lane, which took them"] > figures[kind] / 50


_spoils = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 2), st.binary(max_size=3)), min_size=1, max_size=3)


def _spoilt(raw: bytes, spoils: list[tuple[int, int, bytes]]) -> bytes:
    for at, taken, put in spoils:
        at %= len(raw)  # noqa: PLW2901 - anywhere in it
        raw = raw[:at] + put + raw[at + taken :]
    return raw


@given(st.sampled_from(list(_TYPICAL_REQUESTS.values())), _spoils, st.sampled_from(LIMITS))
def test_a_spoilt_request_is_never_read_by_the_fast_lane_alone(
    raw: bytes, spoils: list[tuple[int, int, bytes]], limits: HeadLimits
) -> None:
    fast, slow = lanes_on_request(_spoilt(raw, spoils), limits)
    assert fast is None or fast == slow


@given(st.sampled_from(list(_TYPICAL_RESPONSES.values())), _spoils, st.sampled_from([b"GET", b"HEAD"]))
def test_a_spoilt_response_is_never_read_by_the_fast_lane_alone(
    raw: bytes, spoils: list[tuple[int, int, bytes]], method: bytes
) -> None:
    fast, slow = lanes_on_response(method, _spoilt(raw, spoils), _LIMITS)
    assert fast is None or fast == slow


def _heads_in(raw: bytes) -> list[bytes]:
    """Every stretch of a stream that could be taken for a head: from any line's beginning to the next blank line."""
    starts = [0] + [at + 2 for at in range(len(raw) - 1) if raw[at : at + 2] == b"\r\n"]
    ends = [raw.find(b"\r\n\r\n", start) for start in starts]
    return [raw] + [raw[start : end + 4] for start, end in zip(starts, ends, strict=True) if end >= 0]


def test_the_lanes_agree_on_the_corpus() -> None:
    for case in REQUESTS:
        for raw in _heads_in(case.raw):
            fast, slow = lanes_on_request(raw, _LIMITS)
            assert fast is None or fast == slow, case.name
    for case in RESPONSES:
        for raw in _heads_in(case.raw):
            for method in (b"GET", b"HEAD"):
                answer, judged = lanes_on_response(method, raw, _LIMITS)
                assert answer is None or answer == judged, case.name


@pytest.mark.skipif(not _SHARED.is_dir(), reason="../shared/corpus is not here")
def test_the_lanes_agree_on_the_shared_corpus() -> None:
    taken = 0
    for row in json.loads((_SHARED / "http1_cases.json").read_text()):
        for raw in _heads_in(base64.b64decode(row["raw_b64"])):
            fast, slow = lanes_on_request(raw, _LIMITS)
            assert fast is None or fast == slow, row["id"]
            taken += fast is not None
    for row in json.loads((_SHARED / "path_bypass.json").read_text()):
        raw = b"GET " + base64.b64decode(row["target_b64"]) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
        fast, slow = lanes_on_request(raw, _LIMITS)
        assert fast is None or fast == slow, row["id"]
    assert taken > 100


@pytest.mark.parametrize(
    "raw",
    [
        _head("GET / HTTP/1.0", "Host: a"),
        _head("GET / HTTP/1.1", "Host: a", "Expect: 100-continue"),
        _head("GET / HTTP/1.1", "Host: a", "Connection: upgrade", "Upgrade: websocket"),
        _head("GET / HTTP/1.1", "Host: a", "Connection: close, TE"),
        _head("GET http://a/ HTTP/1.1", "Host: a"),
        _head("GET / HTTP/1.1", "Host: a", "X: b "),
        _head("GET / HTTP/1.1", "Host: a", "X: b\tc"),
    ],
)
def test_what_is_rare_is_left_to_h11(raw: bytes) -> None:
    fast, slow = lanes_on_request(raw, _LIMITS)
    assert fast is None
    assert not isinstance(slow, int)


def test_the_lane_can_be_closed_for_a_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    raw, answer = _TYPICAL_REQUESTS["wrk"], _TYPICAL_RESPONSES["nginx"]
    open_lane = parse.read_request_head(raw, _LIMITS), parse.read_response_head(b"GET", answer, _LIMITS)

    def shut(*_: object) -> None:
        raise AssertionError("the fast lane was asked")

    monkeypatch.setattr(parse, "USE_FAST_LANE", False)
    monkeypatch.setattr(parse, "recognise_request", shut)
    monkeypatch.setattr(parse, "recognise_response", shut)
    assert (parse.read_request_head(raw, _LIMITS), parse.read_response_head(b"GET", answer, _LIMITS)) == open_lane


@pytest.mark.parametrize(
    ("begin", "again", "end"),
    [
        (b"GET /", b"a/", b" HTTP/1.1\r\nHost: a\r\n"),
        (b"GET /", b"a.", b"\x00"),
        (b"GET /?", b"a?", b"#"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", b"X: y\r\n", b"\x00"),
        (b"GET / HTTP/1.1\r\nX:", b" ", b"\x00"),
        (b"GET / HTTP/1.1\r\nX: ", b"a ", b"\x00"),
        (b"GET / HTTP/1.1\r\n", b"X", b"\x00"),
        (b"A", b"A", b"\x00"),
    ],
)
def test_no_head_takes_longer_than_its_length(begin: bytes, again: bytes, end: bytes) -> None:
    limits = HeadLimits(head_bytes=1 << 24, fields=1 << 20, target=1 << 24)

    def seconds(times: int) -> float:
        raw = begin + again * times + end + b"\r\n"
        started = time.process_time()
        recognise_request(raw, limits)
        recognise_response(b"GET", raw, limits)
        return time.process_time() - started

    small = min(seconds(5_000) for _ in range(3))
    assert min(seconds(50_000) for _ in range(2)) < 40 * small + 0.05
