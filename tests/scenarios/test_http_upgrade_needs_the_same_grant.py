"""A WebSocket is a request first: granted like any other, and from the 101 on a stream that is only moved."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import PATTERN, Visit, chunks, crc_of_pattern, say_all
from tests.scenarios.actors import Ended as StreamEnded
from tests.scenarios.http_actors import Ended, ok, request
from tests.scenarios.stage import PATIENCE

if TYPE_CHECKING:
    from tests.scenarios.http_actors import Caller, Message, Origin, Pair, Talk

ALLOW = '[[allow]]\nname = "sockets"\nfrom = "/web"\nmethods = ["GET"]\npaths = "/chat/**"\n'
WISH = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def switching(talk: Talk, asked: Message) -> None:
    """Switch when asked to, and greet at once, right behind the head; then echo until the end."""
    if not asked.values("upgrade"):
        ok(talk, asked)
        return
    talk.say(SWITCH + b"greetings")
    while not talk.has_ended():
        talk.say(talk.read(1))
    talk.sock.shutdown(socket.SHUT_WR)
    raise Ended


def switched(caller: Caller, target: str = "/chat/1", *, at_once: bytes = b"") -> Message:
    caller.say(request("GET", target, *WISH) + at_once)
    return caller.hear_head()


def test_a_granted_upgrade_is_carried_both_ways(pair: Pair, origin: Origin) -> None:
    origin.respond = switching

    with pair.caller() as caller:
        answer = switched(caller, "/chat/1?token=hush")
        assert (answer.status, answer.value("upgrade"), answer.value("connection")) == (101, "websocket", "upgrade")
        assert caller.read(9) == b"greetings"  # said right behind the 101: nothing of it is lost
        for word in (b"one", b"two", b"GET /admin HTTP/1.1\r\n\r\n"):
            caller.say(word)
            assert caller.read(len(word)) == word

    assert origin.requests[0].value("upgrade") == "websocket"
    assert origin.requests[0].value("x-mesh-client-id") == "spiffe://mesh.test/web"
    for sidecar in (pair.web, pair.api):
        line = sidecar.log.request(status=101)
        assert (line.path, line.bytes_in, line.bytes_out) == ("/chat/1", 29, 29 + 9)
        assert line.end != ""
        assert "hush" not in str(sidecar.log)
    assert pair.api.log.request(status=101).rule == "sockets"


@pytest.mark.parametrize(("method", "target"), [("GET", "/admin"), ("POST", "/chat/1"), ("GET", "/chat/..%2fadmin")])
def test_an_upgrade_no_rule_grants_is_refused(pair: Pair, origin: Origin, method: str, target: str) -> None:
    origin.respond = switching

    with pair.mtls_caller() as caller:
        caller.say(request(method, target, *WISH) + b"sent without waiting")
        assert caller.hear().status in {400, 403}

    assert origin.requests == []


def test_what_a_caller_says_without_waiting_is_not_taken_for_a_request(pair: Pair, origin: Origin) -> None:
    """It goes into the stream if the service switches; if not, it is the next request, and judged."""
    origin.respond = switching
    with pair.mtls_caller() as caller:
        assert switched(caller, at_once=b"hello").status == 101
        assert caller.read(14) == b"greetingshello"

    def staying(talk: Talk, asked: Message) -> None:
        ok(talk, asked)

    origin.respond = staying
    with pair.mtls_caller() as caller:
        caller.say(request("GET", "/chat/1", *WISH) + request("GET", "/admin"))
        assert [caller.hear().status, caller.hear().status] == [200, 403]
    assert "/admin" not in origin.targets()


@pytest.mark.parametrize("protocol", ["h2c", "TLS/1.0", "HTTP/2.0", "h2"])
def test_no_switch_to_what_would_hide_requests(pair: Pair, origin: Origin, protocol: str) -> None:
    def eager(talk: Talk, asked: Message) -> None:
        assert not asked.values("upgrade")
        assert not asked.values("http2-settings")
        talk.say(f"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n".encode())

    origin.respond = eager
    with pair.mtls_caller() as caller:
        fields = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {protocol}", "HTTP2-Settings: AAMAAABk")
        assert caller.ask("GET", "/chat/1", *fields).status == 502  # it was not asked to switch


def test_a_service_cannot_switch_unasked(pair: Pair, origin: Origin) -> None:
    origin.respond = lambda talk, _asked: talk.say(SWITCH)

    with pair.mtls_caller() as caller:
        assert caller.ask("GET", "/chat/1").status == 502


def test_half_close_and_bulk_pass_like_in_tcp_mode(pair: Pair, origin: Origin) -> None:
    size = 64 * len(PATTERN)
    there, back = Visit(), Visit()

    def swap(talk: Talk, asked: Message) -> None:
        talk.say(SWITCH)
        talking = threading.Thread(target=say_all, args=(talk.sock, size))
        talking.start()
        for _ in chunks(talk.sock, there):
            pass
        talking.join()
        raise Ended

    origin.respond = swap
    with pair.caller() as caller:
        caller.say(request("GET", "/chat/1", *WISH))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += caller.sock.recv(1)
        talking = threading.Thread(target=say_all, args=(caller.sock, size))
        talking.start()
        for _ in chunks(caller.sock, back):
            pass
        talking.join()
        assert origin.visits[0].over.wait(PATIENCE)

    assert (back.count, back.crc, back.ended) == (size, crc_of_pattern(size), StreamEnded.EOF)
    assert (there.count, there.crc, there.ended) == (size, crc_of_pattern(size), StreamEnded.EOF)
