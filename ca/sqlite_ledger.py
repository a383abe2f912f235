"""The ledger on the CA's own disk: one SQLite file.

Write-ahead log, so that readers never wait; `synchronous=FULL`, because with NORMAL a power loss may take back what was
committed, and a certificate would be out without its row; `BEGIN IMMEDIATE`, so that what a transaction read is still
so when it writes. Events are append-only by trigger, serials and uses of tokens unique by index: even a hand at the
SQL shell is stopped, and what gets past that the hash chain shows.

Every row is kept as JSON; the columns that are searched are computed from it by SQLite and cannot disagree with it.

Never open the file in this process by any other means than SQLite's: closing it would drop SQLite's locks (POSIX locks
belong to the process, not to the descriptor). And never carry an open ledger across a fork.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

import msgspec

from ca import events, fold, rows
from ca.events import Entry, Head
from ca.ledger import LedgerBusy, LedgerError, LedgerFull, Link
from ca.rows import Issued, Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from ca.rows import R

PATIENCE: Final = 10.0  # seconds to wait for another writer; a transaction takes milliseconds
_VERSION: Final = 1  # of the schema
_SYNCHRONOUS: Final = "FULL"

_SCHEMA: Final = """
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    body TEXT NOT NULL,
    prev_hash BLOB NOT NULL,
    hash BLOB NOT NULL,
    at TEXT AS (json_extract(body, '$.at')),
    kind TEXT AS (json_extract(body, '$.kind')),
    id TEXT AS (json_extract(body, '$.id')),
    issuer TEXT AS (json_extract(body, '$.issuer')),
    serial TEXT AS (json_extract(body, '$.serial')),
    spki TEXT AS (json_extract(body, '$.spki')),
    not_before TEXT AS (json_extract(body, '$.not_before')),
    not_after TEXT AS (json_extract(body, '$.not_after')),
    token TEXT AS (json_extract(body, '$.token')),
    use INTEGER AS (json_extract(body, '$.use')),
    requester TEXT AS (coalesce(
        'token ' || json_extract(body, '$.token'),
        'serial ' || json_extract(body, '$.previous_serial'),
        'uid ' || json_extract(body, '$.uid'))),
    peer TEXT AS (json_extract(body, '$.peer'))
);
CREATE UNIQUE INDEX one_certificate_per_serial ON events (issuer, serial) WHERE kind IN ('issue', 'renew');
CREATE UNIQUE INDEX one_certificate_per_use ON events (token, use) WHERE kind = 'token-use';
CREATE TRIGGER events_follow_one_another BEFORE INSERT ON events
WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM events)
BEGIN SELECT raise(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER events_are_never_changed BEFORE UPDATE ON events
BEGIN SELECT raise(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER events_are_never_removed BEFORE DELETE ON events
BEGIN SELECT raise(ABORT, 'the ledger is append-only'); END;

CREATE TABLE issued (
    issuer TEXT, serial TEXT, row TEXT NOT NULL,
    seq INTEGER AS (json_extract(row, '$.seq')),
    id TEXT AS (json_extract(row, '$.id')),
    not_after TEXT AS (json_extract(row, '$.not_after')),
    PRIMARY KEY (issuer, serial)
) WITHOUT ROWID;
CREATE INDEX issued_by_id ON issued (id, seq);
CREATE INDEX issued_by_end ON issued (not_after);
CREATE TABLE lineages (lineage INTEGER PRIMARY KEY, row TEXT NOT NULL);
CREATE TABLE tokens (token TEXT, row TEXT NOT NULL, PRIMARY KEY (token)) WITHOUT ROWID;
CREATE TABLE redemptions (token TEXT, use INTEGER, row TEXT NOT NULL, PRIMARY KEY (token, use)) WITHOUT ROWID;
CREATE TABLE revocations ("by" TEXT, issuer TEXT, subject TEXT, row TEXT NOT NULL,
    PRIMARY KEY ("by", issuer, subject)) WITHOUT ROWID;
CREATE TABLE authorities (what TEXT, slot TEXT, row TEXT NOT NULL, PRIMARY KEY (what, slot)) WITHOUT ROWID;
CREATE TABLE sequences (name TEXT, row TEXT NOT NULL, PRIMARY KEY (name)) WITHOUT ROWID;

CREATE TABLE reports (lineage INTEGER PRIMARY KEY, sequence INTEGER NOT NULL);
CREATE TABLE wrong_secrets (token TEXT, tried INTEGER NOT NULL, PRIMARY KEY (token)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class _Table:
    """The statements for one kind of row."""

    get: str
    every: str
    put: str
    clear: str
    decoder: msgspec.json.Decoder[Row]


def _table(name: str, kind: type[Row]) -> _Table:
    keys = [f'"{column}"' for column in kind.KEY]
    listed, where = ", ".join(keys), " AND ".join(f"{key} = ?" for key in keys)
    marks = ", ".join("?" for _ in keys)
    return _Table(  # the names are those above, never anybody's text
        get=f"SELECT row FROM {name} WHERE {where}",  # noqa: S608
        every=f"SELECT row FROM {name} ORDER BY {listed}",  # noqa: S608
        put=f"INSERT OR REPLACE INTO {name} ({listed}, row) VALUES ({marks}, ?)",  # noqa: S608
        clear=f"DELETE FROM {name}",  # noqa: S608
        decoder=msgspec.json.Decoder(kind),
    )


_TABLES: Final[Mapping[type[Row], _Table]] = {
    kind: _table(name, kind)
    for name, kind in (
        ("issued", Issued),
        ("lineages", rows.Lineage),
        ("tokens", rows.Token),
        ("redemptions", rows.Redemption),
        ("revocations", rows.Revocation),
        ("authorities", rows.AuthorityState),
        ("sequences", rows.Sequence),
    )
}


class SqliteLedger:
    """A `ledger.Ledger` in one file. Use `open_ledger`."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection

    def __repr__(self) -> str:
        return f"<SqliteLedger {self._path}>"

    @contextmanager
    def reading(self) -> Iterator[_SqliteTransaction]:
        """See `ledger.Ledger.reading`."""
        with _told(self._path):
            self._connection.execute("BEGIN")
            try:
                yield _SqliteTransaction(self._connection)
            finally:
                self._connection.execute("ROLLBACK")

    @contextmanager
    def writing(self) -> Iterator[_SqliteTransaction]:
        """See `ledger.Ledger.writing`."""
        with _told(self._path), _transaction(self._connection):
            yield _SqliteTransaction(self._connection)

    def rebuild(self) -> None:
        """See `ledger.Ledger.rebuild`."""
        with self.writing() as transaction:
            for table in _TABLES.values():
                self._connection.execute(table.clear)
            fold.fold(transaction, transaction.entries())

    def copy_to(self, target: Path) -> None:
        """Write all of one moment into a new file (0600), while others go on writing. Raises LedgerError, OSError."""
        _make_private(target)
        with _told(target):
            copy = sqlite3.connect(target, isolation_level=None)
            try:
                self._connection.backup(copy)
                # A lone file: the copy is to be packed, and a log beside it would be forgotten.
                copy.execute("PRAGMA journal_mode = DELETE").fetchall()
            finally:
                copy.close()

    def close(self) -> None:
        """See `ledger.Ledger.close`."""
        self._connection.close()


class _SqliteTransaction:
    """A `ledger.Transaction`; for `reading` it is handed out as a View."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def get(self, kind: type[R], *key: str | int) -> R | None:
        table = _TABLES[kind]
        found = self._connection.execute(table.get, key).fetchone()
        return None if found is None else cast("R", table.decoder.decode(found[0]))

    def every(self, kind: type[R]) -> list[R]:
        table = _TABLES[kind]
        return [cast("R", table.decoder.decode(text)) for (text,) in self._connection.execute(table.every)]

    def put(self, row: Row) -> None:
        self._connection.execute(_TABLES[type(row)].put, (*row.key, msgspec.json.encode(row).decode()))

    def head(self) -> Head:
        found = self._connection.execute("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        return Head() if found is None else Head(*found)

    def entry(self, seq: int) -> Entry | None:
        found = self._connection.execute("SELECT body FROM events WHERE seq = ?", (seq,)).fetchone()
        return None if found is None else Entry(seq, events.decode(found[0]))

    def entries(self, after: int = 0) -> Iterator[Entry]:
        for seq, body in self._connection.execute("SELECT seq, body FROM events WHERE seq > ? ORDER BY seq", (after,)):
            yield Entry(seq, events.decode(body))

    def links(self) -> Iterator[Link]:
        for seq, body, previous, own in self._connection.execute(
            "SELECT seq, body, prev_hash, hash FROM events ORDER BY seq"
        ):
            yield Link(seq, body.encode(), previous, own)

    def leaves(self, *, id: str | None = None, alive_at: datetime | None = None) -> list[Issued]:  # noqa: A002
        found = self._connection.execute(
            "SELECT row FROM issued WHERE (?1 IS NULL OR id = ?1) AND (?2 IS NULL OR not_after >= ?2) ORDER BY seq",
            # Certificates know whole seconds only, so these texts are equally long and sort as their times do.
            (id, None if alive_at is None else f"{alive_at:%Y-%m-%dT%H:%M:%SZ}"),
        )
        decode = _TABLES[Issued].decoder.decode
        return [cast("Issued", decode(text)) for (text,) in found]

    def reported(self) -> dict[int, int]:
        return dict(self._connection.execute("SELECT lineage, sequence FROM reports"))

    def append(self, event: events.Event) -> int:
        before = self.head()
        body = events.encode(event)
        head = events.chained(before, body)
        fold.apply(self, Entry(head.seq, event))  # first: it says in words what the indexes would only refuse
        self._connection.execute(
            "INSERT INTO events (seq, body, prev_hash, hash) VALUES (?, ?, ?, ?)",
            (head.seq, body.decode(), before.hash, head.hash),
        )
        return head.seq

    def report(self, lineage: int, sequence: int) -> None:
        self._connection.execute(
            "INSERT INTO reports VALUES (?, ?) ON CONFLICT DO UPDATE SET sequence = max(sequence, excluded.sequence)",
            (lineage, sequence),
        )

    def wrong_secret(self, token: str) -> int:
        (tried,) = self._connection.execute(
            "INSERT INTO wrong_secrets VALUES (?, 1) ON CONFLICT DO UPDATE SET tried = tried + 1 RETURNING tried",
            (token,),
        ).fetchone()
        return int(tried)


def open_ledger(path: Path, *, begin: Sequence[events.Event] | None = None, patience: float = PATIENCE) -> SqliteLedger:
    """Open the ledger at `path`. With `begin`, one that does not exist is made, holding these events, whole or not.

    `patience` is how many seconds a transaction waits for another writer before it gives up.

    Raises LedgerError when there is none, when it cannot be used, and when it lies where it would not be safe.
    """
    if path.is_symlink():
        raise LedgerError(f"{path} is a symbolic link; the ledger itself must lie there")
    if begin is not None:
        with suppress(FileExistsError):
            _make_private(path)
    elif not path.exists():
        raise LedgerError(f"{path} is missing; restore the CA from a backup with meshproxy ca restore")
    with _told(path):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",  # never make one by mistake
            uri=True,
            timeout=patience,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            _prepare(connection, path, begin)
        except BaseException:
            connection.close()
            raise
    return SqliteLedger(path, connection)


def _prepare(connection: sqlite3.Connection, path: Path, begin: Sequence[events.Event] | None) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise LedgerError(f"{path} lies on a file system without shared memory; move the CA to a local disk")
    connection.execute(f"PRAGMA synchronous = {_SYNCHRONOUS}")
    if not _version(connection) and begin is not None:
        with _transaction(connection):
            if not _version(connection):  # nobody else was faster
                for statement in _statements(_SCHEMA):
                    connection.execute(statement)
                made = _SqliteTransaction(connection)
                for event in begin:
                    made.append(event)
                connection.execute(f"PRAGMA user_version = {_VERSION}")
    if (version := _version(connection)) != _VERSION:
        words = "was never finished" if version == 0 else f"is of version {version}, made by a later meshproxy"
        raise LedgerError(f"{path} {words}; it cannot be used")


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _statements(script: str) -> Iterator[str]:
    """One after the other: `executescript` would commit the transaction it is called in."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk may have ended it already
            connection.execute("ROLLBACK")
        raise


def _make_private(path: Path) -> None:
    """Make an empty file for its owner alone; what SQLite puts beside it gets the same mode. Raises FileExistsError."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into a sentence each."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", "")  # SQLITE_IOERR_WRITE, say: the family stands in front
        family = "_".join(code.split("_")[:2])
        kind, words = _WORDS.get(family, (LedgerError, f"cannot be used: {error}"))
        raise kind(f"the ledger {path} {words}") from error


_WORDS: Final[Mapping[str, tuple[type[LedgerError], str]]] = {
    "SQLITE_FULL": (LedgerFull, "has no space left on its disk: nothing was recorded or issued; free some, try again"),
    "SQLITE_IOERR": (
        LedgerFull,
        "cannot be written (the disk is full, limited or failing): nothing was recorded or issued; mend it, try again",
    ),
    "SQLITE_BUSY": (LedgerBusy, "is locked by another process: nothing was recorded or issued; try again"),
    "SQLITE_READONLY": (LedgerError, "may not be written by this user: run this as the owner of the CA's directory"),
    "SQLITE_CANTOPEN": (LedgerError, "cannot be opened: run this as the owner of the CA's directory"),
    "SQLITE_CORRUPT": (LedgerError, "is damaged; keep it aside and restore the CA from a backup"),
    "SQLITE_NOTADB": (LedgerError, "is no ledger, or damaged; keep it aside and restore the CA from a backup"),
}
