from __future__ import annotations

from bench.markdown import render_markdown
from bench.results import Block, Must, Report, from_json, to_json
from bench.table import number, render_text

BESIDE_OTHERS = Block(
    row="tcp-keepalive",
    title="TCP mode",
    unit="us CPU/request",
    subject="meshproxy",
    samples={"meshproxy": [60, 66, 63], "haproxy": [50, 50, 60], "stunnel": [100, 110, 90]},
    floor=[40, 40, 40],
    musts=(Must(1.5, 1.0, ("ghostunnel",)), Must(0.9, 0.7, ("stunnel",)), Must(1.0, None, ("haproxy", "nginx"))),
    also={"requests/s": {"meshproxy": [15000, 15100, 15200]}},
    note="What one must know.",
)
BY_ITSELF = Block(
    row="decisions",
    title="one decision",
    unit="us/decision",
    subject="10,000 rules",
    samples={"10,000 rules": [2.5], "10 rules": [2.0]},
    musts=(Must(5.0, 2.0),),
)
REPORT = Report(
    date="2026-11-22 15:25 UTC",
    command="python -m bench",
    machine={"processor": "a fast one", "cores": "2"},
    versions={"meshproxy": "0.1.0"},
    options={"rounds": "3"},
    missing={"ghostunnel": "take a release"},
    blocks=[BESIDE_OTHERS, BY_ITSELF],
    failures={"lanes": "this version has no fast lane to turn off"},
)

TEXT = """\
                      median  (lowest - highest)         ratio  (lowest - highest)

tcp-keepalive: TCP mode (us CPU/request)
  meshproxy             63.0  (60.0 - 66.0)
  haproxy               50.0  (50.0 - 60.0)             1.20 x  (1.05 - 1.32)
  stunnel                100  (90.0 - 110)              0.60 x  (0.60 - 0.70)
  floor                 40.0  (40.0 - 40.0)             1.57 x  (1.50 - 1.65)
  must <= 1.50 x ghostunnel, goal 1.00: not measured (without ghostunnel)
  must <= 0.90 x stunnel, goal 0.70: 0.60 x, MET, goal reached
  must <= 1.00 x the best of haproxy, nginx: 1.20 x haproxy, MISSED (without nginx)
  What one must know.

decisions: one decision (us/decision)
  10,000 rules          2.50  (2.50 - 2.50)
  10 rules              2.00  (2.00 - 2.00)             1.25 x  (1.25 - 1.25)
  must <= 5.00, goal 2.00: 2.50, MET

lanes: NOT MEASURED, this version has no fast lane to turn off
ghostunnel was missing: take a release

machine   processor a fast one, cores 2
versions  meshproxy 0.1.0
options   rounds 3
run       2026-11-22 15:25 UTC, python -m bench"""

MARKDOWN = """\
| work | per | meshproxy | haproxy | stunnel | floor | bound |
| --- | --- | --- | --- | --- | --- | --- |
| TCP mode | us CPU/request | 63.0 | 50.0 (1.20 x) | 100 (0.60 x) | 40.0 (1.57 x) | \
must <= 1.50 x ghostunnel, goal 1.00: not measured (without ghostunnel)<br>\
must <= 0.90 x stunnel, goal 0.70: 0.60 x, MET, goal reached<br>\
must <= 1.00 x the best of haproxy, nginx: 1.20 x haproxy, MISSED (without nginx) |

| work | per | figures | bound |
| --- | --- | --- | --- |
| one decision | us/decision | 10,000 rules: 2.50, 10 rules: 2.00 (1.25 x) | must <= 5.00, goal 2.00: 2.50, MET |

- lanes: not measured, this version has no fast lane to turn off
- ghostunnel was missing: take a release
- machine: processor a fast one, cores 2
- versions: meshproxy 0.1.0
- options: rounds 3
- run: 2026-11-22 15:25 UTC, python -m bench"""


def test_the_table_for_a_terminal() -> None:
    assert render_text(REPORT) == TEXT


def test_the_tables_for_the_readme() -> None:
    assert render_markdown(REPORT) == MARKDOWN


def test_what_is_saved_is_what_was_measured() -> None:
    assert from_json(to_json(REPORT)) == REPORT


def test_figures_keep_three_digits_that_mean_something() -> None:
    figures = (0.5, 9.994, 12.34, 123.4, 12345.6, -15299.0)
    assert [number(each) for each in figures] == ["0.50", "9.99", "12.3", "123", "12,346", "-15,299"]
