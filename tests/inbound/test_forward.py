"""Inbound over real TLS: who is let in reaches the service; who is not leaves no trace there, and hears no goodbye."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from meshproxy.identity.contexts import Contexts
from meshproxy.identity.material import read_material
from meshproxy.policy.decide import Mode
from meshproxy.settings.schema import IdentitySettings, Limits
from meshproxy.wire.address import TcpAddress
from meshproxy.wire.listen import bind, bound_address, close_listener
from meshproxy.wire.tls import TlsConnection, receive
from tests.factory import Identity, MeshCa, make_mesh_ca
from tests.shaking import shake
from tests.sidecar import Door, Echo, Sidecar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from trio.testing import MockClock

ALLOW = '[[allow]]\nname = "web"\nfrom = "/web"\n'


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("mesh"))


@pytest.fixture
async def side(mesh: MeshCa, nursery: trio.Nursery) -> AsyncIterator[Sidecar]:
    made = await Sidecar.start(nursery, mesh.issue("/api"))
    with made.stack:
        yield made
        nursery.cancel_scope.cancel()


@dataclass
class Caller:
    """A TLS client driven by hand."""

    tls: TlsConnection

    @classmethod
    async def call(cls, door: Door, context: ssl.SSLContext) -> Caller:
        caller = cls(TlsConnection(door.knock(), context, server_side=False))
        with trio.fail_after(5):
            await shake(caller.tls)
        return caller

    async def say(self, data: bytes) -> None:
        self.tls.session.write(data)
        await self.tls.flush()

    async def hear(self) -> bytes:
        """What comes next; ssl.SSLError for an alert, ConnectionResetError for RST, `b""` for any orderly end."""
        with trio.fail_after(5):
            while True:
                try:
                    return self.tls.session.read(65536)
                except ssl.SSLZeroReturnError:
                    return b""
                except ssl.SSLWantReadError:
                    received = await receive(self.tls.sock, 65536)
                    if not received:
                        return b""
                    self.tls.incoming.write(received)

    def hang_up(self) -> None:
        self.tls.sock.close()


def as_client(identity: Identity) -> ssl.SSLContext:
    return Contexts(read_material(IdentitySettings(identity.directory))).client()


async def settled(side: Sidecar) -> None:
    """Wait until every connection has ended and is told."""
    with trio.fail_after(5):
        while side.services.recorder.listener("api").open:  # noqa: ASYNC110 - counters wake nobody
            await trio.sleep(0.005)


async def test_a_granted_caller_reaches_the_service_and_is_told(side: Sidecar, mesh: MeshCa) -> None:
    service = side.service()
    door = side.inbound(ALLOW, service.address)
    caller = await Caller.call(door, as_client(mesh.issue("/web")))
    await caller.say(b"hello")
    assert await caller.hear() == b"hello"
    with pytest.raises(ssl.SSLWantReadError):
        caller.tls.session.unwrap()
    await caller.tls.flush()
    assert await caller.hear() == b""
    caller.hang_up()
    await settled(side)
    (line,) = side.lines
    assert (line.caller, line.decision, line.rule, line.reason) == ("spiffe://mesh.test/web", "allow", "web", "granted")
    assert (line.bytes_in, line.bytes_out, line.end, line.policy) == (5, 5, "clean", "api.allow.toml@4")
    assert line.upstream == str(service.address)
    labels = {"listener": "api", "decision": "allow", "rule": "web", "mode": "enforce", "reason": "granted"}
    assert side.value("meshproxy_authz_decisions_total", **labels) == 1
    for took in ("handshake", "handshake_wait"):
        assert side.value(f"meshproxy_{took}_seconds_count", listener="api") == 1
    waited = side.value("meshproxy_handshake_wait_seconds_sum", listener="api")
    assert waited is not None
    assert waited < 0.01, "he came alone"


async def test_a_denied_caller_gets_a_reset_and_the_service_never_hears_of_it(side: Sidecar, mesh: MeshCa) -> None:
    service = side.service()
    caller = await Caller.call(side.inbound(ALLOW, service.address), as_client(mesh.issue("/webb")))
    with pytest.raises(ConnectionResetError):
        await caller.hear()  # no byte and no close_notify, which could be taken for an empty answer
    caller.hang_up()
    await settled(side)
    assert (service.callers, service.received) == (0, b"")
    (line,) = side.lines
    assert (line.end, line.decision, line.rule, line.reason, line.upstream) == ("denied", "deny", "", "no_rule", "")
    (event,) = side.heard.named("denied")
    assert event["caller"] == "spiffe://mesh.test/webb"
    assert (event["policy"], event["generation"]) == ("api.allow.toml", 4)
    assert 'rule "web" (api.allow.toml:' in event["nearest_rule"]
    (denial,) = side.services.recorder.denials
    assert (denial.caller, denial.nearest) == ("spiffe://mesh.test/webb", event["nearest_rule"])


async def test_a_flood_of_denials_is_counted_in_full_and_explained_at_a_bounded_pace(
    side: Sidecar, mesh: MeshCa
) -> None:
    door = side.inbound("allow = []", side.service().address)
    context = as_client(mesh.issue("/web"))
    for _ in range(25):
        (await Caller.call(door, context)).hang_up()
    await settled(side)
    denied = side.services.recorder.listener("api").decided["deny"]
    assert denied == len(side.lines)
    assert 20 <= len(side.heard.named("denied")) < 25
    assert side.heard.named("denied")[0]["nearest_rule"] == "no rule comes near"


async def test_audit_lets_pass_what_no_rule_grants_and_says_what_it_would_have_done(
    side: Sidecar, mesh: MeshCa
) -> None:
    service = side.service()
    door = side.inbound("allow = []", service.address, mode=Mode.AUDIT)
    caller = await Caller.call(door, as_client(mesh.issue("/web")))
    await caller.say(b"hello")
    assert await caller.hear() == b"hello"
    caller.hang_up()
    await settled(side)
    assert (side.lines[0].decision, side.lines[0].mode, side.lines[0].reason) == ("would_deny", "audit", "no_rule")
    assert side.heard.named("would_deny")[0]["log_level"] == "info"


async def test_audit_never_waives_who_one_is(side: Sidecar, mesh: MeshCa, tmp_path: Path) -> None:
    service = side.service()
    door = side.inbound("allow = []", service.address, mode=Mode.AUDIT)
    forged = mesh.forge(into=tmp_path / "two", uris=["spiffe://mesh.test/web", "spiffe://mesh.test/x"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(forged.chain, forged.key)
    caller = await Caller.call(door, context)
    with pytest.raises(ConnectionResetError):
        await caller.hear()
    caller.hang_up()
    await settled(side)
    assert service.callers == 0
    (event,) = side.heard.named("handshake_failed")
    assert event["reason"] == "several_uris"
    assert "spiffe://mesh.test/x" in event["claimed"]
    assert side.lines == []


async def test_who_does_not_authenticate_hears_the_alert_and_is_counted(side: Sidecar) -> None:
    door = side.inbound(ALLOW, side.service().address)
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    nobody.check_hostname = False
    nobody.verify_mode = ssl.CERT_NONE
    caller = await Caller.call(door, nobody)
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
        await caller.hear()
    caller.hang_up()
    await settled(side)
    assert side.value("meshproxy_handshake_failures_total", listener="api", reason="no_certificate") == 1
    assert side.lines == []


async def test_a_silent_caller_is_let_go_at_the_handshake_timeout(side: Sidecar, settling_clock: MockClock) -> None:
    door = side.inbound(ALLOW, side.service().address, limits=Limits(handshake_timeout=3))
    started = trio.current_time()
    with door.knock() as sock, pytest.raises(ConnectionResetError):
        await receive(sock, 1)
    assert 3 <= trio.current_time() - started < 3.5
    assert side.heard.named("handshake_failed")[0]["detail"] == "no handshake within 3 s"


async def test_a_service_that_is_down_is_told_with_the_reason(side: Sidecar, mesh: MeshCa) -> None:
    gone = bind(TcpAddress("127.0.0.1", 0))
    address = bound_address(gone)
    close_listener(gone)
    caller = await Caller.call(side.inbound(ALLOW, address), as_client(mesh.issue("/web")))
    with pytest.raises(ConnectionResetError):
        await caller.hear()
    caller.hang_up()
    await settled(side)
    (line,) = side.lines
    assert (line.end, line.detail) == ("failed", f"{address}: connect: Connection refused")
    assert side.value("meshproxy_upstream_failures_total", listener="api", phase="connect") == 1


async def test_a_connection_lives_no_longer_than_the_shorter_certificate(
    side: Sidecar, mesh: MeshCa, settling_clock: MockClock
) -> None:
    service = side.service()
    short = mesh.issue("/web", ttl=timedelta(minutes=10))
    later = timedelta()
    object.__setattr__(side.services.relay, "wall", lambda: datetime.now(UTC) + later)
    caller = await Caller.call(side.inbound(ALLOW, service.address), as_client(short))
    await caller.say(b"x")
    assert await caller.hear() == b"x"
    later = timedelta(minutes=11)
    await trio.sleep(31)
    with pytest.raises(ConnectionResetError):
        await caller.hear()
    caller.hang_up()
    assert [line.end for line in side.lines] == ["aged"]


async def test_without_an_identity_everybody_is_refused_with_the_remedy(nursery: trio.Nursery, tmp_path: Path) -> None:
    side = await Sidecar.start(nursery, tmp_path / "none")
    with side.stack:
        door = side.inbound(ALLOW, Echo(TcpAddress("127.0.0.1", 1)).address)
        with door.knock() as sock, pytest.raises(ConnectionResetError):
            await receive(sock, 1)
        (event,) = side.heard.named("connection_refused")
        assert event["reason"] == "identity_not_ready"
        assert "meshproxy ca issue" in event["remedy"]
        assert side.lines == []
        nursery.cancel_scope.cancel()
