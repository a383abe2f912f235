"""Who has connected and not proved yet who he is: strangers, any number of whom may come, and say nothing.

There are so many places. When all are taken, whoever has owed us something for the longest gives his up: of two
thousand that connect and are silent all but the last few hundred are let go at once, while an honest caller, who speaks
at once and answers within a round trip, is through before his turn comes. Those who have said nothing sensible yet, and
those who owe us an answer, crowd out each other only up to half of the places: so neither a flood of silence nor one of
first words is in the way of who is in the middle of his. Who waits for us is never let go: then we are the slow ones,
and it is the newcomer who is turned away, before anything was done for him.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshproxy.limits.headcount import Headcount

if TYPE_CHECKING:
    from collections.abc import Callable

NO_PLACE: Final = "max_handshakes"
TOO_MANY: Final = "max_connections_per_peer"


class Place:
    """One stranger's; he owes us something from the start.

    `lost` once it was given to somebody else: then `on_lost` was called, if there was one by then.
    """

    __slots__ = ("_made_sense", "_room", "_row", "address", "lost", "on_lost")

    def __init__(self, room: WaitingRoom, address: str) -> None:
        self._room: WaitingRoom | None = room
        self._row: dict[Place, None] | None = room.silent  # in which he stands, while he owes us something
        self._row[self] = None
        self._made_sense = False
        self.address = address
        self.lost = False
        self.on_lost: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<Place of {self.address} taken={self._room is not None} lost={self.lost}>"

    def owes(self, *, answered: bool) -> None:
        """Take that the stranger is to say something now; `answered`: because what he said before made sense."""
        room = self._room
        if room is None:
            return
        self.has_spoken()
        self._made_sense = self._made_sense or answered
        row = self._row = room.owing if self._made_sense else room.silent
        row[self] = None

    def has_spoken(self) -> None:
        """Take that it is our turn."""
        row, self._row = self._row, None
        if row is not None:
            del row[self]

    def leave(self) -> None:
        """Leave it: he is known now, or gone; idempotent."""
        room, self._room = self._room, None
        if room is not None:
            self.has_spoken()
            room.left_by(self)

    def lose(self) -> None:
        """Give it to somebody else."""
        self.leave()
        self.lost = True
        if self.on_lost is not None:
            self.on_lost()


class WaitingRoom:
    """So many places in all, and for one address."""

    def __init__(self, most: int, most_per_address: int) -> None:
        self.most = most
        self.addresses = Headcount(most_per_address)
        # Who has owed us something for the longest comes first.
        self.silent: dict[Place, None] = {}  # he has said nothing yet, or nothing that could be answered
        self.owing: dict[Place, None] = {}
        self.taken = 0

    def __repr__(self) -> str:
        return f"<WaitingRoom taken={self.taken}/{self.most} silent={len(self.silent)} owing={len(self.owing)}>"

    def enter(self, address: str) -> Place | str:
        """Return a place for somebody from this address, or the key of the limit that leaves none."""
        if not self.addresses.enter(address):
            return TOO_MANY
        if self.taken >= self.most:
            too_silent = len(self.silent) > self.most // 2 or not self.owing
            longest = next(iter(self.silent if too_silent else self.owing), None)
            if longest is None:
                self.addresses.leave(address)
                return NO_PLACE
            longest.lose()
        self.taken += 1
        return Place(self, address)

    def left_by(self, place: Place) -> None:
        """Take that a place was left (called by it)."""
        self.taken -= 1
        self.addresses.leave(place.address)
