"""What many sidecars tell of the same calls, made one; pure.

Both ends of a call report it. The destination is believed: it has judged the caller and measured its own service. What
only the source saw (no such call arrived: the far sidecar is down, or nobody asks it) is taken from the source, column
by column; but not beside a column that the destination did report, for then it is the same call, counted a moment
earlier or later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from meshproxy.telemetry.flows import OTHER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from meshproxy.dashboard.told import EdgeTold, SeriesTold

MOST_CALLS: Final = 4000
_FIELDS: Final = 7

Columns = dict[int, list[float]]


@dataclass(frozen=True, slots=True)
class Report:
    """A series, and who tells it: its name in its own trust domain."""

    name: str
    trust_domain: str
    series: SeriesTold


@dataclass(slots=True)
class Call:
    """One caller at one service, from all reports; columns are steps since 1970."""

    source: str
    target: str
    protocol: str
    listener: str
    mtls: bool = True
    reporter: str = "source"
    points: Columns = field(default_factory=dict)
    histograms: Columns = field(default_factory=dict)

    @property
    def id(self) -> str:
        """A name for it that stays the same, whoever reports it, and however often sidecars start again."""
        return "m" + blake2b(f"{self.source}\n{self.target}".encode(), digest_size=8).hexdigest()

    def described(self) -> dict[str, object]:
        """Return the fields that every answer has of an edge."""
        return {
            "edge": self.id,
            "reporter": self.reporter,
            "source": self.source,
            "target": self.target,
            "listener": self.listener,
            "protocol": self.protocol,
            "mtls": self.mtls,
        }


@dataclass(slots=True)
class _Sides:
    """What each end says of one call."""

    edges: list[EdgeTold] = field(default_factory=list)
    points: dict[str, Columns] = field(default_factory=lambda: {"destination": {}, "source": {}})
    histograms: dict[str, Columns] = field(default_factory=lambda: {"destination": {}, "source": {}})


def name_in(name: str, of: str, home: str) -> str:
    """Return the name of a service for people of the trust domain `home`; it was told in the trust domain `of`."""
    full = name if name.startswith(("spiffe://", "(")) or not of else f"spiffe://{of}{name}"
    return full.removeprefix(f"spiffe://{home}") if home and full.startswith(f"spiffe://{home}/") else full


def merged(reports: Iterable[Report], home: str) -> list[Call]:
    """Return the calls of all reports, in the order of their names, at most 4,000 and one for the rest.

    `home` is the trust domain in which names are short.
    """
    sides: dict[tuple[str, str], _Sides] = {}
    for report in reports:
        for edge in report.series.edges:
            own = report.name
            source = name_in(own if edge.source == "local" else edge.source, report.trust_domain, home)
            target = name_in(own if edge.target == "local" else edge.target, report.trust_domain, home)
            pair = (source, target)
            if pair not in sides and len(sides) >= MOST_CALLS:
                pair = (OTHER, OTHER)
            _add(sides.setdefault(pair, _Sides()), edge, report.series)
    return [_call(pair, sides[pair]) for pair in sorted(sides)]


def _add(sides: _Sides, edge: EdgeTold, series: SeriesTold) -> None:
    sides.edges.append(edge)
    first = round(series.start / series.step)
    points = sides.points[edge.reporter]
    for column, *point in edge.points:
        _sum_into(points.setdefault(first + column, [0.0] * _FIELDS), point)
    histograms = sides.histograms[edge.reporter]
    for column, counts in edge.histogram:
        _sum_into(histograms.setdefault(first + column, [0.0] * len(counts)), counts)


def _sum_into(into: list[float], more: Sequence[float]) -> None:
    into.extend([0.0] * (len(more) - len(into)))
    for index, value in enumerate(more):
        into[index] += value


def _call(pair: tuple[str, str], sides: _Sides) -> Call:
    destination = [edge for edge in sides.edges if edge.reporter == "destination"]
    believed = min(destination or sides.edges, key=lambda edge: edge.listener)
    seen = sides.points["destination"]
    return Call(
        source=pair[0],
        target=pair[1],
        protocol=believed.protocol,
        listener=believed.listener,
        mtls=all(edge.mtls for edge in sides.edges),
        reporter=believed.reporter,
        points=_either(sides.points, seen),
        histograms=_either(sides.histograms, seen),
    )


def _either(columns: Mapping[str, Columns], seen: Columns) -> Columns:
    """The columns of the destination, and those of the source that it has nothing beside."""
    unseen = {
        column: values
        for column, values in columns["source"].items()
        if column not in seen and column - 1 not in seen and column + 1 not in seen
    }
    return columns["destination"] | unseen


def folded(columns: Columns, by: int) -> Columns:
    """Return columns `by` times as long."""
    if by == 1:
        return columns
    found: Columns = {}
    for column, values in columns.items():
        _sum_into(found.setdefault(column // by, [0.0] * len(values)), values)
    return found


def row(call: Call, first: int, by: int = 1) -> dict[str, object]:
    """Return a call as /series has it: columns counted from `first` (of the longer ones, where they are folded)."""
    points, histograms = folded(call.points, by), folded(call.histograms, by)
    told = call.described()
    told["points"] = [[column - first, *map(_plain, points[column])] for column in sorted(points) if column >= first]
    if histograms:
        told["histogram"] = [
            [column - first, [int(count) for count in histograms[column]]]
            for column in sorted(histograms)
            if column >= first
        ]
    return told


def _plain(value: float) -> float:
    return int(value) if value == int(value) else round(value, 6)
