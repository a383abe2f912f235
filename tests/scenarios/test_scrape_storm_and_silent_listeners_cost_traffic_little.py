"""Fifty scrapers at once, and 32 who listen to events and read none: callers hardly notice, and all is bounded."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.stage import ask, poll

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.scenarios.http_actors import Pair

pytestmark = pytest.mark.long

SCRAPERS = 50
LISTENERS = 32
ASKED = 300
ONE_PAGE = 0.1  # seconds that one page may take on a busy machine; in a row they would take fifty times that
GROWTH = 16 << 20
PAGES = ("/metrics", "/series?tier=1m", "/topology?window=172800", "/status", "/connections")


def median_wait(pair: Pair) -> float:
    """In how many seconds half of the requests are answered."""
    waits = []
    with pair.caller() as caller:
        for _ in range(ASKED):
            asked_at = time.perf_counter()
            assert caller.ask("GET", "/beside").status == 200
            waits.append(time.perf_counter() - asked_at)
    return sorted(waits)[ASKED // 2]


@contextlib.contextmanager
def storm(admin: str) -> Iterator[list[int]]:
    """Scrapers that ask again and again; the statuses they got. One who is let go for want of room asks again."""
    over, statuses = threading.Event(), list[int]()

    def scrape(number: int) -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                statuses.append(ask(admin, PAGES[number % len(PAGES)]).status)

    crowd = [threading.Thread(target=scrape, args=[number]) for number in range(SCRAPERS)]
    for each in crowd:
        each.start()
    try:
        yield statuses
    finally:
        over.set()
        for each in crowd:
            each.join()


def test_a_scrape_storm_costs_callers_little(pair: Pair) -> None:
    median_wait(pair)
    with storm(pair.api.admin) as statuses:
        poll(lambda: len(statuses) > SCRAPERS, "the storm has begun")
        assert median_wait(pair) < ONE_PAGE
    assert set(statuses) == {200}


def test_who_listens_and_never_reads_costs_a_place_and_nothing_else(pair: Pair) -> None:
    before = pair.api.resident
    host, port = pair.api.admin.rsplit(":", 1)
    with contextlib.ExitStack() as silent:
        for _ in range(LISTENERS):
            sock = silent.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect((host, int(port)))
            sock.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        poll(lambda: not _may_listen(host, int(port)), "there is no room for another")
        assert median_wait(pair) < ONE_PAGE
        for page in PAGES:
            assert ask(pair.api.admin, page).status == 200
        assert pair.api.resident - before < GROWTH
    poll(lambda: _may_listen(host, int(port)), "they have gone, and there is room again")


def _may_listen(host: str, port: int) -> bool:
    with socket.create_connection((host, port), timeout=5) as sock:
        sock.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return sock.recv(64).startswith(b"HTTP/1.1 200")
