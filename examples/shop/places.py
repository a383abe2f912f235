"""Where a demo takes place: a directory of its own, with its files, and ports that nobody else has."""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import socket
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from examples.shop.processes import StageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_PORT: Final = re.compile(r"(?<=127\.0\.0\.1:)[0-9]+")
_PORTS: Final = range(20_000, 32_000)  # below those the kernel gives to outgoing connections
_LONGEST: Final = 60  # characters: a unix socket's path below it must stay under 108


@contextmanager
def workspace(prefix: str, to_be_kept: Callable[[], bool]) -> Iterator[Path]:
    """Make a directory, and remove it on leaving unless it is `to_be_kept`."""
    usual = tempfile.gettempdir()
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir=usual if len(usual) < _LONGEST else "/tmp"))
    try:
        yield directory
    finally:
        if not to_be_kept():
            shutil.rmtree(directory)


def lay_out(files: Iterable[str], *, of: Path, into: Path) -> dict[int, int]:
    """Copy files, with a free port in the place of every port written; returns which became which."""
    texts = {file: (of / file).read_text() for file in files}
    written = sorted({port for text in texts.values() for port in _PORT.findall(text)})
    ports = dict(zip(written, map(str, free_ports(len(written))), strict=True))
    for file, text in texts.items():
        place = into / file
        place.parent.mkdir(exist_ok=True)
        place.write_text(_PORT.sub(lambda match: ports[match[0]], text))
    return {int(before): int(after) for before, after in ports.items()}


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, and that the kernel hands to nobody before we do. Raises StageError."""
    free: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        with closing(socket.socket()) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            free.append(port)
        if len(free) == count:
            return free
    raise StageError(f"no {count} free ports from {_PORTS.start} to {_PORTS.stop}")
