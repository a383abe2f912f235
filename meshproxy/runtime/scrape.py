"""Between the numbers of this process and `Sample`, in which they travel to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from meshproxy.runtime.samples import Example, Sample
from meshproxy.telemetry.exposition import Form, exposed
from meshproxy.telemetry.families import TRACE_ID

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from meshproxy.telemetry.metrics import Metrics


def samples_of(metrics: Metrics) -> tuple[Sample, ...]:
    """Return every number as it stands."""
    metrics.refresh()
    return tuple(
        Sample(family.name, sample.name, tuple(sample.labels.items()), sample.value, _example(sample.exemplar))
        for family in metrics.registry.collect()
        for sample in family.samples
    )


def exposition_of(samples: Iterable[Sample], metrics: Metrics, form: Form = Form.TEXT) -> bytes:
    """Return `samples` as a Prometheus server scrapes them, in the families that `metrics` describes."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(samples, metrics))
    return exposed(registry, form)


def _example(exemplar: Exemplar | None) -> Example | None:
    if exemplar is None or exemplar.timestamp is None:
        return None
    return Example(exemplar.labels[TRACE_ID], exemplar.value, float(exemplar.timestamp))


def _exemplar(example: Example | None) -> Exemplar | None:
    return None if example is None else Exemplar({TRACE_ID: example.trace_id}, example.value, example.at)


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
                exemplar = _exemplar(sample.example)
                family.add_sample(sample.name, dict(sample.labels), sample.value, exemplar=exemplar)
            yield family
