"""Too much of anything, said by many at once: the status that says so, little memory, and nothing for the service.

A denial of service is a hundred times the memory of what was sent; all these stay open while it is weighed.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import client_context
from tests.scenarios.http_actors import Origin, http_api, mtls_caller, request
from tests.scenarios.stage import Scales, poll

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

KIB = 1024
MANY = 100
HANDSHAKE = 2000  # bytes of ours in it, at least
BARE = request("GET", "/", "X-Pad: ")
CASES = {
    "a head of 16 KiB and one byte": (BARE.replace(b"X-Pad: ", b"X-Pad: " + b"a" * (16 * KIB + 1 - len(BARE))), 431),
    "101 fields": (request("GET", "/", *(f"X-{number}: 1" for number in range(100))), 431),
    "a target beyond 8 KiB": (request("GET", "/" + "q" * 8 * KIB), 414),
    "a body of 1 GiB": (request("PUT", "/", f"Content-Length: {1 << 30}"), 413),
    "a chunk of 2^63": (request("PUT", "/", "Transfer-Encoding: chunked") + b"%x\r\n" % (1 << 63), 400),
    "a chunk of 2^64": (request("PUT", "/", "Transfer-Encoding: chunked") + b"%x\r\n" % (1 << 64), 400),
    "a chunk of many digits": (request("PUT", "/", "Transfer-Encoding: chunked") + b"f" * 500 + b"\r\n", 400),
}


@pytest.mark.parametrize(("said", "status"), CASES.values(), ids=CASES.keys())
def test_too_much(stage: Stage, said: bytes, status: int) -> None:
    origin = stage.keep(Origin())
    api = http_api(stage, origin, more='head_bytes = "16KiB"\nmax_body_bytes = "1MiB"')
    web = client_context(stage.identity("/web"))
    with mtls_caller(api, web) as caller:
        assert caller.ask("POST", "/before", body=b"x").status == 200
    scales = Scales(api)
    heard: Counter[int] = Counter()
    with contextlib.ExitStack() as held:
        callers = [held.enter_context(mtls_caller(api, web)) for _ in range(MANY)]
        for caller in callers:
            caller.say(said)
        for caller in callers:
            heard[caller.hear().status] += 1
        scales.put_away()
    sent = MANY * (len(said) + HANDSHAKE)
    print(
        f"\n{heard}, memory +{scales.growth / KIB:.0f} KiB for {sent / KIB:.0f} KiB sent: {scales.growth / sent:.1f} x"
    )

    assert heard == {status: MANY}
    assert scales.growth < 100 * sent
    assert origin.targets() == ["/before"]
    with mtls_caller(api, web) as caller:
        assert caller.ask("GET", "/after").status == 200
    poll(lambda: api.status().listeners[0].open == 0, "all are gone")
