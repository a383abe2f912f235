"""How one gets to a collector: in plain, where that stays on this machine, or to an identity of the mesh.

A connection carries one batch. What sends spans must make none: the request says that it is not sampled, so that it may
take the way through an outbound listener of this very sidecar.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from ca.spiffe_id import complete
from meshproxy.enroll.exchange import Request, Unsound, ask
from meshproxy.identity.usable import NotReady
from meshproxy.tracing.delivery import NotSent, Reply
from meshproxy.upstream.attempt import NoUpstream
from meshproxy.upstream.endpoint import connect_plain
from meshproxy.wire.stream import PlainStream, StreamBroken, TlsStream

if TYPE_CHECKING:
    from random import Random

    from meshproxy.identity.store import IdentityStore
    from meshproxy.settings.schema import TracingSettings
    from meshproxy.upstream.endpoint import Dialer
    from meshproxy.wire.dial import Resolver
    from meshproxy.wire.stream import Stream

_PATIENCE: Final = 10.0  # seconds for one batch, from connecting to its answer
_MOST_ANSWERED: Final = 64 * 1024  # bytes


class PlainCollector:
    """A collector that is spoken to in plain."""

    def __init__(self, settings: TracingSettings, resolver: Resolver, rng: Random) -> None:
        self._settings = settings
        self._resolver = resolver
        self._rng = rng

    def __repr__(self) -> str:
        return self._settings.endpoint.url

    async def send(self, body: bytes) -> Reply:
        """See `exporter.Collector`."""
        address = self._settings.endpoint.address
        try:
            with trio.fail_after(_PATIENCE):
                sock, _ = await connect_plain(self._resolver, address, lambda _failure: None, within=_PATIENCE)
                return await _exchange(PlainStream(sock), body, self._settings, self._rng)
        except NoUpstream as failed:
            raise NotSent(str(failed)) from failed
        except trio.TooSlowError:
            raise NotSent(f"no answer within {_PATIENCE:g} s") from None


class MeshCollector:
    """A collector in the mesh, or behind a sidecar: it has proved to be who the settings name."""

    def __init__(
        self, settings: TracingSettings, to: str, dialer: Dialer, identity: IdentityStore, rng: Random
    ) -> None:
        self._settings = settings
        self._to = to
        self._dialer = dialer
        self._identity = identity
        self._rng = rng

    def __repr__(self) -> str:
        return f"{self._settings.endpoint.url} ({self._to})"

    async def send(self, body: bytes) -> Reply:
        """See `exporter.Collector`."""
        try:
            identity = self._identity.usable()
            with trio.fail_after(_PATIENCE):
                to = complete(self._to, identity.home)
                far = await self._dialer.open(identity, to, lambda _failure: None)
                stream = TlsStream(far.tls)
                session = self._identity.sessions.of(far.peer, listener="tracing", connection=far.target)
                with session, trio.CancelScope() as exchange:
                    session.ended_by(lambda _why: exchange.cancel())
                    return await _exchange(stream, body, self._settings, self._rng)
                raise NotSent("the collector's certificate was revoked")
        except (NoUpstream, NotReady) as failed:
            raise NotSent(str(failed)) from failed
        except trio.TooSlowError:
            raise NotSent(f"no answer within {_PATIENCE:g} s") from None


async def _exchange(stream: Stream, body: bytes, settings: TracingSettings, rng: Random) -> Reply:
    """Send one batch; raises NotSent."""
    ids = rng.randbytes(24).hex().encode()
    endpoint = settings.endpoint
    request = Request(
        b"POST",
        endpoint.path.encode("ascii"),
        body=body,
        more=((b"traceparent", b"00-%b-%b-00" % (ids[:32], ids[32:])),),
    )
    try:
        answer = await ask(stream, request, host=str(endpoint.address), most=_MOST_ANSWERED)
        await stream.close()
    except StreamBroken as broken:
        raise NotSent(f"it broke off: {broken}") from broken
    except Unsound as unsound:
        raise NotSent(f"its answer is not acceptable: {unsound}") from unsound
    finally:
        stream.abort()
    return Reply(answer.status, answer.body, answer.retry_after)
