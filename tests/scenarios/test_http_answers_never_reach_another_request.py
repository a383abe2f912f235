"""Whatever services and callers do to their connections, an answer is the one to its own request, or there is none.

Every request is answered with a hash of itself. `MESHPROXY_SOAK` is how many seconds the soak lasts (60).
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import reset
from tests.scenarios.http_actors import Ended, chunked, fingerprint, request, response
from tests.scenarios.stage import poll

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.scenarios.http_actors import Caller, Message, Origin, Pair, Talk

API = 'response_timeout = "1s"'
CALLERS = 8
SOAK = float(os.environ.get("MESHPROXY_SOAK", "60"))
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Fickle:
    """A service that answers well most of the time, and else does one of the things that mix up careless proxies."""

    def __init__(self, seed: int, *, misbehaves: float) -> None:
        self._dice = random.Random(seed)
        self._misbehaves = misbehaves
        self._tricks: list[Callable[[Talk, bytes], None]] = [
            self._twice,
            self._part,
            self._part_and_reset,
            self._bad_chunk,
            self._nothing,
            self._farewell,
            self._interim_only,
        ]

    def __call__(self, talk: Talk, asked: Message) -> None:
        body = fingerprint(asked.method, asked.target, talk.read_body(asked))
        if self._dice.random() < self._misbehaves:
            self._dice.choice(self._tricks)(talk, body)
            raise Ended
        if self._dice.random() < 0.5:
            talk.say(CHUNKED + chunked(body[:10], body[10:]))
        else:
            talk.say(response(200, body))

    def _twice(self, talk: Talk, body: bytes) -> None:
        talk.say(response(200, body) + response(200, b"poison"))

    def _part(self, talk: Talk, body: bytes) -> None:
        whole = response(200, body)
        talk.say(whole[: self._dice.randrange(len(whole))])

    def _part_and_reset(self, talk: Talk, body: bytes) -> None:
        self._part(talk, body)
        reset(talk.sock)

    def _bad_chunk(self, talk: Talk, body: bytes) -> None:
        talk.say(CHUNKED + b"10\r\n" + body + b"\r\n0\r\n\r\n")

    def _nothing(self, talk: Talk, body: bytes) -> None:
        pass

    def _farewell(self, talk: Talk, body: bytes) -> None:
        talk.say(response(200, body))  # a sound answer, and an end nobody announced

    def _interim_only(self, talk: Talk, body: bytes) -> None:
        talk.say(b"HTTP/1.1 103 Early Hints\r\nX-Fingerprint: " + body + b"\r\n\r\n")


def converse(pair: Pair, seed: int, going_on: Callable[[], bool], heard: Counter[str]) -> None:
    """Ask one thing after the other, now and then in a pipeline, and now and then going away without listening."""
    dice = random.Random(seed)
    number = 0
    while going_on():
        with pair.caller() as caller:
            try:
                for _ in range(dice.randrange(1, 40)):
                    asked = []
                    for _ in range(dice.choice([1, 1, 1, 5])):
                        number += 1
                        size = dice.choice([0, 10, 10_000, 200_000])
                        asked.append((dice.choice(["GET", "POST", "PUT"]), f"/{seed}/{number}", dice.randbytes(size)))
                    ask_all(caller, asked, heard)
                    if dice.random() < 0.05:
                        caller.say(request("GET", f"/{seed}/unheard"))
                        if dice.random() < 0.5:
                            reset(caller.sock)
                        break
            except ConnectionError:
                heard["cut"] += 1


def ask_all(caller: Caller, asked: list[tuple[str, str, bytes]], heard: Counter[str]) -> None:
    """Ask in one go and compare each answer with what was asked."""
    whole = b"".join(
        request(method, target, "Transfer-Encoding: chunked") + chunked(body)
        if method == "PUT" and body
        else request(method, target, body=body or None)
        for method, target, body in asked
    )
    talking = threading.Thread(target=_say, args=(caller, whole))
    talking.start()
    try:
        for method, target, body in asked:
            answer = caller.hear(method)
            if answer.status == 200:
                heard["right" if answer.body == fingerprint(method, target, body) else "MISMATCH"] += 1
            else:
                heard[str(answer.status)] += 1
            if answer.value("connection") == "close":
                raise Ended
    finally:
        if talking.is_alive():
            talking.join(1)


def _say(caller: Caller, whole: bytes) -> None:
    try:
        caller.say(whole)
    except OSError:
        return  # the listening side knows


def crowd(pair: Pair, going_on: Callable[[], bool]) -> Counter[str]:
    """Let several callers converse at once; what they heard altogether."""
    heard: list[Counter[str]] = [Counter() for _ in range(CALLERS)]
    callers = [threading.Thread(target=converse, args=(pair, n, going_on, heard[n])) for n in range(CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return sum(heard, Counter())


@pytest.mark.long
def test_none_of_a_thousand_answers_of_a_hostile_service_is_anothers(pair: Pair, origin: Origin) -> None:
    origin.respond = Fickle(1, misbehaves=0.3)
    until = time.monotonic() + 60

    heard = crowd(pair, lambda: len(origin.requests) < 1500 and time.monotonic() < until)

    print(dict(heard))
    assert heard["MISMATCH"] == 0
    assert heard["right"] >= 700
    assert set(heard) <= {"right", "502", "504", "cut"}


@pytest.mark.long
def test_a_soak_of_mixed_traffic_shows_no_mismatch_and_no_leak(pair: Pair, origin: Origin) -> None:
    before = [sidecar.descriptors for sidecar in (pair.api, pair.web)]
    origin.respond = Fickle(2, misbehaves=0.02)
    origin.remembers = False  # it would be gigabytes in half an hour
    until = time.monotonic() + SOAK

    heard = crowd(pair, lambda: time.monotonic() < until)

    print(dict(heard))
    assert heard["MISMATCH"] == 0
    assert heard["right"] > 50 * SOAK
    origin.start_over()
    for sidecar, baseline in zip((pair.api, pair.web), before, strict=True):
        poll(lambda sidecar=sidecar, least=baseline: sidecar.descriptors <= least, "every descriptor closed")  # type: ignore[misc]
