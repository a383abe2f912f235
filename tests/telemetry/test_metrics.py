from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from meshproxy.telemetry.metrics import Metrics
from meshproxy.telemetry.record import ListenerCounts

if TYPE_CHECKING:
    from prometheus_client.samples import Sample


def samples(metrics: Metrics) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample)
    return found


def test_every_family_parses_has_help_and_our_prefix() -> None:
    metrics = Metrics()
    metrics.authz_decisions.labels("api", "deny", "", "enforce", "no_rule").inc()
    families = list(text_string_to_metric_families(metrics.exposition().decode()))
    assert len(families) >= 13
    for family in families:
        assert family.documentation, family.name
        assert family.type in {"counter", "gauge", "histogram"}
        assert family.name.startswith("meshproxy_")


def test_every_family_is_documented() -> None:
    told = (Path(__file__).parents[2] / "docs/operating.md").read_text()
    families = [family.name for family in Metrics().registry.collect() if family.name.startswith("meshproxy_")]
    assert [name for name in families if name not in told] == []


def test_decisions_and_failures_are_named_as_the_contract_says() -> None:
    metrics = Metrics()
    metrics.authz_decisions.labels("api", "allow", "web", "enforce", "granted").inc()
    metrics.handshake_failures.labels("api", "expired").inc(2)
    found = samples(metrics)
    (decision,) = found["meshproxy_authz_decisions_total"]
    assert decision.labels == {
        "listener": "api",
        "decision": "allow",
        "rule": "web",
        "mode": "enforce",
        "reason": "granted",
    }
    (failure,) = found["meshproxy_handshake_failures_total"]
    assert (failure.labels, failure.value) == ({"listener": "api", "reason": "expired"}, 2.0)


def test_hostile_configured_names_are_escaped() -> None:
    metrics = Metrics()
    metrics.connections_open.labels('a"b\\c\nd').set(1)
    (sample,) = samples(metrics)["meshproxy_connections_open"]
    assert sample.labels == {"listener": 'a"b\\c\nd'}


def test_gauges_of_the_clock_are_refreshed_before_each_scrape() -> None:
    metrics = Metrics()
    left = iter([10.0, 9.0])
    metrics.before_scrape(lambda: metrics.certificate_seconds.labels("leaf").set(next(left)))
    seen = [samples(metrics)["meshproxy_certificate_expiry_seconds"][0].value for _ in "12"]
    assert seen == [10.0, 9.0]


def test_two_sidecars_in_one_process_count_apart() -> None:
    one, two = Metrics(), Metrics()
    one.accept_pauses.labels("api").inc()
    assert "meshproxy_accept_pauses_total" not in samples(two)


def test_names_that_change_for_ever_fill_no_memory() -> None:
    metrics = Metrics()
    for number in range(17_000):
        metrics.authz_decisions.labels("api", "allow", f"rule-{number}", "enforce", "granted").inc()
        if number in {0, 16_383}:
            assert ListenerCounts("api", metrics).granted == {f"rule-{n}": 1 for n in range(number + 1)}
    assert ListenerCounts("api", metrics).granted is None  # nobody knows any more which rules were used
    metrics.authz_decisions.labels("api", "allow", "rule-0", "enforce", "granted").inc()
    found = {sample.labels["rule"]: sample.value for sample in samples(metrics)["meshproxy_authz_decisions_total"]}
    assert len(found) == 16_385
    assert (found["rule-0"], found["(other)"]) == (2, 17_000 - 16_384)


def test_a_family_refuses_labels_that_are_not_its_own() -> None:
    with pytest.raises(ValueError, match="meshproxy_reloads_total has the labels"):
        Metrics().reloads.labels("loaded", "twice")


def test_a_number_may_be_kept_and_goes_on_being_shown() -> None:
    metrics = Metrics()
    number = metrics.connections_open.labels("api")
    number.inc()
    number.inc()
    number.dec()
    assert samples(metrics)["meshproxy_connections_open"][0].value == 1
    assert metrics.connections_open.labels("api") is number
    assert (repr(number), repr(metrics.connections_open)) == (
        "<Number 1>",
        "<Family meshproxy_connections_open of 1 numbers>",
    )


def test_a_family_that_is_measured_anew_forgets_what_is_gone() -> None:
    metrics = Metrics()
    metrics.grant_seconds.labels("api", "old").set(5)
    metrics.grant_seconds.forget()
    metrics.grant_seconds.labels("api", "new").set(7)
    (sample,) = samples(metrics)["meshproxy_grant_expiry_seconds"]
    assert (sample.labels, sample.value) == ({"listener": "api", "rule": "new"}, 7.0)
