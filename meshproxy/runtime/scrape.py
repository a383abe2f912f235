"""Between the numbers of this process and `Sample`, in which they travel to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from meshproxy.runtime.samples import Sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from meshproxy.telemetry.metrics import Metrics


def samples_of(metrics: Metrics) -> tuple[Sample, ...]:
    """Return every number as it stands."""
    metrics.refresh()
    return tuple(
        Sample(family.name, sample.name, tuple(sample.labels.items()), sample.value)
        for family in metrics.registry.collect()
        for sample in family.samples
    )


def exposition_of(samples: Iterable[Sample], metrics: Metrics) -> bytes:
    """Return `samples` as the text a Prometheus server scrapes, in the families that `metrics` describes."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(samples, metrics))
    return generate_latest(registry)


class _Collected(Collector):
    def __init__(self, samples: Iterable[Sample], metrics: Metrics) -> None:
        self._by_family: dict[str, list[Sample]] = {}
        for sample in samples:
            self._by_family.setdefault(sample.family, []).append(sample)
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        for described in self._metrics.registry.collect():
            family = Metric(described.name, described.documentation, described.type)
            for sample in self._by_family.get(described.name, ()):
                family.add_sample(sample.name, dict(sample.labels), sample.value)
            yield family
