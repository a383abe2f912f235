"""The screen of `top`, by tables: what is on it, that it fits, and that nothing a sidecar says moves the cursor."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.cli.sight import Answers, Denial, Expiry, Row, Sidecar, Sight, sight_of
from meshproxy.cli.top_screen import ORDERS, Look, lines_of

NOW = 1_800_000_000.0
CURVE = tuple(float(n % 8) for n in range(60))
ROWS = (
    Row("/web", "/api", "http", 67.44, 0.019, 0.0028, 0.428, 2.7, CURVE),
    Row("/orders", "/api", "http", 36.7, None, None, None, 0.0, CURVE),
    Row(
        "spiffe://partner.test/a/very/long/name/of/a/service", "/ledger", "tcp", 0.01, 0.5, 12.5, 70.0, 0.0, (0.0,) * 60
    ),
)
DENIALS = (
    Denial(
        NOW - 4,
        539,
        "api",
        "spiffe://mesh.test/web",
        "DELETE",
        "/fine",
        '/web asked for DELETE /fine, which no rule grants; the nearest: rule "web-reads" (/etc/api.toml:1) grants GET',
    ),
    Denial(NOW - 4000, 1, "db", "spiffe://mesh.test/shop", "", "", "no", "would_deny"),
)
EXPIRIES = (
    Expiry("leaf", "spiffe://mesh.test/web", -1.0),
    Expiry("leaf", "spiffe://mesh.test/api", 1800.0),
    Expiry("root", "CN=mesh root", 9e7),
)
BUSY = Sight(
    NOW,
    "mesh.test",
    (
        Sidecar("/api", "127.0.0.1:1", "serving"),
        Sidecar("/web", "127.0.0.1:2", "draining"),
        Sidecar("127.0.0.1:9", "127.0.0.1:9", "unreachable", "no sidecar answers"),
    ),
    ROWS,
    DENIALS,
    EXPIRIES,
    6,
)
SGR = re.compile(r"\x1b\[\d*m")


def test_a_busy_minute_in_eighty_columns() -> None:
    assert lines_of(BUSY, Look()) == [
        "meshproxy  mesh.test  3 sidecars                                    08:00:00 UTC",
        "serving      /api",
        "draining     /web",
        "unreachable  127.0.0.1:9  no sidecar answers",
        "",
        "104/s requests   1.2 % errors   2.7/s denied   6 connections",
        f"{' ▁▂▃▅▆▇█' * 7} ▁▂▃  last 60 s",
        "",
        "CALLER               SERVICE  RATE/s  ERRORS     p50     p99  DENIED  LAST 10 s",
        "/web                 /api       67.4   1.9 %  2.8 ms  428 ms     2.7  ▂▃▅▆▇█ ▁▂▃",
        "/orders              /api       36.7       -       -       -       -  ▂▃▅▆▇█ ▁▂▃",
        "..name/of/a/service  /ledger    <0.1  50.0 %  12.5 s  70.0 s       -",
        "",
        "REFUSED",
        '   4s ago    539x  /web  DELETE /fine  rule "web-reads" grants GET',
        "   1h ago      1x  /shop  a connection  no",
        "",
        "CERTIFICATES, THE FIRST TO END",
        "  expired  leaf          spiffe://mesh.test/web",
        "      30m  leaf          spiffe://mesh.test/api",
    ]


def test_nothing_going_on() -> None:
    quiet = Sight(NOW, "", (Sidecar("/api", "127.0.0.1:1", "serving"),))
    assert lines_of(quiet, Look(width=60)) == [
        "meshproxy  1 sidecar                            08:00:00 UTC",
        "serving      /api",
        "",
        "0/s requests   - errors   0/s denied   0 connections",
        "",
        "CALLER  SERVICE  RATE/s  ERRORS     p50     p99  DENIED",
        "nobody has called anybody in the last minute",
    ]


def test_nobody_answers_and_nothing_is_said_of_calls() -> None:
    gone = Sight(NOW, "", (Sidecar("127.0.0.1:9", "127.0.0.1:9", "unreachable", "no sidecar answers"),))
    assert not any("nobody" in line for line in lines_of(gone, Look()))


@pytest.mark.parametrize(
    ("order", "first"), [("r", "/web"), ("e", "..name/of/a/service"), ("l", "..name/of/a/service"), ("d", "/web")]
)
def test_keys_sort(order: str, first: str) -> None:
    lines = lines_of(BUSY, Look(order=order, is_live=True, height=24))
    assert lines[9].split("  ")[0] == first
    assert f"{order} {ORDERS[order][0]}*" in lines[-1]


@pytest.mark.parametrize("height", [10, 14, 24, 40])
@pytest.mark.parametrize("width", [40, 80, 120, 300])
def test_a_live_screen_is_as_high_as_the_terminal_and_says_what_is_left_out(width: int, height: int) -> None:
    many = replace(BUSY, rows=tuple(replace(ROWS[0], source=f"/caller-{n}") for n in range(1000)))
    lines = lines_of(many, Look(width, height, is_live=True))
    assert len(lines) == height
    assert lines[-1].startswith("q quits")
    if height >= 14:
        assert any(re.fullmatch(r"and 9\d\d more edges", line) for line in lines)


def test_colour_adds_colour_and_nothing_else() -> None:
    plain, coloured = (lines_of(BUSY, Look(colour=colour)) for colour in (False, True))
    assert [SGR.sub("", line).rstrip() for line in coloured] == plain
    assert "\x1b[31mexpired" in "".join(coloured).replace("  expired", "expired").replace("\x1b[31m  ", "\x1b[31m")


def test_without_unicode_the_curve_is_of_ascii() -> None:
    assert all(line.isascii() for line in lines_of(BUSY, Look(unicode=False)))


_TEXTS = st.text(max_size=60)
_NUMBERS = st.floats(0, 1e12)


@given(
    st.builds(
        Sight,
        st.floats(0, 4e9),
        _TEXTS,
        st.lists(
            st.builds(Sidecar, _TEXTS, _TEXTS, st.sampled_from(["serving", "refusing", "x\ny"]), _TEXTS), max_size=4
        ).map(tuple),
        st.lists(
            st.builds(
                Row,
                _TEXTS,
                _TEXTS,
                _TEXTS,
                _NUMBERS,
                st.none() | st.floats(0, 1),
                st.none() | _NUMBERS,
                st.none() | _NUMBERS,
                _NUMBERS,
                st.lists(st.floats(0, 1e9), min_size=60, max_size=60).map(tuple),
            ),
            max_size=5,
        ).map(tuple),
        st.lists(st.builds(Denial, _NUMBERS, st.integers(0, 10**9), *[_TEXTS] * 5), max_size=8).map(tuple),
        st.lists(st.builds(Expiry, _TEXTS, _TEXTS, st.floats(-1e9, 1e9)), max_size=5).map(tuple),
        st.integers(0, 10**9),
    ),
    st.integers(40, 200),
    st.integers(0, 60),
    st.sampled_from(sorted(ORDERS)),
)
def test_whatever_sidecars_say_fits_and_moves_no_cursor(sight: Sight, width: int, height: int, order: str) -> None:
    lines = lines_of(sight, Look(width, height, unicode=False, order=order, is_live=bool(height)))
    assert all(len(line) <= width for line in lines)
    assert all(" " <= character <= "~" for line in lines for character in line)
    assert not height or len(lines) <= height


def answers(**pages: Any) -> Answers:
    default: dict[str, Any] = {
        "mesh": {
            "now": NOW,
            "trust_domain": "mesh.test",
            "sidecars": [{"name": "/api", "id": "spiffe://mesh.test/api", "address": "a:1", "state": "serving"}],
        },
        "topology": {"elements": {"edges": []}},
        "series": {"columns": 60, "edges": []},
        "denials": {"denials": []},
        "certificates": {"certificates": []},
        "connections": {"connections": [{}, {}], "more": 3},
    }
    return Answers("a:1", "", **{name: json.dumps(page).encode() for name, page in (default | pages).items()})


def edge(reporter: str, *, number: str = "e1") -> dict[str, Any]:
    numbers = {"edge": number, "reporter": reporter, "protocol": "http", "rate": 1.0, "denied": 0.0}
    return {"data": {"source": "/web", "target": "/api", "mesh": numbers}}


def test_both_ends_of_an_edge_are_one_row_as_the_destination_tells_it() -> None:
    destination = answers(topology={"elements": {"edges": [edge("destination")]}})
    source = answers(topology={"elements": {"edges": [edge("source")]}})
    assert [row.reporter for row in sight_of([source, destination], NOW).rows] == ["destination"]
    assert [row.reporter for row in sight_of([source], NOW).rows] == ["source"]


def test_curves_are_put_where_they_belong() -> None:
    told = answers(
        topology={"elements": {"edges": [edge("destination")]}},
        series={
            "columns": 61,
            "edges": [{"edge": "e1", "points": [[0, 9, 0, 0, 0, 0, 0.1, 0], [60, 5, 0, 0, 0, 0, 0.1, 0]]}],
        },
    )
    [row] = sight_of([told], NOW).rows
    assert row.curve[-1] == 5
    assert sum(row.curve) == 5, "the first column is of more than a minute ago"


def test_the_same_root_of_two_sidecars_is_one_and_the_first_to_end_is_first() -> None:
    told = answers(
        certificates={
            "certificates": [
                {"role": "root", "subject": "CN=root", "seconds_left": 900.0},
                {"role": "leaf", "subject": "spiffe://mesh.test/api", "seconds_left": 9.0},
            ]
        }
    )
    assert [each.role for each in sight_of([told, told], NOW).expiries] == ["leaf", "root"]


@pytest.mark.parametrize("page", ["mesh", "topology", "series", "denials", "certificates", "connections"])
@pytest.mark.parametrize(
    "lie", [b"", b"[]", b"{}", b"<html>", b'{"now":"soon"}', b"\xff", b"{" * 100_000, b'{"x":' + b"[" * 100_000]
)
def test_of_one_that_lies_nothing_is_shown_but_that(page: str, lie: bytes) -> None:
    lying: dict[str, Any] = {page: lie}
    sight = sight_of([replace(answers(), **lying), answers()], NOW)
    assert [each.state for each in sight.sidecars] == ["unreachable", "serving"]
    assert sight.connections == 5
    assert sight.unreachable == 1
