"""The ledger on disk: whole transactions, nothing taken back, and a state that the events alone give again."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ca import events
from ca.audit import audit
from ca.events import By, Entry, Head, What
from ca.fold import ImpossibleEvent, fold
from ca.ledger import LedgerBusy, LedgerError, LedgerFull
from ca.rows import KINDS, Issued, MemoryTables, Row, Token
from ca.sqlite_ledger import SqliteLedger, open_ledger
from tests.ca import histories
from tests.ca.histories import NOW, beginning, issue, renew, token, use

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    with closing(open_ledger(tmp_path / "ledger", begin=beginning())) as opened:
        yield opened


def write(ledger: SqliteLedger, *added: events.Event) -> None:
    with ledger.writing() as transaction:
        for event in added:
            transaction.append(event)


def count(ledger: SqliteLedger) -> int:
    with ledger.reading() as view:
        return view.head().seq


def rows(ledger: SqliteLedger) -> dict[type[Row], list[Row]]:
    with ledger.reading() as view:
        return {kind: list(view.every(kind)) for kind in KINDS}


def test_what_is_written_is_read_back_from_a_private_file(ledger: SqliteLedger, tmp_path: Path) -> None:
    write(ledger, issue("1"), renew("1", "2"))
    with ledger.reading() as view:
        assert [entry.event for entry in view.entries()] == [*beginning(), issue("1"), renew("1", "2")]
        assert [entry.seq for entry in view.entries(after=4)] == [5, 6]
        assert view.entry(5) == Entry(5, issue("1"))
        assert view.entry(7) is None
        assert [each.serial for each in view.leaves(id=histories.WEB, alive_at=NOW)] == ["1", "2"]
        assert view.leaves(id="spiffe://mesh.test/other") == []
        assert view.leaves(alive_at=NOW + 2 * histories.DAY) == []
        head = Head()
        for link in view.links():
            assert link.previous == head.hash
            head = events.chained(head, link.body)
            assert link.hash == head.hash
        assert view.head() == head
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_what_is_committed_survives_a_power_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as SQLite can see to it; tests/ca/conftest.py has seen that this is what everybody else gets."""
    monkeypatch.setattr("ca.sqlite_ledger._SYNCHRONOUS", "FULL")
    with closing(open_ledger(tmp_path / "durable", begin=beginning())) as opened:
        assert opened._connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert opened._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_transaction_that_fails_leaves_nothing(ledger: SqliteLedger) -> None:
    def fail() -> None:
        with ledger.writing() as transaction:
            transaction.append(issue("1"))
            transaction.report(5, 1)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with pytest.raises(ImpossibleEvent):
        write(ledger, issue("1"), issue("1"))
    assert count(ledger) == 4
    assert rows(ledger)[Issued] == []
    with ledger.reading() as view:
        assert view.reported() == {}


