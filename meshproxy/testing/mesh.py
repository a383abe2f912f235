"""A mesh for one test: services get an inbound sidecar, callers an outbound one, all in a thread of the test's process.

    with Mesh(tmp_path) as mesh:
        mesh.serve("/orders", forward=port_of_the_service, policy=Path("orders.allow.toml"))
        web = mesh.call("/web", to="/orders")
        requests.get(f"{web.url}/orders/7")         # plain HTTP here, mutual TLS between the two, plain to the service
        assert mesh.decisions()[-1].rule == "web-reads"

Sidecars, certificates, handshakes and decisions are the real ones; only the clock they go by is the test's.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar

import trio

from ca.spiffe_id import TrustDomain, complete
from meshproxy.policy.decide import Mode, Outcome
from meshproxy.settings.schema import IdentitySettings, Inbound, Limits, Outbound, Protocol, Settings
from meshproxy.telemetry.access import RequestLine
from meshproxy.telemetry.metrics import Metrics
from meshproxy.telemetry.record import Recorder
from meshproxy.testing.backstage import Backstage
from meshproxy.testing.clock import Clock
from meshproxy.testing.fault import MeshError
from meshproxy.testing.heard import Heard
from meshproxy.testing.issuer import Issuer
from meshproxy.testing.lists import read_list
from meshproxy.testing.member import Member
from meshproxy.wire.address import TcpAddress, parse_address

if TYPE_CHECKING:
    from datetime import timedelta

    from ca.spiffe_id import SpiffeId
    from meshproxy.policy.compile import Policy
    from meshproxy.telemetry.access import AccessLine
    from meshproxy.testing.lists import PolicySource
    from meshproxy.wire.address import Address

_ANYWHERE = TcpAddress("127.0.0.1", 0)
# An upstream connection that rests was made by the clock of its time: each request gets a new one.
_AS_OF_NOW = Limits(pool_idle=0.0)
_LOOK_EVERY = 0.01
_TOLD_ON_FAILURE = 20

E = TypeVar("E", bound=StrEnum)

_IN_FRONT = frozenset({"event", "level", "sidecar", "listener"})

# Where a service listens: its port on this machine, host and port, or "host:port" and "unix:/path" as in settings.
Target = int | tuple[str, int] | str


class Place(NamedTuple):
    """Where something listens, as `socket.create_connection` takes it."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The same for HTTP clients, without a slash at the end."""
        return f"http://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Decision:
    """What an allow-list decided about one request, or one connection (tcp: once that has ended).

    `service` and `caller` are short identities; `method` and `path` are empty for a connection, `rule` for a denial.
    `outcome` is `allow`, `deny`, or `would_deny` where a listener in audit mode let pass what no rule grants.
    """

    service: str
    caller: str
    method: str
    path: str
    outcome: str
    rule: str
    reason: str
    policy: str  # the file, and which version of it as in `orders.allow.toml@2`

    @property
    def allowed(self) -> bool:
        """Whether a rule granted it."""
        return self.outcome == Outcome.ALLOW

    def __str__(self) -> str:
        asked = " ".join(part for part in (self.caller, self.method, self.path) if part)
        return f"{self.service}: {asked}: {self.outcome} ({self.rule or self.reason}, {self.policy})"


