"""The words between the exchange and whoever drives it: where it stands, and what it needs done."""

from __future__ import annotations

from enum import Enum, auto


class Phase(Enum):
    """Where the exchange stands; the driver's deadlines are a table over these."""

    IDLE = auto()  # between requests: nothing of the next one has come
    PUT_OFF = auto()  # the same, after it was told to come back later: what it says before is left where it is
    HEAD = auto()  # part of a head has come
    CONNECTING = auto()  # granted, and waiting for an upstream connection
    EXPECTING = auto()  # the caller waits for 100 Continue before it sends its body (RFC 9110 section 10.1.1)
    BODY = auto()  # the request's body is on its way, and no answer yet
    AWAITING = auto()  # the request is complete, and no answer yet
    ANSWERING = auto()  # the answer is on its way
    DISCARDING = auto()  # refused: the rest of the body is thrown away
    UPGRADED = auto()  # no longer ours
    OVER = auto()  # the downstream is to be ended


class Need(Enum):
    """What the driver is to do, in order, after sending what there is to send."""

    UPSTREAM = auto()  # get a connection and `attach` it, or say `upstream_failed`
    FRESH_UPSTREAM = auto()  # the same, but not one from the pool
    RELEASE_UPSTREAM = auto()  # it is clean: the pool may have it
    CLOSE_UPSTREAM = auto()  # its last exchange is over on both sides: end it properly
    DROP_UPSTREAM = auto()  # end it so that nothing half-said looks complete
    PUT_OFF = auto()  # hear no more of the caller for a while, then `hear_again`
    UPGRADE = auto()  # from here on bytes are only moved
    CLOSE = auto()  # end the downstream so that the last answer arrives
    ABORT = auto()  # reset the downstream: its answer is incomplete, and must not look complete