def test_notes_that_are_no_events(ledger: SqliteLedger) -> None:
    with ledger.writing() as transaction:
        for sequence in (3, 7, 5):
            transaction.report(5, sequence)
        assert [transaction.wrong_secret("t1") for _ in range(3)] == [1, 2, 3]
        assert transaction.wrong_secret("t2") == 1
    with ledger.reading() as view:
        assert view.reported() == {5: 7}
    assert count(ledger) == 4


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET body = '{}' WHERE seq = 2",
        "DELETE FROM events WHERE seq = 4",
        "INSERT OR REPLACE INTO events (seq, body, prev_hash, hash) VALUES (2, '{}', x'', x'')",
        "INSERT INTO events (seq, body, prev_hash, hash) VALUES (9, '{}', x'', x'')",
    ],
)
def test_events_are_append_only_even_at_the_sql_shell(tmp_path: Path, ledger: SqliteLedger, statement: str) -> None:
    with (
        closing(sqlite3.connect(tmp_path / "ledger")) as shell,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        shell.execute(statement)
    assert count(ledger) == 4


def test_a_serial_and_a_use_are_unique_even_without_the_fold(tmp_path: Path, ledger: SqliteLedger) -> None:
    write(ledger, token(), issue("1", token="t1"), use())
    with closing(sqlite3.connect(tmp_path / "ledger")) as shell:
        for event in (issue("1"), use()):
            with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
                shell.execute(
                    "INSERT INTO events (seq, body, prev_hash, hash) VALUES (8, ?, x'', x'')",
                    (events.encode(event).decode(),),
                )


def test_columns_for_people_come_from_the_event_itself(tmp_path: Path, ledger: SqliteLedger) -> None:
    write(ledger, token(), issue("1", token="t1"))
    with closing(sqlite3.connect(tmp_path / "ledger")) as shell:
        query = "SELECT kind, id, issuer, serial, spki, not_after, requester FROM events WHERE seq = 6"
        assert shell.execute(query).fetchone() == (
            *("issue", histories.WEB, "aa", "1", "k1"),
            *("2026-11-23T12:00:00Z", "token t1"),
        )


def fill_up(ledger: SqliteLedger) -> None:
    """Let SQLite find its disk full after a few more pages, as its own error."""
    connection = ledger._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")


def test_a_full_disk_is_one_sentence_and_loses_nothing(ledger: SqliteLedger) -> None:
    fill_up(ledger)
    written = iter(range(1, 1000))

    def write_on() -> None:
        for number in written:
            write(ledger, issue(f"{number:x}"))

    with pytest.raises(LedgerFull, match=r"no space left on its disk: nothing was recorded or issued"):
        write_on()
    next_number = next(written)
    assert count(ledger) == 4 + next_number - 2  # the one before did not fit
    with ledger.reading() as view:
        assert list(audit(view)) == []
    ledger._connection.execute("PRAGMA max_page_count = 100000")
    write(ledger, issue(f"{next_number:x}"))


def test_who_waits_too_long_is_told(tmp_path: Path, ledger: SqliteLedger) -> None:
    with closing(open_ledger(tmp_path / "ledger", patience=0.05)) as second, ledger.writing() as transaction:
        transaction.append(issue("1"))
        with pytest.raises(LedgerBusy, match="locked by another process"):
            write(second, issue("2"))
        with second.reading() as view:  # readers never wait, and see nothing of it
            assert view.head().seq == 4
    assert count(ledger) == 5


def test_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with pytest.raises(LedgerError, match=r"is missing; restore the CA from a backup"):
        open_ledger(path)
    path.write_bytes(b"nonsense" * 1000)
    with pytest.raises(LedgerError, match="no ledger, or damaged"):
        open_ledger(path)
    path.write_bytes(b"")
    with pytest.raises(LedgerError, match="was never finished"):
        open_ledger(path)
    path.unlink()
    (tmp_path / "elsewhere").touch()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LedgerError, match="symbolic link"):
        open_ledger(path, begin=beginning())
    path.unlink()
    with closing(open_ledger(path, begin=beginning())) as made:
        made._connection.execute("PRAGMA user_version = 2")
    with pytest.raises(LedgerError, match="made by a later meshproxy"):
        open_ledger(path)


def test_a_beginning_is_whole_or_is_begun_again(tmp_path: Path) -> None:
    with pytest.raises(ImpossibleEvent):
        open_ledger(tmp_path / "ledger", begin=[*beginning(), histories.init()])
    with closing(open_ledger(tmp_path / "ledger", begin=beginning())) as made:
        assert count(made) == 4
    with closing(open_ledger(tmp_path / "ledger", begin=[*beginning(), issue()])) as opened:
        assert count(opened) == 4


def test_a_copy_is_a_ledger_of_one_moment_in_one_file(tmp_path: Path, ledger: SqliteLedger) -> None:
    write(ledger, issue("1"))
    (tmp_path / "copies").mkdir()
    ledger.copy_to(tmp_path / "copies/copy")
    write(ledger, issue("2"))
    assert [path.name for path in (tmp_path / "copies").iterdir()] == ["copy"]
    with closing(open_ledger(tmp_path / "copies/copy")) as copy:
        assert count(copy) == 5
    with pytest.raises(FileExistsError):
        ledger.copy_to(tmp_path / "copies/copy")


