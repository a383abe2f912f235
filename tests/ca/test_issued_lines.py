"""The record of earlier versions: every whole line is read, and what is torn or damaged is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from ca import issued_lines

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def line(number: int = 1) -> issued_lines.IssuedLine:
    return issued_lines.IssuedLine(
        at=NOW,
        kind="svid",
        id="spiffe://mesh.test/web",
        serial=f"{number:x}",
        fingerprint="ab" * 32,
        not_before=NOW,
        not_after=NOW + timedelta(days=1),
        issuer="0001-00000000",
        dns=("web.internal",),
        uid=1000,
    )


def text(*numbers: int) -> bytes:
    return b"".join(msgspec.json.encode(line(number)) + b"\n" for number in numbers)


def test_every_line_is_read_in_order() -> None:
    assert issued_lines.read(text(1, 2, 3)) == issued_lines.IssuedLines(tuple(map(line, (1, 2, 3))), ())


@pytest.mark.parametrize("keep", [1, 20, -2])
def test_a_torn_last_line_is_told(keep: int) -> None:
    found = issued_lines.read(text(1) + text(2).rstrip(b"\n")[:keep])
    assert found.lines == (line(1),)
    assert found.faults == ("line 2 is torn (a crash while it was written)",)


def test_a_damaged_line_spoils_no_other() -> None:
    found = issued_lines.read(text(1) + b"\xff{\n" + b"{}\n" + text(4))
    assert found.lines == (line(1), line(4))
    assert [fault.partition(":")[0] for fault in found.faults] == ["line 2 is damaged", "line 3 is damaged"]


def test_a_line_that_lacks_only_its_end_is_read() -> None:
    assert issued_lines.read(text(1).rstrip(b"\n")).lines == (line(1),)
