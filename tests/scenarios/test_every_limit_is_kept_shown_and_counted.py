"""What is too big, too much, too old or too many ends as documented, and `/status` says which limit it was."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import pytest

from meshproxy.cli.status import in_words
from tests.scenarios.actors import Ended, Service, client_context, dial, echo, tls_dial, underneath
from tests.scenarios.http_actors import Origin, http_api, mesh_pair, mtls_caller, ok, request
from tests.scenarios.stage import PATIENCE, inbound, outbound, poll

if TYPE_CHECKING:
    from tests.scenarios.http_actors import Message, Talk
    from tests.scenarios.stage import Sidecar, Stage


def reached(sidecar: Sidecar, limit: str) -> int:
    """How often a limit of the only listener was reached, as `/status` says; the metric says the same."""
    (listener,) = sidecar.status().listeners
    count = listener.limits_reached.get(limit, 0)
    assert sidecar.metric("meshproxy_limit_hits_total", listener=listener.name, limit=limit) == count
    return count


def test_a_body_beyond_max_body_bytes_is_413(stage: Stage) -> None:
    origin = stage.keep(Origin())
    api = http_api(stage, origin, more='max_body_bytes = "1KiB"')
    with mtls_caller(api, client_context(stage.identity("/web"))) as caller:
        assert caller.ask("PUT", "/", body=bytes(1024)).status == 200
        assert caller.ask("PUT", "/", body=bytes(1025)).status == 413
        caller.say(request("PUT", "/", "Transfer-Encoding: chunked") + b"401\r\n" + bytes(1025) + b"\r\n")
        assert caller.hear().status == 413
        caller.say(b"0\r\n\r\n")
        assert caller.ask("GET", "/").status == 200  # the connection is not to blame
    assert [asked.method for asked in origin.requests if asked.complete] == ["PUT", "GET"]
    assert reached(api, "max_body_bytes") == 2
    assert api.status().listeners[0].limits["max_body_bytes"] == "1KiB"
    assert api.log.request(status=413).failure == "body_too_large"


def test_pipelining_beyond_its_depth_ends_the_connection_with_a_last_answer(stage: Stage) -> None:
    api = http_api(stage, stage.keep(Origin()), more="max_pipelined = 4")
    with mtls_caller(api, client_context(stage.identity("/web"))) as caller:
        caller.say(request("GET", "/") * 9)
        answers = [caller.hear() for _ in range(5)]
        assert caller.has_ended()
    assert [answer.value("connection") for answer in answers] == ["", "", "", "", "close"]
    assert reached(api, "max_pipelined") == 1


def test_a_caller_with_too_many_connections_is_429_and_others_are_not(stage: Stage) -> None:
    stage.write("web.allow.toml", '[[allow]]\nfrom = ["/web", "/other"]\n')
    api = http_api(stage, stage.keep(Origin()), more="max_connections_per_peer = 2")
    web = client_context(stage.identity("/web"))
    with contextlib.ExitStack() as held:
        callers = [held.enter_context(mtls_caller(api, web)) for _ in range(3)]
        for caller in callers[:2]:
            assert caller.ask("GET", "/").status == 200
        refused = callers[2].ask("GET", "/")
        assert (refused.status, refused.value("retry-after"), refused.value("connection")) == (429, "1", "close")
        assert callers[2].has_ended()
        with mtls_caller(api, client_context(stage.identity("/other"))) as other:
            assert other.ask("GET", "/").status == 200
        with mtls_caller(api, web) as silent:  # one too many is not kept either
            began = time.monotonic()
            assert silent.has_ended()
            assert time.monotonic() - began < PATIENCE / 2
        callers[0].sock.close()
        poll(lambda: _is_served(api, stage), "room for another")
    assert reached(api, "max_connections_per_peer") >= 2
    told = in_words(api.status())
    assert "limits reached" in told
    assert "x max_connections_per_peer (2)" in told


def _is_served(api: Sidecar, stage: Stage) -> bool:
    with mtls_caller(api, client_context(stage.identity("/web"))) as caller:
        return caller.ask("GET", "/").status == 200


def test_a_tcp_caller_with_too_many_connections_is_reset(stage: Stage) -> None:
    api = stage.sidecar("api", inbound(forward=stage.keep(Service(echo)).address, more="max_connections_per_peer = 1"))
    web = client_context(stage.identity("/web"))
    with tls_dial(api.address("api"), web) as first:
        first.sendall(b"hello")
        assert first.recv(5) == b"hello"
        with tls_dial(api.address("api"), web) as second:
            assert underneath(second)[1] is Ended.RESET
    assert "spiffe://mesh.test/web has 1 already" in api.log.event("connection_refused").text("remedy")
    assert reached(api, "max_connections_per_peer") == 1


class Slow:
    """A service that answers when it is told to."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.busy = threading.Semaphore(0)

    def respond(self, talk: Talk, asked: Message) -> None:
        self.busy.release()
        assert self.go.wait(PATIENCE)
        ok(talk, asked)