def test_many_processes_write_one_chain(tmp_path: Path, ledger: SqliteLedger) -> None:
    script = (
        "import sys, pathlib; from tests.ca.histories import issue; from ca.sqlite_ledger import open_ledger\n"
        "ledger = open_ledger(pathlib.Path(sys.argv[1]))\n"
        "for n in range(15):\n"
        "    with ledger.writing() as transaction: transaction.append(issue(f'{sys.argv[2]}{n:x}'))\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "ledger"), str(number)]) for number in (1, 2, 3)
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert count(ledger) == 4 + 45
    with ledger.reading() as view:
        assert list(audit(view)) == []


def test_a_writer_killed_in_the_middle_leaves_whole_transactions(tmp_path: Path, ledger: SqliteLedger) -> None:
    """The child dies by its own hand after its nth statement; SQLite's own writes happen in between."""
    for step in range(2, 12):
        child = os.fork()
        if child == 0:
            try:
                _die_after(step, tmp_path / "ledger", serial=f"{step:x}")
            finally:
                os._exit(1)
        os.waitpid(child, 0)
        with closing(open_ledger(tmp_path / "ledger")) as opened, opened.reading() as view:
            assert list(audit(view)) == []
            issued = {each.serial for each in view.every(Issued)}
            assert {f"t{serial}" for serial in issued} == {each.token for each in view.every(Token)}


def _die_after(step: int, path: Path, *, serial: str) -> None:
    left = [step]

    def count_down(_statement: str) -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), 9)

    ledger = open_ledger(path)
    ledger._connection.set_trace_callback(count_down)
    write(ledger, token(f"t{serial}"), issue(serial, token=f"t{serial}"), use(f"t{serial}", serial=serial))


# A history of steps that make sense now and then: what cannot follow must be refused by both, alike.
_SERIALS = st.sampled_from([f"{number:x}" for number in range(1, 9)])
_SLOTS = st.sampled_from(["0001-aa", "0002-bb", "0003-cc"])
_WHATS = st.sampled_from(list(What))
_TOKENS = st.sampled_from(["t1", "t2"])
_STEPS: st.SearchStrategy[events.Event] = st.one_of(
    st.builds(issue, _SERIALS),
    st.builds(issue, _SERIALS),
    st.builds(renew, _SERIALS, _SERIALS),
    st.builds(renew, _SERIALS, _SERIALS),
    st.builds(histories.revoke, _SERIALS),
    st.builds(histories.revoke, st.just(histories.WEB), by=st.just(By.ID)),
    st.builds(token, _TOKENS, uses=st.integers(1, 2)),
    st.builds(use, _TOKENS, st.integers(1, 2), serial=_SERIALS),
    st.builds(events.TokenRevoke, at=st.just(NOW), token=_TOKENS),
    st.builds(events.TokenLock, at=st.just(NOW), token=_TOKENS),
    st.builds(
        events.Suspect,
        at=st.just(NOW),
        lineage=st.integers(4, 8),
        id=st.just(histories.WEB),
        issuer=st.just("aa"),
        serial=_SERIALS,
        why=st.just("superseded"),
    ),
    st.builds(histories.prepare, _SLOTS),
    st.builds(histories.prepare, _SLOTS, what=st.just(What.INTERMEDIATE), root=st.just("root-aa")),
    st.builds(histories.activate, _SLOTS, what=_WHATS),
    st.builds(histories.retire, _SLOTS, what=_WHATS),
    st.builds(histories.taint, _SLOTS, what=_WHATS),
    st.builds(histories.bundle, st.integers(2, 6)),
    st.builds(events.PublishCrl, at=st.just(NOW), number=st.integers(1, 4)),
    st.builds(events.PublishDenyList, at=st.just(NOW), sequence=st.integers(1, 4)),
    st.builds(
        events.Restore,
        at=st.just(NOW),
        taken=st.just(NOW),
        bundle_sequence=st.integers(5, 9),
        deny_list_sequence=st.integers(5, 9),
        crl_number=st.integers(5, 9),
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(_STEPS, max_size=30))
def test_the_state_can_be_told_again_from_the_events_alone(
    tmp_path_factory: pytest.TempPathFactory, history: list[events.Event]
) -> None:
    directory = tmp_path_factory.mktemp("history")
    with closing(open_ledger(directory / "ledger", begin=beginning())) as ledger:
        for event in history:
            before = rows(ledger)
            try:
                write(ledger, event)
            except ImpossibleEvent:
                assert rows(ledger) == before
        live = rows(ledger)
        told = MemoryTables()
        with ledger.reading() as view:
            fold(told, view.entries())
            assert list(audit(view)) == []
        assert {kind: told.every(kind) for kind in KINDS} == live
        ledger.rebuild()
        assert rows(ledger) == live
