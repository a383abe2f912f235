"""A pooled connection may have died in the pool: then a safe request goes out once more, and no other ever does."""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import reset
from tests.scenarios.http_actors import Ended, ok, response

if TYPE_CHECKING:
    from tests.scenarios.http_actors import Message, Origin, Pair, Talk


@pytest.mark.parametrize(
    ("method", "body", "times"),
    [
        ("GET", None, 2),
        ("HEAD", None, 2),
        ("OPTIONS", None, 2),
        ("POST", b"x", 1),
        ("PUT", b"", 1),
        ("DELETE", None, 1),
        ("PATCH", None, 1),
        ("GET", b"with a body", 1),
    ],
)
def test_only_what_is_safe_is_sent_again(
    pair: Pair, origin: Origin, method: str, body: bytes | None, times: int
) -> None:
    def dying_behind_the_first(talk: Talk, asked: Message) -> None:
        """Serve one request per connection; take the head of the next, and go without a word."""
        if asked.visit in [earlier.visit for earlier in origin.requests[:-1]]:
            reset(talk.sock)
            raise Ended
        ok(talk, asked)

    origin.respond = dying_behind_the_first

    with pair.mtls_caller() as caller:
        assert caller.ask("GET", "/first").status == 200
        assert caller.ask(method, "/second", body=body).status == (200 if times == 2 else 502)

    assert origin.targets() == ["/first"] + ["/second"] * times
    line = pair.api.log.request(path="/second")
    assert line.resent is (times == 2)
    assert line.failure == ("" if times == 2 else "upstream_closed")


def test_it_is_sent_again_once_not_twice(pair: Pair, origin: Origin) -> None:
    def never(talk: Talk, asked: Message) -> None:
        if asked.target != "/first":
            raise Ended
        ok(talk, asked)

    origin.respond = never

    with pair.mtls_caller() as caller:
        assert caller.ask("GET", "/first").status == 200
        assert caller.ask("GET", "/second").status == 502
        assert caller.ask("GET", "/third").status == 502  # a fresh connection: its end is no accident of the pool

    assert origin.targets() == ["/first", "/second", "/second", "/third"]


def test_nothing_is_sent_again_once_an_answer_began(pair: Pair, origin: Origin) -> None:
    def half(talk: Talk, asked: Message) -> None:
        if asked.target == "/second":
            talk.say(b"HTTP/1.1 200 OK\r\nContent-Le")
            raise Ended
        ok(talk, asked)

    origin.respond = half

    with pair.mtls_caller() as caller:
        assert caller.ask("GET", "/first").status == 200
        assert caller.ask("GET", "/second").status == 502

    assert origin.targets() == ["/first", "/second"]


@pytest.mark.parametrize("requests", [1000, pytest.param(10_000, marks=pytest.mark.long)])
def test_a_service_that_closes_at_random_costs_no_reader_an_error(pair: Pair, origin: Origin, requests: int) -> None:
    """It says nothing beforehand: only a request that is already on its way meets the closed connection."""
    dice = random.Random(3)
    lock = threading.Lock()

    def fickle(talk: Talk, asked: Message) -> None:
        talk.read_body(asked)
        talk.say(response(200, asked.target.encode()))
        with lock:
            leaves, how = dice.random() < 0.3, dice.random()
        if leaves:
            if how < 0.5:
                reset(talk.sock)
            raise Ended

    origin.respond = fickle
    statuses: Counter[int] = Counter()

    def read(number: int) -> None:
        with pair.caller() as caller:
            for turn in range(requests // 4):
                answer = caller.ask("GET", f"/{number}/{turn}")
                statuses[answer.status] += 1
                assert answer.status != 200 or answer.body == f"/{number}/{turn}".encode()

    readers = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()

    print(f"\n{dict(statuses)} over {len(origin.visits)} connections")
    assert statuses == {200: requests}
    assert len(origin.visits) > requests // 5


@pytest.mark.parametrize("requests", [300, pytest.param(10_000, marks=pytest.mark.long)])
def test_a_service_that_closes_at_random_gets_no_writing_twice(pair: Pair, origin: Origin, requests: int) -> None:
    dice = random.Random(4)

    def fickle(talk: Talk, asked: Message) -> None:
        ok(talk, asked)
        if dice.random() < 0.3:
            raise Ended

    origin.respond = fickle
    served = 0

    with pair.caller() as caller:
        for turn in range(requests):
            served += caller.ask("POST", f"/{turn}", body=b"x").status == 200

    seen = Counter(origin.targets())
    print(
        f"\n{served} of {requests} served, {len(seen)} reached the service, the most often {max(seen.values())} times"
    )
    assert max(seen.values()) == 1
    assert served > requests * 2 // 3
