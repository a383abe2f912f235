"""Asking an admin server: one bounded, patient GET over TCP or a unix socket, and what went wrong in words."""

from __future__ import annotations

import http.client
import socket
import time
from typing import TYPE_CHECKING, Final

from meshproxy.cli.terminal import fail, os_error_words, print_problems
from meshproxy.errors import FaultyInput
from meshproxy.settings.load import load_admin
from meshproxy.wire.address import UnixAddress

if TYPE_CHECKING:
    from pathlib import Path

    from meshproxy.wire.address import Address

PATIENCE: Final = 5.0
_MOST: Final = 32 << 20  # bytes of an answer; the longest an honest sidecar gives is some of them
_CHUNK: Final = 64 * 1024


class NoAnswer(Exception):
    """The sidecar could not be asked; the text is a sentence for people."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, *, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def get(
    address: Address, path: str, *, within: float = PATIENCE, starting: str = "meshproxy run FILE"
) -> tuple[int, bytes]:
    """Return the status and the body of a page; `starting` is the command that starts who should answer.

    Raises NoAnswer when nobody answers within so many seconds, or too much.
    """
    connection: http.client.HTTPConnection
    if isinstance(address, UnixAddress):
        connection = _UnixConnection(address.path, timeout=within)
    else:
        connection = http.client.HTTPConnection(address.host, address.port, timeout=within)
    deadline = time.monotonic() + within
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, _whole(response, address, deadline)
    except (ConnectionRefusedError, FileNotFoundError):
        raise NoAnswer(f"no sidecar answers at {address}; start it with: {starting}") from None
    except (OSError, http.client.HTTPException) as error:
        words = os_error_words(error) if isinstance(error, OSError) else "it speaks no HTTP"
        raise NoAnswer(f"cannot ask the sidecar at {address}: {words}") from error
    finally:
        connection.close()


def get_good(address: Address, path: str, *, within: float = PATIENCE) -> bytes:
    """Return the body of a page; a status other than 200 raises NoAnswer too."""
    status, body = get(address, path, within=within)
    if status != http.client.OK:
        said = body[:200].decode("ascii", "replace").strip()
        raise NoAnswer(f"what answers at {address} says {status} to {path.partition('?')[0]}: {said}")
    return body


def admin_address(file: Path) -> Address:
    """Return where the sidecar of `file` is asked. Ends the command when the file does not say it."""
    try:
        return load_admin(file).listen
    except FaultyInput as faulty:
        print_problems(faulty.problems)
        fail(f"{file} does not say where its sidecar can be asked")


def _whole(response: http.client.HTTPResponse, address: Address, deadline: float) -> bytes:
    """Read an answer to its end; one that drips, or has none, is given up."""
    body = bytearray()
    while part := response.read1(_CHUNK):
        body += part
        if len(body) > _MOST:
            raise NoAnswer(f"what answers at {address} says more than {_MOST >> 20} MiB; it is no sidecar")
        if time.monotonic() > deadline:
            raise NoAnswer(f"the sidecar at {address} answers too slowly")
    return bytes(body)
