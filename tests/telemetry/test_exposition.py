"""Which form whoever scrapes is told numbers in, and what both forms say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from meshproxy.enroll.figures import Figures
from meshproxy.telemetry.bounds import BOUNDS
from meshproxy.telemetry.exposition import Form, form_for
from meshproxy.telemetry.families import Buckets
from meshproxy.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

PROMETHEUS = (
    b"application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    b"text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
NEWER = (
    b"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    b"application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    b"text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
TRACE = "0af7651916cd43dd8448eb211c80319c"


def read_openmetrics(text: str) -> Iterator[Metric]:
    yield from openmetrics.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]  # no types there


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (b"", Form.TEXT),
        (b"*/*", Form.TEXT),
        (b"text/html", Form.TEXT),
        (PROMETHEUS, Form.OPENMETRICS),
        (NEWER, Form.OPENMETRICS),
        (b"application/openmetrics-text", Form.OPENMETRICS),
        (b'Application/OpenMetrics-Text ; Version="1.0.0"', Form.OPENMETRICS),
        (b"application/openmetrics-text; version=2.0.0", Form.TEXT),
        (b"application/openmetrics-text;q=0", Form.TEXT),
        (b"application/openmetrics-text;q=0.2, text/plain;q=0.5", Form.TEXT),
        (b"application/openmetrics-text;q=nan", Form.TEXT),
        (b"application/openmetrics-text;q=often", Form.TEXT),
        (b"text/plain, application/openmetrics-text", Form.TEXT),
        (b"," * 2000 + b"application/openmetrics-text", Form.TEXT),
        (b"\xff;=;;,=", Form.TEXT),
    ],
)
def test_the_form_that_is_liked_best(accept: bytes, form: Form) -> None:
    assert form_for(accept) is form


def metrics() -> Metrics:
    made = Metrics()
    lasted = made.request_seconds.labels("api", "2xx")
    for seconds in (0.001, 0.005, 0.0051, 11.0):
        lasted.observe(seconds)
    lasted.exemplify(0.0051, TRACE, 1_700_000_000.5)
    made.requests.labels("api", "2xx", "").inc(4)
    return made


@pytest.mark.parametrize("form", list(Form))
def test_both_forms_say_the_same(form: Form) -> None:
    text = metrics().exposition(form).decode()
    families = {f.name: f for f in (read_text if form is Form.TEXT else read_openmetrics)(text)}
    durations = families["meshproxy_request_duration_seconds"]
    buckets = {s.labels["le"]: s.value for s in durations.samples if s.name.endswith("_bucket")}
    assert list(buckets) == [*map(str, BOUNDS), "+Inf"]
    assert list(buckets.values()) == [2, *[3] * (len(BOUNDS) - 1), 4]
    others = {s.name.rpartition("_")[2]: s.value for s in durations.samples if not s.name.endswith("_bucket")}
    assert others == {"count": 4, "sum": pytest.approx(11.0111)}
    assert [s.value for s in families["meshproxy_requests"].samples] == [4]
    assert "_created" not in text


def test_only_openmetrics_has_examples() -> None:
    (bucket,) = [
        s
        for f in read_openmetrics(metrics().exposition(Form.OPENMETRICS).decode())
        for s in f.samples
        if s.exemplar is not None
    ]
    shown = bucket.exemplar
    assert shown is not None
    assert (bucket.labels["le"], shown.labels, shown.value) == ("0.01", {"trace_id": TRACE}, 0.0051)
    assert shown.timestamp is not None
    assert float(shown.timestamp) == 1_700_000_000.5
    assert TRACE.encode() not in metrics().exposition()


@pytest.mark.parametrize("registry", [Metrics, Figures])
@pytest.mark.parametrize("form", list(Form))
def test_every_family_can_be_told_in_both_forms(registry: type[Metrics | Figures], form: Form) -> None:
    text = registry().exposition(form).decode()
    assert list((read_text if form is Form.TEXT else read_openmetrics)(text))


def test_a_bound_belongs_to_the_bucket_below_it() -> None:
    buckets = Buckets()
    for bound in BOUNDS:
        buckets.observe(bound)
    assert buckets.counts == [1] * len(BOUNDS) + [0]


def test_what_there_is_no_room_for_is_counted_by_family() -> None:
    made = Metrics()
    for number in range(16_384 + 3):
        made.authz_decisions.labels("api", "allow", f"rule-{number}", "enforce", "granted").inc()
    made.authz_decisions.labels("api", "allow", "rule-0", "enforce", "granted").inc()
    families = {f.name: f for f in read_text(made.exposition().decode())}
    (overflow,) = families["meshproxy_series_overflow"].samples
    assert (overflow.labels, overflow.value) == ({"family": "meshproxy_authz_decisions_total"}, 3)
