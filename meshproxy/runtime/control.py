"""What supervisor and workers say to each other: frames over a socket pair, and descriptors beside them.

A frame is its length in four bytes and a message in MessagePack. The supervisor gives orders, a worker answers. A new
configuration comes in two steps, so that all take it up or none: `Prepare`, behind the files it is made of, is answered
by what is wrong with it; `Commit` puts it in force.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import msgspec
import trio

from meshproxy.admin.roster import ConnectionRow  # noqa: TC001 - msgspec looks the types of fields up when it decodes
from meshproxy.admin.status import Status  # noqa: TC001 - as above
from meshproxy.errors import Problem  # noqa: TC001 - as above
from meshproxy.runtime.samples import Sample  # noqa: TC001 - as above
from meshproxy.telemetry.denials import Refused  # noqa: TC001 - as above
from meshproxy.telemetry.facts import Facts  # noqa: TC001 - as above
from meshproxy.telemetry.flows import Edge, Point  # noqa: TC001 - as above

if TYPE_CHECKING:
    from collections.abc import Sequence

_LENGTH: Final = struct.Struct(">I")
_LONGEST: Final = 64 << 20  # bytes of one frame; the largest file a sidecar reads has a quarter of it
_CHUNK: Final = 256 << 10
_MOST_WAITING: Final = 4096  # frames for a process that does not read: it hangs

# The kernel takes 253 (SCM_MAX_FD, unix(7)) with one call, and gives them out with the first byte of that call.
_DESCRIPTORS_AT_ONCE: Final = 200
_DESCRIPTOR: Final = array.array("i").itemsize
_CLOSE_ON_EXEC: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class File(msgspec.Struct, frozen=True, tag=True):
    """The content of a file that the next `Prepare` needs; `path` as the file system has it."""

    path: bytes
    content: bytes


class Prepare(msgspec.Struct, frozen=True, tag=True):
    """Make ready to go over to a configuration; answered.

    With it come two descriptors for each of `doors` (direction and name of a listener): socket, and occupancy page.
    """

    id: int
    generation: int
    doors: tuple[tuple[str, str], ...]


class Commit(msgspec.Struct, frozen=True, tag=True):
    """Go over to what was prepared; answered when it is done."""

    id: int


class Abort(msgspec.Struct, frozen=True, tag=True):
    """Forget what was prepared."""


class Tell(msgspec.Struct, frozen=True, tag=True):
    """Say how you are; answered by a `Report`."""

    id: int


class Recount(msgspec.Struct, frozen=True, tag=True):
    """Say what has happened since you were last asked; answered by an `Account`."""

    id: int


class WhoIsThere(msgspec.Struct, frozen=True, tag=True):
    """Say who is connected, the newest `most`; answered by a `Roster`."""

    id: int
    most: int


class SetLogLevel(msgspec.Struct, frozen=True, tag=True):
    """Log from this level on."""

    level: str


class LookAtIdentity(msgspec.Struct, frozen=True, tag=True):
    """Load the identity again now."""


class Drain(msgspec.Struct, frozen=True, tag=True):
    """Serve who is there, and end; `handed_over`: another process accepts already."""

    handed_over: bool = False


class Cut(msgspec.Struct, frozen=True, tag=True):
    """End now."""


class Hello(msgspec.Struct, frozen=True, tag=True):
    """A worker is there; `version` is that of its code."""

    version: str


class Answer(msgspec.Struct, frozen=True, tag=True):
    """What was wrong with an order; nothing: it is done."""

    id: int
    problems: tuple[Problem, ...] = ()


class Report(msgspec.Struct, frozen=True, tag=True):
    """How a worker is."""

    id: int
    status: Status
    samples: tuple[Sample, ...]


class Account(msgspec.Struct, frozen=True, tag=True):
    """What has happened at a worker since its last account, and how it is; bounded as `Flows` and `Fresh` are."""

    id: int
    happened: tuple[tuple[Edge, Point], ...]
    refused: tuple[Refused, ...]
    refused_beyond: int
    loop_lag: float  # seconds, the longest of late
    facts: Facts


class Roster(msgspec.Struct, frozen=True, tag=True):
    """Who is connected to a worker; `more` are left out."""

    id: int
    connections: tuple[ConnectionRow, ...]
    more: int


class Ended(msgspec.Struct, frozen=True, tag=True):
    """The last word: whether nothing had to be cut, and what was counted to the end."""

    nothing_cut: bool
    report: Report | None = None
    account: Account | None = None


Order = File | Prepare | Commit | Abort | Tell | Recount | WhoIsThere | SetLogLevel | LookAtIdentity | Drain | Cut
Word = Hello | Answer | Report | Account | Roster | Ended

_M = TypeVar("_M")


class Broken(Exception):
    """The other process does not keep to the frames."""


class Channel(Generic[_M]):
    """One end of a unix stream: hears messages of one type, says any. Saying never waits, so all keeps its order."""

    def __init__(self, sock: socket.socket, hears: object) -> None:
        """Take over `sock`; `hears` is the type, or union of types, of what comes in."""
        sock.setblocking(False)
        self._sock = trio.socket.from_stdlib_socket(sock)
        self._decoder: msgspec.msgpack.Decoder[_M] = msgspec.msgpack.Decoder(hears)
        self._outgoing: deque[tuple[bytes, list[int]]] = deque()
        self._news = trio.Event()
        self._flushed = trio.Event()
        self._buffer = bytearray()
        self._descriptors: list[int] = []
        self._closed = False

    def __repr__(self) -> str:
        return f"<Channel waiting={len(self._outgoing)} closed={self._closed}>"

    def say(self, message: msgspec.Struct, descriptors: Sequence[int] = ()) -> None:
        """Queue a message, with duplicates of `descriptors`; after `close` it is lost.

        Raises Broken when nobody reads, OSError when there is no room for the duplicates.
        """
        if self._closed:
            return
        if len(self._outgoing) >= _MOST_WAITING:
            raise Broken("it reads nothing")
        body = msgspec.msgpack.encode(message)
        duplicates = _duplicates(descriptors)
        if self._flushed.is_set():
            self._flushed = trio.Event()
        self._outgoing.append((_LENGTH.pack(len(body)) + body, duplicates))
        self._news.set()

    async def run(self) -> None:
        """Send what is said, until cancelled; what cannot be sent is lost, as `hear` will tell."""
        while True:
            while self._outgoing:
                frame, descriptors = self._outgoing.popleft()
                try:
                    await self._send(frame, descriptors)
                except (OSError, trio.ClosedResourceError):
                    self._drop()
                finally:
                    _close(descriptors)
            self._flushed.set()
            await self._news.wait()
            self._news = trio.Event()

    async def flush(self) -> None:
        """Wait until all that was said is sent, or lost."""
        await self._flushed.wait()

    async def hear(self) -> _M | None:
        """Return the next message, None when the other process has ended. Raises Broken."""
        while (body := self._taken()) is None:
            try:
                data, ancillary, _, _ = await self._sock.recvmsg(
                    _CHUNK, socket.CMSG_SPACE(_DESCRIPTORS_AT_ONCE * _DESCRIPTOR), _CLOSE_ON_EXEC
                )
            except ConnectionError:
                return None
            for level, kind, content in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    got = array.array("i", content[: len(content) - len(content) % _DESCRIPTOR])
                    self._descriptors += got
            if not data:
                return None
            self._buffer += data
        try:
            return self._decoder.decode(body)
        except msgspec.DecodeError as error:
            raise Broken(str(error)) from None

    def take_descriptors(self) -> list[int]:
        """Return the descriptors that came with the messages heard so far, for the caller to close."""
        taken, self._descriptors = self._descriptors, []
        return taken

    def close(self) -> None:
        """Close, also the descriptors nobody has taken; idempotent. Who waits in `hear` hears the end."""
        self._closed = True
        self._drop()
        _close(self.take_descriptors())
        self._sock.close()

    def _taken(self) -> bytes | None:
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > _LONGEST:
            raise Broken(f"a frame of {length} bytes")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        return body

    async def _send(self, frame: bytes, descriptors: list[int]) -> None:
        view = memoryview(frame)
        for start in range(0, len(descriptors), _DESCRIPTORS_AT_ONCE):
            group = array.array("i", descriptors[start : start + _DESCRIPTORS_AT_ONCE])
            # One byte, so that it is sent whole or not at all; a frame has more bytes than groups.
            await self._sock.sendmsg([view[:1]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, group)])
            view = view[1:]
        while view:
            view = view[await self._sock.send(view) :]

    def _drop(self) -> None:
        for _, descriptors in self._outgoing:
            _close(descriptors)
        self._outgoing.clear()


def _duplicates(descriptors: Sequence[int]) -> list[int]:
    made: list[int] = []
    try:
        for each in descriptors:
            made.append(os.dup(each))  # noqa: PERF401 - what was made before a failure has to be known
    except OSError:
        _close(made)
        raise
    return made


def _close(descriptors: Sequence[int]) -> None:
    for each in descriptors:
        os.close(each)
