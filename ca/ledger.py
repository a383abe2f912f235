"""The ledger: what happened to this CA, in order, for good; and what that adds up to.

This is the interface; there is no file and no SQL in it. `ca/sqlite_ledger` keeps one on the CA's own disk; a store
that several CAs share can take its place. What every ledger promises:

- A transaction happens whole or not at all, and when `writing` has ended well it is durable: a certificate may leave
  the process only then. Two transactions never overlap, in this process or in any other.
- Events are added at the end and never changed; each is chained to the one before (`ca/events`).
- Rows are what `ca/fold` makes of the events, always: `rebuild` makes them anew from the events alone.
- An event that cannot follow what was before is refused.

Two things are noted that are no events, because they happen too often and may be lost: what roots a holder says it has
loaded (then it counts as lagging behind until it says so again), and how many wrong secrets were tried on a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ca.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from datetime import datetime

    from ca.events import Entry, Event, Head
    from ca.rows import Issued


class LedgerError(Exception):
    """The ledger cannot be read or written now; its text is a sentence that says why and what to do.

    A transaction that ended so left nothing behind, and nothing may be issued on it.
    """


class LedgerFull(LedgerError):
    """There is no space to record anything."""


class LedgerBusy(LedgerError):
    """Somebody else has been writing for too long; trying again is the remedy."""


@dataclass(frozen=True, slots=True)
class Link:
    """One event as it is kept, for whoever checks the chain: its canonical JSON, the hash before it and its own."""

    seq: int
    body: bytes
    previous: bytes
    hash: bytes


class View(Rows, Protocol):
    """What can be asked; all answers are of one moment."""

    def head(self) -> Head:
        """How far the ledger goes."""
        ...

    def entry(self, seq: int) -> Entry | None:
        """The event of a number, or None when the ledger does not go so far."""
        ...

    def entries(self, after: int = 0) -> Iterator[Entry]:
        """The events behind a number, in order."""
        ...

    def links(self) -> Iterator[Link]:
        """Every event as it is kept, in order, unread."""
        ...

    def leaves(self, *, id: str | None = None, alive_at: datetime | None = None) -> Iterable[Issued]:  # noqa: A002
        """The leaves in the order of their issue: of an identity, and those that have not expired by a moment."""
        ...

    def reported(self) -> Mapping[int, int]:
        """By lineage, the sequence of the roots that its holder said it has loaded."""
        ...


class Transaction(View, Protocol):
    """What can be asked and changed; others see nothing of it before it has ended well."""

    def append(self, event: Event) -> int:
        """Add an event and all that follows from it; returns its number. Raises `fold.ImpossibleEvent`, LedgerError."""
        ...

    def report(self, lineage: int, sequence: int) -> None:
        """Note what roots the holder of a lineage has loaded; only ever forward."""
        ...

    def wrong_secret(self, token: str) -> int:
        """Note one more wrong secret tried on a token; returns how many that makes."""
        ...


class Ledger(Protocol):
    """A ledger that is open. Not for several threads at once; one block ends before the next begins."""

    def reading(self) -> AbstractContextManager[View]:
        """Look at one moment, while others go on writing. Raises LedgerError."""
        ...

    def writing(self) -> AbstractContextManager[Transaction]:
        """Begin a transaction, alone; it is committed when the block ends well, and undone when it raises.

        Raises LedgerError when it cannot begin or cannot be committed.
        """
        ...

    def rebuild(self) -> None:
        """Make all rows anew from the events alone. Raises LedgerError, and `fold.ImpossibleEvent`."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...
