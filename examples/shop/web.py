"""The shop's front: what customers talk to. It keeps nothing and passes orders on.

python3 -m shop.web --listen unix:shop/run/web.sock --orders unix:shop/run/web-to-orders.sock
"""

from __future__ import annotations

import argparse
from functools import partial

from .plain_http import Refused, Reply, Request, Unreachable, call, serve


def buy(orders: str, request: Request) -> Reply:
    """POST /buy: an order of `item`, `quantity` times, for `customer`."""
    order = {"customer": "guest", **request.fields()}
    try:
        return call(orders, "POST", "/orders", order, request.trace)
    except Unreachable:
        raise Refused(502, "orders cannot be taken right now") from None


def main() -> None:
    """Read the settings and serve."""
    parser = argparse.ArgumentParser(description="The shop's front.")
    parser.add_argument("--listen", required=True, help="unix:PATH or HOST:PORT")
    parser.add_argument("--orders", required=True, help="where to call the orders: unix:PATH or HOST:PORT")
    settings = parser.parse_args()
    serve(settings.listen, {("POST", "/buy"): partial(buy, settings.orders)})


if __name__ == "__main__":
    main()
