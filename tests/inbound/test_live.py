"""Streams live as long as their grant: registered before they are asked about, asked again, cut one by one."""

from __future__ import annotations

import contextlib
import socket
import ssl
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from ca.spiffe_id import SpiffeId, TrustDomain
from meshproxy.identity.store import IdentityStore
from meshproxy.inbound.authorize import Authorizer
from meshproxy.inbound.forward import InboundHandler
from meshproxy.inbound.live import Call, Live
from meshproxy.inbound.visit import Services, Visit
from meshproxy.policy.compile import Policy, compile_policy
from meshproxy.policy.decide import Mode
from meshproxy.policy.document import parse_allow_list
from meshproxy.settings.schema import IdentitySettings, Inbound, Protocol
from meshproxy.snapshot import Snapshot
from meshproxy.telemetry.metrics import Metrics
from meshproxy.telemetry.record import Recorder
from meshproxy.wire.address import TcpAddress, UnixAddress
from meshproxy.wire.buffers import Buffers
from meshproxy.wire.dial import Resolver
from meshproxy.wire.ends import ConnectionEnd, End
from meshproxy.wire.engine import make_readiness
from meshproxy.wire.relay import Relay
from meshproxy.wire.sweep import Sweeper
from meshproxy.wire.tls import TlsConnection, receive
from tests.factory import MeshCa, make_mesh_ca
from tests.hearing import listening_log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from meshproxy.policy.decide import Permit

HOME = TrustDomain("mesh.test")
NOW = datetime(2026, 11, 1, tzinfo=UTC)
SETTINGS = Inbound("api", TcpAddress("0.0.0.0", 8443), UnixAddress("/nowhere"), Protocol.TCP, Path("x.allow.toml"))

WEB_AND_SHOP = '[[allow]]\nfrom = ["/web", "/shop"]\n'
SHOP = '[[allow]]\nfrom = "/shop"\n'
PATIENCE = 5


def policy(text: str, generation: int = 1) -> Policy:
    return compile_policy(parse_allow_list(text.encode(), file="x.allow.toml"), generation=generation)


def call(path: str, *, asked: tuple[str, str] | None = None) -> Call:
    return Call("run-1", SpiffeId.parse(f"spiffe://mesh.test{path}"), HOME, asked)


def recorder() -> Recorder:
    return Recorder(Metrics(), listening_log()[0], lambda _: None, trio.current_time)


def authorizer(text: str = WEB_AND_SHOP) -> Authorizer:
    return Authorizer(SETTINGS, Snapshot(policy(text)), recorder())


