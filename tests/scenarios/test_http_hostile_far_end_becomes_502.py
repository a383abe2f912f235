"""A far end that has proved to be `to` is believed to be that, and not one byte more: its answers are judged as well.

Whoever has taken over a service of the mesh has its identity; to those who call it he can say no more than it could.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import dial
from tests.scenarios.hostile_answers import NO_BODY, NO_HEAD
from tests.scenarios.http_actors import Caller, Origin, ok, raw
from tests.scenarios.stage import outbound

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from tests.factory import Identity
    from tests.scenarios.actors import Visit
    from tests.scenarios.stage import Sidecar, Stage


pytestmark = pytest.mark.long  # the same answers from a service behind its own sidecar are a test of every day


class FarEnd(Origin):
    """An origin that speaks TLS itself, with a sound identity."""

    def __init__(self, identity: Identity) -> None:
        super().__init__()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(identity.chain, identity.key)
        self._context.load_verify_locations(identity.bundle)
        self._context.verify_mode = ssl.CERT_REQUIRED

    def _converse(self, sock: socket.socket, visit: Visit) -> None:
        with self._context.wrap_socket(sock, server_side=True) as tls, contextlib.suppress(ssl.SSLError):
            super()._converse(tls, visit)


@pytest.fixture(scope="module")
def shared_far(shared_stage: Stage) -> FarEnd:
    return shared_stage.keep(FarEnd(shared_stage.identity("/api")))


@pytest.fixture(scope="module")
def web(shared_stage: Stage, shared_far: FarEnd) -> Sidecar:
    more = 'response_timeout = "2s"'
    return shared_stage.sidecar("web", outbound(endpoints=[shared_far.address], protocol="http", more=more))


@pytest.fixture
def far(shared_far: FarEnd) -> Iterator[FarEnd]:
    yield shared_far
    shared_far.respond = ok


@pytest.mark.parametrize("answer", NO_HEAD.values(), ids=NO_HEAD.keys())
def test_an_unsound_head_is_502(web: Sidecar, far: FarEnd, answer: bytes) -> None:
    web.log.turn_page()
    far.respond = raw(answer)

    with Caller(dial(web.address("to-api"))) as caller:
        heard = caller.ask("POST", "/hostile", body=b"x")
        assert heard.status == 502
        assert heard.value("proxy-status").startswith("meshproxy; error=")
        far.respond = ok
        assert caller.ask("GET", "/honest").body == b"ok"

    line = web.log.request(path="/hostile")
    assert line.failure in {"upstream_protocol", "upstream_closed"}
    assert line.detail


@pytest.mark.parametrize("answer", NO_BODY.values(), ids=NO_BODY.keys())
def test_an_unsound_body_is_cut(web: Sidecar, far: FarEnd, answer: bytes) -> None:
    web.log.turn_page()
    far.respond = raw(answer)

    with Caller(dial(web.address("to-api"))) as caller, contextlib.suppress(ConnectionError):
        assert caller.ask("GET", "/hostile").status == 502

    assert web.log.request(path="/hostile").failure in {"response_truncated", "upstream_protocol"}
