"""The shop's orders: takes one, has the ledger charge it, keeps it. Several may run on one database.

python3 -m shop.orders --listen unix:shop/run/orders.sock --ledger unix:shop/run/orders-to-ledger.sock \
    --database shop/data/orders.db
"""

from __future__ import annotations

import argparse
import json
import sqlite3
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from .plain_http import Fields, Refused, Reply, Unreachable, call, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def place(path: str, ledger: str, fields: Fields) -> Reply:
    """POST /orders: keep the order as open, have it charged, and only then call it charged."""
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
        charged = _charge(ledger, {"account": customer, "reference": f"order-{number}", "cents": cents})
        with database:
            database.execute(
                "UPDATE orders SET state = ? WHERE number = ?", ("charged" if charged else "failed", number)
            )
    if not charged:
        raise Refused(502, "the order could not be charged")
    return Reply(201, {"order": number, "item": item, "quantity": quantity, "cents": cents})


def export(path: str, _fields: Fields) -> Reply:
    """GET /orders: every order, a line of JSON each."""
    return Reply(200, _lines(path))


def _lines(path: str) -> Iterator[str]:
    with closing(open_database(path)) as database:
        database.row_factory = sqlite3.Row
        for row in database.execute("SELECT * FROM orders ORDER BY number"):
            yield json.dumps(dict(row)) + "\n"


def _charge(ledger: str, fields: Fields) -> bool:
    try:
        return call(ledger, "POST", "/charges", fields).status == 201
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
    routes = {
        ("POST", "/orders"): partial(place, settings.database, settings.ledger),
        ("GET", "/orders"): partial(export, settings.database),
    }
    serve(settings.listen, routes)


if __name__ == "__main__":
    main()
