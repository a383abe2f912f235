"""Asking a sidecar's admin API: one GET of one path, bounded in time and size, whatever is at the other end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import h11
import trio

from meshproxy.wire.address import UnixAddress

if TYPE_CHECKING:
    from meshproxy.wire.address import Address

_CHUNK: Final = 64 * 1024
_MOST_HEAD: Final = 16 * 1024
_MOST_WORDS: Final = 300  # characters of an error that are told on
_GONE: Final = "nothing listens there"


class NoAnswer(Exception):
    """There was no good answer; the text is a phrase for people, `status` the status of HTTP if it came to that."""

    def __init__(self, words: str, status: int = 0) -> None:
        super().__init__(words)
        self.status = status


async def get(address: Address, target: str, *, within: float, most: int) -> bytes:
    """Return the body of the answer to a GET of `target`, of at most `most` bytes, within so many seconds.

    Raises NoAnswer.
    """
    try:
        with trio.fail_after(within):
            return await _get(address, target, most)
    except trio.TooSlowError:
        raise NoAnswer(f"no answer within {within:g} s") from None
    except (ConnectionRefusedError, FileNotFoundError):
        raise NoAnswer(_GONE) from None
    except h11.RemoteProtocolError:
        raise NoAnswer("what answers there speaks no HTTP") from None
    except (OSError, trio.BrokenResourceError) as error:
        raise NoAnswer(_in_words(error)) from None


def _in_words(error: BaseException) -> str:
    """What the system said: trio wraps it, once or twice, in errors that only say that nothing worked."""
    while not (isinstance(error, OSError) and error.strerror) and error.__cause__ is not None:
        error = error.__cause__
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
    if isinstance(error, ConnectionRefusedError):
        return _GONE
    words = error.strerror if isinstance(error, OSError) else None
    return f"the connection failed: {(words or type(error).__name__).lower()}"


async def _get(address: Address, target: str, most: int) -> bytes:
    stream: trio.SocketStream
    if isinstance(address, UnixAddress):
        stream = await trio.open_unix_socket(address.path)
    else:
        stream = await trio.open_tcp_stream(address.host, address.port)
    async with stream:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST_HEAD)
        headers = [(b"host", b"localhost"), (b"accept", b"application/json"), (b"connection", b"close")]
        request = connection.send(h11.Request(method=b"GET", target=target.encode("ascii"), headers=headers)) or b""
        await stream.send_all(request + (connection.send(h11.EndOfMessage()) or b""))
        status, body = await _answer(connection, stream, most)
    if status != 200:
        words = body.decode("utf-8", "replace").strip()[:_MOST_WORDS]
        raise NoAnswer(words or f"it answered {status}", status)
    return body


async def _answer(connection: h11.Connection, stream: trio.SocketStream, most: int) -> tuple[int, bytes]:
    status, size = 0, 0
    parts: list[bytes] = []
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            if status:
                raise NoAnswer("it broke off in the middle of its answer") from None
            raise
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(_CHUNK))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            size += len(event.data)
            if size > most:
                raise NoAnswer(f"its answer is longer than {most >> 20} MiB, which no sidecar says")
            parts.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            return status, b"".join(parts)
        elif isinstance(event, h11.ConnectionClosed):
            raise NoAnswer("it broke off before its answer")
