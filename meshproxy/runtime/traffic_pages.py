"""The pages about traffic: what was asked is read, what is known is gathered, and the shapes are `admin`'s."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from meshproxy import __version__
from meshproxy.admin.answers import Inquiry, Page, Stream, json_page
from meshproxy.admin.feed import listen
from meshproxy.admin.picture import series_in_parts
from meshproxy.admin.questions import BadQuestion
from meshproxy.admin.topology import Traffic, topology, window_asked
from meshproxy.admin.turns import Turns
from meshproxy.runtime.idle import idle_edges
from meshproxy.telemetry.flows import Point
from meshproxy.telemetry.rings import TIERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meshproxy.admin.answers import Asked, Send
    from meshproxy.runtime.chronicle import Chronicle
    from meshproxy.settings.load import Configuration

_PART: Final = 64 * 1024


class Subject(Protocol):
    """The sidecar that the pages are about."""

    @property
    def configuration(self) -> Configuration:
        """What is in force."""


class TrafficPages:
    """The pages of one sidecar, whether it has workers or not; `address` is where it is asked, `file` names it."""

    def __init__(self, file: str, address: str, chronicle: Chronicle, subject: Subject) -> None:
        self._file = file
        self._address = address
        self._chronicle = chronicle
        self._subject = subject
        self._turns = Turns()

    def __repr__(self) -> str:
        return f"<TrafficPages of {self._file}>"

    def all(self) -> Mapping[str, Inquiry]:
        """Return every page by its path."""
        return {
            "/mesh": Inquiry(self.mesh),
            "/series": Inquiry(self.series),
            "/topology": Inquiry(self.topology),
            "/events": Inquiry(self.events),
        }

    def mesh(self, asked: Asked) -> Page:
        """Return what is looked at: this sidecar."""
        asked.query.done()
        return json_page(self._mesh())

    def series(self, asked: Asked) -> Stream:
        """Return the curves, edge by edge; the loop turns in between."""
        query, chronicle = asked.query, self._chronicle
        tier = TIERS[query.word("tier", tuple(TIERS), "1s")]
        since = query.moment("since")
        edge = query.text("edge")
        query.done()
        if edge is not None and chronicle.series.find(edge) is None:
            raise BadQuestion(f"edge is {edge!a}, which is none; see /series for those there are")

        async def pour(send: Send) -> None:
            waiting = b""
            parts = series_in_parts(chronicle.series, tier, since=since, edge=edge)
            while part := await self._turns.do(lambda: next(parts, b"")):
                waiting += part
                if len(waiting) >= _PART:
                    await send(waiting)
                    waiting = b""
            await send(waiting)

        return Stream("application/json", pour)

    async def topology(self, asked: Asked) -> Page:
        """Return the graph."""
        series = self._chronicle.series
        window, wants_idle = window_asked(asked.query)
        found = []
        for track in list(series):
            point, seconds = await self._turns.do(partial(series.total, track, window))
            if point != Point():
                found.append(Traffic(track.id, track.edge, point, seconds))
        own = self._own_id()
        now = self._subject.configuration
        idle = idle_edges(now.settings, now.policies, own, series.latest) if wants_idle else ()
        domain = own.removeprefix("spiffe://").partition("/")[0]
        body = topology(found, now=series.latest, window=window, idle=idle, trust_domain=domain)
        return Page(200, "application/json", body)

    def events(self, asked: Asked) -> Stream | Page:
        """Return what is news, from now on."""
        return listen(self._chronicle.feed, asked, lambda: msgspec.json.encode(self._mesh()))

    def _mesh(self) -> dict[str, object]:
        chronicle, own = self._chronicle, self._own_id()
        facts = chronicle.facts
        name = own.removeprefix("spiffe://").partition("/")[2]
        this = {
            "name": f"/{name}" if name else self._file,
            "id": own,
            "address": self._address,
            "state": "starting" if facts is None else facts.state,
            "reason": "" if facts is None else facts.reason,
            "since": chronicle.since,
        }
        return {
            "api": 1,
            "kind": "sidecar",
            "now": chronicle.series.latest,
            "version": __version__,
            "trust_domain": own.removeprefix("spiffe://").partition("/")[0],
            "sidecars": [this],
        }

    def _own_id(self) -> str:
        facts = self._chronicle.facts
        return "" if facts is None else facts.id
