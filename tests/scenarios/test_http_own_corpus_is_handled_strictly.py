"""The project's own corpus over mTLS through a real sidecar: the service gets what was to be read, and nothing else.

A caller hears the answers to those requests, in order, and the refusal that ends the connection, if one does.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.http.corpus import ACCEPTED, CHUNKS, HEADS, SMUGGLING, TARGETS
from tests.scenarios.actors import client_context
from tests.scenarios.http_actors import Ended, Origin, http_api, mtls_caller
from tests.scenarios.stage import poll

if TYPE_CHECKING:
    from tests.http.corpus import Case
    from tests.scenarios.stage import Stage

pytestmark = pytest.mark.long  # `make test` reads the same corpus in memory
GROUPS = {"accepted": ACCEPTED, "smuggling": SMUGGLING, "chunks": CHUNKS, "heads": HEADS, "targets": TARGETS}


@pytest.mark.parametrize("group", GROUPS)
def test_what_reaches_the_service_is_what_was_to_be_read(stage: Stage, group: str) -> None:
    origin = stage.keep(Origin())
    api = http_api(stage, origin)
    context = client_context(stage.identity("/web"))
    before = api.descriptors

    for case in GROUPS[group]:
        origin.requests.clear()
        with mtls_caller(api, context) as caller:
            with contextlib.suppress(ConnectionError):  # refused before it was all said
                caller.say(case.raw)
            statuses = []
            wanted = expected(case)
            for _ in range(len(wanted) + (case.refused is not None)):
                with contextlib.suppress(Ended, ConnectionError):
                    statuses.append(caller.hear().status)
            assert statuses == [200] * len(wanted) + ([case.refused] if case.refused else []), case.name
            if case.refused:
                assert caller.has_ended(), case.name
        came = [(asked.method, asked.target, asked.body) for asked in origin.requests if asked.complete]
        assert came == wanted, case.name

    poll(lambda: api.descriptors <= before + 2, "every descriptor closed, but for pooled ones")
    assert "internal_error" not in str(api.log)


def expected(case: Case) -> list[tuple[str, str, bytes]]:
    """What is to come; a caller of HTTP/1.0 is answered once, whatever it says of keeping alive."""
    reads = case.reads[:1] if b"HTTP/1.0" in case.raw.split(b"\r\n")[0] else case.reads
    return [(method.decode(), target.decode(), body) for method, target, body in reads]
