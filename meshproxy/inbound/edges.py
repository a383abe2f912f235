"""At which edge of the mesh a connection is counted: who calls whom, in short names."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from ca.spiffe_id import complete
from meshproxy.telemetry.flows import Edge

if TYPE_CHECKING:
    from ca import SpiffeId, TrustDomain
    from meshproxy.inbound.admit import Guest
    from meshproxy.inbound.visit import Services, Visit
    from meshproxy.settings.schema import Inbound, Outbound

_LOCAL: Final = "local"  # while nobody knows as whom this sidecar speaks

# The settings' few words, read once and not for each connection.
complete_once = lru_cache(maxsize=256)(complete)


def enter_inbound(visit: Visit, settings: Inbound, guest: Guest, services: Services) -> None:
    """Count a connection that was authenticated at the edge from its caller to this service."""
    caller, own, home = guest.leaf.id, guest.identity.leaf.id, guest.home
    edge = Edge("destination", _name(caller, home), own.path, visit.listener, settings.protocol.value)
    _enter(visit, edge, services)


def enter_outbound(visit: Visit, settings: Outbound, services: Services) -> None:
    """Count a connection of a local caller at the edge from this service to the one it may reach."""
    own = services.identity.loaded
    if own is None:
        source, target = _LOCAL, settings.to
    else:
        source, target = own.leaf.id.path, _name(complete_once(settings.to, own.home), own.home)
    _enter(visit, Edge("source", source, target, visit.listener, settings.protocol.value), services)


def _enter(visit: Visit, edge: Edge, services: Services) -> None:
    if not services.recorder.wanted.series:
        return
    flow = visit.flow = services.recorder.flows.of(edge)
    flow.enter()
    if edge.protocol == "tcp":
        visit.stream = flow.begin(visit.traffic, inbound=visit.direction == "inbound")


def _name(identity: SpiffeId, home: TrustDomain) -> str:
    return identity.path if identity.trust_domain == home else str(identity)
