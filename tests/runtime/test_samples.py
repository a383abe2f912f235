"""Numbers of several processes told as those of one: nothing counted is lost, nothing is counted twice."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from meshproxy.runtime.samples import GAUGES, Example, Labels, Sample, combined, lasting
from meshproxy.runtime.scrape import exposition_of, samples_of
from meshproxy.telemetry.exposition import Form
from meshproxy.telemetry.metrics import Metrics

LISTENER: Labels = (("listener", "api"),)


def counted(value: float, labels: Labels = LISTENER) -> Sample:
    return Sample("meshproxy_bytes", "meshproxy_bytes_total", labels, value)


def state(family: str, value: float, labels: Labels = ()) -> Sample:
    return Sample(family, family, labels, value)


def told(samples: list[Sample]) -> dict[tuple[str, Labels], float]:
    return {(each.name, each.labels): each.value for each in samples}


def test_what_is_counted_adds_up_by_its_labels() -> None:
    other = (("listener", "ops"),)
    found = combined([], [[counted(1), counted(5, other)], [counted(2)]], [counted(10)])
    assert told(found) == {("meshproxy_bytes_total", LISTENER): 13, ("meshproxy_bytes_total", other): 5}


def test_of_several_examples_the_last_one_is_shown() -> None:
    first, last = Example("1" * 32, 0.2, 100.0), Example("2" * 32, 0.3, 200.0)
    bucket = Sample("meshproxy_request_duration_seconds", "meshproxy_request_duration_seconds_bucket", LISTENER, 2.0)
    for order in ((first, last), (last, first)):
        found = combined([], [[replace(bucket, example=each)] for each in order], [bucket])
        assert found == [replace(bucket, value=6.0, example=last)]


@pytest.mark.parametrize("form", list(Form))
def test_histograms_of_several_processes_are_told_as_one(form: Form) -> None:
    ones, others, both = Metrics(), Metrics(), Metrics()
    for metrics, seconds in ((ones, (0.001, 0.2)), (others, (0.3, 20.0)), (both, (0.001, 0.2, 0.3, 20.0))):
        for each in seconds:
            metrics.request_seconds.labels("api", "2xx").observe(each)
    others.request_seconds.labels("api", "5xx").observe(1.0)
    both.request_seconds.labels("api", "5xx").observe(1.0)
    for metrics in (others, both):
        metrics.request_seconds.labels("api", "2xx").exemplify(0.3, "a" * 32, 1.5)
    found = combined(samples_of(Metrics()), [samples_of(ones), samples_of(others)])
    assert exposition_of(found, Metrics(), form) == both.exposition(form)


def test_a_counter_is_as_old_as_the_first_of_them() -> None:
    first, second = (Sample("meshproxy_bytes", "meshproxy_bytes_created", (), at) for at in (10.0, 20.0))
    assert combined([], [[second]], [first]) == [first]


def test_states_have_the_value_that_is_true_of_all() -> None:
    own = [state("meshproxy_identity_ready", 0), state("meshproxy_reload_failing", 1)]
    workers = [
        [
            state("meshproxy_identity_ready", ready),
            state("meshproxy_connections_open", 3, LISTENER),
            state("meshproxy_certificate_expiry_seconds", left, (("certificate", "leaf"),)),
            state("meshproxy_reload_failing", 0),
            state("meshproxy_identity_generation", generation),
            state("meshproxy_log_lines_dropped", 2),
        ]
        for ready, left, generation in ((1, 60.0, 3), (1, 50.0, 1))
    ]
    gone = lasting([state("meshproxy_log_lines_dropped", 7), state("meshproxy_connections_open", 9, LISTENER)])
    assert told(combined(own, workers, gone)) == {
        ("meshproxy_identity_ready", ()): 1,
        ("meshproxy_connections_open", LISTENER): 6,
        ("meshproxy_certificate_expiry_seconds", (("certificate", "leaf"),)): 50.0,
        ("meshproxy_reload_failing", ()): 1,
        ("meshproxy_identity_generation", ()): 3,
        ("meshproxy_log_lines_dropped", ()): 11,
    }


def test_without_workers_the_supervisor_speaks_for_them() -> None:
    assert combined([state("meshproxy_identity_ready", 0)], []) == [state("meshproxy_identity_ready", 0)]


def test_every_gauge_there_is_has_a_rule() -> None:
    """A family that is added has to say how those of several processes become one."""
    gauges = {family.name for family in Metrics().registry.collect() if family.type == "gauge"}
    assert gauges == set(GAUGES)


steps = st.lists(st.one_of(st.tuples(st.integers(0, 2), st.integers(0, 5)), st.integers(0, 2)), max_size=30)


@given(steps)
def test_no_total_goes_backwards_whoever_ends(story: list[tuple[int, int] | int]) -> None:
    """A pair counts at one of three workers, a number ends one; it counts from zero in its next life."""
    counts, gone, everything, before = defaultdict[int, int](int), list[Sample](), 0, 0.0
    for step in story:
        if isinstance(step, tuple):
            counts[step[0]] += step[1]
            everything += step[1]
        else:
            gone = combined((), [lasting([counted(counts.pop(step, 0))])], gone)
        (total,) = combined([counted(0)], [[counted(value)] for value in counts.values()], gone)
        assert before <= total.value == everything
        before = total.value


def test_the_exposition_of_one_process_is_what_it_would_tell_itself() -> None:
    metrics = Metrics()
    metrics.bytes.labels("api", "in").inc(5)
    metrics.connections_open.labels("api").set(2)
    metrics.before_scrape(lambda: metrics.log_dropped.set(4))
    assert exposition_of(samples_of(metrics), metrics) == metrics.exposition()
