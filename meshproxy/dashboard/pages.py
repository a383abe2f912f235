"""The paths of the admin API, answered for many sidecars: the same shapes, so that the same page shows them."""

from __future__ import annotations

from heapq import nlargest
from typing import TYPE_CHECKING, Final, Literal

import msgspec
import trio

from meshproxy.admin.answers import Asked, Inquiry, Page, Stream, json_page, text_page
from meshproxy.admin.feed import listen
from meshproxy.admin.questions import BadQuestion
from meshproxy.admin.topology import LONGEST_WINDOW, Traffic, topology, window_asked
from meshproxy.dashboard import assets
from meshproxy.dashboard.gathering import denial_key
from meshproxy.dashboard.merging import merged, name_in, row
from meshproxy.dashboard.told import (
    AuditTold,
    CertificatesTold,
    ConnectionsTold,
    GraphTold,
    PolicyTold,
    SeriesTold,
    Untrue,
    judge_series,
)
from meshproxy.telemetry.flows import Edge, Point
from meshproxy.telemetry.rings import TIERS, tier_for
from meshproxy.wire.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meshproxy.dashboard.gathering import Gathering
    from meshproxy.dashboard.merging import Call, Report
    from meshproxy.dashboard.told import CertificateTold
    from meshproxy.telemetry.rings import Tier

_PATIENCE: Final = 5.0
_PATIENCE_FOR_DAYS: Final = 8.0  # less than whoever asks us is given by the server
_MOST: Final = 4 << 20  # bytes of an answer
_MOST_SERIES: Final = 64 << 20
_MOST_ROWS: Final = 1000
_KEPT_FOR: Final = 1.0  # seconds in which the same question has the same answer: a storm of them asks nobody twice
_WINDOW: Final = 600.0  # seconds that curves go back unless somebody asks for others


