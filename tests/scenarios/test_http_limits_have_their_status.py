"""What is too much, or is no HTTP/1.1, is refused with the status that says so; every limit can be set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import client_context
from tests.scenarios.http_actors import Origin, Pair, http_api, mtls_caller, request

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

KIB = 1024


def head_of(size: int) -> bytes:
    """A request head of exactly `size` bytes."""
    bare = request("GET", "/", "X-Pad: ")
    return bare.replace(b"X-Pad: ", b"X-Pad: " + b"a" * (size - len(bare)))


def fields(count: int) -> bytes:
    """A request of so many fields, Host included."""
    return request("GET", "/", *(f"X-{number}: 1" for number in range(count - 1)))


def target_of(size: int) -> bytes:
    """A request whose target has so many bytes."""
    return request("GET", "/?" + "q" * (size - 2))


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (head_of(32 * KIB), 200),
        (head_of(32 * KIB + 1), 431),
        (fields(100), 200),
        (fields(101), 431),
        (target_of(8 * KIB), 200),
        (target_of(8 * KIB + 1), 414),
        (b"GET /" + b"a" * 40 * KIB, 414),  # whether or not its line ever ends
        (b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n", 405),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (request("TRACE", "/"), 200),
        (request("PURGE", "/"), 200),
        (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (request("GET", "/", "X-Folded: a\r\n b"), 400),
        (request("GET", "/", "X-Nul: a\0b"), 400),
        (request("GET", "/", "X-Space : a"), 400),
        (request("POST", "/", "Content-Length: 1", "Transfer-Encoding: chunked"), 400),
        (request("POST", "/", "Content-Length: 1", "Content-Length: 1") + b"a", 400),
        (request("POST", "/", "Transfer-Encoding: gzip, chunked"), 501),
        (request("POST", "/", "Expect: 200-ok", "Content-Length: 1"), 417),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ],
    ids=lambda value: str(value)[:44],
)
def test_what_is_too_much_or_no_http_is_refused(pair: Pair, origin: Origin, said: bytes, status: int) -> None:
    with pair.mtls_caller() as caller:
        caller.say(said)
        answer = caller.hear()
        assert answer.status == status
        if status != 200:
            assert answer.value("connection") == "close"
            assert answer.value("proxy-status") == "meshproxy; error=http_request_error"
            assert caller.has_ended()

    assert len(origin.requests) == (status == 200)
    with pair.caller() as honest:
        assert honest.ask("GET", "/").status == 200


def test_the_limits_can_be_set(stage: Stage) -> None:
    origin = stage.keep(Origin())
    api = http_api(stage, origin, more='head_bytes = "1KiB"\nmax_fields = 10\ntarget_bytes = "256B"')
    context = client_context(stage.identity("/web"))

    for said, status in [
        (head_of(KIB), 200),
        (head_of(KIB + 1), 431),
        (fields(10), 200),
        (fields(11), 431),
        (target_of(256), 200),
        (target_of(257), 414),
    ]:
        with mtls_caller(api, context) as caller:
            caller.say(said)
            assert caller.hear().status == status
