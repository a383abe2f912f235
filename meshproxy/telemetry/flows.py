"""Who calls whom, counted as it happens: plain integers for each edge, taken off and set back once a second; pure.

An edge is one caller at one service, as one listener sees it. Names of callers come from certificates, so there is a
bound: what comes beyond is counted together, at an edge of its listener that names nobody.
"""

from __future__ import annotations

from operator import add
from typing import Final, Protocol

import msgspec

from meshproxy.telemetry.bounds import BUCKETS, bucket_of

OTHER: Final = "(other)"  # no name of an identity has a parenthesis

_NOTHING: Final = (0,) * BUCKETS

MOST_EDGES: Final = 256
_MOST_NAMELESS: Final = 64  # edges of what came beyond: one of each listener
_QUIET_ENOUGH: Final = 60  # looks without news, after which a flow that no connection holds is let go


class Edge(msgspec.Struct, frozen=True):
    """One caller at one service, as one listener sees it.

    `reporter` is who tells: `destination` (an inbound listener) or `source` (an outbound one). A name is a path in the
    own trust domain, else a whole SPIFFE ID; `local` where the own identity is not known yet.
    """

    reporter: str
    source: str
    target: str
    listener: str
    protocol: str  # http | tcp
    mtls: bool = True

    @property
    def nameless(self) -> Edge:
        """The edge at which the same is counted when there is no room for one of its own."""
        if self.reporter == "destination":
            return msgspec.structs.replace(self, source=OTHER)
        return msgspec.structs.replace(self, target=OTHER)


NOBODY: Final = Edge("destination", OTHER, OTHER, OTHER, "http")


class Point(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What happened at an edge in a stretch of time.

    `requests` are those that were let through: HTTP requests that are over, or TCP connections that have ended. Of
    them `errors` were answered 5xx, or failed. `denied` are those that the allow-list refused, and are not among
    `requests`. `micros` is how long the requests took in all, in microseconds; `histogram` counts them by `BOUNDS`.
    """

    requests: int = 0
    errors: int = 0
    denied: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    micros: int = 0
    opened: int = 0  # connections
    histogram: tuple[int, ...] = _NOTHING

    def __add__(self, other: Point) -> Point:
        return Point(
            self.requests + other.requests,
            self.errors + other.errors,
            self.denied + other.denied,
            self.bytes_in + other.bytes_in,
            self.bytes_out + other.bytes_out,
            self.micros + other.micros,
            self.opened + other.opened,
            tuple(map(add, self.histogram, other.histogram)),
        )


class Traffic(Protocol):
    """Bytes that a stream has moved so far."""

    @property
    def to_tls(self) -> int:
        """Towards the network."""

    @property
    def to_plain(self) -> int:
        """Towards this machine."""

    def refresh(self) -> None:
        """Bring both up to date."""


class Stream:
    """A connection whose bytes are counted while they move: it may last for days."""

    __slots__ = ("_counted_in", "_counted_out", "_inbound", "_traffic")

    def __init__(self, traffic: Traffic, *, inbound: bool) -> None:
        self._traffic = traffic
        self._inbound = inbound
        self._counted_in = self._counted_out = 0

    def __repr__(self) -> str:
        return f"<Stream {self.moved}>"

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes towards the upstream, and back."""
        traffic = self._traffic
        traffic.refresh()
        return (traffic.to_plain, traffic.to_tls) if self._inbound else (traffic.to_tls, traffic.to_plain)

    def count_at(self, flow: Flow) -> None:
        """Count at `flow` what has moved since the last time; asked of each once a second, and mostly nothing has."""
        traffic = self._traffic
        traffic.refresh()
        if traffic.to_tls + traffic.to_plain == self._counted_in + self._counted_out:
            return
        moved_in, moved_out = self.moved
        flow.bytes_in += moved_in - self._counted_in
        flow.bytes_out += moved_out - self._counted_out
        self._counted_in, self._counted_out = moved_in, moved_out


class Flow:
    """What has happened at one edge since somebody took it off.

    A request that is over costs an addition to `took` or `took_failed` (by its bucket), to `micros` and to `bytes_out`;
    how many there were is what the buckets add up to.
    """

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "denied",
        "edge",
        "micros",
        "open",
        "opened",
        "quiet",
        "streams",
        "took",
        "took_failed",
    )

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.took = [0] * BUCKETS
        self.took_failed = [0] * BUCKETS
        self.denied = 0
        self.micros = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.opened = 0
        self.open = 0  # connections that are open now
        self.quiet = 0  # looks without news
        self.streams: set[Stream] = set()  # bounded by the connections that have entered

    def __repr__(self) -> str:
        return f"<Flow {self.edge.source} -> {self.edge.target} at {self.edge.listener} open={self.open}>"

    def enter(self) -> None:
        """Count a connection that is open from now on; it must `leave`."""
        self.opened += 1
        self.open += 1

    def leave(self) -> None:
        """Count its end."""
        self.open -= 1

    def begin(self, traffic: Traffic, *, inbound: bool) -> Stream:
        """Count the bytes of a stream from now on, until it is over: `end`."""
        stream = Stream(traffic, inbound=inbound)
        self.streams.add(stream)
        return stream

    def end(self, stream: Stream) -> None:
        """Count what is left of a stream; idempotent."""
        stream.count_at(self)
        self.streams.discard(stream)

    def over(self, seconds: float, *, failed: bool, bytes_in: int = 0, bytes_out: int = 0) -> None:
        """Count a request, or a connection in TCP mode, that was let through and is over."""
        (self.took_failed if failed else self.took)[bucket_of(seconds)] += 1
        self.micros += max(int(seconds * 1e6 + 0.5), 0)
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out

    def take(self) -> Point | None:
        """Return what has happened since the last time, and begin anew; None: nothing."""
        for stream in self.streams:
            stream.count_at(self)
        good, failed = sum(self.took), sum(self.took_failed)
        if not (good or failed or self.denied or self.opened or self.bytes_in or self.bytes_out):
            return None
        histogram = tuple(map(add, self.took, self.took_failed)) if failed else tuple(self.took)
        point = Point(
            good + failed, failed, self.denied, self.bytes_in, self.bytes_out, self.micros, self.opened, histogram
        )
        # In place: whoever counts has looked the lists up once.
        self.took[:] = self.took_failed[:] = _NOTHING
        self.denied = self.bytes_in = self.bytes_out = self.micros = self.opened = 0
        return point


