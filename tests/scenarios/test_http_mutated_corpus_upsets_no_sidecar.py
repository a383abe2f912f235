"""Every case of the shared corpus with one byte changed, a few bytes at a time: refused or served, and nothing breaks.

The origin reads strictly too: a request that no strict reader accepts would fail the test there.
"""

from __future__ import annotations

import base64
import contextlib
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import client_context
from tests.scenarios.http_actors import Origin, mtls_caller
from tests.scenarios.stage import inbound, poll

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

CORPUS = Path(__file__).resolve().parents[2].parent / "shared" / "corpus" / "http1_cases.json"
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not CORPUS.is_file(), reason="../shared/corpus is not here"),
]
STEP = 7  # bytes said at a time
MOST = 1000 * STEP  # of the few cases that are long


def test_mutations_upset_no_sidecar(stage: Stage) -> None:
    origin = stage.keep(Origin())
    api = stage.sidecar("api", inbound(forward=origin.address, protocol="http", more='head_timeout = "2s"'))
    context = client_context(stage.identity("/web"))
    dice = random.Random(9112)
    before, answered = api.descriptors, 0

    for row in json.loads(CORPUS.read_text()):
        said = bytearray(base64.b64decode(row["raw_b64"]))
        said[dice.randrange(len(said))] = dice.randrange(256)
        with mtls_caller(api, context) as caller:
            with contextlib.suppress(ConnectionError):  # refused before it was all said
                for start in range(0, min(len(said), MOST), STEP):
                    caller.say(bytes(said[start : start + STEP]))
            caller.sock.settimeout(0.5)
            with contextlib.suppress(OSError):  # a request that is still incomplete has no answer yet
                answered += caller.sock.recv(65536).startswith(b"HTTP/1.1 ")

    print(f"{answered} answered, {len(origin.requests)} forwarded")
    assert answered > 600
    poll(lambda: api.descriptors <= before, "every descriptor closed")
    assert "internal_error" not in str(api.log)
