"""Edges that may be used and are not: what allow-lists grant, and whom outbound listeners may reach; pure."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Final

from meshproxy.telemetry.flows import Edge, short

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from meshproxy.policy.compile import Policy
    from meshproxy.settings.schema import Settings

_MOST: Final = 1000  # a list may have ten thousand rules; a graph of that many edges shows nothing


def idle_edges(settings: Settings, policies: Mapping[str, Policy], own: str, now: float) -> list[tuple[Edge, str]]:
    """Return the edges that somebody may use, each with the rule that says so (outbound: none), at most 1,000.

    `own` is this sidecar's SPIFFE ID, empty while it has none; `now` is in seconds since 1970. A pattern stands for
    itself: `/batch/*` is one source.
    """
    return list(islice(_edges(settings, policies, own, datetime.fromtimestamp(now, UTC)), _MOST))


def _edges(settings: Settings, policies: Mapping[str, Policy], own: str, now: datetime) -> Iterator[tuple[Edge, str]]:
    domain = own.removeprefix("spiffe://").partition("/")[0]
    name = short(own, domain) or "local"
    for outbound in settings.outbound:
        yield Edge("source", name, short(outbound.to, domain), outbound.name, outbound.protocol.value), ""
    for inbound in settings.inbound:
        for rule in policies[inbound.name].rules:
            if rule.expired(now):
                continue
            for pattern in rule.callers:
                source = short(pattern.text, domain)
                yield Edge("destination", source, name, inbound.name, inbound.protocol.value), rule.name