class Flows:
    """The flows of one process; at most `most` at once, and 64 for what comes beyond."""

    def __init__(self, most: int = MOST_EDGES) -> None:
        self._most = most
        self._flows: dict[Edge, Flow] = {}
        self.nobody = Flow(NOBODY)
        self.unseen = Flow(NOBODY)  # where those add who are not to be counted

    def __repr__(self) -> str:
        return f"<Flows {len(self._flows)}/{self._most}>"

    def __len__(self) -> int:
        return len(self._flows)

    def of(self, edge: Edge) -> Flow:
        """Return where an edge is counted; it stays the same one while a connection has entered it."""
        flow = self._flows.get(edge)
        if flow is None:
            if len(self._flows) >= self._most:
                edge = edge.nameless
                flow = self._flows.get(edge)
                if flow is None and len(self._flows) >= self._most + _MOST_NAMELESS:
                    return self.nobody
            if flow is None:
                flow = self._flows[edge] = Flow(edge)
        flow.quiet = 0
        return flow

    def take(self) -> list[tuple[Edge, Point]]:
        """Return what has happened since the last time, where something did; called about once a second."""
        found = []
        for flow in (*self._flows.values(), self.nobody):
            point = flow.take()
            if point is not None:
                found.append((flow.edge, point))
            flow.quiet = 0 if flow.open or point is not None else flow.quiet + 1
            if flow.quiet >= _QUIET_ENOUGH:
                self._flows.pop(flow.edge, None)
        return found


def short(identity: str, trust_domain: str) -> str:
    """Return the name of a SPIFFE ID at an edge: its path at home, else all of it."""
    home = f"spiffe://{trust_domain}/"
    return identity[len(home) - 1 :] if identity.startswith(home) else identity
