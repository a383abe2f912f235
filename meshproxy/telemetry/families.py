"""Numbers by name and labels, and a registry of them that can be scraped.

`prometheus_client` writes the exposition, and that is all: its own counters take 2.3 us for each `labels(...).inc()`,
a tenth of what a request may cost. Ours are numbers in a dict, turned into its families when somebody scrapes.

For the trio thread only, as everything here.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from meshproxy.telemetry.bounds import BOUNDS
from meshproxy.telemetry.exposition import Form, exposed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.core import Metric

_Number = TypeVar("_Number", bound="Number | Buckets")
_Kind = TypeVar("_Kind", "Family", "Histogram")

# Different label sets of one family. Names of rules and listeners change with the files, over months perhaps without
# end; what comes beyond is counted as one.
_MOST_NUMBERS: Final = 16_384
_BEYOND: Final = "(other)"

FINER: Final = (0.001, 0.0025, *BOUNDS)  # for what we do ourselves

TRACE_ID: Final = "trace_id"  # the label of an exemplar by which Grafana finds the trace


class Number:
    """What is counted or measured under one set of labels."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def __repr__(self) -> str:
        return f"<Number {self.value:g}>"

    def inc(self, by: float = 1.0) -> None:
        """Add to it."""
        self.value += by

    def dec(self) -> None:
        """Take one off (a gauge)."""
        self.value -= 1.0

    def set(self, value: float) -> None:
        """Set it (a gauge)."""
        self.value = float(value)


