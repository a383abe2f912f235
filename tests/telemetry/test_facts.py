"""What is news between two looks at a sidecar, and what several workers are together."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from meshproxy import __version__
from meshproxy.telemetry.facts import Facts, news, together

CALM = Facts(
    "serving", id="spiffe://mesh.test/api", identity=1, serial="a1", expires="2026-12-01", generation=1, hash="h"
)
STARTED = f"started as spiffe://mesh.test/api: meshproxy {__version__}, settings {CALM.hash}"


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({}, []),
        ({"open_connections": 7}, []),
        ({"generation": 2}, ["reload"]),
        ({"reload_error": "api.toml:3: found x"}, ["reload_failed"]),
        ({"serial": "b2", "identity": 2}, ["identity"]),
        ({"deny_list": 1}, ["deny_list"]),
        ({"bundle": 2}, ["bundle"]),
        ({"restarts": 1}, ["worker"]),
        ({"state": "draining"}, ["drain"]),
        ({"state": "refusing", "reason": "it expired"}, ["refusing"]),
        ({"generation": 2, "state": "draining", "serial": "b2"}, ["reload", "identity", "drain"]),
        ({"generation": 0, "serial": ""}, []),
    ],
)
def test_news(changes: dict[str, Any], kinds: list[str]) -> None:
    after = msgspec.structs.replace(CALM, **changes)
    found = list(news(CALM, after, 5.0))
    assert [marker.kind for marker in found] == kinds
    assert {marker.at for marker in found} <= {5.0}
    assert list(news(after, after, 6.0)) == []


def test_the_first_look_is_the_start() -> None:
    [marker] = news(None, CALM, 1.0)
    assert (marker.kind, marker.text) == ("start", STARTED)


def test_workers_that_are_being_started_are_no_news_until_one_serves() -> None:
    starting = Facts("starting", generation=1, hash="h")
    assert list(news(None, starting, 1.0)) == []
    assert list(news(starting, starting, 2.0)) == []
    [marker] = news(starting, CALM, 3.0)
    assert (marker.kind, marker.at, marker.text) == ("start", 3.0, STARTED)


def test_a_failed_reload_is_told_once_and_a_healed_one_not_at_all() -> None:
    failed = msgspec.structs.replace(CALM, reload_error="x")
    assert list(news(failed, failed, 1.0)) == []
    assert list(news(failed, CALM, 1.0)) == []


def test_several_workers_are_told_of_as_the_last_of_them_has_it() -> None:
    own = Facts("serving", generation=3, hash="h", restarts=2)
    ahead = msgspec.structs.replace(
        CALM, serial="b2", expires="2027-01-01", deny_list=5, bundle=2, open_connections=4, generation=3
    )
    behind = msgspec.structs.replace(CALM, deny_list=4, open_connections=3)
    assert together(own, []) == own
    assert together(own, [ahead, behind]) == Facts(
        "serving",
        id=CALM.id,
        identity=1,
        serial="a1",
        expires="2026-12-01",
        generation=3,
        hash="h",
        deny_list=4,
        bundle=None,
        restarts=2,
        open_connections=7,
    )
