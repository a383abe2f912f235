"""A head is given a total time and a body a minimum rate: trickling bytes keeps nothing of ours busy for long."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Ended, send_pattern
from tests.scenarios.http_actors import request
from tests.scenarios.stage import PATIENCE

if TYPE_CHECKING:
    from tests.scenarios.http_actors import Caller, Message, Origin, Pair, Talk

API = 'head_timeout = "2s"\nbody_min_rate = "1KiB"'
MUCH = 64 * 1024 * 1024
WINDOW = 10.0  # a body's rate is averaged over so many seconds


def trickle(caller: Caller, data: bytes, *, cut: threading.Event) -> None:
    """Say a byte every tenth of a second, until told to stop or cut off."""
    for byte in data:
        if cut.wait(0.1):
            return
        try:
            caller.say(bytes((byte,)))
        except ConnectionError:
            return


def said_slowly(caller: Caller, head: bytes, drips: bytes) -> tuple[int, float]:
    """The status that ended it, and after how many seconds."""
    began, answered = time.monotonic(), threading.Event()
    caller.say(head)
    talking = threading.Thread(target=trickle, args=(caller, drips), kwargs={"cut": answered})
    talking.start()
    status, took = caller.hear().status, time.monotonic() - began
    answered.set()
    talking.join()
    return status, took


@pytest.mark.long
def test_slow_ones_are_cut_while_honest_ones_are_served(pair: Pair, origin: Origin) -> None:
    over = threading.Event()

    def honest() -> int:
        served = 0
        with pair.caller() as caller:
            while not over.is_set():
                assert caller.ask("POST", "/honest", body=b"x" * 1000).status == 200
                served += 1
        return served

    with contextlib.ExitStack() as crowded:
        loris, talker, silent = (crowded.enter_context(pair.mtls_caller()) for _ in range(3))
        crowd = crowded.enter_context(ThreadPoolExecutor())
        crowded.callback(over.set)
        serving = crowd.submit(honest)
        head = crowd.submit(said_slowly, loris, b"", b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"a" * 1000)
        body = crowd.submit(said_slowly, talker, request("PUT", "/slow", "Content-Length: 9999"), b"a" * 1000)
        nothing = crowd.submit(silent.has_ended)

        assert nothing.result() is True  # who connects and asks nothing is let go by the same time
        status, took = head.result()
        assert status == 408
        assert 1.9 < took < WINDOW
        status, took = body.result()
        assert status == 408
        assert WINDOW - 1 < took < 2 * WINDOW
        over.set()
        assert serving.result() > 100

    assert pair.api.log.request(path="/slow").failure == "request_timeout"
    cut = [visit for visit, asked in zip(origin.visits, origin.targets(), strict=False) if asked == "/slow"]
    assert all(visit.over.wait(PATIENCE) and visit.ended is not Ended.EOF for visit in cut)


@pytest.mark.long
def test_who_does_not_read_its_answer_is_cut(pair: Pair, origin: Origin) -> None:
    """Kernel buffers take the beginning of it; the first window that sees nothing move is the last."""

    def pour(talk: Talk, asked: Message) -> None:
        talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MUCH)
        send_pattern(talk.sock, MUCH)

    origin.respond = pour
    with pair.mtls_caller() as reader:
        began = time.monotonic()
        reader.say(request("GET", "/much"))
        line = pair.api.log.request(path="/much", within=4 * WINDOW)
        took = time.monotonic() - began

    assert line.failure == "response_truncated"
    assert WINDOW - 1 < took < 3 * WINDOW
    assert origin.visit().ended is Ended.RESET
