"""A mesh that is acted: sidecars' admin APIs with a past, over real sockets, made by dice that always fall the same.

What they say of traffic is written by the code that writes it in a sidecar; the rest is of the documented shapes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from meshproxy.admin.answers import Asked, Inquiry, Page, json_page, text_page
from meshproxy.admin.feed import Feed, listen
from meshproxy.admin.picture import series_in_parts, tick
from meshproxy.admin.server import AdminServer
from meshproxy.admin.topology import Traffic, topology
from meshproxy.telemetry.bounds import BUCKETS, bucket_of
from meshproxy.telemetry.flows import Edge, Point
from meshproxy.telemetry.rings import TIERS
from meshproxy.telemetry.series import Marker, Series
from meshproxy.wire.address import TcpAddress
from meshproxy.wire.listen import bind, bound_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshproxy.wire.address import Address

TRUST_DOMAIN = "shop.example"
_MINUTES = 60
_HISTORY = 6 * 60  # minutes that the mesh has a past of


@dataclass(slots=True)
class Line:
    """One call as the play has it: so many per second, so many seconds each, a share that fails."""

    source: str
    target: str
    rate: float
    seconds: float = 0.004
    errors: float = 0.0
    denied: float = 0.0
    protocol: str = "http"
    allowed: bool = True
    samples: int = 24  # dice thrown for a second's durations

    def point(self, dice: random.Random, length: float) -> Point:
        """What happens in `length` seconds."""
        requests = max(round(self.rate * length * dice.uniform(0.9, 1.1) + dice.random() - 0.5), 0)
        failed = (
            sum(dice.random() < self.errors for _ in range(requests))
            if requests < 2000
            else int(requests * self.errors)
        )
        denied = round(self.denied * length + dice.random() - 0.5) if self.denied else 0
        counts, micros = [0] * BUCKETS, 0
        samples = min(requests, self.samples)
        for index in range(samples):
            each = round(self.seconds * dice.lognormvariate(0, 0.5) * 1e6)
            weight = requests // samples + (index < requests % samples)
            counts[bucket_of(each / 1e6)] += weight
            micros += each * weight
        return Point(requests, failed, max(denied, 0), requests * 420, requests * 1900, micros, 0, tuple(counts))


@dataclass(slots=True)
class Sidecar:
    """One acted sidecar: its past, and what it says."""

    name: str
    series: Series
    feed: Feed
    trust_domain: str = TRUST_DOMAIN
    state: str = "serving"
    reason: str = ""
    denials: list[dict[str, object]] = field(default_factory=list)
    certificates: dict[str, object] = field(default_factory=dict)
    rules: list[dict[str, object]] = field(default_factory=list)
    connections: list[dict[str, object]] = field(default_factory=list)
    records: list[dict[str, object]] | None = None
    idle: list[tuple[Edge, str]] = field(default_factory=list)
    address: Address | None = None

    def mesh(self) -> dict[str, object]:
        own = {
            "name": self.name,
            "id": f"spiffe://{self.trust_domain}{self.name}",
            "address": str(self.address),
            "state": self.state,
            "reason": self.reason,
            "since": self.series.began,
        }
        told = {"api": 1, "kind": "sidecar", "now": self.series.latest, "version": "0.1.0"}
        return {**told, "trust_domain": self.trust_domain, "sidecars": [own]}

    def views(self) -> dict[str, Inquiry]:
        """Its admin API."""

        def page(value: object) -> Inquiry:
            return Inquiry(lambda _asked: json_page(value() if callable(value) else value))

        return {
            "/mesh": page(self.mesh),
            "/series": Inquiry(self._series),
            "/topology": Inquiry(self._topology),
            "/denials": page(lambda: {"now": self.series.latest, "denials": self.denials}),
            "/certificates": page(lambda: self.certificates),
            "/connections": page(lambda: {"now": self.series.latest, "connections": self.connections, "more": 0}),
            "/policy": page(
                lambda: {"listeners": [{"listener": "api", "file": f"{self.name[1:]}.allow.toml", "rules": self.rules}]}
            ),
            "/audit": Inquiry(
                lambda _asked: (
                    text_page(404, "no listener of this sidecar keeps an audit log\n")
                    if self.records is None
                    else json_page({"records": self.records, "more": False})
                )
            ),
            "/events": Inquiry(lambda asked: listen(self.feed, asked, lambda: msgspec.json.encode(self.mesh()))),
        }

    def _series(self, asked: Asked) -> Page:
        query = asked.query
        tier = TIERS[query.word("tier", tuple(TIERS), "1s")]
        since = query.number("since", None, least=0, most=1e11)
        edge = query.text("edge")
        query.number("step", None, least=1, most=86_400)  # whoever asks folds columns himself where we do not
        query.done()
        return Page(200, "application/json", b"".join(series_in_parts(self.series, tier, since=since, edge=edge)))

    def _topology(self, asked: Asked) -> Page:
        window = asked.query.number("window", 600, least=1, most=1e6) or 600.0
        wants_idle = asked.query.flag("idle")
        found = []
        for track in self.series:
            point, seconds = self.series.total(track, window)
            if point != Point():
                found.append(Traffic(track.id, track.edge, point, seconds))
        idle = self.idle if wants_idle else []
        return Page(200, "application/json", topology(found, now=self.series.latest, window=window, idle=idle))

    def server(self) -> tuple[AdminServer, Address]:
        """A server at a free port, and where that is."""
        listener = bind(TcpAddress("127.0.0.1", 0))
        self.address = bound_address(listener)
        return AdminServer(listener, self.address, self.views(), {}, check_host=True), self.address


class Play:
    """The whole mesh: who calls whom, and each one's sidecar. `names` without a sidecar of their own are outside."""

    def __init__(self, lines: Sequence[Line], now: float, *, seed: int = 9, past: int = _HISTORY) -> None:
        self.lines = list(lines)
        self.dice = random.Random(seed)
        self.began = now - past * _MINUTES
        self.now = float(int(now))
        names = sorted({name for line in lines for name in (line.source, line.target) if name[:1] == "/"})
        self.sidecars = {name: Sidecar(name, Series(self.began), Feed(now)) for name in names}
        for sidecar in self.sidecars.values():
            sidecar.certificates = certificates(sidecar.name, now)
            sidecar.idle = [
                (Edge("destination", line.source, line.target, "api", line.protocol), "rule-1")
                for line in lines
                if line.target == sidecar.name and line.allowed and not line.rate
            ]
            sidecar.series.mark(Marker(self.began, "start", "started"))

    def live_through(self, until: float, *, step: float = 1.0) -> None:
        """Let the past pass, up to `until`: minute by minute at first, the last quarter of an hour by the second."""
        while self.began + _MINUTES < until - 900:
            self.began += _MINUTES
            self.second(self.began, length=_MINUTES)
        while self.began + step <= until:
            self.began += step
            self.second(self.began, length=step)

    def second(self, now: float, *, length: float = 1.0) -> None:
        """Let a second pass."""
        happened: dict[str, list[tuple[Edge, Point]]] = {name: [] for name in self.sidecars}
        for line in self.lines:
            point = line.point(self.dice, length)
            if point == Point():
                continue
            if line.target in happened:
                edge = Edge("destination", line.source, line.target, "api", line.protocol)
                happened[line.target].append((edge, point))
            if line.source in happened:
                seen = msgspec.structs.replace(point, denied=0)
                if seen != Point():
                    edge = Edge("source", line.source, line.target, line.target[1:], line.protocol)
                    happened[line.source].append((edge, seen))
        for name, sidecar in self.sidecars.items():
            found = sidecar.series.take(now, happened[name]).items()
            sidecar.feed.tell("tick", tick(now, found, {"open_connections": 3.0, "loop_lag": 0.0}))

    def line(self, source: str, target: str) -> Line:
        """A call of the play."""
        return next(line for line in self.lines if (line.source, line.target) == (source, target))


