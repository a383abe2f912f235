"""Who competes, and with what: a pair of proxies, plain in, mutual TLS between them, plain out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.processes import Process
    from bench.stage import Stage


class Mode(StrEnum):
    """What a pair carries."""

    TCP = "tcp"
    HTTP = "http"


@dataclass(frozen=True, slots=True)
class Pair:
    """A running pair on 127.0.0.1.

    entry     port of the client-side proxy, where the application connects plainly
    door      port of the server-side proxy, where mutual TLS is spoken
    """

    entry: int
    door: int
    client_side: Process
    server_side: Process

    @property
    def pids(self) -> Iterable[int]:
        """Both processes; what they started hangs below them."""
        return (self.client_side.pid, self.server_side.pid)


class Contestant(Protocol):
    """Somebody who can carry a mode: the product in one of its forms, or a peer."""

    @property
    def name(self) -> str:
        """As the table calls it."""
        ...

    def start(self, stage: Stage, mode: Mode, backend: int) -> Pair:
        """Start a pair in front of a backend's port, and wait until it listens."""
        ...
