from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from meshproxy.telemetry.metrics import Metrics

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
        assert family.type in {"counter", "gauge"}
        assert family.name.startswith("meshproxy_")


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