class Mesh:
    """A trust domain with its CA in `directory` (new or empty), and sidecars until `close`; for one thread."""

    def __init__(self, directory: Path, *, trust_domain: str = "mesh.test") -> None:
        """Make the CA and start the thread. Raises MeshError."""
        try:
            self._home = TrustDomain.parse(trust_domain)
        except ValueError as error:
            raise MeshError(str(error)) from None
        self._issuer = Issuer(directory, self._home)
        self._heard = Heard()
        self._log = self._heard.logger()
        self._lines: list[tuple[str, AccessLine]] = []
        self._inbound: dict[SpiffeId, tuple[Member, Protocol, Place]] = {}
        self._outbound: dict[tuple[SpiffeId, SpiffeId], tuple[Member, Place]] = {}
        self.clock = Clock(self._clock_moved)
        self._backstage = Backstage()

    def __repr__(self) -> str:
        return f"<Mesh {self._home} of {', '.join(each.path for each in self._inbound) or 'nobody yet'}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all sidecars and the thread; idempotent. Raises MeshError when one of them had failed by itself."""
        self._backstage.close()
        for event in self._heard.events:
            if event["event"] == "internal_error":
                raise MeshError(f"a sidecar failed; please report it:\n{event.get('exception', event)}")

    def serve(
        self,
        service: str,
        *,
        forward: Target,
        policy: PolicySource,
        protocol: str = "http",
        mode: str = "enforce",
        limits: Limits | None = None,
    ) -> Place:
        """Put a sidecar in front of a service that listens at `forward`; returns where it speaks mutual TLS.

        `policy` is a Path (a file, or a directory in which the list of this service is found), or a `str`: the text
        itself. Raises MeshError for what a sidecar would refuse, with every problem of the allow-list.
        """
        identity, carried = self._identity(service), _one_of(Protocol, protocol)
        if identity in self._inbound:
            raise MeshError(f"{identity.path} is served already; to change its allow-list: mesh.edit_policy")
        directory = self._directory_of(identity)
        allow_list = read_list(policy, tcp=_tcp_words(identity, carried), identity=directory)
        inbound = Inbound(
            name=identity.path,
            listen=_ANYWHERE,
            forward=_target(forward),
            protocol=carried,
            policy=Path(allow_list.file),
            mode=_one_of(Mode, mode),
            limits=limits or Limits(),
        )
        settings = Settings(IdentitySettings(directory), inbound=(inbound,))
        member, place = self._add(settings, allow_list)
        self._inbound[identity] = member, carried, place
        return place

    def call(self, caller: str, *, to: str, limits: Limits | None = None) -> Place:
        """Return where to connect, in the clear, to reach the service `to` as `caller`; the same place each time.

        Raises MeshError when nobody serves `to`.
        """
        who, whom = self._identity(caller), self._identity(to)
        if (who, whom) in self._outbound:
            return self._outbound[who, whom][1]
        _, carried, place = self._served(whom)
        outbound = Outbound(
            name=f"{who.path} to {whom.path}",
            listen=_ANYWHERE,
            to=str(whom),
            endpoints=(TcpAddress(*place),),
            protocol=carried,
            limits=limits or _AS_OF_NOW,
        )
        settings = Settings(IdentitySettings(self._directory_of(who)), outbound=(outbound,))
        member, here = self._add(settings, None)
        self._outbound[who, whom] = member, here
        return here

    def issue(self, identity: str, *, ttl: timedelta | None = None) -> Path:
        """Give `identity` a new certificate, which ends `ttl` from now by the mesh's clock; returns its directory.

        Without `ttl`, and where this is never called, it ends with no clock a test would set. Sidecars that run as
        `identity` have taken it up when this returns.
        """
        who = self._identity(identity)
        directory = self._issuer.issue(who, ttl=ttl, now=self.clock())
        members = [member for served, (member, *_) in self._inbound.items() if served == who]
        members += [member for (caller, _), (member, _) in self._outbound.items() if caller == who]

        async def take_up() -> None:
            async with trio.open_nursery() as nursery:
                for member in members:
                    nursery.start_soon(member.take_up_identity)

        if members:
            self._backstage.call(take_up)
        return directory

    def edit_policy(self, service: str, policy: PolicySource) -> None:
        """Judge by another allow-list from now on, as after a reload; no file is written.

        Raises MeshError, with the old list in force, for one that a sidecar would refuse.
        """
        identity = self._identity(service)
        member, carried, _ = self._served(identity)
        new = read_list(
            policy,
            tcp=_tcp_words(identity, carried),
            identity=self._issuer.directory_of(identity),
            generation=member.generation + 1,
        )

        async def swap() -> None:
            member.judge_by(new)

        self._backstage.call(swap)

    def decisions(self, *, at_least: int = 0, within: float = 5.0) -> list[Decision]:
        """Return what was decided so far, in order; waits (seconds) until it is `at_least` so many, else MeshError.

        A request is told with its answer, a tcp connection when it has ended. Who could not prove who he is, and what
        is no sound HTTP, comes to no decision: see `events`.
        """
        deadline = time.monotonic() + within
        while True:
            found = self._backstage.call(self._decisions)
            if len(found) >= at_least:
                return found
            if time.monotonic() >= deadline:
                told = "\n".join(map(str, found)) or "none at all"
                raise MeshError(f"{len(found)} decisions within {within:g} s, expected at least {at_least}:\n{told}")
            time.sleep(_LOOK_EVERY)

    def unused_rules(self, service: str) -> list[str]:
        """Return the rules that have granted nothing so far and could have: what no test has tried."""
        identity = self._identity(service)
        member = self._served(identity)[0]

        async def ask() -> list[str]:
            return member.unused()

        return self._backstage.call(ask)

    def events(self, name: str = "") -> list[dict[str, object]]:
        """Return what the sidecars logged (docs/logs.md), all or those of one `name`; `sidecar` says whose it is."""

        async def copy() -> list[dict[str, object]]:
            return [event for event in self._heard.events if name in {"", event["event"]}]

        return self._backstage.call(copy)

    def account(self) -> str:
        """Return the last decisions and warnings in words: what a person wants to see beside a failed test."""
        decided = [str(each) for each in _decided(self._lines, self._home)][-_TOLD_ON_FAILURE:]
        warned = [_told(event) for event in self._heard.events if event["level"] != "info"][-_TOLD_ON_FAILURE:]
        return "\n".join(["decisions", *(decided or ["none"]), *(["", "warnings", *warned] if warned else [])])

    async def _decisions(self) -> list[Decision]:
        return _decided(self._lines, self._home)

    def _add(self, settings: Settings, policy: Policy | None) -> tuple[Member, Place]:
        (listener,) = settings.listeners

        async def begin() -> tuple[Member, Place]:
            recorder = Recorder(Metrics(), self._log.bind(sidecar=listener.name), tell, trio.current_time)
            member = Member(settings, policy, recorder, self.clock)
            await self._backstage.nursery.start(member.run)
            return member, Place(member.address.host, member.address.port)

        def tell(line: AccessLine) -> None:
            self._lines.append((listener.name, line))

        return self._backstage.call(begin)

    def _served(self, identity: SpiffeId) -> tuple[Member, Protocol, Place]:
        if identity not in self._inbound:
            served = ", ".join(each.path for each in self._inbound) or "nobody is served yet"
            raise MeshError(
                f"nobody serves {identity.path} in this mesh ({served}); begin with mesh.serve({identity.path!r}, ...)"
            )
        return self._inbound[identity]

    def _identity(self, text: str) -> SpiffeId:
        try:
            identity = complete(text, self._home)
        except ValueError as error:
            raise MeshError(str(error)) from None
        if identity.trust_domain != self._home:
            raise MeshError(f"{identity} is of another trust domain; this mesh is {self._home}")
        return identity

    def _directory_of(self, identity: SpiffeId) -> Path:
        directory = self._issuer.directory_of(identity)
        return directory if directory.exists() else self._issuer.issue(identity, ttl=None, now=self.clock())

    def _clock_moved(self) -> None:
        members = [member for member, *_ in self._inbound.values()]
        members += [member for member, _ in self._outbound.values()]

        async def tell_all() -> None:
            for member in members:
                member.clock_moved()

        self._backstage.call(tell_all)


