"""What `make fuzz` throws at for minutes holds for its seeds, for what was found before, and for a few hundred throws.

And the throwers find what is there to be found.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz import engines
from tests.fuzz.dice import spoilt
from tests.fuzz.target import Target, found_before, load, names

if TYPE_CHECKING:
    from pathlib import Path

_THROWS = 60


@pytest.mark.parametrize("name", names())
def test_a_target_holds(name: str) -> None:
    target = load(name)
    for data in (*target.seeds, b"", b"\0"):
        target.run(data)

    quietly = settings(
        max_examples=_THROWS,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

    def once(data: bytes) -> None:
        target.run(data)

    quietly(given(spoilt(target))(once))()


@pytest.mark.parametrize(
    ("name", "file"), [(name, file) for name in names() for file in found_before(name)], ids="/".join
)
def test_what_was_found_before_is_mended(name: str, file: str) -> None:
    load(name).run(found_before(name)[file])


def _breaks_at_bang(data: bytes) -> None:
    if data.startswith(b"GET") and b"!" in data:
        raise ZeroDivisionError


def test_hypothesis_finds_what_is_there_and_makes_it_small(tmp_path: Path) -> None:
    planted = Target(_breaks_at_bang, (b"GET /a HTTP/1.1",), (b"!",))

    outcome = engines.by_hypothesis("planted", planted, 20.0, tmp_path)

    assert outcome.found is not None
    assert outcome.found.parent == tmp_path / "planted"
    assert outcome.executions > 1
    assert "ZeroDivisionError" in outcome.trace
    data = outcome.found.read_bytes()
    assert (data.count(b"!"), len(data)) == (1, 16)


def test_hypothesis_stops_in_time_when_there_is_nothing(tmp_path: Path) -> None:
    outcome = engines.by_hypothesis("nothing", Target(bytes.upper, (b"a",)), 0.2, tmp_path)

    assert (outcome.found, outcome.trace) == (None, "")
    assert outcome.executions >= 100


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_atheris_runs_a_target(tmp_path: Path) -> None:
    outcome = engines.run("chunks", 3.0, tmp_path, engine="atheris")

    assert (outcome.engine, outcome.found) == ("atheris", None)
    assert outcome.executions > 100
