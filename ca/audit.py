"""Whether a ledger is sound: every event in its place, the chain unbroken, the state what the events add up to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ca import events
from ca.events import Entry, Head
from ca.fold import ImpossibleEvent, apply
from ca.rows import KINDS, MemoryTables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ca.ledger import View


def audit(view: View) -> Iterator[str]:
    """Walk a ledger from its beginning and yield what is wrong with it, a sentence each without a full stop.

    Behind an event that was changed or taken out everything is wrong; only the first such place is told.
    """
    told = MemoryTables()
    head = Head()
    for link in view.links():
        if fault := _link_fault(head, link.seq, link.body, link.previous, link.hash):
            yield fault
            return
        head = events.chained(head, link.body)
        try:
            event = events.decode(link.body)
            if events.encode(event) != link.body:
                yield f"event {link.seq} is not written as meshproxy writes it"
            apply(told, Entry(link.seq, event))
        except ImpossibleEvent as error:
            yield f"event {link.seq} cannot follow the ones before: {error}"
            return
        except ValueError as error:
            yield f"event {link.seq} cannot be read: {error}"
            return
    for kind in KINDS:
        live, expected = {row.key: row for row in view.every(kind)}, {row.key: row for row in told.every(kind)}
        wrong = sorted(key for key in live.keys() | expected.keys() if live.get(key) != expected.get(key))
        if wrong:
            key = "/".join(map(str, wrong[0]))
            more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
            yield f"the state of {kind.__name__} {key}{more} is not what the events add up to; meshproxy ca log rebuild"


def _link_fault(head: Head, seq: int, body: bytes, previous: bytes, own: bytes) -> str | None:
    if seq != head.seq + 1:
        return f"event {head.seq + 1} is missing"
    if previous != head.hash:
        return f"event {seq} is not chained to the one before it: something was changed, taken out or put in"
    if own != events.chained(head, body).hash:
        return f"event {seq} was changed: its hash is another"
    return None
