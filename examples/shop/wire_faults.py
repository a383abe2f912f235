"""A bad wire: a TCP relay between two sidecars that harms, once, what flows back from the far one.

It knows of TLS only where a record begins (RFC 8446 section 5.1), so that the byte it flips is one of the enciphered
ones and not a length: anybody between two machines can do what it does.
"""

from __future__ import annotations

from enum import Enum
from functools import partial
from typing import Final

import trio

_HEADER: Final = 5  # type, version (2), length (2)
_APPLICATION_DATA: Final = 23


class Fault(Enum):
    """What the wire does to one connection."""

    FLIP = "flips one bit of one enciphered byte"
    CUT = "ends with a bare FIN"


class Damage:
    """One direction of one connection: lets `after` bytes pass unharmed, then does its fault once."""

    def __init__(self, fault: Fault, after: int) -> None:
        self._fault = fault
        self._unharmed = after  # bytes still to let pass
        self._header = bytearray()
        self._left = 0  # bytes left of the current record
        self.done = False

    def __repr__(self) -> str:
        return f"<Damage {self._fault.name} done={self.done} unharmed={self._unharmed}>"

    @property
    def is_cut(self) -> bool:
        """Whether nothing more may flow in this direction."""
        return self.done and self._fault is Fault.CUT

    def through(self, data: bytes | bytearray) -> bytes:
        """Return what comes out at the other end when `data` goes in."""
        if self.done:
            return b"" if self.is_cut else bytes(data)
        if self._fault is Fault.CUT:
            out, self._unharmed = data[: self._unharmed], self._unharmed - len(data)
            self.done = self._unharmed <= 0
            return bytes(out)
        return self._flipped(data)

    def _flipped(self, data: bytes | bytearray) -> bytes:
        out, at = bytearray(data), 0
        while at < len(out) and not self.done:
            if not self._left:
                taken = out[at : at + _HEADER - len(self._header)]
                self._header += taken
                at += len(taken)
                if len(self._header) == _HEADER:
                    self._left = int.from_bytes(self._header[3:])
                continue
            if self._unharmed <= at and len(self._header) == _HEADER and self._header[0] == _APPLICATION_DATA:
                out[at] ^= 1
                self.done = True
            taken_of_record = min(self._left, len(out) - at)
            self._left -= taken_of_record
            at += taken_of_record
            self._header.clear()
        self._unharmed -= len(data)
        return bytes(out)


async def serve(
    fault: Fault,
    *,
    port: int,
    to_port: int,
    after: int,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Relay connections to 127.0.0.1:`port` on to `to_port` until cancelled, each harmed after `after` bytes back."""
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    task_status.started()
    await trio.serve_listeners(partial(_relay, fault, to_port, after), listeners)


async def _relay(fault: Fault, to_port: int, after: int, near: trio.SocketStream) -> None:
    try:
        async with near, await trio.open_tcp_stream("127.0.0.1", to_port) as far, trio.open_nursery() as directions:
            directions.start_soon(_pump, near, far, None)
            directions.start_soon(_pump, far, near, Damage(fault, after))
    except* (OSError, trio.BrokenResourceError):
        pass  # one end broke the connection; leaving the block has broken the other


async def _pump(source: trio.SocketStream, sink: trio.SocketStream, damage: Damage | None) -> None:
    async for data in source:
        await sink.send_all(data if damage is None else damage.through(data))
        if damage is not None and damage.is_cut:
            break
    await sink.send_eof()
