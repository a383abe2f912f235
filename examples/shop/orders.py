"""The shop's orders: takes one, has the ledger charge it, keeps it. Several may run on one database.

python3 -m shop.orders --listen unix:shop/run/orders.sock --ledger unix:shop/run/orders-to-ledger.sock \
    --database shop/data/orders.db
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import zlib
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from .plain_http import ENDING, Fields, Refused, Reply, Request, Routes, Talk, Unreachable, call, serve

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LOOK_EVERY = 0.2  # seconds between two looks for new orders
PRICES = {"lamp": 4500, "chair": 12900, "teapot": 2350}  # in cents

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    number   INTEGER PRIMARY KEY,
    customer TEXT NOT NULL,
    item     TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    cents    INTEGER NOT NULL,
    state    TEXT NOT NULL CHECK (state IN ('open', 'charged', 'failed'))
)"""


def open_database(path: str) -> sqlite3.Connection:
    """Open the orders' own file, made on first use."""
    database = sqlite3.connect(path, timeout=10)
    database.execute(SCHEMA)
    return database


def place(path: str, ledger: str, request: Request) -> Reply:
    """POST /orders: keep the order as open, have it charged, and only then call it charged."""
    fields = request.fields()
    customer, item, quantity = fields.get("customer"), fields.get("item"), fields.get("quantity", 1)
    if not (isinstance(customer, str) and isinstance(item, str) and isinstance(quantity, int) and quantity > 0):
        raise Refused(400, "an order has a customer, an item and a quantity")
    if item not in PRICES:
        raise Refused(404, f"there is no such item; we have {', '.join(PRICES)}")
    cents = PRICES[item] * quantity
    with closing(open_database(path)) as database:
        with database:
            number = database.execute(
                "INSERT INTO orders (customer, item, quantity, cents, state) VALUES (?, ?, ?, ?, 'open')",
                (customer, item, quantity, cents),
            ).lastrowid
        charge = {"account": customer, "reference": f"order-{number}", "cents": cents}
        charged = _charge(ledger, charge, request.trace)
        with database:
            database.execute(
                "UPDATE orders SET state = ? WHERE number = ?", ("charged" if charged else "failed", number)
            )
    if not charged:
        raise Refused(502, "the order could not be charged")
    return Reply(201, {"order": number, "item": item, "quantity": quantity, "cents": cents})


def export(path: str, _request: Request) -> Reply:
    """GET /orders: every order, a line of JSON each."""
    return Reply(200, _orders(path, after=0))


def watch(path: str, _request: Request) -> Reply:
    """GET /orders/new: the newest order, then each new one as it comes, until the caller or the service ends."""
    with closing(open_database(path)) as database:
        newest: int = database.execute("SELECT coalesce(max(number), 0) FROM orders").fetchone()[0]
    return Reply(200, _from_now_on(path, newest - 1))


def load(request: Request) -> Reply:
    """POST /orders/import: takes a file of any length, and tells its length and checksum."""
    length = checksum = 0
    for piece in request.pieces():
        length, checksum = length + len(piece), zlib.crc32(piece, checksum)
    return Reply(200, {"bytes": length, "crc32": checksum})


def whoami(request: Request) -> Reply:
    """GET /orders/whoami: who calls, as the sidecar says; nobody else can say it here."""
    return Reply(200, {"caller": request.caller})


def talk(_request: Request) -> Talk:
    """GET /orders/talk: a WebSocket that says back what it hears."""
    return Talk(lambda message: f"orders heard: {message}")


def _orders(path: str, *, after: int) -> Iterator[str]:
    with closing(open_database(path)) as database:
        database.row_factory = sqlite3.Row
        for row in database.execute("SELECT * FROM orders WHERE number > ? ORDER BY number", (after,)):
            yield json.dumps(dict(row)) + "\n"


def _from_now_on(path: str, last: int) -> Iterator[str]:
    while True:
        for line in _orders(path, after=last):
            yield line
            last = json.loads(line)["number"]
        if ENDING.wait(_LOOK_EVERY):
            return


def _charge(ledger: str, fields: Fields, trace: Mapping[str, str]) -> bool:
    try:
        return call(ledger, "POST", "/charges", fields, trace).status == 201
    except Unreachable:
        return False


def main() -> None:
    """Read the settings and serve."""
    parser = argparse.ArgumentParser(description="The shop's orders.")
    parser.add_argument("--listen", required=True, help="unix:PATH or HOST:PORT")
    parser.add_argument("--ledger", required=True, help="where to call the ledger: unix:PATH or HOST:PORT")
    parser.add_argument("--database", required=True, help="its SQLite file")
    settings = parser.parse_args()
    open_database(settings.database).close()
    routes: Routes = {
        ("POST", "/orders"): partial(place, settings.database, settings.ledger),
        ("GET", "/orders"): partial(export, settings.database),
        ("GET", "/orders/new"): partial(watch, settings.database),
        ("GET", "/orders/talk"): talk,
        ("GET", "/orders/whoami"): whoami,
        ("POST", "/orders/import"): load,
    }
    serve(settings.listen, routes)


if __name__ == "__main__":
    main()
