"""The report of a soak says what was counted."""

from __future__ import annotations

import pytest

from tests.scenarios.soak_report import Sample, curve, outcomes, sizes, slope, unexpected

TOLD = {("upload", "served"): 1200, ("upload", "reset"): 2, ("garbage", "refused"): 7}


def test_what_was_not_expected_is_named_and_counted() -> None:
    assert outcomes(TOLD, "served", ["upload", "tunnel"]) == [
        "  upload                         1,200 served   2 reset",
        "  tunnel                             0 served   -",
    ]
    assert unexpected(TOLD, "served", ["upload"]) == 2
    assert unexpected(TOLD, "refused", ["garbage"]) == 0


@pytest.mark.parametrize(
    ("values", "drawn"),
    [([], ""), ([5.0], "▁"), ([3, 3, 3], "▁▁▁"), ([0, 7], "▁█"), (list(range(120)), "▁" * 5)],
)
def test_a_curve_goes_from_the_least_to_the_greatest(values: list[float], drawn: str) -> None:
    assert curve(values).startswith(drawn)
    assert len(curve(values)) == min(60, len(values))


def test_a_slope_is_per_hour_and_ignores_the_beginning() -> None:
    grown = [Sample(at, 1_000_000 if at < 60 else 1000 * at, 0, 0, 0) for at in range(0, 180, 10)]
    assert slope(grown, after=60) == pytest.approx(3_600_000)
    assert slope(grown, after=175) == 0.0


def test_sizes_tell_the_rate_of_requests() -> None:
    table = sizes("api", [Sample(0, 1 << 20, 9, 3, 0), Sample(10, 2 << 20, 9, 3, 50)])
    assert [line.split()[-5:-1] for line in table if "requests" in line] == [["5.0", "5.0", "5.0", "5.0"]]
    assert any("memory" in line and "▁█" in line for line in table)
