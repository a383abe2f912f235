"""All sidecars together: a round of asking each second, what is new in it for whoever listens, and asking everybody."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
import trio

from meshproxy import __version__
from meshproxy.admin.feed import Feed
from meshproxy.dashboard.asking import NoAnswer
from meshproxy.dashboard.merging import merged, name_in
from meshproxy.dashboard.told import Untrue
from meshproxy.dashboard.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from meshproxy.dashboard.merging import Call
    from meshproxy.dashboard.roll import Post
    from meshproxy.dashboard.told import DenialTold, MarkerTold

_T = TypeVar("_T")

_ASK_AT: Final = 0.2  # of a second: by then every sidecar has taken the second before
_TELL_AT: Final = 0.75
_AT_ONCE: Final = 32  # sidecars asked at the same time
_TOLD_FOR: Final = 10  # seconds for which we know what was told of them
_MOST_MARKERS: Final = 512


class Gathering:
    """Watches sidecars. `wall` is the time in seconds since 1970."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self.wall = wall
        self.feed = Feed(wall())
        self.markers: dict[tuple[float, str, str, str], MarkerTold] = {}
        self._watches: dict[Post, Watch] = {}
        self._limiter = trio.CapacityLimiter(_AT_ONCE)
        self._told: dict[int, dict[str, list[float]]] = {}  # second -> call -> point
        self._told_denials: dict[tuple[str, ...], DenialTold] | None = None
        self._told_states: object = None

    def __repr__(self) -> str:
        return f"<Gathering {len(self._watches)} sidecars, {self.feed!r}>"

    @property
    def watches(self) -> list[Watch]:
        """Every sidecar, by its name and address."""
        return sorted(self._watches.values(), key=lambda watch: (watch.name, str(watch.post.address)))

    @property
    def home(self) -> str:
        """The trust domain in which names are short: that of most sidecars."""
        domains = Counter(watch.trust_domain for watch in self._watches.values() if watch.trust_domain)
        return min(domains, key=lambda domain: (-domains[domain], domain), default="")

    def watch(self, posts: Iterable[Post]) -> None:
        """Watch these, and nobody else."""
        now = self.wall()
        self._watches = {post: self._watches.get(post) or Watch(post, now) for post in posts}

    async def run(self) -> None:
        """Ask everybody each second, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(_until(_ASK_AT, self.wall()))
                now = self.wall()
                for watch in self._watches.values():
                    if watch.is_due(now):
                        watch.is_busy = True
                        nursery.start_soon(self._look, watch)
                await trio.sleep(_until(_TELL_AT, self.wall()))
                self.tell()

    async def _look(self, watch: Watch) -> None:
        async with self._limiter:
            await watch.look(self.wall())

    async def everybody(self, target: str, kind: type[_T], *, within: float, most: int) -> list[tuple[Watch, _T]]:
        """Ask all who answer; returns what they say. Who fails at it is told as broken, and left out.

        Who says that there is nothing by this name (404) is left out too, and is not broken.
        """
        found: list[tuple[Watch, _T]] = []

        async def ask(watch: Watch) -> None:
            try:
                async with self._limiter:
                    found.append((watch, await watch.ask(target, kind, within=within, most=most)))
            except NoAnswer as error:
                if error.status != 404:
                    watch.failed("unreachable", f"{target.partition('?')[0]}: {error}", self.wall())
            except Untrue as error:
                watch.failed("broken", f"it {error}", self.wall())

        async with trio.open_nursery() as nursery:
            for watch in self.watches:
                if watch.answers:
                    nursery.start_soon(ask, watch)
        return sorted(found, key=lambda item: (item[0].name, str(item[0].post.address)))

    def mesh(self) -> dict[str, object]:
        """Return what is looked at, as /mesh tells it."""
        home = self.home
        return {
            "api": 1,
            "kind": "mesh",
            "now": self.wall(),
            "version": __version__,
            "trust_domain": home,
            "sidecars": [
                {
                    "name": watch.name_in(home),
                    "id": "" if watch.told is None else watch.told.id,
                    "address": str(watch.post.address),
                    "state": watch.state,
                    "reason": watch.reason,
                    "since": watch.since,
                    "file": watch.post.file,
                }
                for watch in self.watches
            ],
        }

    def tell(self) -> None:
        """Tell whoever listens what is new since the last time."""
        if self._told_states != (states := [(watch.post, watch.state, watch.reason) for watch in self.watches]):
            self._told_states = states
            self.feed.tell("state", msgspec.json.encode(self.mesh()))
        self._tell_markers()
        self._tell_denials()
        reports = [watch.report(watch.series) for watch in self._watches.values() if watch.series is not None]
        edges = self._news(merged(reports, self.home))
        if self.feed.is_heard:
            gauges = {"sidecars": len(self._watches), "answering": sum(watch.answers for watch in self.watches)}
            self.feed.tell("tick", msgspec.json.encode({"now": self.wall(), "edges": edges, "gauges": gauges}))
        elif edges:
            self.feed.pass_over()

    def _news(self, calls: list[Call]) -> list[dict[str, object]]:
        """The points that are new or other than they were told: what comes late is told again, whole."""
        latest = int(self.wall())
        self._told = {second: told for second, told in self._told.items() if second > latest - _TOLD_FOR}
        found: list[dict[str, object]] = []
        for call in calls:
            for second in sorted(call.points):
                told = self._told.setdefault(second, {}) if second > latest - _TOLD_FOR else None
                if told is None or told.get(call.id) == call.points[second]:
                    continue
                told[call.id] = call.points[second]
                found.append({**call.described(), "point": [second, *call.points[second]]})
        return found

    def _tell_markers(self) -> None:
        home = self.home
        for watch in self.watches:
            for marker in () if watch.series is None else watch.series.markers:
                self.mark(watch, marker, home)

    def mark(self, watch: Watch, marker: MarkerTold, home: str) -> None:
        """Take note of what a sidecar says was done, and tell of it once."""
        sidecar = watch.name_in(home) or str(watch.post.address)
        key = (marker.at, sidecar, marker.kind, marker.text)
        if key in self.markers:
            return
        kind = "deploy" if marker.kind == "start" and watch.starts_anew(marker) else marker.kind
        known = self.markers[key] = msgspec.structs.replace(marker, sidecar=sidecar, kind=kind)
        if len(self.markers) > _MOST_MARKERS:
            del self.markers[min(self.markers)]
        self.feed.tell("marker", msgspec.json.encode(known))

    def _tell_denials(self) -> None:
        rows = {denial_key(row): row for row in self.denials()}
        before = self._told_denials
        self._told_denials = rows
        if before is None:
            return
        for key, row in rows.items():
            if key not in before or before[key].count != row.count:
                self.feed.tell("denial", msgspec.json.encode(row))

    def denials(self) -> list[DenialTold]:
        """Return the denials that were heard of, the newest first."""
        home = self.home
        rows = [
            msgspec.structs.replace(
                row,
                principal=name_in(row.principal, watch.trust_domain, home),
                target=watch.name_in(home),
                sidecar=str(watch.post.address),
            )
            for watch in self.watches
            for row in watch.denials or ()
        ]
        return sorted(rows, key=lambda row: (-row.last, denial_key(row)))


def denial_key(row: DenialTold) -> tuple[str, ...]:
    """Return what makes two denials the same, that are counted as one."""
    return row.sidecar, row.listener, row.outcome, row.principal, row.method, row.path, row.reason


def _until(share: float, now: float) -> float:
    """Seconds until the next time that this share of a second is over."""
    return (share - now % 1.0) % 1.0
