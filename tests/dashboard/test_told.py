"""A sidecar is believed about itself, in its own time, and about nothing else."""

from __future__ import annotations

import msgspec
import pytest

from meshproxy.dashboard.told import MeshTold, SeriesTold, Untrue, judge_mesh, judge_series

NOW = 1_000_000.0


def mesh(**more: object) -> MeshTold:
    own = {"name": "/api", "id": "spiffe://mesh.test/api", "address": "a:1", "state": "serving"}
    plain = {"api": 1, "kind": "sidecar", "now": NOW, "version": "1", "trust_domain": "mesh.test", "sidecars": [own]}
    return msgspec.convert({**plain, **more}, MeshTold)


def series(**more: object) -> SeriesTold:
    edge = {"edge": "e1", "reporter": "destination", "source": "/web", "target": "/api", "listener": "l"}
    edge |= {"protocol": "http", "points": [[0, 1, 0, 0, 0, 0, 0.5, 0]], **more.pop("edge", {})}  # type: ignore[dict-item]
    plain = {"now": NOW, "tier": "1s", "step": 1, "start": NOW - 5, "columns": 5, "edges": [edge]}
    return msgspec.convert({**plain, **more}, SeriesTold)


def test_what_is_sound_is_believed() -> None:
    assert judge_mesh(mesh(), NOW + 1).name == "/api"
    judge_series(series(), "/api", NOW)
    judge_series(series(edge={"reporter": "source", "source": "local", "target": "/x"}), "/api", NOW)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"now": NOW + 3600}, "3600 s ahead"),
        ({"now": NOW - 60}, "60 s behind"),
        ({"kind": "mesh"}, "no sidecar"),
        ({"trust_domain": "other.test"}, "says that it is"),
    ],
)
def test_mesh_that_cannot_be_is_refused(told: dict[str, object], words: str) -> None:
    with pytest.raises(Untrue, match=words):
        judge_mesh(mesh(**told), NOW)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"edge": {"target": "/bank"}}, "no part"),
        ({"edge": {"reporter": "source"}}, "no part"),
        ({"edge": {"source": ""}}, "nobody"),
        ({"edge": {"points": [[9, 1, 0, 0, 0, 0, 0, 0]]}}, "not there"),
        ({"edge": {"histogram": [[9, [1]]]}}, "not there"),
        ({"start": NOW + 100}, "not come"),
        ({"step": 60}, "have 60 s"),
    ],
)
def test_series_that_cannot_be_is_refused(told: dict[str, object], words: str) -> None:
    with pytest.raises(Untrue, match=words):
        judge_series(series(**told), "/api", NOW)


@pytest.mark.parametrize(
    "edge",
    [
        {"points": [[0, -1, 0, 0, 0, 0, 0, 0]]},
        {"points": [[0, 1]]},
        {"points": [[0, 1 << 60, 0, 0, 0, 0, 0, 0]]},
        {"source": "/" + "x" * 5000},
        {"histogram": [[0, [1] * 16]]},
        {"reporter": "somebody"},
    ],
)
def test_series_of_another_shape_is_no_series(edge: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        series(edge=edge)
