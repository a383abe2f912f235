"""An outbound connection is identified or it is not; whatever else an endpoint does costs its time at most."""

from __future__ import annotations

import socket
import ssl
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from meshproxy.identity.own import Identity, load
from meshproxy.identity.peer import Peer, judge_peer
from meshproxy.identity.trust import Trusted
from meshproxy.settings.schema import IdentitySettings
from meshproxy.upstream.attempt import FailedAttempt, NoUpstream, Phase
from meshproxy.upstream.endpoint import Destination, Dialer, Patience, connect_plain
from meshproxy.wire.address import TcpAddress, UnixAddress
from meshproxy.wire.dial import Resolver, Target
from meshproxy.wire.listen import accept_forever, bind, bound_address, close_listener
from meshproxy.wire.sweep import Sweeper
from meshproxy.wire.tls import TlsConnection, receive
from meshproxy.wire.tls_faults import HandshakeError, HandshakeFault
from tests.factory import MeshCa, make_mesh_ca
from tests.shaking import shake

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from meshproxy.wire.address import Address


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("mesh"))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("foreign"))


def identity_of(mesh: MeshCa, path: str) -> Identity:
    settings = IdentitySettings(mesh.issue(path).directory)
    return load(settings, before=Trusted(), now=datetime.now(UTC)).identity


def judge(tls: TlsConnection, identity: Identity, now: datetime) -> Peer:
    return judge_peer(tls, anchors=identity.anchors, now=now)


@dataclass
class Far:
    """Endpoints that behave as told, and what they met."""

    nursery: trio.Nursery
    stack: ExitStack = field(default_factory=ExitStack)
    met: list[str] = field(default_factory=list)

    def endpoint(self, name: str, serve: Callable[[socket.socket], Awaitable[None]]) -> TcpAddress:
        """An address where `serve` is given each connection."""
        listener = bind(TcpAddress("127.0.0.1", 0))
        self.stack.callback(close_listener, listener)

        def take(sock: socket.socket, _peer: str) -> None:
            self.met.append(name)
            self.stack.enter_context(sock)
            self.nursery.start_soon(self._attend, serve, sock)

        self.nursery.start_soon(accept_forever, listener, take, lambda _: None)
        address = bound_address(listener)
        assert isinstance(address, TcpAddress)
        return address

    async def _attend(self, serve: Callable[[socket.socket], Awaitable[None]], sock: socket.socket) -> None:
        with sock, suppress(HandshakeError, ConnectionError):  # the dialer hangs up on whom it refuses
            await serve(sock)

    def sidecar(self, name: str, identity: Identity) -> TcpAddress:
        """An endpoint that shakes hands as `identity` and waits for the end."""

        async def serve(sock: socket.socket) -> None:
            await shake(TlsConnection(sock, identity.contexts.server(), server_side=True))
            await receive(sock, 1)

        return self.endpoint(name, serve)

    def dead(self) -> TcpAddress:
        """An address where nobody listens."""
        listener = bind(TcpAddress("127.0.0.1", 0))
        address = bound_address(listener)
        close_listener(listener)
        assert isinstance(address, TcpAddress)
        return address


@pytest.fixture
async def far(nursery: trio.Nursery) -> AsyncIterator[Far]:
    made = Far(nursery)
    with made.stack:
        yield made
        nursery.cancel_scope.cancel()


@dataclass
class Caller:
    """A dialer's user: who dials whom, and the failures it was told."""

    mesh: MeshCa
    sweeper: Sweeper
    told: list[FailedAttempt] = field(default_factory=list)

    def dialer(self, *endpoints: Address, server_name: str | None = None, alpn: tuple[str, ...] = ()) -> Dialer:
        return self.dialer_with(Destination(endpoints, server_name, alpn), Resolver())

    def dialer_with(self, destination: Destination, resolver: Resolver) -> Dialer:
        patience = Patience(5.0, 3.0)
        return Dialer(destination, patience, resolver, self.sweeper, wall=lambda: datetime.now(UTC), judge=judge)

    async def open(self, dialer: Dialer, to: str = "/ledger") -> str:
        """Dial and hang up; returns where it got through."""
        identity = identity_of(self.mesh, "/web")
        found = await dialer.open(identity, self.mesh.id(to), self.told.append)
        assert found.leaf.id == self.mesh.id(to)
        found.tls.sock.close()
        return found.target

    @property
    def phases(self) -> list[Phase]:
        return [failure.phase for failure in self.told]


