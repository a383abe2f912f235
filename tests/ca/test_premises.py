"""The directory of a CA: where a ledger may lie, and how the record of an earlier version becomes one."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

from ca import TrustDomain, events, occupancy
from ca.audit import audit
from ca.authority import open_authority
from ca.events import What
from ca.founding import initialise
from ca.issued_lines import IssuedLine
from ca.issuing import SvidRequest, issue_svid
from ca.ledger import LedgerError
from ca.premises import AuthorityError, ledger_of
from ca.profiles import Names
from ca.rows import AuthorityState, State
from ca.spiffe_id import complete
from tests.crashes import killed_at_every_step

if TYPE_CHECKING:
    from pathlib import Path

HOME = TrustDomain.parse("mesh.test")
NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


def line(slot: str, number: int, kind: str = "svid") -> bytes:
    issued = IssuedLine(
        at=NOW,
        kind="svid" if kind == "svid" else "root",
        id="spiffe://mesh.test/web",
        serial=f"{number:x}",
        fingerprint="ab" * 32,
        not_before=NOW,
        not_after=NOW + timedelta(days=1),
        issuer=slot,
        dns=("web.internal",),
        uid=1000,
    )
    return msgspec.json.encode(issued) + b"\n"


def earlier(directory: Path, *numbers: int) -> str:
    """A CA as earlier versions made it: no ledger, a line for each certificate. Returns the slot's name."""
    made = initialise(directory, HOME, passphrase=None, now=NOW)
    (directory / "ledger.sqlite3").unlink()
    (directory / "ledger.head").unlink()
    lines = [line(made.slot, 1000, "root"), *(line(made.slot, number) for number in numbers)]
    (directory / "issued.jsonl").write_bytes(b"".join(lines))
    return made.slot


def serials(directory: Path) -> list[str]:
    with ledger_of(directory) as ledger, ledger.reading() as view:
        assert list(audit(view)) == []
        return [each.serial for each in view.leaves()]


def test_the_record_of_an_earlier_version_is_taken_over_once_and_kept_aside(tmp_path: Path) -> None:
    slot = earlier(tmp_path / "ca", 1, 2, 3)
    opened = open_authority(tmp_path / "ca", passphrase=None)
    with ledger_of(tmp_path / "ca") as ledger, ledger.reading() as view:
        first, second = view.leaves()[:2]
        assert (first.serial, first.issuer, first.not_after) == ("1", opened.key_id, NOW + timedelta(days=1))
        assert (first.lineage, second.lineage) == (first.seq, second.seq)
        entry = view.entry(first.seq)
        assert entry is not None
        assert isinstance(entry.event, events.Issue)
        assert (entry.event.at, entry.event.uid, entry.event.dns) == (NOW, 1000, ("web.internal",))
        states = [(each.what, each.slot, each.state) for each in view.every(AuthorityState)]
        assert states == [(what, slot, State.ACTIVE) for what in (What.INTERMEDIATE, What.ROOT)]
        (taken,) = (each.event for each in view.entries() if isinstance(each.event, events.TakeOver))
        assert (taken.lines, taken.faults) == (4, ())
    assert not (tmp_path / "ca/issued.jsonl").exists()
    assert (tmp_path / "ca/issued.jsonl.taken-over").read_bytes().count(b"\n") == 4
    issue_svid(opened, SvidRequest(Names(complete("/web", HOME))), now=NOW)
    assert len(serials(tmp_path / "ca")) == 4


def test_what_nobody_can_read_is_noted_and_kept(tmp_path: Path) -> None:
    slot = earlier(tmp_path / "ca", 1)
    with (tmp_path / "ca/issued.jsonl").open("ab") as record:
        record.write(b"nonsense\n" + line("0007-gone", 2) + line(slot, 3)[:40])
    assert serials(tmp_path / "ca") == ["1"]
    with ledger_of(tmp_path / "ca") as ledger, ledger.reading() as view:
        (taken,) = (each.event for each in view.entries() if isinstance(each.event, events.TakeOver))
    assert taken.faults[0].startswith("line 3 is damaged: ")
    assert taken.faults[1:] == (
        "line 5 is torn (a crash while it was written)",
        "serial 2 is of 0007-gone, which is not here",
    )
    assert b"nonsense" in (tmp_path / "ca/issued.jsonl.taken-over").read_bytes()


def test_what_an_earlier_version_issued_meanwhile_is_added(tmp_path: Path) -> None:
    slot = earlier(tmp_path / "ca", 1)
    assert serials(tmp_path / "ca") == ["1"]
    (tmp_path / "ca/issued.jsonl").write_bytes(line(slot, 1) + line(slot, 2))
    assert serials(tmp_path / "ca") == ["1", "2"]
    assert {path.name for path in (tmp_path / "ca").glob("issued*")} == {
        "issued.jsonl.taken-over",
        "issued.jsonl.taken-over-2",
    }


@pytest.mark.long
def test_a_kill_at_any_step_of_taking_over_loses_no_line_and_adds_none_twice(tmp_path: Path) -> None:
    earlier(tmp_path / "earlier", 1, 2, 3)

    def take_over() -> None:
        with ledger_of(tmp_path / "ca"):
            pass

    shutil.copytree(tmp_path / "earlier", tmp_path / "ca")
    for _ in killed_at_every_step(take_over):
        assert serials(tmp_path / "ca") == ["1", "2", "3"]
        shutil.rmtree(tmp_path / "ca")
        shutil.copytree(tmp_path / "earlier", tmp_path / "ca")


def test_a_ca_without_its_ledger_issues_nothing(tmp_path: Path) -> None:
    """A new, empty ledger would have forgotten every revocation."""
    initialise(tmp_path / "ca", HOME, passphrase=None, now=NOW)
    (tmp_path / "ca/ledger.sqlite3").unlink()
    with pytest.raises(LedgerError, match="is missing; restore the CA from a backup"):
        open_authority(tmp_path / "ca", passphrase=None)


def test_a_record_without_an_active_slot_is_refused(tmp_path: Path) -> None:
    slot = earlier(tmp_path / "ca", 1)
    (tmp_path / "ca/authorities" / slot / "state").write_text("old\n")
    with pytest.raises(AuthorityError, match="no active authority"):
        serials(tmp_path / "ca")
    (tmp_path / "ca/issued.jsonl").unlink()
    (tmp_path / "ca/issued.jsonl").symlink_to("/etc/passwd")
    with pytest.raises(AuthorityError, match="symbolic link"):
        serials(tmp_path / "ca")


def test_a_disk_that_machines_share_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    initialise(tmp_path / "ca", HOME, passphrase=None, now=NOW)
    (tmp_path / "mounts").write_text(
        f"1 0 0:1 / / rw - ext4 /dev/sda rw\n2 1 0:2 / {tmp_path} rw - nfs4 server:/x rw\n"
    )
    monkeypatch.setattr(occupancy, "_MOUNTS", tmp_path / "mounts")
    with pytest.raises(AuthorityError, match=r"a file system that machines share \(nfs4\)"):
        open_authority(tmp_path / "ca", passphrase=None)