def _decided(lines: list[tuple[str, AccessLine]], home: TrustDomain) -> list[Decision]:
    return [
        Decision(
            service,
            line.caller.removeprefix(home.id),
            line.method if isinstance(line, RequestLine) else "",
            line.path if isinstance(line, RequestLine) else "",
            line.decision,
            line.rule,
            line.reason,
            line.policy,
        )
        for service, line in lines
        if line.decision
    ]


def _one_of(words: type[E], word: str) -> E:
    try:
        return words(word)
    except ValueError:
        raise MeshError(f"{word!r}: expected one of {', '.join(words)}") from None


def _target(forward: Target) -> Address:
    match forward:
        case int():
            return TcpAddress("127.0.0.1", forward)
        case (host, port):
            return TcpAddress(host, port)
        case _:
            try:
                return parse_address(forward)
            except ValueError as error:
                raise MeshError(f"forward={forward!r}: expected {error}") from None


def _tcp_words(identity: SpiffeId, carried: Protocol) -> str | None:
    return f"the listener of {identity.path}" if carried is Protocol.TCP else None


def _told(event: dict[str, object]) -> str:
    rest = ", ".join(f"{key}={value}" for key, value in event.items() if value and key not in _IN_FRONT)
    return f"{event.get('sidecar')}: {event['event']}: {rest}"