@pytest.fixture
async def caller(mesh: MeshCa, nursery: trio.Nursery) -> Caller:
    sweeper = Sweeper()
    await nursery.start(sweeper.run)
    return Caller(mesh, sweeper)


async def test_the_first_endpoint_that_proves_to_be_it_is_taken(far: Far, caller: Caller, mesh: MeshCa) -> None:
    first, second = (far.sidecar(name, identity_of(mesh, "/ledger")) for name in ("first", "second"))
    dialer = caller.dialer(first, second)
    assert await caller.open(dialer) == str(first)
    assert (far.met, caller.told) == (["first"], [])
    assert "resting=0" in repr(dialer)


async def test_a_dead_endpoint_is_passed_over_rests_and_is_found_again(
    far: Far, caller: Caller, mesh: MeshCa, settling_clock: trio.testing.MockClock
) -> None:
    dead, living = far.dead(), far.sidecar("living", identity_of(mesh, "/ledger"))
    dialer = caller.dialer(dead, living)
    for _ in range(2):
        assert await caller.open(dialer) == str(living)
    assert caller.told == [FailedAttempt(str(dead), Phase.CONNECT, "Connection refused")]  # asked last the second time
    await trio.sleep(5)
    await caller.open(dialer)
    assert len(caller.told) == 2


async def test_another_identity_is_never_accepted_and_is_told(far: Far, caller: Caller, mesh: MeshCa) -> None:
    impostor = far.sidecar("impostor", identity_of(mesh, "/other"))
    with pytest.raises(NoUpstream) as caught:
        await caller.open(caller.dialer(impostor))
    (failure,) = caught.value.failures
    assert failure.phase is Phase.IDENTITY
    assert failure.detail == "the far end is spiffe://mesh.test/other, only spiffe://mesh.test/ledger is accepted"


async def test_who_is_not_asked_for_never_sees_our_certificate(far: Far, caller: Caller, mesh: MeshCa) -> None:
    identity = identity_of(mesh, "/other")
    met: list[HandshakeFault] = []

    async def serve(sock: socket.socket) -> None:
        with pytest.raises(HandshakeError) as refused:
            await shake(TlsConnection(sock, identity.contexts.server(), server_side=True))
        met.append(refused.value.fault)

    with pytest.raises(NoUpstream):
        await caller.open(caller.dialer(far.endpoint("impostor", serve)))
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert met == [HandshakeFault.RESET]


async def test_a_foreign_ca_with_the_very_same_names_is_refused_in_the_handshake(
    far: Far, caller: Caller, foreign: MeshCa
) -> None:
    namesake = far.sidecar("namesake", identity_of(foreign, "/ledger"))
    with pytest.raises(NoUpstream, match="unknown_ca"):
        await caller.open(caller.dialer(namesake))
    assert caller.phases == [Phase.HANDSHAKE]


