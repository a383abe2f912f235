"""Outbound through two sidecars: bytes leave to one identity only, and a refusal is told as what it probably is."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest
import trio

from meshproxy.outbound.forward import refusal_in_words
from meshproxy.telemetry.access import ConnectionLine
from meshproxy.wire.address import TcpAddress, UnixAddress
from meshproxy.wire.ends import ConnectionEnd, End, Side
from meshproxy.wire.tls import receive
from tests.factory import MeshCa, make_mesh_ca
from tests.sidecar import Sidecar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ALLOW = '[[allow]]\nfrom = "/web"\n'


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("mesh"))


class Pair:
    """The sidecars of /web and /ledger."""

    def __init__(self, web: Sidecar, ledger: Sidecar) -> None:
        self.web, self.ledger = web, ledger

    @property
    def open(self) -> tuple[int, int]:
        return self.web.services.recorder.listener("out").open, self.ledger.services.recorder.listener("api").open

    async def told(self) -> None:
        """Wait until every connection has ended and is told."""
        with trio.fail_after(5):
            while any(self.open):  # noqa: ASYNC110 - counters wake nobody
                await trio.sleep(0.005)


@pytest.fixture
async def pair(mesh: MeshCa, nursery: trio.Nursery) -> AsyncIterator[Pair]:
    web, ledger = [await Sidecar.start(nursery, mesh.issue(path)) for path in ("/web", "/ledger")]
    with web.stack, ledger.stack:
        yield Pair(web, ledger)
        nursery.cancel_scope.cancel()


async def everything(sock: socket.socket) -> bytes:
    received = b""
    with trio.fail_after(5):
        while data := await receive(sock, 65536):
            received += data
    return received


async def test_an_application_reaches_a_service_through_both_sidecars(pair: Pair) -> None:
    service = pair.ledger.service()
    far = pair.ledger.inbound(ALLOW, service.address)
    door = pair.web.outbound("/ledger", far.address)
    with door.knock() as app:
        app.send(b"hello")
        app.shutdown(socket.SHUT_WR)
        assert await everything(app) == b"hello"
    await pair.told()
    (line,) = pair.web.lines
    assert (line.end, line.upstream, line.upstream_id) == ("clean", str(far.address), "spiffe://mesh.test/ledger")
    assert (line.bytes_in, line.bytes_out) == (5, 5)
    assert pair.ledger.lines[0].caller == "spiffe://mesh.test/web"


async def test_a_refusal_by_the_far_allow_list_is_told_as_that(pair: Pair) -> None:
    service = pair.ledger.service()
    door = pair.web.outbound("/ledger", pair.ledger.inbound("allow = []", service.address).address)
    with door.knock() as app, pytest.raises(ConnectionResetError):
        await everything(app)
    await pair.told()
    (line,) = pair.web.lines
    assert isinstance(line, ConnectionLine)
    assert (line.end, line.side) == ("refused", "tls")
    assert line.detail == "closed before any byte: probably refused by its allow-list"
    assert service.callers == 0


async def test_no_byte_leaves_to_another_identity(pair: Pair) -> None:
    service = pair.ledger.service()
    door = pair.web.outbound("/vault", pair.ledger.inbound(ALLOW, service.address).address)
    with door.knock() as app:
        app.send(b"secret")
        with pytest.raises(ConnectionResetError):
            await everything(app)
    await pair.told()
    assert service.received == b""
    (line,) = pair.web.lines
    assert line.end == "failed"
    assert "the far end is spiffe://mesh.test/ledger, only spiffe://mesh.test/vault is accepted" in line.detail
    assert pair.web.value("meshproxy_upstream_failures_total", listener="out", phase="identity") == 1


async def test_a_local_caller_is_reset_when_nobody_is_there(pair: Pair) -> None:
    door = pair.web.outbound("/ledger", TcpAddress("127.0.0.1", 1))
    with door.knock() as app, pytest.raises(ConnectionResetError):
        await everything(app)
    await pair.told()
    assert [(line.end, line.upstream) for line in pair.web.lines] == [("failed", "spiffe://mesh.test/ledger")]


@pytest.mark.parametrize("allowed", [True, False])
async def test_a_unix_listener_may_check_who_calls(
    pair: Pair,
    tmp_path: Path,
    allowed: bool,  # noqa: FBT001 - a row of the table
) -> None:
    far = pair.ledger.inbound(ALLOW, pair.ledger.service().address)
    uids = frozenset({os.getuid() if allowed else os.getuid() + 1})
    door = pair.web.outbound("/ledger", far.address, listen=UnixAddress(str(tmp_path / "s")), uids=uids)
    with door.knock() as app:
        if allowed:
            app.send(b"x")
            app.shutdown(socket.SHUT_WR)
        assert await everything(app) == (b"x" if allowed else b"")
    await pair.told()
    refused = [(event["reason"], event["remedy"]) for event in pair.web.heard.named("connection_refused")]
    words = f"user {os.getuid()} may not use this socket; allow_uids has {sorted(uids)}"
    assert refused == ([] if allowed else [("uid", words)])


async def test_without_an_identity_nothing_leaves(nursery: trio.Nursery, tmp_path: Path) -> None:
    side = await Sidecar.start(nursery, tmp_path / "none")
    with side.stack:
        door = side.outbound("/ledger", TcpAddress("127.0.0.1", 1))
        with door.knock() as app, pytest.raises(ConnectionResetError):
            await everything(app)
        assert side.heard.named("connection_refused")[0]["reason"] == "identity_not_ready"
        nursery.cancel_scope.cancel()


REFUSED = ConnectionEnd(End.REFUSED, Side.TLS, "closed before any byte: probably refused by its allow-list")


@pytest.mark.parametrize(
    ("ended", "received", "told"),
    [
        (ConnectionEnd(End.RESET, Side.TLS, "Connection reset by peer"), 0, REFUSED),
        (ConnectionEnd(End.RESET, Side.TLS, "x"), 1, ConnectionEnd(End.RESET, Side.TLS, "x")),
        (ConnectionEnd(End.RESET, Side.PLAIN, "x"), 0, ConnectionEnd(End.RESET, Side.PLAIN, "x")),
        (ConnectionEnd(End.TRUNCATED, Side.TLS, "x"), 0, ConnectionEnd(End.TRUNCATED, Side.TLS, "x")),
        (ConnectionEnd(End.CLEAN), 0, ConnectionEnd(End.CLEAN)),
    ],
)
def test_a_reset_before_any_byte_is_probably_a_refusal(
    ended: ConnectionEnd, received: int, told: ConnectionEnd
) -> None:
    assert refusal_in_words(ended, received=received) == told
