"""The shapes of what a sidecar tells at its admin API, and whether it can be true; pure.

A sidecar is believed about itself and the calls it is one end of, and about nothing else. Whatever is not of these
shapes, or cannot be, is a fault of that sidecar alone, in words; it never reaches the page.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from meshproxy.telemetry.flows import OTHER
from meshproxy.telemetry.rings import TIERS

Text = Annotated[str, Meta(max_length=2048)]
Long = Annotated[str, Meta(max_length=16_384)]
Count = Annotated[int, Meta(ge=0, le=1 << 53)]  # as far as the numbers of JavaScript are whole
Seconds = Annotated[float, Meta(ge=0, le=1e12)]
Column = Annotated[int, Meta(ge=0, le=4096)]

Point = tuple[Column, Count, Count, Count, Count, Count, Seconds, Count]
Histogram = Annotated[list[Count], Meta(max_length=15)]

_AHEAD: Final = 5.0  # seconds by which clocks may differ before it matters


class SidecarTold(msgspec.Struct, frozen=True):
    """A sidecar, as it tells of itself."""

    name: Text
    id: Text
    address: Text
    state: Text
    reason: Long = ""
    since: Seconds = 0.0


class MeshTold(msgspec.Struct, frozen=True):
    """The answer of /mesh."""

    api: int
    kind: Literal["sidecar", "mesh"]
    now: Seconds
    version: Text
    trust_domain: Text
    sidecars: Annotated[list[SidecarTold], Meta(min_length=1, max_length=512)]


class MarkerTold(msgspec.Struct, frozen=True):
    """Something that was done."""

    at: Seconds
    kind: Text
    text: Text
    sidecar: Text = ""


class EdgeTold(msgspec.Struct, frozen=True):
    """One caller at one service, as one listener saw it."""

    edge: Text
    reporter: Literal["destination", "source"]
    source: Text
    target: Text
    listener: Text
    protocol: Text
    mtls: bool = True
    points: Annotated[list[Point], Meta(max_length=4096)] = []
    histogram: Annotated[list[tuple[Column, Histogram]], Meta(max_length=4096)] = []


class SeriesTold(msgspec.Struct, frozen=True):
    """The answer of /series."""

    now: Seconds
    tier: Literal["1s", "10s", "1m"]
    step: Seconds
    start: Seconds
    columns: Annotated[int, Meta(ge=0, le=4096)]
    markers: Annotated[list[MarkerTold], Meta(max_length=1024)] = []
    edges: Annotated[list[EdgeTold], Meta(max_length=1024)] = []


class NearestTold(msgspec.Struct, frozen=True):
    """The rule that came nearest to granting something."""

    rule: Text
    file: Text = ""
    line: Count = 0
    failed: Text | list[Text] = ""


class DenialTold(msgspec.Struct, frozen=True):
    """A row of /denials; `sidecar` and `target` are ours."""

    at: Seconds
    last: Seconds
    count: Count
    listener: Text
    principal: Text
    reason: Text
    method: Text = ""
    path: Long = ""
    outcome: Text = "deny"
    nearest: NearestTold | None = None
    explanation: Long = ""
    edit: Long = ""
    target: Text = ""
    sidecar: Text = ""


class DenialsTold(msgspec.Struct, frozen=True):
    """The answer of /denials."""

    denials: Annotated[list[DenialTold], Meta(max_length=2048)]


class ConnectionTold(msgspec.Struct, frozen=True):
    """A row of /connections."""

    id: Text
    listener: Text
    peer: Text
    principal: Text
    rule: Text
    since: Seconds
    bytes_in: Count
    bytes_out: Count
    protocol: Text
    requests: Count = 0
    direction: Text = ""
    sidecar: Text = ""


class ConnectionsTold(msgspec.Struct, frozen=True):
    """The answer of /connections."""

    connections: Annotated[list[ConnectionTold], Meta(max_length=4096)]
    more: Count = 0


class RuleTold(msgspec.Struct, frozen=True):
    """A rule of an allow-list, as written."""

    name: Text
    from_: list[Text] | Text = msgspec.field(default_factory=list, name="from")
    methods: list[Text] | Text | None = None
    paths: list[Text] | Text | None = None
    reason: Text = ""
    owner: Text = ""
    expires: Text | float | None = None
    line: Count = 0
    granted: Count | None = None


class ListenerTold(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """The allow-list of one listener."""

    listener: Text = ""
    file: Text = ""
    hash: Text = ""
    generation: Count = 0
    mode: Text = ""
    rules: Annotated[list[RuleTold], Meta(max_length=20_000)] = []
    service: Text = ""


class PolicyTold(msgspec.Struct, frozen=True):
    """The answer of /policy."""

    listeners: Annotated[list[ListenerTold], Meta(max_length=256)]


class RenewalTold(msgspec.Struct, frozen=True):
    """How it goes with renewing."""

    next_renewal: Text | float | None = None
    renewed_at: Text | float | None = None
    last_error: Text = ""
    remedy: Text = ""


class CertificateTold(msgspec.Struct, frozen=True):
    """A row of /certificates; `id` (of a leaf), `renewal` (of a leaf) and `owner` are ours."""

    role: Text
    serial: Text
    not_before: float | None
    not_after: float
    seconds_left: float
    id: Text = ""
    subject: Text = ""
    renewal: RenewalTold | None = None
    owner: Text = ""


class CertificatesTold(msgspec.Struct, frozen=True):
    """The answer of /certificates; `id` and `renewal` are about the leaf."""

    certificates: Annotated[list[CertificateTold], Meta(max_length=256)]
    id: Text = ""
    renewal: RenewalTold | None = None


class RecordTold(msgspec.Struct, frozen=True):
    """A row of /audit."""

    ts: Text
    listener: Text = ""
    caller: Text = ""
    id: Text = ""
    request_id: Text = ""
    method: Text = ""
    path: Long = ""
    decision: Text = ""
    rule: Text = ""
    reason: Text = ""
    mode: Text = ""
    sidecar: Text = ""


class AuditTold(msgspec.Struct, frozen=True):
    """The answer of /audit."""

    records: Annotated[list[RecordTold], Meta(max_length=4096)]
    more: bool = False


class MeshData(msgspec.Struct, frozen=True):
    """Our own key in an edge of /topology."""

    idle: bool = False
    listener: Text = ""
    protocol: Text = "http"
    reporter: Text = "destination"
    rule: Text = ""


class GraphEdgeData(msgspec.Struct, frozen=True):
    """An edge of /topology, as far as it is read here."""

    source: Text
    target: Text
    mesh: MeshData | UnsetType = UNSET


class GraphEdge(msgspec.Struct, frozen=True):
    """Kiali wraps each edge."""

    data: GraphEdgeData


class GraphElements(msgspec.Struct, frozen=True):
    """The elements of a graph; nodes follow from edges."""

    edges: Annotated[list[GraphEdge], Meta(max_length=4096)]


class GraphTold(msgspec.Struct, frozen=True):
    """The answer of /topology."""

    elements: GraphElements


class Untrue(Exception):
    """What a sidecar tells cannot be; the text is a phrase for people that continues "it"."""


def judge_mesh(told: MeshTold, now: float) -> SidecarTold:
    """Return what a sidecar tells of itself. Raises Untrue."""
    if told.kind != "sidecar" or len(told.sidecars) != 1:
        raise Untrue("is no sidecar but gathers some itself; name those instead")
    if abs(told.now - now) > _AHEAD:
        word = "ahead" if told.now > now else "behind"
        raise Untrue(f"has a clock that is {abs(told.now - now):.0f} s {word}; set it by NTP, or no curve fits another")
    own = told.sidecars[0]
    if own.id and not own.id.startswith(f"spiffe://{told.trust_domain}/"):
        raise Untrue(f"says that it is {own.id!a} in the trust domain {told.trust_domain!a}")
    return own


def judge_series(told: SeriesTold, own: str, now: float) -> None:
    """Raise Untrue if a series is of another time or tells of calls in which `own` has no part."""
    step = TIERS[told.tier].step
    if told.step != step:
        raise Untrue(f"says that the columns of {told.tier} have {told.step:g} s")
    if told.start + (told.columns - 1) * step > now + _AHEAD + step:
        raise Untrue("tells of a time that has not come")
    for edge in told.edges:
        mine, other = (edge.target, edge.source) if edge.reporter == "destination" else (edge.source, edge.target)
        if mine not in {own, "local", OTHER}:
            raise Untrue(f"tells of a call from {edge.source!a} to {edge.target!a}, in which it has no part")
        if not other:
            raise Untrue("tells of a call of nobody")
        last = max((point[0] for point in edge.points), default=0)
        if max(last, max((column for column, _ in edge.histogram), default=0)) >= max(told.columns, 1):
            raise Untrue("counts columns that are not there")