class Connection:
    """Something that can be asked to end."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def drain(self, grace: float) -> None:
        self.asked.append(grace)


# What is open, and what is asked of it.


async def test_exactly_those_with_an_objection_are_cut() -> None:
    live = Live()
    web, shop = call("/web"), call("/shop")
    ends: list[ConnectionEnd] = []
    web.ended_by(ends.append)
    shop.ended_by(ends.append)
    with live.registered(web), live.registered(shop):
        assert live.recheck(lambda one: "no more" if one is web else "") == 1
        assert (web.cut, shop.cut) == ("no more", "")
        assert ends == [ConnectionEnd(End.DENIED, None, "no more")]
        assert live.recheck(lambda one: "again" if one is web else "") == 0  # cut once, counted once
        assert web.cut == "no more"
        assert repr(live) == "<Live open=0 calls=2 draining=False>"
    assert live.recheck(lambda _: "nobody is left") == 0


async def test_who_says_late_how_a_call_is_ended_is_told_at_once() -> None:
    web = call("/web")
    web.revoke("revoked")
    web.deny("and denied")  # once is enough
    ends: list[ConnectionEnd] = []
    web.ended_by(ends.append)
    assert ends == [ConnectionEnd(End.REVOKED, None, "revoked")]


async def test_a_call_is_forgotten_also_when_it_ends_badly() -> None:
    live = Live()
    with pytest.raises(ZeroDivisionError), live.registered(call("/web")):
        raise ZeroDivisionError
    assert "calls=0" in repr(live)


async def test_a_drain_asks_those_that_are_open_and_those_that_come() -> None:
    live, early, late = Live(), Connection(), Connection()
    with live.holding(early):
        live.drain(4.0)
        with live.holding(late):
            assert (early.asked, late.asked) == ([4.0], [4.0])
    assert repr(live) == "<Live open=0 calls=0 draining=True>"


async def test_a_change_asks_those_that_are_open_only() -> None:
    live, early, late = Live(), Connection(), Connection()
    with live.holding(early):
        live.drain_open(4.0)
        with live.holding(late):
            assert (early.asked, late.asked) == ([4.0], [])


# What the allow-list says about a stream that it once let through.


@pytest.mark.parametrize(
    ("text", "asked", "mode", "words"),
    [
        (WEB_AND_SHOP, None, Mode.ENFORCE, ""),
        (SHOP, None, Mode.ENFORCE, "no longer granted (no_rule) by x.allow.toml, generation 7"),
        (SHOP, None, Mode.AUDIT, ""),
        ("allow = []", None, Mode.ENFORCE, "no longer granted (no_rule) by x.allow.toml, generation 7"),
        (
            WEB_AND_SHOP + "expires = 2026-11-01\n",
            None,
            Mode.ENFORCE,
            "no longer granted (expired_grant) by x.allow.toml, generation 7",
        ),
        (WEB_AND_SHOP + "expires = 2026-11-02\n", None, Mode.ENFORCE, ""),
        (WEB_AND_SHOP + 'paths = "/ws"\n', ("GET", "/ws"), Mode.ENFORCE, ""),
        (
            WEB_AND_SHOP + 'paths = "/ws"\n',
            ("GET", "/else"),
            Mode.ENFORCE,
            "no longer granted (path) by x.allow.toml, generation 7",
        ),
        # A listener that was HTTP carries streams now: a rule for requests grants no stream.
        (
            WEB_AND_SHOP + 'paths = "/ws"\n',
            None,
            Mode.ENFORCE,
            "no longer granted (no_rule) by x.allow.toml, generation 7",
        ),
    ],
)
async def test_a_stream_is_asked_about_on_the_present_list(
    text: str, asked: tuple[str, str] | None, mode: Mode, words: str
) -> None:
    judge = authorizer()
    judge.replace(replace(SETTINGS, mode=mode), policy(text, generation=7))
    assert judge.policy.generation == 2
    assert judge.objection(call("/web", asked=asked), NOW) == words


# The life of a stream, with real handshakes; the service is a socket pair that `connect_plain` is made to return.


@dataclass
class Inside:
    """A handler of `web`'s connection, what hooks into its steps, and what it has done."""

    live: Live
    judge: Authorizer
    handler: InboundHandler
    service: socket.socket
    visit: Visit
    caller: TlsConnection
    connected: Callable[..., Awaitable[tuple[socket.socket, str]]]

    @property
    def has_ended(self) -> bool:
        return self.visit.end is not None

    def swap(self, text: str) -> None:
        """What a reload does: judge by another list from now on, and ask again about all that is registered."""
        self.judge.replace(SETTINGS, policy(text, generation=2))
        self.live.recheck(lambda one: self.judge.objection(one, datetime.now(UTC)))

    def reached_service(self) -> bytes | None:
        """What the service was sent so far; None while nobody has connected or nothing came."""
        try:
            return self.service.recv(65536)
        except (BlockingIOError, ConnectionResetError):
            return None

    async def call(self) -> None:
        """Connect as `web`, with the first bytes in the last flight of the handshake; serve it to its end."""
        near, far = socket.socketpair()
        for sock in (near, far):
            sock.setblocking(False)
        self.caller.sock = near
        with near, far, trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(greet, self.caller)
                nursery.start_soon(self.handler, far, self.visit)


async def greet(client: TlsConnection) -> None:
    """Shake hands, and say the first words in the same flight: the far end finds them in its BIO, not its socket."""
    while True:
        try:
            client.session.do_handshake()
            break
        except ssl.SSLWantReadError:
            client.sock.send(client.outgoing.read())
            client.incoming.write(await receive(client.sock, 65536))
    client.session.write(b"first words")
    client.sock.send(client.outgoing.read())


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("mesh"))


