"""Refusals of the last time, as rows: nobody is forgotten uncounted, and nobody takes all the room."""

from __future__ import annotations

from meshproxy.telemetry.denials import Denials, Fresh, Refused

TS = "2026-11-01T00:00:00.500Z"
AT = 1793491200.5


def refused(caller: str = "spiffe://td/web", asked: str = "GET /x", *, count: int = 1, at: float = AT) -> Refused:
    return Refused("api", "deny", caller, asked, "path", count, at, at)


def test_the_same_caller_asking_for_the_same_is_one_row() -> None:
    fresh = Fresh()
    fresh.note(Refused("api", "deny", "spiffe://td/web", "GET /x", "path"), TS)
    fresh.note(Refused("api", "deny", "spiffe://td/web", "GET /x", "path"), "2026-11-01T00:00:02.500Z")
    fresh.note(Refused("api", "deny", "spiffe://td/web", "", "no_rule"), TS)
    rows, beyond = fresh.take()
    assert rows == (
        Refused("api", "deny", "spiffe://td/web", "GET /x", "path", 2, AT, AT + 2),
        Refused("api", "deny", "spiffe://td/web", "", "no_rule", 1, AT, AT),
    )
    assert beyond == 0
    assert fresh.take() == ((), 0)


def test_what_is_too_much_for_a_second_is_counted() -> None:
    fresh = Fresh(most=2)
    for number in range(10_000):
        fresh.note(refused(asked=f"GET /{number}"), TS)
    rows, beyond = fresh.take()
    assert (len(rows), beyond) == (2, 9998)


def test_an_endless_path_is_cut() -> None:
    fresh = Fresh()
    fresh.note(refused(asked="GET /" + "x" * 100_000), TS)
    [row] = fresh.take()[0]
    assert len(row.asked) == 1024


def test_rows_add_up_and_the_newest_is_first() -> None:
    denials = Denials()
    denials.take([refused(asked="GET /a", at=1.0), refused(asked="GET /b", at=1.0)])
    [changed] = denials.take([refused(asked="GET /a", count=3, at=2.0)], beyond=5)
    assert (changed.count, changed.first, changed.last) == (4, 1.0, 2.0)
    rows, more = denials.newest(10)
    assert [row.asked for row in rows] == ["GET /a", "GET /b"]
    assert more == 5
    assert denials.newest(1)[1] == 5 + 1


def test_the_row_that_was_quiet_for_longest_makes_room_and_is_counted() -> None:
    denials = Denials(most=2)
    for number in range(10_000):
        denials.take([refused(caller=f"spiffe://td/{number}", at=float(number))])
        denials.take([refused(caller="spiffe://td/often", at=float(number))])
    rows, more = denials.newest(10)
    assert [row.caller for row in rows] == ["spiffe://td/often", "spiffe://td/9999"]
    assert sum(row.count for row in rows) + more == 20_000
