from __future__ import annotations

import pytest

from bench.compare import Spread, Verdict, judge, paired
from bench.results import Block, Must


def block(**samples: list[float]) -> Block:
    return Block("row", "title", "us", "ours", samples)


def test_a_ratio_is_taken_within_each_round() -> None:
    # The third round was slow for both; the ratio of the medians would be 20 / 11.
    assert paired([20, 18, 90], [10, 11, 60]) == Spread(18 / 11, 1.5, 2.0)


@pytest.mark.parametrize(("ours", "theirs"), [([1.0, 2.0], [1.0, 0.0]), ([-1.0, 2.0], [1.0, 1.0])])
def test_of_what_is_not_above_zero_there_is_no_ratio(ours: list[float], theirs: list[float]) -> None:
    assert paired(ours, theirs) is None


def test_a_bound_on_the_figure_itself_is_held_against_its_median() -> None:
    must = Must(5.0, 2.0)
    verdict = judge(block(ours=[4, 6, 5]), must)
    assert verdict == Verdict(must, 5)
    assert verdict.is_met
    assert not verdict.reaches_goal


def test_of_several_peers_the_best_counts() -> None:
    must = Must(1.1, 0.95, ("slow", "fast"))
    verdict = judge(block(ours=[9, 9, 9], slow=[20, 20, 20], fast=[10, 9, 10]), must)
    assert verdict == Verdict(must, 0.9, "fast")
    assert verdict.is_met
    assert verdict.reaches_goal


def test_a_bound_is_judged_without_a_peer_that_is_absent() -> None:
    must = Must(1.1, None, ("absent", "fast"))
    verdict = judge(block(ours=[12], fast=[10]), must)
    assert verdict == Verdict(must, 1.2, "fast", ("absent",))
    assert verdict.is_met is False


@pytest.mark.parametrize("samples", [{"ours": [12.0]}, {"ours": [12.0], "peer": [0.0]}])
def test_what_was_not_measured_is_neither_met_nor_missed(samples: dict[str, list[float]]) -> None:
    assert judge(block(**samples), Must(1.1, 1.0, ("peer",))).is_met is None