class Pages:
    """Answers for everybody whom a gathering watches."""

    def __init__(self, gathering: Gathering) -> None:
        self._gathering = gathering
        self._lock = trio.Lock()
        self._kept: dict[tuple[str, int], tuple[float, list[Call]]] = {}

    def __repr__(self) -> str:
        return f"<Pages of {self._gathering!r}>"

    def all(self) -> Mapping[str, Inquiry]:
        """Return every page by its path, with the dashboard's own files."""
        return {
            "/": Inquiry(lambda _asked: Page(302, "text/plain", b"", ((b"location", assets.ROOT.encode()),))),
            "/mesh": Inquiry(self.mesh),
            "/series": Inquiry(self.series),
            "/topology": Inquiry(self.topology),
            "/connections": Inquiry(self.connections),
            "/denials": Inquiry(self.denials),
            "/policy": Inquiry(self.policy),
            "/certificates": Inquiry(self.certificates),
            "/audit": Inquiry(self.audit),
            "/events": Inquiry(self.events),
            **assets.views(),
        }

    def mesh(self, asked: Asked) -> Page:
        """Return which sidecars there are, and how they are."""
        asked.query.done()
        return json_page(self._gathering.mesh())

    async def series(self, asked: Asked) -> Page:
        """Return the curves of all; `step` asks for columns of so many seconds, a multiple of the tier's."""
        query, now = asked.query, self._gathering.wall()
        tier = TIERS[query.word("tier", tuple(TIERS), "1s")]
        since = query.moment("since", now - _WINDOW) or 0.0
        step = int(query.number("step", tier.step, least=1, most=86_400) or tier.step)
        edge = query.text("edge")
        query.done()
        if step % tier.step:
            raise BadQuestion(f"step is {step}; expected a multiple of {tier.step}, the columns of {tier.name}")
        first = int(max(min(since, now), now - LONGEST_WINDOW)) // step
        calls = await self._calls(tier, first * step)
        markers = [marker for marker in self._gathering.markers.values() if marker.at >= first * step]
        answer = {
            "now": now,
            "tier": tier.name,
            "step": step,
            "start": first * step,
            "columns": int(now) // step - first + 1,
            "markers": sorted(markers, key=lambda marker: (marker.at, marker.sidecar)),
        }

        def written() -> Page:
            by = step // tier.step
            rows = [row(call, first, by) for call in calls if edge in {None, call.id}]
            return json_page({**answer, "edges": rows})

        return await in_thread(written)

    async def _calls(self, tier: Tier, since: float) -> list[Call]:
        """Ask everybody for a tier, or remember what was answered a moment ago."""
        gathering, key = self._gathering, (tier.name, int(since))
        async with self._lock:
            now = gathering.wall()
            self._kept = {known: kept for known, kept in self._kept.items() if now - kept[0] < _KEPT_FOR}
            if key in self._kept:
                return self._kept[key][1]
            target = f"/series?tier={tier.name}&since={since:.3f}"
            told = await gathering.everybody(target, SeriesTold, within=_PATIENCE_FOR_DAYS, most=_MOST_SERIES)
            home = gathering.home
            reports: list[Report] = []
            for watch, series in told:
                try:
                    judge_series(series, watch.name, now)
                except Untrue as error:
                    watch.failed("broken", f"it {error}", now)
                    continue
                reports.append(watch.report(series))
                for marker in series.markers:
                    gathering.mark(watch, marker, home)
            calls = await in_thread(merged, reports, home)
            self._kept[key] = (now, calls)
            return calls

    async def topology(self, asked: Asked) -> Page:
        """Return the graph of all."""
        gathering = self._gathering
        window, wants_idle = window_asked(asked.query)
        now, home = gathering.wall(), gathering.home
        tier = tier_for(window)
        since = float(tier.column_of(now - window) * tier.step)
        calls = await self._calls(tier, since)
        began = min((watch.since for watch in gathering.watches if watch.answers), default=now)
        seconds = max(now - max(since, began), 1.0)
        found = [Traffic(call.id, _edge(call), _total(call), seconds) for call in calls]
        idle = await self._idle({(call.source, call.target) for call in calls}) if wants_idle else []
        body = topology(found, now=now, window=window, idle=idle, trust_domain=home)
        return Page(200, "application/json", body)

    async def _idle(self, used: set[tuple[str, str]]) -> list[tuple[Edge, str]]:
        """Return who may call whom and has not, once for both ends."""
        gathering = self._gathering
        told = await gathering.everybody("/topology?window=60&idle=1", GraphTold, within=_PATIENCE, most=_MOST)
        home = gathering.home
        found: dict[tuple[str, str], tuple[Edge, str]] = {}
        for watch, graph in told:
            for edge in graph.elements.edges:
                mesh = edge.data.mesh
                if mesh is msgspec.UNSET or not mesh.idle:
                    continue
                names = (edge.data.source, edge.data.target)
                source, target = (name_in(watch.name if n == "local" else n, watch.trust_domain, home) for n in names)
                if (source, target) not in used and (mesh.rule or (source, target) not in found):
                    place = Edge(mesh.reporter, source, target, mesh.listener, mesh.protocol)
                    found[source, target] = (place, mesh.rule)
        return list(found.values())

    async def connections(self, asked: Asked) -> Page:
        """Return who is connected, the newest first."""
        asked.query.done()
        told = await self._gathering.everybody("/connections", ConnectionsTold, within=_PATIENCE, most=_MOST)
        home = self._gathering.home
        rows = [
            msgspec.structs.replace(each, principal=name_in(each.principal, "", home), sidecar=watch.name_in(home))
            for watch, answer in told
            for each in answer.connections
        ]
        shown = nlargest(_MOST_ROWS, rows, key=lambda each: (each.since, each.sidecar, each.id))
        more = len(rows) - len(shown) + sum(answer.more for _, answer in told)
        return json_page({"now": self._gathering.wall(), "connections": shown, "truncated": more > 0, "more": more})

    def denials(self, asked: Asked) -> Page:
        """Return who was refused: each sidecar is asked in the second in which it refuses somebody."""
        asked.query.done()
        rows = self._gathering.denials()[:_MOST_ROWS]
        rows.sort(key=lambda each: (-each.last, denial_key(each)))
        return json_page({"now": self._gathering.wall(), "denials": rows})

    async def policy(self, asked: Asked) -> Page:
        """Return the allow-lists of all."""
        asked.query.done()
        told = await self._gathering.everybody("/policy", PolicyTold, within=_PATIENCE, most=_MOST_SERIES)
        home = self._gathering.home
        rows = [
            msgspec.structs.replace(each, service=watch.name_in(home))
            for watch, policy in told
            for each in policy.listeners
        ]
        return json_page({"now": self._gathering.wall(), "listeners": rows})

    async def certificates(self, asked: Asked) -> Page:
        """Return the certificates of all, the first to end first."""
        asked.query.done()
        told = await self._gathering.everybody("/certificates", CertificatesTold, within=_PATIENCE, most=_MOST)
        home = self._gathering.home
        rows = [_owned(each, answer, watch.name_in(home)) for watch, answer in told for each in answer.certificates]
        rows.sort(key=lambda each: (each.not_after, each.owner, each.serial))
        return json_page({"now": self._gathering.wall(), "certificates": rows})

    async def audit(self, asked: Asked) -> Page:
        """Return decisions from all audit logs, the newest first; what may be asked is what a sidecar may be asked."""
        names = ("from", "to", "decision", "caller", "path", "listener", "limit")
        wanted = {name: value for name in names if (value := asked.query.text(name)) is not None}
        asked.query.done()
        query = "&".join(f"{name}={_escaped(value)}" for name, value in wanted.items())
        told = await self._gathering.everybody(f"/audit?{query}", AuditTold, within=_PATIENCE_FOR_DAYS, most=_MOST)
        if not told:
            return text_page(404, "no sidecar that answers keeps an audit log\n")
        home = self._gathering.home
        rows = [
            msgspec.structs.replace(each, caller=name_in(each.caller, "", home), sidecar=watch.name_in(home))
            for watch, answer in told
            for each in answer.records
        ]
        shown = nlargest(_MOST_ROWS, rows, key=lambda each: (each.ts, each.sidecar))
        return json_page({"records": shown, "more": len(shown) < len(rows) or any(answer.more for _, answer in told)})

    def events(self, asked: Asked) -> Stream | Page:
        """Return what is news, from now on."""
        return listen(self._gathering.feed, asked, lambda: msgspec.json.encode(self._gathering.mesh()))


