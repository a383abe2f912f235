"""Counted always, told at a bounded pace, remembered up to a bound."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from meshproxy.telemetry.access import ConnectionLine, RequestLine
from meshproxy.telemetry.metrics import Metrics
from meshproxy.telemetry.record import Denial, Objection, Recorder
from tests.hearing import listening_log

if TYPE_CHECKING:
    from collections.abc import Callable


class Told:
    """A recorder on a clock of its own, with what it said and wrote."""

    def __init__(self) -> None:
        self.now = 100.0
        self.log, self.heard = listening_log()
        self.lines: list[ConnectionLine] = []
        self.requests: list[RequestLine] = []
        self.metrics = Metrics()
        self.recorder = Recorder(self.metrics, self.log, self._write, lambda: self.now)

    def _write(self, line: ConnectionLine | RequestLine) -> None:
        if isinstance(line, ConnectionLine):
            self.lines.append(line)
        else:
            self.requests.append(line)

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


@pytest.fixture
def told() -> Told:
    return Told()


def line(**changes: object) -> ConnectionLine:
    fields = {"ts": "t", "listener": "api", "direction": "inbound", "id": "1", "end": "clean", "peer": "p"} | changes
    return ConnectionLine(**fields)  # type: ignore[arg-type]  # a row of the test


def test_a_connection_is_counted_while_open_and_told_when_it_ends(told: Told) -> None:
    told.recorder.opened("api")
    told.recorder.opened("api")
    assert told.recorder.listener("api").open == told.value("meshproxy_connections_open", listener="api") == 2
    told.recorder.closed("api", line(bytes_in=10, bytes_out=3))
    told.recorder.closed("api", line(end="reset"))
    assert told.recorder.listener("api").open == 0
    assert told.recorder.listener("api").ended == {"clean": 1, "reset": 1}
    assert told.value("meshproxy_bytes_total", listener="api", direction="in") == 10
    assert told.value("meshproxy_bytes_total", listener="api", direction="out") == 3
    assert told.value("meshproxy_connections_total", listener="api", end="reset") == 1
    assert [each.end for each in told.lines] == ["clean", "reset"]


def test_what_never_authenticated_ends_without_an_access_line(told: Told) -> None:
    told.recorder.opened("api")
    told.recorder.closed("api", None)
    assert (told.lines, told.recorder.listener("api").open) == ([], 0)
    assert told.recorder.listener("api").ended == {}


def test_decisions_are_counted_for_metrics_and_status(told: Told) -> None:
    told.recorder.decided("api", "deny", rule="", mode="enforce", reason="no_rule")
    told.recorder.decided("api", "deny", rule="", mode="enforce", reason="no_rule")
    assert told.recorder.listener("api").decided == {"deny": 2}
    labels = {"listener": "api", "decision": "deny", "rule": "", "mode": "enforce", "reason": "no_rule"}
    assert told.value("meshproxy_authz_decisions_total", **labels) == 2


def request(**changes: object) -> RequestLine:
    fields = {"ts": "t", "listener": "api", "direction": "inbound", "id": "1", "request_id": "r", "peer": "p"} | changes
    return RequestLine(**fields)  # type: ignore[arg-type]  # a row of the test


def test_requests_are_counted_by_class_of_status_and_failure_for_metrics_and_status(told: Told) -> None:
    for row in (
        request(status=200, bytes_in=3, bytes_out=5),
        request(status=299, bytes_out=1),
        request(),
        request(status=999),
    ):
        told.recorder.requests_of("api").tell(row)
    told.recorder.requests_of("api").tell(request(status=502, failure="upstream_closed"))
    assert told.recorder.listener("api").answered == {"2xx": 2, "none": 1, "9xx": 1, "5xx": 1}
    assert told.value("meshproxy_requests_total", listener="api", status="2xx", failure="") == 2
    assert told.value("meshproxy_requests_total", listener="api", status="5xx", failure="upstream_closed") == 1
    assert told.value("meshproxy_bytes_total", listener="api", direction="in") == 3
    assert told.value("meshproxy_bytes_total", listener="api", direction="out") == 6
    assert len(told.requests) == 5


TELLINGS: dict[str, tuple[Callable[[Recorder, str], None], str, Callable[[Told, str], float | None]]] = {
    "refused": (
        lambda r, name: r.refused(name, "max_connections", peer="p", remedy="raise it"),
        "connection_refused",
        lambda t, name: t.value("meshproxy_connections_refused_total", listener=name, reason="max_connections"),
    ),
    "handshake": (
        lambda r, name: r.handshake_failed(name, "expired", peer="p", detail="it expired", claimed="spiffe://a/b"),
        "handshake_failed",
        lambda t, name: t.value("meshproxy_handshake_failures_total", listener=name, reason="expired"),
    ),
    "upstream": (
        lambda r, name: r.upstream_failed(name, "connect", endpoint="e", detail="refused"),
        "upstream_failed",
        lambda t, name: t.value("meshproxy_upstream_failures_total", listener=name, phase="connect"),
    ),
    "starved": (
        lambda r, name: r.starved(name, OSError(errno.EMFILE, os.strerror(errno.EMFILE))),
        "accepting_paused",
        lambda t, name: t.value("meshproxy_accept_pauses_total", listener=name),
    ),
}


@pytest.mark.parametrize("what", TELLINGS)
def test_a_flood_is_counted_in_full_and_told_at_a_bounded_pace(told: Told, what: str) -> None:
    tell, event, counted = TELLINGS[what]
    for _ in range(1000):
        tell(told.recorder, "api")
    assert counted(told, "api") == 1000
    at_once = 1 if what == "starved" else 20  # who has no descriptors left may have no disk either
    assert len(told.heard.named(event)) == at_once
    told.now += 0.5
    tell(told.recorder, "api")
    assert len(told.heard.named(event)) == (1 if what == "starved" else 21)
    told.now += 0.5
    tell(told.recorder, "api")
    assert told.heard.named(event)[-1]["untold"] == (1000 if what == "starved" else 0)
    assert sum(int(str(line["untold"])) + 1 for line in told.heard.named(event)) == 1002
    tell(told.recorder, "other")  # one listener's flood does not silence another
    assert told.heard.named(event)[-1]["listener"] == "other"


def test_status_knows_each_kind_of_failure(told: Told) -> None:
    for tell, _, _ in TELLINGS.values():
        tell(told.recorder, "api")
    counts = told.recorder.listener("api")
    assert (counts.refused, counts.handshake_failures, counts.failed_upstream) == ({"max_connections": 1}, 1, 1)


def test_only_the_last_denials_are_remembered_and_printable(told: Told) -> None:
    for number in range(60):
        told.recorder.denied(Denial("t", "api", f"{number}\n\x1b", "no_rule", "none"))
    assert len(told.recorder.denials) == 50
    assert told.recorder.denials[-1].caller == "59\\n\\x1b"
    assert "denials=50" in repr(told.recorder)


def test_an_error_without_words_of_the_system_is_told_by_its_own(told: Told) -> None:
    told.recorder.starved("api", OSError("odd"))
    (event,) = told.heard.named("accepting_paused")
    assert event["error"] == "odd"


def objection(**changes: str) -> Objection:
    fields = {"listener": "api", "outcome": "would_deny", "caller": "spiffe://a/b", "asked": "GET /", "reason": "path"}
    return Objection(**(fields | changes))


def test_the_same_objection_is_counted_and_keeps_its_last_explanation(told: Told) -> None:
    told.recorder.objected(objection(), "t1", "rule-1 (api.allow.toml:1)")
    told.recorder.objected(objection(), "t2", "")  # explained at a bounded pace only
    told.recorder.objected(objection(asked="GET /else"), "t3", "")
    assert [(o.asked, t.count, t.last, t.nearest) for o, t in told.recorder.objections.items()] == [
        ("GET /", 2, "t2", "rule-1 (api.allow.toml:1)"),
        ("GET /else", 1, "t3", ""),
    ]


def test_a_caller_who_asks_for_endless_paths_fills_no_memory_and_hides_nobody(told: Told) -> None:
    for number in range(2000):
        told.recorder.objected(objection(asked=f"GET /{number}"), "t", "")
    assert len(told.recorder.objections) == 32
    assert told.recorder.objections_beyond == 2000 - 32
    told.recorder.objected(objection(asked="GET /0"), "later", "")  # what is known goes on being counted
    assert told.recorder.objections[objection(asked="GET /0")].count == 2
    told.recorder.objected(objection(caller="spiffe://a/other"), "t", "")
    told.recorder.objected(objection(listener="ops", asked="GET /there"), "t", "")
    assert len(told.recorder.objections) == 34


def test_endless_callers_fill_no_memory_either(told: Told) -> None:
    for number in range(2000):
        told.recorder.objected(objection(caller=f"spiffe://a/{number}"), "t", "")
    assert len(told.recorder.objections) == len(told.recorder._objections_of) == 512
    assert told.recorder.objections_beyond == 2000 - 512


def test_streams_that_were_cut_are_counted(told: Told) -> None:
    told.recorder.terminated("api", 3)
    assert told.value("meshproxy_authz_terminated_total", listener="api") == 3