class Crowd(Sidecar):
    """A whole mesh told by one, as who gathers it tells it: for what a page makes of very many."""

    names: tuple[str, ...] = ()

    def mesh(self) -> dict[str, object]:
        own = {"id": "", "address": "unix:", "state": "serving", "reason": "", "since": self.series.began}
        now = self.series.latest
        sidecars = [{**own, "name": name} for name in self.names]
        return {"api": 1, "kind": "mesh", "now": now, "version": "0.1.0", "trust_domain": "", "sidecars": sidecars}

    @classmethod
    def of(cls, lines: Sequence[Line], now: float, *, past: int = 600) -> Crowd:
        """Let `past` seconds pass, ten at a time."""
        dice = random.Random(3)
        crowd = cls("", Series(now - past, most=len(lines)), Feed(now))
        crowd.names = tuple(sorted({name for line in lines for name in (line.source, line.target)}))
        edges = [(Edge("destination", line.source, line.target, "api", line.protocol), line) for line in lines]
        for ago in range(past, 0, -10):
            crowd.series.take(now - ago, [(edge, line.point(dice, 10)) for edge, line in edges])
        return crowd

    def second(self, now: float, lines: Sequence[Line], dice: random.Random) -> None:
        """Let a second pass."""
        happened = [
            (Edge("destination", each.source, each.target, "api", each.protocol), each.point(dice, 1)) for each in lines
        ]
        self.feed.tell("tick", tick(now, self.series.take(now, happened).items(), {}))