@pytest.mark.parametrize(
    ("more", "limit"),
    [
        ("max_upstream_queue = 0", "max_upstream_connections"),
        ("max_upstream_queue = 1", "max_upstream_queue"),
        ('upstream_queue_timeout = "300ms"', "upstream_queue_timeout"),
    ],
)
def test_requests_beyond_the_upstream_connections_wait_in_a_queue_and_then_are_503(
    stage: Stage, more: str, limit: str
) -> None:
    slow = Slow()
    origin = stage.keep(Origin(slow.respond))
    api = http_api(stage, origin, more=f"max_upstream_connections = 2\n{more}")
    web = client_context(stage.identity("/web"))
    with contextlib.ExitStack() as held:
        callers = [held.enter_context(mtls_caller(api, web)) for _ in range(4)]
        for caller in callers:
            caller.say(request("GET", "/"))
            time.sleep(0.05)  # so that it is the last whom the queue is too short for
        for _ in range(2):
            assert slow.busy.acquire(timeout=PATIENCE)
        refused = callers[3].hear()
        assert (refused.status, refused.value("retry-after")) == (503, "2")
        assert refused.value("proxy-status") == "meshproxy; error=connection_limit_reached"
        slow.go.set()
        assert [caller.hear().status for caller in callers[:2]] == [200, 200]
        assert callers[3].ask("GET", "/").status == 200  # on the same connection
    assert len(origin.visits) <= 2
    assert reached(api, limit) >= 1


def test_who_waits_in_the_queue_is_served_when_somebody_is_done(stage: Stage) -> None:
    origin = stage.keep(Origin())
    pair = mesh_pair(stage, origin, api_more="max_upstream_connections = 1", web_more="max_upstream_connections = 4")
    served: list[int] = []

    def ask() -> None:
        with pair.caller() as caller:
            served.extend(caller.ask("GET", "/").status for _ in range(20))

    crowd = [threading.Thread(target=ask) for _ in range(12)]
    for each in crowd:
        each.start()
    for each in crowd:
        each.join(PATIENCE)
    assert served == [200] * 240
    assert sum(not visit.over.is_set() for visit in origin.visits) <= 1  # one that rested too long was replaced


def test_a_request_that_takes_too_long_is_504_and_a_trickling_answer_is_cut(stage: Stage) -> None:
    def trickle(talk: Talk, asked: Message) -> None:
        if asked.target == "/never":
            return
        talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(200):
                talk.say(bytes(1000))
                time.sleep(0.05)

    api = http_api(stage, stage.keep(Origin(trickle)), more='request_timeout = "700ms"')
    web = client_context(stage.identity("/web"))
    with mtls_caller(api, web) as caller:
        began = time.monotonic()
        assert caller.ask("GET", "/never").status == 504
        assert 0.6 < time.monotonic() - began < PATIENCE / 2
    with mtls_caller(api, web) as caller:
        caller.say(request("GET", "/trickle"))
        head = caller.read_head()
        assert head is not None
        with contextlib.suppress(ConnectionError):
            caller.read_body(head)
        assert not head.complete
    assert api.log.request(path="/trickle").failure == "response_truncated"
    assert reached(api, "request_timeout") == 2


def test_a_connection_ends_when_it_is_as_old_as_it_may_grow(stage: Stage) -> None:
    origin = stage.keep(Origin())
    api = http_api(stage, origin, more='max_connection_age = "1s"')
    with mtls_caller(api, client_context(stage.identity("/web"))) as caller:
        began = time.monotonic()
        while (answer := caller.ask("GET", "/")).value("connection") != "close":
            assert answer.status == 200
            assert time.monotonic() - began < PATIENCE
            time.sleep(0.02)
        assert answer.status == 200  # its last one, and whole
        assert 0.4 < time.monotonic() - began < PATIENCE / 2
        assert caller.has_ended()
    assert reached(api, "max_connection_age") == 1


def test_a_tcp_stream_ends_when_it_is_as_old_as_it_may_grow(stage: Stage) -> None:
    api = stage.sidecar("api", inbound(forward=stage.keep(Service(echo)).address))
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")], more='max_connection_age = "600ms"'))
    with dial(web.address("to-api")) as busy:
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while True:
                busy.sendall(b"x")
                if not busy.recv(1):
                    break
        assert 0.5 < time.monotonic() - began < PATIENCE / 2
    assert web.log.connection(end="aged").detail == "older than 0.6 s"
    poll(lambda: reached(web, "max_connection_age") == 1, "told")


def test_idle_and_head_timeouts_are_counted_too(stage: Stage) -> None:
    api = http_api(stage, stage.keep(Origin()), more='idle_timeout = "500ms"\nhead_timeout = "500ms"')
    web = client_context(stage.identity("/web"))
    with mtls_caller(api, web) as idle, mtls_caller(api, web) as slow, mtls_caller(api, web) as silent:
        assert idle.ask("GET", "/").status == 200
        slow.say(b"GET / HT")
        assert slow.hear().status == 408
        assert idle.has_ended()
        assert silent.has_ended()
    poll(lambda: reached(api, "idle_timeout") == 1, "the idle one told")
    assert reached(api, "head_timeout") == 2


def test_descriptors_of_connections_are_counted_against_the_limit_of_open_files(stage: Stage) -> None:
    api = stage.sidecar("api", inbound(forward=stage.keep(Service(echo)).address))

    def held() -> int:
        load = api.status().load
        assert load is not None
        assert load.descriptors > 2
        return load.descriptors_held

    assert held() == 0
    with dial(api.address("api")):
        poll(lambda: held() == 2, "it is counted, with the one to its service")
    poll(lambda: held() == 0, "it is gone")
