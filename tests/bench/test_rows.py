from __future__ import annotations

import pytest

from bench.processes import BenchError
from bench.rows import ROWS, select_rows


def test_without_a_choice_every_row_is_run() -> None:
    assert select_rows("") == list(ROWS.values())


def test_rows_are_run_once_each_in_the_order_chosen() -> None:
    names = [row.name for row in select_rows("http-bulk, tcp-keepalive,http-bulk,")]
    assert names == ["http-bulk", "tcp-keepalive"]


def test_a_wrong_name_is_told_with_the_right_ones() -> None:
    with pytest.raises(BenchError, match=r"no row is called http-bilk; the rows are tcp-keepalive, .*http-fairness$"):
        select_rows("tcp-keepalive,http-bilk")
