from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.telemetry.access import ConnectionLine, Stamp, in_words, make_access_log, present_time, timestamp
from meshproxy.telemetry.events import LogStyle

if TYPE_CHECKING:
    from collections.abc import Sequence

HOSTILE = st.text(st.characters(codec="utf-8"), max_size=60)
COUNT = st.integers(0, 1 << 60)
LINES = st.builds(
    ConnectionLine,
    ts=HOSTILE,
    listener=HOSTILE,
    direction=st.sampled_from(["inbound", "outbound"]),
    id=HOSTILE,
    end=HOSTILE,
    peer=HOSTILE,
    caller=HOSTILE,
    decision=HOSTILE,
    rule=HOSTILE,
    upstream=HOSTILE,
    upstream_id=HOSTILE,
    bytes_in=COUNT,
    bytes_out=COUNT,
    duration_ms=st.floats(0, 1e9),
    detail=HOSTILE,
)
LINE = ConnectionLine(
    ts="2026-06-01T12:00:00.000Z",
    listener="api",
    direction="inbound",
    id="abc-1",
    end="clean",
    peer="10.0.0.9:4711",
    caller="spiffe://mesh.test/web",
    decision="allow",
    rule="web",
    upstream="127.0.0.1:8080",
    bytes_in=10,
    bytes_out=20,
    duration_ms=1.25,
)


class Kept:
    """Stands for a LogWriter."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def put(self, line: bytes) -> None:
        self.lines.append(line)

    put_alone = put

    def put_all_alone(self, lines: Sequence[bytes]) -> None:
        self.lines += lines


def written(line: ConnectionLine, style: LogStyle) -> bytes:
    kept = Kept()
    make_access_log(kept, style)(line)  # type: ignore[arg-type]  # all it asks of a writer
    (only,) = kept.lines
    return only


@given(LINES)
def test_a_json_line_is_one_line_and_decodes_to_what_was_told(line: ConnectionLine) -> None:
    encoded = written(line, LogStyle.JSON)
    assert encoded.count(b"\n") == 1
    assert encoded.endswith(b"\n")
    assert b"\x1b" not in encoded
    assert msgspec.json.decode(encoded, type=ConnectionLine) == line


def test_a_json_line_names_its_kind_and_leaves_out_what_is_not_known() -> None:
    decoded = msgspec.json.decode(written(LINE, LogStyle.JSON))
    assert decoded["event"] == "connection"
    assert "upstream_id" not in decoded
    assert "detail" not in decoded


@given(LINES)
def test_the_console_form_is_one_line_whatever_is_in_it(line: ConnectionLine) -> None:
    text = written(line, LogStyle.CONSOLE).decode()
    assert text.endswith("\n")
    assert text[:-1].isprintable()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {},
            "inbound  api: spiffe://mesh.test/web -> 127.0.0.1:8080 allow by web | 10 B in, 20 B out, 1.2 ms | clean",
        ),
        (
            {"decision": "deny", "rule": "", "upstream": "", "end": "denied", "detail": "no_rule"},
            "inbound  api: spiffe://mesh.test/web -> - deny | 10 B in, 20 B out, 1.2 ms | denied (no_rule)",
        ),
        (
            {
                "direction": "outbound",
                "caller": "",
                "decision": "",
                "rule": "",
                "upstream_id": "spiffe://mesh.test/ledger",
            },
            "outbound api: 10.0.0.9:4711 -> spiffe://mesh.test/ledger | 10 B in, 20 B out, 1.2 ms | clean",
        ),
    ],
)
def test_the_console_form_tells_who_where_decision_bytes_and_end(changes: dict[str, str], told: str) -> None:
    assert in_words(msgspec.structs.replace(LINE, **changes)) == f"2026-06-01T12:00:00.000Z {told}"


def test_a_caller_with_an_endless_name_cannot_push_the_end_off_the_line() -> None:
    line = msgspec.structs.replace(LINE, caller="spiffe://mesh.test/" + "a" * 2000, end="denied")
    told = in_words(line)
    assert told.endswith("| denied")
    assert len(told) < 1200


def test_times_are_utc_with_milliseconds() -> None:
    assert timestamp(datetime(2026, 6, 1, 12, 0, 0, 123456, UTC)) == "2026-06-01T12:00:00.123Z"
    assert abs(datetime.fromisoformat(present_time()) - datetime.now(UTC)) < timedelta(seconds=5)


@given(st.lists(st.integers(0, 4_000_000_000_000), min_size=1, max_size=5))
def test_the_present_is_written_like_any_other_time(milliseconds: list[int]) -> None:
    """Also when it jumps back and forth, within a second and beyond."""
    moments = [now / 1000 + 0.0004 for now in milliseconds]
    stamp = Stamp(iter(moments).__next__)
    for moment in moments:
        assert stamp() == timestamp(datetime.fromtimestamp(moment, UTC))
