"""What `top` sees: the answers of several sidecars' admin servers read into one picture; pure.

The answers are a stranger's word as far as we know, so only what is shown is read, by type, and in bounds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from ca import json_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SECONDS: Final = 60  # what rates and times are told of
_MOST_ROWS: Final = 2000


class _This(msgspec.Struct, frozen=True):
    name: str
    id: str = ""
    address: str = ""
    state: str = ""
    reason: str = ""


class _Mesh(msgspec.Struct, frozen=True):
    now: float
    sidecars: tuple[_This, ...]
    trust_domain: str = ""
    version: str = ""


class _EdgeNumbers(msgspec.Struct, frozen=True):
    edge: str
    reporter: str
    protocol: str
    rate: float
    denied: float
    errors: float | None = None
    p50: float | None = None
    p99: float | None = None
    listener: str = ""


class _EdgeData(msgspec.Struct, frozen=True):
    source: str
    target: str
    mesh: _EdgeNumbers


class _Element(msgspec.Struct, frozen=True):
    data: _EdgeData


class _Elements(msgspec.Struct, frozen=True):
    edges: tuple[_Element, ...]


class _Topology(msgspec.Struct, frozen=True):
    elements: _Elements


class _Curve(msgspec.Struct, frozen=True):
    edge: str
    points: tuple[tuple[float, ...], ...]


class _Series(msgspec.Struct, frozen=True):
    columns: int
    edges: tuple[_Curve, ...]


class Denial(msgspec.Struct, frozen=True):
    """A row of /denials."""

    last: float
    count: int
    listener: str
    principal: str
    method: str
    path: str
    explanation: str
    outcome: str = "deny"


class _Denials(msgspec.Struct, frozen=True):
    denials: tuple[Denial, ...]


class _Certificate(msgspec.Struct, frozen=True):
    role: str
    subject: str
    seconds_left: float


class _Certificates(msgspec.Struct, frozen=True):
    certificates: tuple[_Certificate, ...]


class _Tick(msgspec.Struct, frozen=True):
    connections: tuple[msgspec.Raw, ...]
    more: int = 0


@dataclass(frozen=True, slots=True)
class Answers:
    """What one address said, each page as it came; `fault` is why there is nothing."""

    address: str
    fault: str = ""
    mesh: bytes = b""
    topology: bytes = b""
    series: bytes = b""
    denials: bytes = b""
    certificates: bytes = b""
    connections: bytes = b""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """One of those that were asked; `state` is `unreachable` when it did not answer."""

    name: str
    address: str
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One edge; `curve` has its requests in each of the last 60 seconds, the present one last."""

    source: str
    target: str
    protocol: str
    rate: float
    errors: float | None
    p50: float | None
    p99: float | None
    denied: float
    curve: tuple[float, ...] = ()
    reporter: str = "destination"


@dataclass(frozen=True, slots=True)
class Expiry:
    """A certificate, and how long it is good for (seconds)."""

    role: str
    subject: str
    seconds_left: float


@dataclass(frozen=True, slots=True)
class Sight:
    """Everything that is shown."""

    now: float
    trust_domain: str = ""
    sidecars: tuple[Sidecar, ...] = ()
    rows: tuple[Row, ...] = ()
    denials: tuple[Denial, ...] = ()
    expiries: tuple[Expiry, ...] = ()
    connections: int = 0

    @property
    def unreachable(self) -> int:
        """How many did not answer."""
        return sum(each.state == "unreachable" for each in self.sidecars)


@dataclass(slots=True)
class _Gathered:
    sidecars: list[Sidecar] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    denials: list[Denial] = field(default_factory=list)
    expiries: dict[tuple[str, str], Expiry] = field(default_factory=dict)
    connections: int = 0
    domains: list[str] = field(default_factory=list)


def sight_of(answers: Iterable[Answers], now: float) -> Sight:
    """Read what all of them said into one picture. `now` is in seconds since 1970."""
    found = _Gathered()
    for each in answers:
        if each.fault:
            found.sidecars.append(Sidecar(each.address, each.address, "unreachable", each.fault))
            continue
        try:
            _read(each, found)
        except ValueError as error:
            why = f"what answers is no sidecar of this version: {error}"
            found.sidecars.append(Sidecar(each.address, each.address, "unreachable", why))
    return Sight(
        now,
        found.domains[0] if len(set(found.domains)) == 1 else "",
        tuple(found.sidecars),
        tuple(_once(found.rows)),
        tuple(sorted(found.denials, key=lambda row: row.last, reverse=True)),
        tuple(sorted(found.expiries.values(), key=lambda each: (each.seconds_left, each.role, each.subject))),
        found.connections,
    )


def _read(answers: Answers, found: _Gathered) -> None:
    """Read all first, so that of one who says half of it nothing is shown."""
    mesh = json_text.read(answers.mesh, _Mesh)
    graph = json_text.read(answers.topology, _Topology)
    series = json_text.read(answers.series, _Series)
    denials = json_text.read(answers.denials, _Denials)
    certificates = json_text.read(answers.certificates, _Certificates)
    connections = json_text.read(answers.connections, _Tick)
    curves = {curve.edge: curve for curve in series.edges}
    if mesh.trust_domain:
        found.domains.append(mesh.trust_domain)
    found.sidecars += [
        Sidecar(each.name or each.address, each.address or answers.address, each.state, each.reason)
        for each in mesh.sidecars
    ]
    for element in graph.elements.edges[:_MOST_ROWS]:
        data, numbers = element.data, element.data.mesh
        found.rows.append(
            Row(
                data.source,
                data.target,
                numbers.protocol,
                numbers.rate,
                numbers.errors,
                numbers.p50,
                numbers.p99,
                numbers.denied,
                _curve(curves.get(numbers.edge), series.columns),
                numbers.reporter,
            )
        )
    found.denials += denials.denials
    for certificate in certificates.certificates:  # all of a mesh have the same root
        expiry = Expiry(certificate.role, certificate.subject, certificate.seconds_left)
        found.expiries[expiry.role, expiry.subject] = expiry
    found.connections += len(connections.connections) + connections.more


def _curve(curve: _Curve | None, columns: int) -> tuple[float, ...]:
    values = [0.0] * SECONDS
    for point in () if curve is None else curve.points:
        place = int(point[0]) - columns + SECONDS
        if 0 <= place < SECONDS:
            values[place] = point[1]
    return tuple(values)


def _once(rows: Sequence[Row]) -> list[Row]:
    """Drop what one end tells of an edge that the other tells of as well: the destination knows better."""
    told = {(row.source, row.target) for row in rows if row.reporter == "destination"}
    return [row for row in rows if row.reporter == "destination" or (row.source, row.target) not in told]
