"""Fetching the bundles of other trust domains from their bundle endpoints (SPIFFE Federation 5), and again when due."""

from __future__ import annotations

import ssl
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import msgspec
import trio
from cryptography.hazmat.primitives.serialization import Encoding

from ca import federation, spiffe_bundle
from ca.federation import MOST_BYTES, FederationError, Profile, Url
from ca.spiffe_id import TrustDomain
from ca.svid import LeafError, judge_leaf
from meshproxy.enroll.exchange import Request, Unsound, ask
from meshproxy.wire.address import TcpAddress
from meshproxy.wire.closing import reset
from meshproxy.wire.dial import ResolveError, Resolver, connect
from meshproxy.wire.stream import StreamBroken, TlsStream
from meshproxy.wire.sweep import Sweeper
from meshproxy.wire.threads import in_thread
from meshproxy.wire.tls import TlsConnection
from meshproxy.wire.tls_faults import HandshakeError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from ca.federation import Endpoint, Partner
    from meshproxy.enroll.account import Account

_PATIENCE: Final = 20.0  # seconds for all of it
_CONNECTING: Final = 5.0
_EVERY: Final = 5.0  # seconds
_AFTER_A_FAILURE: Final = timedelta(seconds=60)


class Correspondent:
    """Asks bundle endpoints."""

    def __init__(self, sweeper: Sweeper, *, wall: Callable[[], datetime]) -> None:
        self._sweeper = sweeper
        self._wall = wall
        self._resolver = Resolver()

    def __repr__(self) -> str:
        return f"<Correspondent {self._resolver!r}>"

    async def fetch(self, endpoint: Endpoint, domain: TrustDomain, known: str | None) -> bytes:
        """Fetch the bundle of `domain`; `known` is the one before, by which https_spiffe judges the endpoint.

        What comes is not judged. Raises FederationError.
        """
        url = federation.read_url(endpoint.url)
        context = _context(endpoint, domain, known)
        try:
            with trio.fail_after(_PATIENCE):
                return await self._fetch(endpoint, domain, url, context)
        except trio.TooSlowError:
            raise FederationError(f"{endpoint.url} did not answer within {_PATIENCE:g} s") from None
        except HandshakeError as error:
            raise FederationError(f"{endpoint.url}: the TLS handshake failed: {error.detail}") from error
        except LeafError as error:
            raise FederationError(f"{endpoint.url} is not certified as {endpoint.id}: {error}") from error
        except (Unsound, StreamBroken, ResolveError) as error:
            raise FederationError(f"{endpoint.url}: {error}") from error
        except OSError as error:
            raise FederationError(f"{endpoint.url}: {error.strerror or error}") from error

    async def _fetch(self, endpoint: Endpoint, domain: TrustDomain, url: Url, context: ssl.SSLContext) -> bytes:
        sock = await self._connect(url)
        try:
            tls = TlsConnection(sock, context, server_side=False, server_name=url.host)
            await tls.handshake(self._sweeper, within=_PATIENCE)
            if endpoint.profile is Profile.SPIFFE:
                _judge(tls.peer_certificate, endpoint, domain, self._wall())
            stream = TlsStream(tls)
            answer = await ask(stream, Request(b"GET", url.path.encode()), host=url.authority, most=MOST_BYTES)
        finally:
            reset(sock)
        if answer.status != 200:
            raise FederationError(f"{endpoint.url} answered {answer.status}, expected 200 and a bundle")
        return answer.body

    async def _connect(self, url: Url) -> socket.socket:
        targets = await self._resolver.resolve(TcpAddress(url.host, url.port), within=_CONNECTING)
        for target in targets[:-1]:
            try:
                return await connect(target, within=_CONNECTING)
            except (OSError, trio.TooSlowError):
                continue
        return await connect(targets[-1], within=_CONNECTING)


