"""One sidecar that is watched: asked each second what happened, and judged by what it says; its trouble is its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from ca import json_text
from meshproxy.dashboard.asking import NoAnswer, get
from meshproxy.dashboard.merging import Report, name_in
from meshproxy.dashboard.told import DenialsTold, MeshTold, SeriesTold, Untrue, judge_mesh, judge_series
from meshproxy.wire.threads import in_thread

if TYPE_CHECKING:
    from meshproxy.dashboard.roll import Post
    from meshproxy.dashboard.told import DenialTold, MarkerTold, SidecarTold

_T = TypeVar("_T")

_PATIENCE: Final = 3.0  # seconds for an answer about the last seconds
_MOST: Final = 4 << 20  # bytes of it
_BACK: Final = 4.0  # seconds of the past that are asked about: what was told late is told again
_INTRODUCED: Final = 5.0  # seconds for which we believe that it is who it was
_LONGEST_PAUSE: Final = 15.0


class Watch:
    """Knows who a sidecar is, how it is, and what it told last."""

    def __init__(self, post: Post, now: float) -> None:
        self.post = post
        self.told: SidecarTold | None = None  # what it said of itself last; it stays who it was when it goes
        self.trust_domain = ""
        self.version = ""
        self.state = "connecting"
        self.reason = ""
        self.since = now
        self.series: SeriesTold | None = None
        self.denials: tuple[DenialTold, ...] | None = None
        self._started = (0.0, "")  # the last start that was heard of: when, and with what version and settings
        self.is_busy = False
        self._failures = 0
        self._next = 0.0
        self._introduced = 0.0
        self._denied = -1.0  # the last second in which somebody was denied, as far as /denials was asked

    def __repr__(self) -> str:
        return f"<Watch {self.post.address} {self.name or '?'} {self.state}>"

    @property
    def name(self) -> str:
        """Its name in its own trust domain, empty while it never told."""
        return "" if self.told is None else self.told.name

    @property
    def answers(self) -> bool:
        """Whether it may be asked for more."""
        return self.state not in {"connecting", "unreachable", "broken"}

    def name_in(self, home: str) -> str:
        """Its name for people of the trust domain `home`."""
        return name_in(self.name, self.trust_domain, home) if self.name else ""

    def report(self, series: SeriesTold) -> Report:
        """Return a series as told by it."""
        return Report(self.name, self.trust_domain, series)

    def is_due(self, now: float) -> bool:
        """Whether to ask: it is not being asked, and has not failed just now."""
        return not self.is_busy and now >= self._next

    async def look(self, now: float) -> None:
        """Ask what happened since the last time, at the time `now` (seconds since 1970)."""
        self.is_busy = True
        try:
            if now - self._introduced >= _INTRODUCED or self.told is None:
                mesh = await self.ask("/mesh", MeshTold, within=_PATIENCE, most=_MOST)
                self._meet(judge_mesh(mesh, now), mesh)
                self._introduced = now
            series = await self.ask(
                f"/series?tier=1s&since={now - _BACK:.3f}", SeriesTold, within=_PATIENCE, most=_MOST
            )
            judge_series(series, self.name, now)
            self.series = series
            await self._ask_why(series)
        except NoAnswer as error:
            self.failed("unreachable", str(error), now)
        except Untrue as error:
            self.failed("broken", f"it {error}", now)
        else:
            self._failures = 0
            self._next = 0.0
            told = self.told
            if told is not None:
                self._become(told.state, told.reason, told.since)
        finally:
            self.is_busy = False

    async def ask(self, target: str, kind: type[_T], *, within: float, most: int) -> _T:
        """Return its answer to a GET, in its shape. Raises NoAnswer, or Untrue for another shape."""
        body = await get(self.post.address, target, within=within, most=most)
        try:
            if len(body) > _MOST:
                return await in_thread(lambda: json_text.read(body, kind))
            return json_text.read(body, kind)
        except ValueError as error:
            path = target.partition("?")[0]
            raise Untrue(f"answers {path} with what is none of this version: {str(error)[:200]}") from None

    def failed(self, state: str, reason: str, now: float) -> None:
        """Take note that it could not be asked, or not be believed; it is asked again ever less often."""
        self._failures += 1
        self._next = now + min(2.0 ** (self._failures - 1), _LONGEST_PAUSE)
        self._introduced = 0.0
        self.series = None
        self._become(state, reason, now)

    def starts_anew(self, start: MarkerTold) -> bool:
        """Take a start; whether it is with another version or with other settings than the start before."""
        (before_at, before), what = self._started, start.text.partition(": ")[2]
        if start.at < before_at:  # it is told late
            return False
        self._started = (start.at, what)
        return before not in {"", what}

    def _meet(self, told: SidecarTold, mesh: MeshTold) -> None:
        if self.told is not None and self.told.name != told.name:
            self.denials = None
        self.told, self.trust_domain, self.version = told, mesh.trust_domain, mesh.version

    def _become(self, state: str, reason: str, since: float) -> None:
        if (self.state, self.reason) != (state, reason):
            self.state, self.reason, self.since = state, reason, since

    async def _ask_why(self, series: SeriesTold) -> None:
        """Ask about denials when there was one since the last time."""
        seconds = [
            series.start + point[0]
            for edge in series.edges
            if edge.reporter == "destination"
            for point in edge.points
            if point[3]
        ]
        last = max(seconds, default=-1.0)
        if self.denials is not None and last <= self._denied:
            return
        self.denials = tuple((await self.ask("/denials", DenialsTold, within=_PATIENCE, most=_MOST)).denials)
        self._denied = last
