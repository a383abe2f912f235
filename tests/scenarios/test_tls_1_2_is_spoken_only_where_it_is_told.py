"""To a far end that knows no TLS 1.3, and only by a listener that says so; it is judged as any other, every time."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Ended, Service, echo, exchange, listen_to
from tests.scenarios.stage import outbound

if TYPE_CHECKING:
    import socket

    from tests.factory import Identity
    from tests.scenarios.actors import Visit
    from tests.scenarios.stage import Stage

TLS_1_2 = 'min_tls = "1.2"'


class FarEnd(Service):
    """An echo behind TLS; `spoken` is the version, the cipher and whether a session was resumed, of each connection."""

    def __init__(self, identity: Identity, *, most: ssl.TLSVersion, ciphers: str = "") -> None:
        super().__init__(self._speak)
        self.spoken: list[tuple[str | None, str, bool | None]] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(identity.chain, identity.key)
        self._context.load_verify_locations(identity.bundle)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._context.maximum_version = most
        if ciphers:
            self._context.set_ciphers(ciphers)

    def _speak(self, sock: socket.socket, visit: Visit) -> None:
        try:
            with self._context.wrap_socket(sock, server_side=True) as tls:
                cipher = tls.cipher()
                self.spoken.append((tls.version(), cipher[0] if cipher else "", tls.session_reused))
                echo(tls, visit)
                tls.unwrap().close()
        except (ssl.SSLError, OSError):  # it was not liked
            return


def test_an_old_server_is_spoken_to_and_nothing_is_resumed(stage: Stage) -> None:
    far = stage.keep(FarEnd(stage.identity("/api"), most=ssl.TLSVersion.TLSv1_2))
    web = stage.sidecar("web", outbound(endpoints=[far.address], more=TLS_1_2))

    for _ in range(3):
        assert exchange(web.address("to-api"), b"hello") == b"hello"

    assert far.spoken == [("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384", False)] * 3
    assert web.log.connection().end == "clean"


def test_a_server_that_knows_better_is_spoken_to_better(stage: Stage) -> None:
    far = stage.keep(FarEnd(stage.identity("/api"), most=ssl.TLSVersion.TLSv1_3))
    web = stage.sidecar("web", outbound(endpoints=[far.address], more=TLS_1_2))

    assert exchange(web.address("to-api"), b"hello") == b"hello"

    assert [version for version, _, _ in far.spoken] == ["TLSv1.3"]


@pytest.mark.parametrize(
    ("more", "most", "ciphers"),
    [
        ("", ssl.TLSVersion.TLSv1_2, ""),
        (TLS_1_2, ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA256"),  # CBC
    ],
    ids=["not told", "no AEAD"],
)
def test_what_is_older_than_told_is_not(stage: Stage, more: str, most: ssl.TLSVersion, ciphers: str) -> None:
    far = stage.keep(FarEnd(stage.identity("/api"), most=most, ciphers=ciphers))
    web = stage.sidecar("web", outbound(endpoints=[far.address], more=more))

    assert listen_to(web.address("to-api")) == (b"", Ended.RESET)

    assert web.log.event("upstream_failed")["phase"] == "handshake"
    assert far.spoken == []


def test_an_old_server_is_judged_before_the_first_byte(stage: Stage) -> None:
    uris = ["spiffe://mesh.test/api", "spiffe://mesh.test/web"]
    evil = stage.mesh.forge(into=stage.workspace / "evil", uris=uris)
    other = stage.mesh.issue("/other", into=stage.workspace / "other")
    two, wrong = (stage.keep(FarEnd(each, most=ssl.TLSVersion.TLSv1_2)) for each in (evil, other))
    web = stage.sidecar("web", outbound(endpoints=[two.address, wrong.address], more=TLS_1_2))

    assert listen_to(web.address("to-api")) == (b"", Ended.RESET)

    failed = [web.log.event("upstream_failed", endpoint=far.address) for far in (two, wrong)]
    assert [line["phase"] for line in failed] == ["identity", "identity"]
    assert failed[0].text("detail").startswith("several_uris")
    assert (two.visit().count, wrong.visit().count) == (0, 0)