def certificates(name: str, now: float) -> dict[str, object]:
    """A leaf in the middle of its day, an intermediate and a root."""
    number = sum(map(ord, name))
    begins = now - 3600 * (3 + number % 7)
    own = f"spiffe://{TRUST_DOMAIN}{name}"
    rows = (
        ("leaf", own, f"{number:04x}" * 8, begins, 86_400),
        ("intermediate", f"CN={TRUST_DOMAIN} intermediate", "51" * 16, now - 40 * 86_400, 180 * 86_400),
        ("root", f"CN={TRUST_DOMAIN} root", "0a" * 16, now - 400 * 86_400, 3650 * 86_400),
    )
    return {
        "id": own,
        "renewal": {"next_renewal": datetime.fromtimestamp(begins + 43_200, UTC).isoformat(), "last_error": ""},
        "certificates": [
            {
                "role": role,
                "subject": subject,
                "serial": serial,
                "not_before": since,
                "not_after": since + life,
                "seconds_left": since + life - now,
            }
            for role, subject, serial, since, life in rows
        ],
    }


def denial(caller: str, target: str, *, now: float, count: int = 1, path: str = "/entries/7") -> dict[str, object]:
    """A refusal of a DELETE."""
    file = f"{target[1:]}.allow.toml"
    return {
        "at": now - 7 * count,
        "last": now,
        "count": count,
        "listener": "api",
        "outcome": "deny",
        "principal": f"spiffe://{TRUST_DOMAIN}{caller}",
        "method": "DELETE",
        "path": path,
        "reason": "method",
        "nearest": {"rule": "orders-book", "file": file, "line": 4, "failed": "method"},
        "explanation": f'{caller} asked for DELETE {path}, which no rule grants; the nearest: rule "orders-book" '
        f"({file}:4) grants the caller GET, POST on /entries/**",
        "edit": f'# anywhere in the file; grants {caller} DELETE {path}\n[[allow]]\nfrom = "{caller}"\n'
        f'methods = ["DELETE"]\npaths = ["{path}"]\nreason = ""\n',
    }


def shop() -> list[Line]:
    """A shop of some size, with a caller that is refused and calls that are allowed and never made."""
    return [
        Line("/web", "/orders", 46, 0.021),
        Line("/web", "/catalog", 118, 0.006),
        Line("/web", "/search", 37, 0.012),
        Line("/web", "/accounts", 22, 0.008, errors=0.012),
        Line("/mobile", "/orders", 19, 0.022),
        Line("/mobile", "/catalog", 64, 0.006),
        Line("/mobile", "/accounts", 31, 0.008),
        Line("/orders", "/ledger", 64, 0.007),
        Line("/orders", "/stock", 88, 0.004),
        Line("/orders", "/payments", 12, 0.090),
        Line("/payments", "/ledger", 12, 0.006),
        Line("/payments", "spiffe://bank.example/gateway", 12, 0.061, errors=0.004),
        Line("/catalog", "/stock", 41, 0.003),
        Line("/search", "/catalog", 5, 0.009),
        Line("/mailer", "/orders", 2.4, 0.018),
        Line("/orders", "/events", 9, 0.002, protocol="tcp"),
        Line("/events", "/mailer", 1.2, 0.150, protocol="tcp"),
        Line("/reports", "/ledger", 0.05, 0.400),
        Line("/orders-qa", "/ledger", 0, denied=0.4, allowed=False),
        Line("/batch", "/ledger", 0),
        Line("/batch", "/stock", 0),
    ]


def large(services: int = 100, calls: int = 1000) -> list[Line]:
    """A mesh of many services in layers, each calling those behind it."""
    dice = random.Random(5)
    names = [f"/{'abcdefgh'[index % 8]}/service-{index:03}" for index in range(services)]
    found: dict[tuple[str, str], Line] = {}
    while len(found) < calls:
        one, other = sorted(dice.sample(range(services), 2))
        found[names[one], names[other]] = Line(
            names[one],
            names[other],
            dice.choice([0.5, 2, 9, 40]),
            dice.choice([0.002, 0.008, 0.03]),
            dice.random() ** 9 * 0.2,
        )
    return list(found.values())
