"""Bodies of a byte a second, and readers with a window of a kilobyte: cut by `body_min_rate`, and cheap until then."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import client_context, send_pattern
from tests.scenarios.apart import Slow, pin
from tests.scenarios.http_actors import Origin, http_api, mtls_caller, ok
from tests.scenarios.stage import Scales, poll

if TYPE_CHECKING:
    from tests.scenarios.http_actors import Message, Talk
    from tests.scenarios.stage import Stage

MANY = 200
MUCH = 16 << 20
WINDOW = 10  # seconds over which a rate is averaged
# The kernel takes the beginning of an answer at once, and some more in the windows that follow.
WINDOWS = {"body": 1, "reader": 3}
# Bytes of memory for each. Of an answer, a session keeps the room of a record, and at most one read of 64 KiB waits for
# its reader.
MOST = 128 << 10


def pour(talk: Talk, asked: Message) -> None:
    if asked.target != "/much":
        ok(talk, asked)
        return
    talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MUCH)
    with contextlib.suppress(OSError):
        send_pattern(talk.sock, MUCH)


@pytest.mark.parametrize(("kind", "status"), [("body", 408), ("reader", 0)])
def test_slow_ones(stage: Stage, kind: str, status: int) -> None:
    api = http_api(stage, stage.keep(Origin(pour)))
    pin(api.process.pid, loads=False)
    web = stage.identity("/web")
    for _ in range(20):  # what is made once is made
        with mtls_caller(api, client_context(web)) as caller:
            assert caller.ask("POST", "/before", body=b"x").status == 200
    scales = Scales(api)
    with Slow(api.address("api"), web.directory, kind, MANY) as slow:
        slow.begin()
        with mtls_caller(api, client_context(web)) as honest:
            assert honest.ask("POST", "/meanwhile", body=b"x").status == 200
        fates = slow.fates()
    scales.put_away()
    ended = sorted(fate.ended_after or 0.0 for fate in fates)
    print(f"\n{kind}: ended after {ended[0]:.1f} to {ended[-1]:.1f} s, {scales.growth / MANY / 1024:.0f} KiB for each")

    assert Counter(fate.status for fate in fates) == {status: MANY}
    assert ended[0] >= WINDOW - 0.5
    assert ended[-1] <= WINDOWS[kind] * (WINDOW + 1)
    assert scales.growth / MANY < MOST
    poll(lambda: api.status().listeners[0].open == 0, "all are gone")
    assert api.status().listeners[0].limits_reached["body_min_rate"] == MANY
