"""The shop's ledger: who owes how much. It charges an account once per reference, and keeps every charge.

python3 -m shop.ledger --listen unix:shop/run/ledger.sock --database shop/data/ledger.db
"""

from __future__ import annotations

import argparse
import sqlite3
from contextlib import closing
from functools import partial

from .plain_http import Refused, Reply, Request, serve

SCHEMA = """
CREATE TABLE IF NOT EXISTS charges (
    reference TEXT PRIMARY KEY,
    account   TEXT NOT NULL,
    cents     INTEGER NOT NULL CHECK (cents > 0)
)"""


def open_database(path: str) -> sqlite3.Connection:
    """Open the ledger's own file, made on first use."""
    database = sqlite3.connect(path, timeout=10)
    database.execute(SCHEMA)
    return database


def charge(path: str, request: Request) -> Reply:
    """POST /charges: book `cents` on `account`; asking again with the same `reference` books nothing twice."""
    fields = request.fields()
    account, reference, cents = fields.get("account"), fields.get("reference"), fields.get("cents")
    if not (isinstance(account, str) and isinstance(reference, str) and isinstance(cents, int) and cents > 0):
        raise Refused(400, "a charge has an account, a reference and a positive number of cents")
    with closing(open_database(path)) as database, database:
        database.execute("INSERT OR IGNORE INTO charges VALUES (?, ?, ?)", (reference, account, cents))
        owed = database.execute("SELECT sum(cents) FROM charges WHERE account = ?", (account,)).fetchone()[0]
    return Reply(201, {"account": account, "owed_cents": owed})


def main() -> None:
    """Read the settings and serve."""
    parser = argparse.ArgumentParser(description="The shop's ledger.")
    parser.add_argument("--listen", required=True, help="unix:PATH or HOST:PORT")
    parser.add_argument("--database", required=True, help="its SQLite file")
    settings = parser.parse_args()
    open_database(settings.database).close()
    serve(settings.listen, {("POST", "/charges"): partial(charge, settings.database)})


if __name__ == "__main__":
    main()
