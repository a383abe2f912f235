"""A body that breaks off by RST, a hundred times from each side: the other side hears it, and takes none for whole."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Ended as HowItEnded
from tests.scenarios.actors import client_context, reset
from tests.scenarios.http_actors import Ended, Origin, http_api, mtls_caller, request
from tests.scenarios.stage import poll

if TYPE_CHECKING:
    from tests.scenarios.http_actors import Message, Talk
    from tests.scenarios.stage import Stage

TIMES = 100
SIZE = 200_000


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


@pytest.mark.long
def test_callers_that_reset_their_upload(stage: Stage) -> None:
    origin, dice = stage.keep(Origin()), random.Random(13)
    api, web = http_api(stage, origin), client_context(stage.identity("/web"))
    before, took = api.descriptors, []
    for number in range(TIMES):
        with mtls_caller(api, web) as caller:
            caller.say(request("PUT", f"/{number}", f"Content-Length: {SIZE}") + bytes(dice.randrange(1, SIZE)))
            poll(lambda: len(origin.requests) > number, "the request is under way")  # noqa: B023 - asked at once
            began = time.monotonic()
            reset(caller.sock)
        assert origin.visit(number).ended in {None, HowItEnded.RESET}
        took.append(time.monotonic() - began)
    print(f"the service hears of it after {median(took) * 1000:.0f} ms (median), {max(took) * 1000:.0f} ms at worst")
    assert median(took) < 1.0
    assert not [asked.start for asked in origin.requests if asked.complete]
    poll(lambda: api.descriptors <= before, "every descriptor closed")


@pytest.mark.long
def test_services_that_reset_their_answer(stage: Stage) -> None:
    dice = random.Random(31)
    broke_off: list[float] = []

    def break_off(talk: Talk, asked: Message) -> None:
        talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + bytes(dice.randrange(SIZE)))
        broke_off.append(time.monotonic())
        reset(talk.sock)
        raise Ended

    origin = stage.keep(Origin(break_off))
    api, web = http_api(stage, origin), client_context(stage.identity("/web"))
    before, took = api.descriptors, []
    for number in range(TIMES):
        with mtls_caller(api, web) as caller:
            caller.say(request("GET", f"/{number}"))
            try:
                answer = caller.hear_head()
            except ConnectionError:  # a reset overtakes what was not read yet
                continue
            if answer.status == 502:
                continue
            with pytest.raises((ConnectionError, OSError)):
                caller.read_body(answer)
            took.append(time.monotonic() - broke_off[-1])
            assert not answer.complete
    print(f"the caller hears of it after {median(took) * 1000:.0f} ms (median), {max(took) * 1000:.0f} ms at worst")
    assert median(took) < 1.0
    poll(lambda: api.descriptors <= before, "every descriptor closed")
