"""The ledger: one whole line per certificate, through torn lines, full disks and many writers."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from ca import ledger, storage

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def issuance(number: int = 1) -> ledger.Issuance:
    return ledger.Issuance(
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


def test_what_is_appended_is_read_back_in_order_from_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "issued.jsonl"
    ledger.append(path, issuance(1), issuance(2))
    ledger.append(path, issuance(3))
    assert ledger.read(path) == ledger.Ledger(tuple(map(issuance, (1, 2, 3))), ())
    assert path.read_bytes().count(b"\n") == 3
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("keep", [1, 20, -2, -1])
def test_a_torn_last_line_is_reported_and_spoils_nothing_written_after_it(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "issued.jsonl"
    ledger.append(path, issuance(1), issuance(2))
    first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(first + b"\n" + second[:keep])
    found = ledger.read(path)
    assert found.issuances == (issuance(1),)
    assert found.faults == ("line 2 is torn (a crash while it was written)",)
    ledger.append(path, issuance(3))
    found = ledger.read(path)
    assert found.issuances == (issuance(1), issuance(3))
    assert len(found.faults) == 1
    assert found.faults[0].startswith("line 2 is damaged")


def test_a_line_that_lacks_only_its_end_is_still_read(tmp_path: Path) -> None:
    path = tmp_path / "issued.jsonl"
    ledger.append(path, issuance(1))
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert ledger.read(path).issuances == (issuance(1),)
    ledger.append(path, issuance(2))
    assert ledger.read(path) == ledger.Ledger((issuance(1), issuance(2)), ())


def test_a_write_that_fails_leaves_the_ledger_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "issued.jsonl"
    ledger.append(path, issuance(1))
    before = path.read_bytes()

    def half_and_full(descriptor: int, content: bytes) -> None:
        os.write(descriptor, content[:50])
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(storage, "write_all", half_and_full)
    with pytest.raises(OSError, match="No space"):
        ledger.append(path, issuance(2))
    assert path.read_bytes() == before


def test_a_link_planted_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "issued.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        ledger.append(tmp_path / "issued.jsonl", issuance())


def test_many_processes_write_whole_lines(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from tests.ca.test_ledger import issuance; from ca import ledger\n"
        "for n in range(25): ledger.append(pathlib.Path(sys.argv[1]), issuance(int(sys.argv[2]) * 100 + n))"
    )
    path = tmp_path / "issued.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", script, str(path), str(number)]) for number in range(1, 4)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    found = ledger.read(path)
    assert found.faults == ()
    assert {each.serial for each in found.issuances} == {f"{w * 100 + n:x}" for w in range(1, 4) for n in range(25)}
