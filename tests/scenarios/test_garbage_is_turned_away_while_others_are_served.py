"""What is no TLS is named, counted and closed; honest callers notice nothing."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Service, dial, echo, exchange, read_to_end
from tests.scenarios.stage import Sidecar, inbound, outbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage


@pytest.fixture(scope="module")
def pair(shared_stage: Stage) -> tuple[Sidecar, Sidecar]:
    service = shared_stage.keep(Service(echo))
    api = shared_stage.sidecar("api", inbound(forward=service.address, more='handshake_timeout = "1s"'))
    return api, shared_stage.sidecar("web", outbound(endpoints=[api.address("api")]))


@pytest.mark.parametrize(
    ("said", "detail"),
    [
        (b"GET / HTTP/1.1\r\nHost: api\r\n\r\n", "the peer speaks plain HTTP, not TLS"),
        (b"CONNECT api:443 HTTP/1.1\r\n\r\n", "the peer speaks plain HTTP, not TLS"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the peer does not speak TLS"),
        (b"\x00" * 64, "the peer does not speak TLS"),
    ],
    ids=["http", "http-proxy", "ssh", "zeros"],
)
def test_another_protocol_is_named(pair: tuple[Sidecar, Sidecar], said: bytes, detail: str) -> None:
    api, web = pair
    api.log.turn_page()

    with dial(api.address("api")) as stranger:
        stranger.sendall(said)
        read_to_end(stranger)

    assert api.log.event("handshake_failed", reason="not_tls")["detail"] == detail
    assert exchange(web.address("to-api"), b"hello") == b"hello"


def test_random_bytes_bring_nobody_down(pair: tuple[Sidecar, Sidecar]) -> None:
    api, web = pair
    rng = random.Random(20261122)
    for _ in range(60):
        with dial(api.address("api")) as stranger:
            try:
                stranger.sendall(rng.choice([b"", b"\x16\x03\x01"]) + rng.randbytes(rng.choice([1, 5, 300, 20_000])))
            except ConnectionError:
                continue  # it was turned away before it had said all
        assert exchange(web.address("to-api"), b"hello") == b"hello"
