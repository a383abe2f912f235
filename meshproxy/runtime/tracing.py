"""A tracer as the settings want it."""

from __future__ import annotations

import secrets
from random import Random
from typing import TYPE_CHECKING

from meshproxy import __version__
from meshproxy.http.trace_context import Sampling
from meshproxy.inbound.machinery import clock
from meshproxy.tracing.collector import MeshCollector, PlainCollector
from meshproxy.tracing.exporter import Exporter
from meshproxy.tracing.tracer import Tracer
from meshproxy.upstream.endpoint import Destination, Dialer, Patience

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshproxy.identity.store import IdentityStore
    from meshproxy.settings.schema import TracingSettings
    from meshproxy.telemetry.record import Recorder
    from meshproxy.tracing.otlp import Attributes
    from meshproxy.wire.dial import Resolver
    from meshproxy.wire.relay import Relay


def make_tracer(
    settings: TracingSettings, identity: IdentityStore, relay: Relay, resolver: Resolver, recorder: Recorder
) -> Tracer:
    """Return a tracer whose exporter is to be run."""
    rng = Random(secrets.randbits(128))  # noqa: S311 - ids that must not repeat, and pauses; nothing secret
    collector: PlainCollector | MeshCollector
    if settings.to is None:
        collector = PlainCollector(settings, resolver, rng)
    else:
        dialer = Dialer(
            Destination((settings.endpoint.address,), None, ("http/1.1",)),
            Patience(connect=5.0, handshake=5.0),
            resolver,
            relay.sweeper,
            wall=relay.wall,
            judge=identity.judge,
        )
        collector = MeshCollector(settings, settings.to, dialer, identity, rng)
    resource = _resource_of(settings, identity, secrets.token_hex(8))
    exporter = Exporter(collector, resource, log=recorder.log, metrics=recorder.metrics, rng=rng)
    return Tracer(Sampling.of(settings.sample), exporter, clock)


def _resource_of(settings: TracingSettings, identity: IdentityStore, instance: str) -> Callable[[], Attributes]:
    """Return what tells whose spans these are: the service, by the name in the settings or that of its identity."""

    def resource() -> Attributes:
        loaded = identity.loaded
        said = {
            "service.instance.id": instance,
            "telemetry.sdk.name": "meshproxy",
            "telemetry.sdk.language": "python",
            "telemetry.sdk.version": __version__,
        }
        if loaded is None:
            return {"service.name": settings.service or "unknown_service:meshproxy", **said}
        path = loaded.leaf.id.path.strip("/")
        return {"service.name": settings.service or path, "meshproxy.identity": str(loaded.leaf.id), **said}

    return resource
