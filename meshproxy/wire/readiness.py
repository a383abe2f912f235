"""The readiness engine: who may read or write now, told by plain callbacks instead of task switches.

Trio owns lifetimes, the relay owns bytes. A connection that is established hands its two sockets to one engine; from
then on a message costs a callback, not a wake-up of a task and not an `epoll_ctl`. Measured on a pair of sidecars:
52-72 us of CPU per request against 136-151 us with two tasks per connection.

Rules the engine and its users keep, each learnt from a failure:

* Events are hints. Only the result of `recv` and `send` decides.
* A socket is registered once, edge-triggered, for reading; writing is armed only while a remainder waits (an armed
  `EPOLLOUT` edge wakes the loop for every freed send buffer).
* An edge fires once. A handler that stops before the socket is drained (back-pressure, fairness) returns False and
  calls `resume` when it may go on; resumed handlers run after the batch.
* A descriptor number may be reused at once after `close`. Sockets are closed by the task that owns them, after
  `forget`, and never inside a callback: no batch can hold an event of a closed socket's number.
* Never fork while an engine exists: a copied descriptor keeps the registration and suppresses the FIN.

This room says what an engine is; `epoll_readiness` and `trio_readiness` are the two, and `engine` picks one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

# The values of epoll_ctl(2), spelled out because the portable engine uses the same words without `select.epoll`.
READ = 0x001
WRITE = 0x004
PEER_ENDED = 0x2000  # EPOLLRDHUP
HANGUP = 0x008 | 0x010 | PEER_ENDED  # EPOLLERR | EPOLLHUP | EPOLLRDHUP
SEVERED = HANGUP & ~PEER_ENDED  # an error, or both directions gone; a peer that only stopped sending still listens


class Readiness(Protocol):
    """What a connection may ask of an engine. All calls are synchronous and belong to the trio thread.

    `crowded` tells that many others had news a moment ago, while somebody had more to read: long turns make them wait.
    """

    crowded: bool

    def watch(self, sock: socket.socket, handler: Callable[[int], bool]) -> None:
        """Call `handler(events)` whenever `sock` becomes readable, hangs up, or (when armed) becomes writable.

        The handler returns True when it read until the socket had no more, False when it stopped earlier (it then owes
        a `resume`) or the stream has ended: it need not be told again that there is something to read. It must not
        raise: an exception here ends the engine, and with it the process.
        """

    def resume(self, sock: socket.socket) -> None:
        """Call the handler of `sock` with no event (0) after the current batch; no-op for an unwatched socket."""

    def afterwards(self, call: Callable[[], None]) -> None:
        """Call `call()` once the current batch is over, before anybody waits. It must not raise."""

    def later(self, call: Callable[[float], None]) -> None:
        """Call `call(until)` when there is nothing else to do, or others have had a turn; one such call for each turn.

        For what takes long: it does one thing, and may do more of them while `time.perf_counter()` is before `until`.
        It must not raise.
        """

    def arm_write(self, sock: socket.socket) -> None:
        """Also report `WRITE` until `disarm_write`."""

    def disarm_write(self, sock: socket.socket) -> None:
        """Report `WRITE` no longer."""

    def forget(self, sock: socket.socket) -> None:
        """Stop watching; idempotent. Must come before `close`."""

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. `watch` is legal only while this runs."""