async def test_a_certificate_openssl_accepts_is_still_judged(
    far: Far, caller: Caller, mesh: MeshCa, tmp_path: Path
) -> None:
    forged = mesh.forge(into=tmp_path / "two", uris=["spiffe://mesh.test/ledger", "spiffe://mesh.test/x"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(forged.chain, forged.key)

    async def serve(sock: socket.socket) -> None:
        await shake(TlsConnection(sock, context, server_side=True))

    with pytest.raises(NoUpstream, match="identity: several_uris: it has 2 URI SANs"):
        await caller.open(caller.dialer(far.endpoint("forged", serve)))


async def test_every_failure_is_told_in_the_order_tried(far: Far, caller: Caller, mesh: MeshCa) -> None:
    async def hang_up(_sock: socket.socket) -> None:
        await trio.lowlevel.checkpoint()

    def no_such_name(_host: str, _port: int) -> list[Target]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    dead, rude = far.dead(), far.endpoint("rude", hang_up)
    impostor = far.sidecar("impostor", identity_of(mesh, "/other"))
    destination = Destination((dead, TcpAddress("nowhere.internal", 1), rude, impostor))
    dialer = caller.dialer_with(destination, Resolver(no_such_name))
    with pytest.raises(NoUpstream) as caught:
        await caller.open(dialer)
    assert caller.phases == [Phase.CONNECT, Phase.RESOLVE, Phase.HANDSHAKE, Phase.IDENTITY]
    assert caught.value.failures == tuple(caller.told)


async def test_a_silent_endpoint_costs_the_handshake_timeout_and_no_more(
    far: Far, caller: Caller, mesh: MeshCa, settling_clock: trio.testing.MockClock
) -> None:
    async def say_nothing(_sock: socket.socket) -> None:
        await trio.sleep(1000)

    silent, living = far.endpoint("silent", say_nothing), far.sidecar("living", identity_of(mesh, "/ledger"))
    started = trio.current_time()
    assert await caller.open(caller.dialer(silent, living)) == str(living)
    assert 3 <= trio.current_time() - started < 3.5
    assert caller.told == [FailedAttempt(str(silent), Phase.HANDSHAKE, "no answer within 3 s", timed_out=True)]


async def test_an_address_that_swallows_packets_costs_the_connect_timeout(
    caller: Caller, settling_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_sock: socket.socket, _name: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr("meshproxy.wire.dial._connects_at_once", lambda *_: False)
    monkeypatch.setattr("meshproxy.wire.dial._connect_tcp", never)
    with pytest.raises(NoUpstream, match=r"^192\.0\.2\.1:1: connect: no answer within 5 s$"):
        await caller.open(caller.dialer(TcpAddress("192.0.2.1", 1)))


async def test_a_name_with_several_addresses_tries_them_in_turn_and_tells_which_failed(
    far: Far, caller: Caller, mesh: MeshCa
) -> None:
    dead, living = far.dead(), far.sidecar("living", identity_of(mesh, "/ledger"))
    named = TcpAddress("ledger.internal", 8443)
    answers = [Target(socket.AF_INET, (each.host, each.port)) for each in (dead, living)]
    dialer = caller.dialer_with(Destination((named,)), Resolver(lambda _host, _port: answers))
    assert await caller.open(dialer) == str(living)
    assert [failure.endpoint for failure in caller.told] == [f"ledger.internal:8443 ({dead})"]


async def test_server_name_and_alpn_are_said(far: Far, caller: Caller, mesh: MeshCa) -> None:
    identity = identity_of(mesh, "/ledger")
    heard: list[str | None] = []
    identity.contexts.server().set_alpn_protocols(["h2"])
    identity.contexts.server().sni_callback = lambda _sock, name, _context: heard.append(name)
    with_names = caller.dialer(far.sidecar("it", identity), server_name="ledger.internal", alpn=("h2",))
    found = await with_names.open(identity_of(mesh, "/web"), mesh.id("/ledger"), caller.told.append)
    assert found.tls.session.selected_alpn_protocol() == "h2"
    found.tls.sock.close()
    assert heard == ["ledger.internal"]


async def test_a_cancelled_dial_leaves_no_socket(far: Far, caller: Caller) -> None:
    ended = trio.Event()

    async def wait_for_the_end(sock: socket.socket) -> None:
        try:
            while await receive(sock, 65536):
                pass
        except ConnectionResetError:
            pass
        ended.set()

    silent = far.endpoint("silent", wait_for_the_end)
    with trio.move_on_after(0.05) as scope:
        await caller.open(caller.dialer(silent))
    assert scope.cancelled_caught
    with trio.fail_after(5):
        await ended.wait()


async def test_the_own_service_is_reached_over_a_unix_socket(tmp_path: Path, caller: Caller) -> None:
    address = UnixAddress(str(tmp_path / "s"))
    listener = bind(address)
    sock, where = await connect_plain(Resolver(), address, caller.told.append, within=1)
    with sock:
        assert where == str(address)
    close_listener(listener)
    with pytest.raises(NoUpstream, match="connect: No such file or directory"):
        await connect_plain(Resolver(), address, caller.told.append, within=1)
    assert len(caller.told) == 1
