"""What happened at every edge in the last two days, in three resolutions, and what was news meanwhile; pure.

An edge takes at most `rings.BYTES_PER_EDGE` (551 KB), when something happened at it in every second, for two days; one
that nobody used for that long is forgotten. With the 256 edges there may be, and 64 without a name, that is 176 MB at
the very most. Who has ten busy edges pays 5.5 MB.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Final

import msgspec

from meshproxy.telemetry.flows import MOST_EDGES, NOBODY, Edge, Point
from meshproxy.telemetry.rings import TIERS, Ring, counts_of, tier_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from meshproxy.telemetry.rings import Tier

_MOST_NAMELESS: Final = 64
_MARKERS_KEPT: Final = 256
_CLEAN_EVERY: Final = 60  # seconds
_BACK: Final = 2  # seconds a clock may be set back without anything being forgotten


class Marker(msgspec.Struct, frozen=True):
    """Something that happened to the sidecar itself and may explain a curve; `at` in seconds since 1970.

    `kind` is a word of: start, reload, reload_failed, identity, deny_list, drain, worker.
    """

    at: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """The past of one edge."""

    id: str
    edge: Edge
    rings: dict[str, Ring]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left of it."""
        return not any(map(len, self.rings.values()))


class Series:
    """The past of at most `most` edges, and of 64 for what came beyond; times are seconds since 1970, as told."""

    def __init__(self, now: float, most: int = MOST_EDGES) -> None:
        self._most = most
        self._tracks: dict[Edge, Track] = {}
        self._numbers = 0
        self._cleaned = now
        self.markers: deque[Marker] = deque(maxlen=_MARKERS_KEPT)
        self.began = now
        self.latest = now  # the last time that something was taken

    def __repr__(self) -> str:
        return f"<Series {len(self._tracks)}/{self._most} markers={len(self.markers)}>"

    def __len__(self) -> int:
        return len(self._tracks)

    def __iter__(self) -> Iterator[Track]:
        """Yield the edges in the order in which they were first seen."""
        return iter(self._tracks.values())

    def find(self, track_id: str) -> Track | None:
        """Return an edge by its id."""
        return next((track for track in self if track.id == track_id), None)

    def mark(self, marker: Marker) -> None:
        """Remember news."""
        self.markers.append(marker)

    def take(self, now: float, happened: Iterable[tuple[Edge, Point]]) -> dict[Track, Point]:
        """Take what happened in the second before `now`; returns it by the edges it was put to."""
        found = self.place(now, happened)
        self.write(now, found.items())
        self.close(now)
        return found

    # The same in steps, for who may not stand still for long: 256 busy edges take 3 ms.

    def place(self, now: float, happened: Iterable[tuple[Edge, Point]]) -> dict[Track, Point]:
        """Return where what happened in the second before `now` is to be written; nobody is told of it yet."""
        if now < self.latest - _BACK:
            self._forget_from(now)
        found: dict[Track, Point] = {}
        for edge, point in happened:
            track = self._track_of(edge)
            before = found.get(track)
            found[track] = point if before is None else before + point
        return found

    def write(self, now: float, found: Iterable[tuple[Track, Point]]) -> None:
        """Write some of it."""
        at = now - 0.5  # told when a second is just over, give or take: that one is meant
        columns = [(name, tier.column_of(at)) for name, tier in TIERS.items()]
        for track, point in found:
            counts = counts_of(point)
            for name, column in columns:
                track.rings[name].add(column, counts)

    def close(self, now: float) -> None:
        """Say that all of it is written."""
        self.latest = now
        if now - self._cleaned >= _CLEAN_EVERY:
            self._clean(now)

    def total(self, track: Track, window: float) -> tuple[Point, float]:
        """Return what happened at an edge in the last `window` seconds, and how many seconds that really covers.

        Read from the finest resolution that has a histogram and reaches back so far.
        """
        tier = tier_for(window)
        first = tier.column_of(self.latest - window)
        found = reduce(add, (point for _, point in track.rings[tier.name].since(first)), Point())
        covered = self.latest - max(first * tier.step, self.began)
        return found, max(covered, 1.0)

    def _track_of(self, edge: Edge) -> Track:
        """Return the track of an edge, or that of all for whom there is no room."""
        track = self._tracks.get(edge)
        if track is None and len(self._tracks) >= self._most:
            edge = edge.nameless
            track = self._tracks.get(edge)
            if track is None and len(self._tracks) >= self._most + _MOST_NAMELESS:
                edge = NOBODY
                track = self._tracks.get(edge)
        if track is None:
            self._numbers += 1
            rings = {tier.name: Ring(tier) for tier in TIERS.values()}
            track = self._tracks[edge] = Track(f"e{self._numbers}", edge, rings)
        return track

    def _clean(self, now: float) -> None:
        self._cleaned = now
        for edge, track in list(self._tracks.items()):
            for name, ring in track.rings.items():
                tier = TIERS[name]
                ring.forget_before(tier.column_of(now) - tier.columns + 1)
            if track.is_empty:
                del self._tracks[edge]

    def _forget_from(self, now: float) -> None:
        self._cleaned = min(self._cleaned, now)
        self.began = min(self.began, now)
        for track in self:
            for name, ring in track.rings.items():
                ring.forget_from(TIERS[name].column_of(now) + 1)  # what was in this very step before stays


def window_of(tier: Tier, now: float, since: float | None) -> tuple[int, int]:
    """Return the first step to be shown of a tier and how many there are, for who asks from `since` on."""
    last = tier.column_of(now)
    first = last - tier.columns + 1
    if since is not None:
        first = min(max(first, tier.column_of(max(since, 0.0))), last)
    return first, last - first + 1
