"""Taking over from the sidecar that runs: asking it for its listeners, and relieving it once this one serves."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final

import trio

from meshproxy import __version__
from meshproxy.errors import StartError
from meshproxy.runtime.control import Broken, Channel
from meshproxy.runtime.handover import PATH, TOKEN, Answered, Asked, Claim, Estate, Refusal, Relieved, Serving
from meshproxy.wire.address import UnixAddress
from meshproxy.wire.inherited import Inheritance, handed_over

if TYPE_CHECKING:
    from meshproxy.settings.schema import AdminSettings

_TO_ANSWER: Final = 10.0  # seconds for a process that runs
_LONGEST_HEAD: Final = 4096
_GOES_ON: Final = "the running one goes on"


class Predecessor:
    """The sidecar that runs, and the connection to it: while that is open and nothing is said, it waits."""

    def __init__(self, sock: socket.socket, estate: Estate, inherited: Inheritance) -> None:
        self._sock = sock
        self._estate = estate
        self.inherited = inherited

    def __repr__(self) -> str:
        return f"<Predecessor pid={self._estate.pid} pieces={len(self._estate.pieces)}>"

    @classmethod
    def ask(cls, admin: AdminSettings) -> Predecessor:
        """Ask who runs for the listeners, before anything of this process runs; raises StartError."""
        if not isinstance(admin.listen, UnixAddress):
            raise StartError(
                f"taking over needs an admin unix socket, and the file says {admin.listen}:"
                ' write [admin] listen = "unix:admin.sock" in it, restart once, and take over from then on'
            )
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(_TO_ANSWER)
            _switch(sock, admin.listen)
            estate, descriptors = trio.run(_claim, sock.dup())
        except BaseException:
            sock.close()
            raise
        named = ((piece.name, piece.lent, each) for piece, each in zip(estate.pieces, descriptors, strict=True))
        return cls(sock, estate, handed_over(named))

    @property
    def shift(self) -> int:
        """Which set of audit files is ours: the other one is locked until its process has drained."""
        return 1 - self._estate.shift

    @property
    def pid(self) -> int:
        """Its process."""
        return self._estate.pid

    async def relieve(self) -> bool:
        """Have it drain: this process serves. Returns whether it said that it does, or else is gone by now.

        Raises StartError when it refuses: then it is this process that has to end.
        """
        channel = Channel[Answered](self._sock, Answered)
        try:
            answer = await _answer(channel, Serving(tuple(offer.name for offer in self.inherited.taken)))
        finally:
            channel.close()
        if isinstance(answer, Broken):
            raise StartError(f"the sidecar that runs (pid {self.pid}) does not keep to the frames: {answer}")
        if isinstance(answer, Refusal):
            raise StartError(f"the sidecar that runs (pid {self.pid}) refuses: {answer.reason}; {_GOES_ON}")
        self.inherited.settle()
        return isinstance(answer, Relieved)

    def leave(self) -> None:
        """Let it go on: this process will not serve. After `relieve` it does nothing."""
        self.inherited.undo()
        self._sock.close()


def _switch(sock: socket.socket, address: UnixAddress) -> None:
    """Connect and ask for the upgrade, reading not one byte beyond the head of the answer."""
    asked = (
        f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: {TOKEN.decode()}\r\n"
        "Content-Length: 0\r\n\r\n"
    )
    head = b""
    try:
        sock.connect(address.path)
        sock.sendall(asked.encode("ascii"))
        while not head.endswith(b"\r\n\r\n") and len(head) < _LONGEST_HEAD and (byte := sock.recv(1)):
            head += byte
        refused = b"" if head.startswith(b"HTTP/1.1 101 ") else sock.recv(_LONGEST_HEAD)
    except (ConnectionRefusedError, FileNotFoundError):
        raise StartError(
            f"no sidecar answers at {address}, so there is nothing to take over: start it without --take-over"
        ) from None
    except OSError as error:
        raise StartError(f"cannot ask the sidecar at {address}: {error.strerror or error}; {_GOES_ON}") from None
    if not head.startswith(b"HTTP/1.1 101 "):
        status = head.partition(b" ")[2][:3].decode("ascii", "replace")
        why = refused.decode("ascii", "replace").strip() if status == "403" else f"it answered {status or 'nothing'}"
        old = " (an older version, which cannot hand over?)" if status == "404" else ""
        raise StartError(f"the sidecar at {address} does not hand over: {why}{old}; {_GOES_ON}")


async def _claim(sock: socket.socket) -> tuple[Estate, list[int]]:
    channel = Channel[Answered](sock, Answered)
    try:
        answer = await _answer(channel, Claim(__version__, os.getpid()))
        descriptors = channel.take_descriptors()
    finally:
        channel.close()
    if isinstance(answer, Estate) and len(descriptors) == len(answer.pieces):
        return answer, descriptors
    for each in descriptors:
        os.close(each)
    match answer:
        case Estate(pieces=pieces):
            came = f"{len(descriptors)} descriptors came for {len(pieces)} listeners: raise the limit of open files"
        case Refusal(reason):
            came = f"the sidecar that runs does not hand over: {reason}"
        case Broken():
            came = f"what answers is another version that frames differently ({answer})"
        case _:
            came = "the sidecar that runs does not answer"
    raise StartError(f"{came}; {_GOES_ON}")


async def _answer(channel: Channel[Answered], message: Asked) -> Answered | Broken | None:
    """Say something, and return what is answered in time; None: nothing, or it has ended."""
    answer: Answered | Broken | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.run)
        channel.say(message)
        with trio.move_on_after(_TO_ANSWER):
            try:
                answer = await channel.hear()
            except Broken as broken:
                answer = broken
        nursery.cancel_scope.cancel()
    return answer