class Partners:
    """Keeps the bundles up to date that have an endpoint."""

    def __init__(
        self,
        directory: Path,
        home: TrustDomain,
        correspondent: Correspondent,
        account: Account,
        *,
        wall: Callable[[], datetime],
    ) -> None:
        self._directory = directory
        self._home = home
        self._correspondent = correspondent
        self._account = account
        self._wall = wall
        self._not_before: dict[str, datetime] = {}  # after failures; only of partners there are

    def __repr__(self) -> str:
        return f"<Partners failing={sorted(self._not_before)}>"

    async def run(self) -> None:
        """Look every few seconds whether one is due, until cancelled."""
        while True:
            try:
                partners = await in_thread(federation.every, self._directory)
            except OSError as error:
                self._account.fails("federation", str(error))
                partners = []
            for gone in self._not_before.keys() - {each.trust_domain for each in partners}:
                del self._not_before[gone]
                self._account.forget(f"bundle of {gone}")
            for partner in partners:
                now = self._wall()
                self._account.figures.federated_age.labels(partner.trust_domain).set((now - partner.at).total_seconds())
                if partner.endpoint is not None and self._is_due(partner, now):
                    await self._refresh(partner, partner.endpoint)
            await trio.sleep(_EVERY)

    def _is_due(self, partner: Partner, now: datetime) -> bool:
        later = self._not_before.get(partner.trust_domain)
        # A clock that went back must not put off for long what is due: no failure is longer ago than its pause.
        paused = later is not None and timedelta(0) < later - now <= _AFTER_A_FAILURE
        return not paused and (now >= federation.next_look(partner) or now < partner.at)

    async def _refresh(self, partner: Partner, endpoint: Endpoint) -> None:
        name = partner.trust_domain
        try:
            document = await self._correspondent.fetch(endpoint, TrustDomain.parse(name), partner.bundle)
            fetched = msgspec.structs.replace(partner, bundle=_text(document, endpoint), at=self._wall())
            changed = await in_thread(lambda: federation.refresh(self._directory, fetched, home=self._home))
        except (FederationError, OSError) as error:
            self._not_before[name] = self._wall() + _AFTER_A_FAILURE
            self._account.fails(f"bundle of {name}", str(error))
            return
        self._not_before.pop(name, None)
        self._account.works(f"bundle of {name}")
        if changed:
            self._account.log.info("federated_bundle_changed", trust_domain=name, url=endpoint.url)


async def fetch_once(endpoint: Endpoint, domain: TrustDomain, known: str | None, wall: Callable[[], datetime]) -> str:
    """Fetch a bundle for somebody who waits. Raises FederationError."""
    sweeper = Sweeper()
    async with trio.open_nursery() as nursery:
        await nursery.start(sweeper.run)
        answer: bytes | FederationError
        try:
            answer = await Correspondent(sweeper, wall=wall).fetch(endpoint, domain, known)
        except FederationError as error:
            answer = error  # out of the nursery it would come wrapped
        nursery.cancel_scope.cancel()
    if isinstance(answer, FederationError):
        raise answer
    return _text(answer, endpoint)


def _context(endpoint: Endpoint, domain: TrustDomain, known: str | None) -> ssl.SSLContext:
    if endpoint.profile is Profile.WEB:
        return ssl.create_default_context()
    if known is None:
        raise FederationError(
            f"https_spiffe judges {endpoint.url} by the bundle of {domain}, and none is known yet: give it with --file"
        )
    roots = spiffe_bundle.read(known.encode(), home=domain).roots
    if not roots:
        raise FederationError(f"the bundle of {domain} that is known has no roots, so {endpoint.url} cannot be judged")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the SPIFFE ID says who it is (SPIFFE Federation 5.2.2)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata="".join(root.public_bytes(Encoding.PEM).decode() for root in roots))
    return context


def _judge(leaf: bytes | None, endpoint: Endpoint, domain: TrustDomain, now: datetime) -> None:
    found = judge_leaf(leaf or b"", home=domain, now=now)
    if str(found.id) != endpoint.id:
        raise FederationError(f"{endpoint.url} is certified as {found.id}, expected {endpoint.id}")


def _text(document: bytes, endpoint: Endpoint) -> str:
    try:
        return document.decode()
    except UnicodeDecodeError:
        raise FederationError(f"{endpoint.url} answered with what is no text, expected a bundle as JSON") from None
