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
from meshproxy.telemetry.rings import TIERS, Ring, tier_for

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

    def take(self, now: float, happened: Iterable[tuple[Edge, Point]]) -> list[tuple[Track, Point]]:
        """Take what happened in the second before `now`; returns it by the edges it was put to."""
        if now < self.latest - _BACK:
            self._forget_from(now)
        self.latest = now
        at = now - 0.5  # told when a second is just over, give or take: that one is meant
        merged: dict[Edge, Point] = {}
        for edge, point in happened:
            place = self._place(edge)
            merged[place] = merged[place] + point if place in merged else point
        for edge, point in merged.items():
            for name, ring in self._tracks[edge].rings.items():
                ring.add(TIERS[name].column_of(at), point)
        if now - self._cleaned >= _CLEAN_EVERY:
            self._clean(now)
        return [(self._tracks[edge], point) for edge, point in merged.items()]

    def total(self, track: Track, window: float) -> tuple[Point, float]:
        """Return what happened at an edge in the last `window` seconds, and how many seconds that really covers.

        Read from the finest resolution that has a histogram and reaches back so far.
        """
        tier = tier_for(window)
        first = tier.column_of(self.latest - window)
        found = reduce(add, (point for _, point in track.rings[tier.name].since(first)), Point())
        covered = self.latest - max(first * tier.step, self.began)
        return found, max(covered, 1.0)

    def _place(self, edge: Edge) -> Edge:
        """Return the edge at which something is kept that happened at `edge`, with a track by then."""
        if edge not in self._tracks:
            if len(self._tracks) >= self._most:
                edge = edge.nameless
            if edge not in self._tracks:
                if len(self._tracks) >= self._most + _MOST_NAMELESS:
                    edge = NOBODY
                self._track(edge)
        return edge

    def _track(self, edge: Edge) -> Track:
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
