"""One sidecar's parts wired in-process, on real sockets, without the process around them.

    side = await Sidecar.start(nursery, mesh.issue("/api"))
    inbound = side.inbound('allow = []', forward=service.address)
    outbound = side.outbound("/api", inbound.address)

What it told is in `side.heard` (events) and `side.lines` (access lines).
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from meshproxy.identity.store import IdentityStore
from meshproxy.inbound.accept import Acceptor, Handler, Post
from meshproxy.inbound.authorize import Authorizer
from meshproxy.inbound.forward import InboundHandler
from meshproxy.inbound.live import Live
from meshproxy.inbound.visit import Services
from meshproxy.outbound.forward import OutboundHandler
from meshproxy.policy.compile import compile_policy
from meshproxy.policy.decide import Mode
from meshproxy.policy.document import parse_allow_list
from meshproxy.settings.schema import IdentitySettings, Inbound, Limits, Outbound, Protocol
from meshproxy.snapshot import Snapshot
from meshproxy.telemetry.metrics import Metrics
from meshproxy.telemetry.record import Recorder
from meshproxy.upstream.endpoint import Destination, Dialer, Patience
from meshproxy.wire.address import Address, TcpAddress
from meshproxy.wire.buffers import Buffers
from meshproxy.wire.dial import Resolver
from meshproxy.wire.engine import make_readiness
from meshproxy.wire.listen import accept_forever, bind, bound_address, close_listener
from meshproxy.wire.relay import Relay
from meshproxy.wire.sweep import Sweeper
from meshproxy.wire.tls import receive
from tests.hearing import Heard, listening_log

if TYPE_CHECKING:
    from meshproxy.telemetry.access import AccessLine
    from tests.factory import Identity

ANYWHERE = TcpAddress("127.0.0.1", 0)


@dataclass
class Door:
    """A listener that is served."""

    address: Address
    acceptor: Acceptor

    def knock(self) -> socket.socket:
        """A connected, non-blocking socket."""
        if isinstance(self.address, TcpAddress):
            sock = socket.create_connection((self.address.host, self.address.port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or a short word waits 40 ms for an ACK
        else:
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(self.address.path)
        sock.setblocking(False)
        return sock


@dataclass
class Echo:
    """A service that gives back what it gets, and counts its callers."""

    address: Address
    callers: int = 0
    received: bytes = b""

    async def attend(self, sock: socket.socket) -> None:
        with sock:
            try:
                while data := await receive(sock, 65536):
                    self.received += data
                    sock.send(data)
            except ConnectionError:
                return


@dataclass
class Sidecar:
    """The shared services of one sidecar, and the listeners opened on it."""

    nursery: trio.Nursery
    store: IdentityStore
    services: Services
    metrics: Metrics
    heard: Heard
    lines: list[AccessLine]
    stack: ExitStack = field(default_factory=ExitStack)

    @classmethod
    async def start(cls, nursery: trio.Nursery, identity: Identity | Path) -> Sidecar:
        """Run an engine; load the identity, or go without one when the directory has none yet."""
        log, heard = listening_log()
        metrics = Metrics()
        lines: list[AccessLine] = []
        directory = identity if isinstance(identity, Path) else identity.directory
        store = IdentityStore(IdentitySettings(directory), wall=lambda: datetime.now(UTC), log=log, metrics=metrics)
        store.load_first()
        engine = make_readiness()
        await nursery.start(engine.run)
        recorder = Recorder(metrics, log, lines.append, trio.current_time)
        sweeper = Sweeper()
        await nursery.start(sweeper.run)
        relay = Relay(engine, Buffers(), sweeper, lambda: datetime.now(UTC))
        return cls(nursery, store, Services(relay, Resolver(), store, recorder), metrics, heard, lines)

    def inbound(self, allow: str, forward: Address, *, mode: Mode = Mode.ENFORCE, limits: Limits | None = None) -> Door:
        """An inbound listener with the allow-list `allow` (TOML)."""
        settings = Inbound(
            "api", ANYWHERE, forward, Protocol.TCP, Path("api.allow.toml"), mode=mode, limits=limits or Limits()
        )
        policy = Snapshot(compile_policy(parse_allow_list(allow.encode(), file="api.allow.toml"), generation=4))
        authorizer = Authorizer(settings, policy, self.services.recorder)
        return self._door("api", "inbound", InboundHandler(settings, authorizer, self.services, Live()), ANYWHERE)

    def outbound(
        self, to: str, *endpoints: Address, listen: Address = ANYWHERE, uids: frozenset[int] | None = None
    ) -> Door:
        """An outbound listener for the one identity `to`."""
        settings = Outbound("out", listen, to, endpoints, Protocol.TCP, allow_uids=uids)
        relay = self.services.relay
        dialer = Dialer(
            Destination(endpoints),
            Patience(5, 5),
            self.services.resolver,
            relay.sweeper,
            wall=relay.wall,
            judge=self.store.judge,
        )
        return self._door("out", "outbound", OutboundHandler(settings, dialer, self.services), listen)

    def service(self) -> Echo:
        """An echo service of its own."""
        listener = self._listener(ANYWHERE)
        echo = Echo(bound_address(listener))

        def take(sock: socket.socket, _peer: str) -> None:
            echo.callers += 1
            self.nursery.start_soon(echo.attend, sock)

        self.nursery.start_soon(accept_forever, listener, take, lambda _: None)
        return echo

    def value(self, name: str, **labels: str) -> float | None:
        """A number of /metrics."""
        return self.metrics.registry.get_sample_value(name, labels)

    def _door(self, name: str, direction: str, handler: Handler, address: Address) -> Door:
        listener = self._listener(address)
        acceptor = Acceptor(
            Post(name, direction, 100, listener, bound_address(listener)),
            self.services.recorder,
            handler,
            engine=self.services.relay.engine,
        )
        self.nursery.start_soon(acceptor.run, self.nursery)
        return Door(bound_address(listener), acceptor)

    def _listener(self, address: Address) -> socket.socket:
        listener = bind(address)
        self.stack.callback(close_listener, listener)
        return listener
