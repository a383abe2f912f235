"""Who has connected and not proved yet who he is: strangers, any number of whom may come, and say nothing.

There are so many places. When all are taken, whoever has owed us something for the longest gives his up: of two
thousand that connect and are silent all but the last few hundred are let go at once, while an honest caller, who
answers within a round trip, is through before his turn comes. Who waits for us is never let go: then we are the slow
ones, and it is the newcomer who is turned away, before anything was done for him.
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

    __slots__ = ("_room", "address", "lost", "on_lost")

    def __init__(self, room: WaitingRoom, address: str) -> None:
        self._room: WaitingRoom | None = room
        self.address = address
        self.lost = False
        self.on_lost: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<Place of {self.address} taken={self._room is not None} lost={self.lost}>"

    def owes(self) -> None:
        """Take that the stranger is to say something now."""
        if self._room is not None:
            self._room.owing[self] = None

    def has_spoken(self) -> None:
        """Take that it is our turn."""
        if self._room is not None:
            self._room.owing.pop(self, None)

    def leave(self) -> None:
        """Leave it: he is known now, or gone; idempotent."""
        room, self._room = self._room, None
        if room is not None:
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
        self.owing: dict[Place, None] = {}  # the one who has owed us something for the longest comes first
        self.taken = 0

    def __repr__(self) -> str:
        return f"<WaitingRoom taken={self.taken}/{self.most} owing={len(self.owing)}>"

    def enter(self, address: str) -> Place | str:
        """Return a place for somebody from this address, or the key of the limit that leaves none."""
        if not self.addresses.enter(address):
            return TOO_MANY
        if self.taken >= self.most:
            if not self.owing:
                self.addresses.leave(address)
                return NO_PLACE
            next(iter(self.owing)).lose()
        self.taken += 1
        place = Place(self, address)
        self.owing[place] = None
        return place

    def left_by(self, place: Place) -> None:
        """Take that a place was left (called by it)."""
        self.taken -= 1
        self.owing.pop(place, None)
        self.addresses.leave(place.address)