def _escaped(text: str) -> str:
    """Percent-encode everything but what never means anything in a query (RFC 3986 section 2.3)."""
    return "".join(chr(c) if (chr(c).isalnum() and c < 128) or chr(c) in "-._~" else f"%{c:02X}" for c in text.encode())


def _owned(row: CertificateTold, answer: CertificatesTold, owner: str) -> CertificateTold:
    if row.role != "leaf":
        return msgspec.structs.replace(row, owner=owner)
    return msgspec.structs.replace(row, owner=owner, id=answer.id, renewal=answer.renewal)


def _edge(call: Call) -> Edge:
    reporter: Literal["destination", "source"] = "destination" if call.reporter == "destination" else "source"
    return Edge(reporter, call.source, call.target, call.listener, call.protocol, call.mtls)


def _total(call: Call) -> Point:
    sums = [sum(column) for column in zip(*call.points.values(), strict=True)] or [0.0] * 7
    requests, errors, denied, bytes_in, bytes_out, seconds, opened = sums
    buckets = [int(sum(counts)) for counts in zip(*call.histograms.values(), strict=False)]
    histogram = tuple(buckets + [0] * (len(Point().histogram) - len(buckets)))
    return Point(
        requests=int(requests),
        errors=int(errors),
        denied=int(denied),
        bytes_in=int(bytes_in),
        bytes_out=int(bytes_out),
        micros=round(seconds * 1e6),
        opened=int(opened),
        histogram=histogram,
    )