class Buckets:
    """How long something took, under one set of labels: `counts` by `bounds`, not yet added up, and the `total`."""

    __slots__ = ("bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: tuple[float, ...] = BOUNDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.exemplars: dict[int, Exemplar] = {}  # the last one of each bucket

    def __repr__(self) -> str:
        return f"<Buckets of {sum(self.counts)}, {self.total:g} s>"

    def observe(self, seconds: float) -> None:
        """Add one; a bound belongs to the bucket below it."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def exemplify(self, seconds: float, trace_id: str, at: float) -> None:
        """Show a trace as an example of those that took so long; it ended at `at`, seconds since 1970."""
        self.exemplars[bisect_left(self.bounds, seconds)] = Exemplar({TRACE_ID: trace_id}, seconds, at)


@dataclass(frozen=True, slots=True)
class Named:
    """What a family is called, what it means, and by what its numbers differ."""

    name: str
    text: str
    labels: tuple[str, ...]
    beyond: Callable[[str], None] = lambda _name: None  # told of each look at a number there was no room for


class _Family(Collector, Generic[_Number]):
    """One metric: its numbers by the values of its labels."""

    def __init__(self, named: Named) -> None:
        self._named = named
        self._numbers: dict[tuple[str, ...], _Number] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._named.name} of {len(self._numbers)} numbers>"

    def labels(self, *values: str) -> _Number:
        """Return the number under these values, one for each label; it stays the same one, and may be kept."""
        number = self._numbers.get(values)
        return self._added(values) if number is None else number

    def numbers(self) -> Iterable[tuple[tuple[str, ...], _Number]]:
        """Return all numbers with the values of their labels."""
        return self._numbers.items()

    def forget(self) -> None:
        """Have no numbers any more: for what is measured anew at each look; kept numbers count for nothing."""
        self._numbers.clear()

    @property
    def name(self) -> str:
        """As the exposition calls it: without the `_total` of a counter."""
        return self._named.name.removesuffix("_total")

    @property
    def label_names(self) -> tuple[str, ...]:
        """By what its numbers differ."""
        return self._named.labels

    @property
    def is_full(self) -> bool:
        """Whether something was counted as one with others for want of room."""
        return (_BEYOND,) * len(self._named.labels) in self._numbers

    @abstractmethod
    def collect(self) -> Iterator[Metric]:
        """Yield the family as the exposition wants it."""

    @abstractmethod
    def _new(self) -> _Number:
        """Return a number that nothing was counted in yet."""

    def _added(self, values: tuple[str, ...]) -> _Number:
        if len(values) != len(self._named.labels):
            raise ValueError(f"{self._named.name} has the labels {self._named.labels}, not values for {values}")
        if len(self._numbers) >= _MOST_NUMBERS:
            values = (_BEYOND,) * len(values)
            self._named.beyond(self._named.name)
        return self._numbers.setdefault(values, self._new())


class Family(_Family[Number]):
    """Counters or gauges of one name."""

    def __init__(self, kind: type[CounterMetricFamily | GaugeMetricFamily], named: Named) -> None:
        super().__init__(named)
        self._kind = kind

    def collect(self) -> Iterator[Metric]:
        """See `_Family`."""
        family = self._kind(self._named.name, self._named.text, labels=self._named.labels)
        for values, number in self._numbers.items():
            family.add_metric(values, number.value)
        yield family

    def _new(self) -> Number:
        return Number()


class Histogram(_Family[Buckets]):
    """Durations of one name."""

    def __init__(self, named: Named, bounds: tuple[float, ...]) -> None:
        super().__init__(named)
        self._bounds = bounds

    def observe(self, seconds: float) -> None:
        """Add one to a histogram without labels."""
        self.labels().observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """See `_Family`."""
        family = HistogramMetricFamily(self._named.name, self._named.text, labels=self._named.labels)
        for values, buckets in self._numbers.items():
            family.add_metric(values, list(_added_up(buckets)), buckets.total)
        yield family

    def _new(self) -> Buckets:
        return Buckets(self._bounds)


def _added_up(buckets: Buckets) -> Iterator[tuple[str, float] | tuple[str, float, Exemplar]]:
    """Yield how many took no longer than each bound; with an example, where there is one."""
    total = 0
    for at, (end, count) in enumerate(zip((*map(str, buckets.bounds), "+Inf"), buckets.counts, strict=True)):
        total += count
        exemplar = buckets.exemplars.get(at)
        yield (end, total) if exemplar is None else (end, total, exemplar)


class Registry:
    """Families that are scraped together."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self.families: list[Family | Histogram] = []
        self._before_scrape: list[Callable[[], None]] = []
        self._overflow = self.counter(
            "meshproxy_series_overflow_total",
            "Looks at a series there was no room for, by family: counted under (other).",
            "family",
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def counter(self, name: str, text: str, *labels: str) -> Family:
        """Return a new family of counters."""
        return self._registered(Family(CounterMetricFamily, self._named(name, text, labels)))

    def gauge(self, name: str, text: str, *labels: str) -> Family:
        """Return a new family of gauges."""
        return self._registered(Family(GaugeMetricFamily, self._named(name, text, labels)))

    def only(self, name: str, text: str) -> Number:
        """Return a gauge without labels: there from the start."""
        return self.gauge(name, text).labels()

    def histogram(self, name: str, text: str, *labels: str, bounds: tuple[float, ...] = BOUNDS) -> Histogram:
        """Return a new family of durations."""
        return self._registered(Histogram(self._named(name, text, labels), bounds))

    def before_scrape(self, refresh: Callable[[], None]) -> None:
        """Call `refresh` before each look at the numbers, for gauges that are functions of the clock."""
        self._before_scrape.append(refresh)

    def refresh(self) -> None:
        """Bring up to date what is not counted as it happens."""
        for refresh in self._before_scrape:
            refresh()

    def exposition(self, form: Form = Form.TEXT) -> bytes:
        """Return what a Prometheus server scrapes."""
        self.refresh()
        return exposed(self.registry, form)

    def _named(self, name: str, text: str, labels: tuple[str, ...]) -> Named:
        return Named(name, text, labels, lambda name: self._overflow.labels(name).inc())

    def _registered(self, family: _Kind) -> _Kind:
        self.registry.register(family)
        self.families.append(family)
        return family
