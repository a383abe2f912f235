"""The tables of strictness: figures of what a runner said, and a verdict that is no better than they are."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from bench.strictness import LINES, Row, is_good, main, path_table, read_rows, table

OURS = [Row("a", "ok", "accept", "must"), Row("b", "ok", "reject", "must"), Row("c", "OVERSTRICT", "accept", "must")]
THEIRS = [Row("a", "ok", "accept", "must"), Row("b", "SMUGGLED", "reject", "must"), Row("c", "DIRTY", "accept", "must")]
FINE = Counter({"ok": 3})


def test_the_table_counts_what_it_says() -> None:
    lines = table({"us": OURS, "them": THEIRS}).splitlines()
    assert lines[0] == "| requests | us | them |"
    assert len(lines) == 2 + len(LINES)
    assert lines[2] == "| smuggled: more requests arrive than were sent | 0 | 1 |"
    assert "| safe | 3/3 | 1/3 |" in lines
    assert "| refused, where RFC 9112 says they must be | 1/1 | 0/1 |" in lines
    assert "| ordinary requests forwarded | 1/2 | 1/2 |" in lines
    assert path_table({"us": Counter(ok=2, RISK=1)}).splitlines()[2] == "| us | 0 | 1 | 0 |"


@pytest.mark.parametrize(
    ("rows", "tricks", "good"),
    [
        (OURS, FINE, True),
        (THEIRS, FINE, False),
        ([*OURS, Row("d", "LEAK", "either", "either")], FINE, False),
        ([*OURS, Row("d", "ok", "reject", "must", five_xx=True)], FINE, False),
        (OURS[1:], FINE, False),  # it forwards less than they do
        (OURS, Counter({"BYPASS": 1}), False),
    ],
)
def test_good_is_safe_and_as_willing_as_the_others(rows: list[Row], tricks: Counter[str], *, good: bool) -> None:
    assert is_good({"us": rows, "them": THEIRS}, {"us": tricks, "them": Counter({"BYPASS": 9})}) is good


def test_the_runners_report_is_read() -> None:
    row = {"id": "a", "verdict": "ok", "expect": "accept", "level": "must", "five_xx": False, "more": [1]}
    assert read_rows(json.dumps({"rows": [row], "tally": {"ok": 1}}).encode()) == [OURS[0]]
    trick = {"id": "a", "verdict": "BYPASS", "target": "/", "level": "rfc"}
    assert read_rows(json.dumps({"rows": [trick]}).encode())[0].verdict == "BYPASS"


def test_without_a_corpus_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--corpus", "/nowhere"]) == 2
    assert "no corpus in /nowhere" in capsys.readouterr().err