@pytest.fixture
async def inside(mesh: MeshCa, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Inside]:
    engine, log = make_readiness(), listening_log()[0]
    await nursery.start(engine.run)
    stores = {}
    for name in ("api", "web"):
        settings = IdentitySettings(mesh.issue(f"/{name}").directory)
        stores[name] = IdentityStore(settings, wall=wall, log=log, metrics=Metrics())
        stores[name].load_first()
    services = Services(Relay(engine, Buffers(), Sweeper(), wall), Resolver(), stores["api"], recorder())
    plain, service = socket.socketpair()
    for sock in (plain, service):
        sock.setblocking(False)

    async def connected(*_arguments: object, **_more: object) -> tuple[socket.socket, str]:
        await trio.lowlevel.checkpoint()
        return plain, "service"

    monkeypatch.setattr("meshproxy.inbound.forward.connect_plain", connected)
    live, judge = Live(), Authorizer(SETTINGS, Snapshot(policy(WEB_AND_SHOP)), services.recorder)
    client = TlsConnection(plain, stores["web"].usable().contexts.client(), server_side=False)
    handler = InboundHandler(SETTINGS, judge, services, live)
    yield Inside(live, judge, handler, service, Visit("api", "inbound", "peer"), client, connected)
    nursery.cancel_scope.cancel()
    plain.close()
    service.close()


def wall() -> datetime:
    return datetime.now(UTC)


DENIED = ConnectionEnd(End.DENIED, None, "no longer granted (no_rule) by x.allow.toml, generation 2")


async def test_a_list_swapped_between_registration_and_the_first_question_is_the_one_that_is_asked(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered = inside.live.registered

    def registered_then_swapped(one: Call) -> contextlib.AbstractContextManager[Call]:
        context = registered(one)

        @contextlib.contextmanager
        def hooked() -> Iterator[Call]:
            with context:
                inside.swap(SHOP)
                yield one

        return hooked()

    monkeypatch.setattr(inside.live, "registered", registered_then_swapped)
    await inside.call()
    assert inside.visit.end == ConnectionEnd(End.DENIED, None, "no_rule")
    assert inside.visit.policy == "x.allow.toml@2"
    assert inside.reached_service() is None


async def test_a_list_swapped_between_the_question_and_the_forwarding_cuts_it(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = inside.judge.ask

    def ask_then_swap(*arguments: Any, **more: Any) -> Permit | None:
        permit = ask(*arguments, **more)
        inside.swap(SHOP)
        return permit

    monkeypatch.setattr(inside.judge, "ask", ask_then_swap)
    await inside.call()
    assert inside.visit.end == DENIED
    assert inside.reached_service() in {None, b""}


@pytest.mark.parametrize("turns", [0, 1, 2])
async def test_a_list_swapped_while_connecting_to_the_service_lets_no_byte_through(
    inside: Inside, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """Also in the very turn in which the service accepts, where nothing is left to be cancelled."""

    async def swapped_then_connected(*arguments: object, **more: object) -> tuple[socket.socket, str]:
        answer = await inside.connected(*arguments, **more)
        inside.swap(SHOP)
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        return answer

    monkeypatch.setattr("meshproxy.inbound.forward.connect_plain", swapped_then_connected)
    await inside.call()
    assert inside.visit.end == DENIED
    assert inside.visit.traffic.to_plain == 0
    assert inside.reached_service() in {None, b""}


async def test_a_stream_that_goes_on_is_cut_when_its_rule_goes_and_only_then(inside: Inside) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inside.call)
        with trio.fail_after(PATIENCE):
            assert await receive(inside.service, 65536) == b"first words"
        inside.swap('[[allow]]\nfrom = ["/web", "/batch"]\n')
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not inside.has_ended
        inside.swap(SHOP)
    assert inside.visit.end == DENIED
    assert inside.visit.traffic.to_plain == len(b"first words")
    assert repr(inside.live) == "<Live open=0 calls=0 draining=False>"


async def test_a_drain_is_no_denial(inside: Inside) -> None:
    with trio.move_on_after(PATIENCE) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inside.call)
            with trio.fail_after(PATIENCE):
                assert await receive(inside.service, 65536) == b"first words"
            nursery.cancel_scope.cancel()
    assert not scope.cancelled_caught
    assert inside.visit.end is None  # the acceptor says how it ended
    assert "calls=0" in repr(inside.live)
