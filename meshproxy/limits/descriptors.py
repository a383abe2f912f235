"""How many connections the descriptors of a process are enough for."""

from __future__ import annotations

from typing import Final

OF_OUR_OWN: Final = 64  # files, listeners, the admin server, and a connection or two that is being opened


def room_for_connections(limit: int, *, upstreams: int) -> int:
    """Return how many descriptors connections may have together, where a process may have `limit`.

    `upstreams` is how many connections its HTTP listeners may open of their own; they get half at most.
    """
    room = max(limit - min(OF_OUR_OWN, limit // 2), 2)
    return room - min(upstreams, room // 2)
