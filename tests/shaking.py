"""Handshakes in tests: how long they may take is the test's own scope."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from meshproxy.wire.sweep import Sweeper

if TYPE_CHECKING:
    from meshproxy.wire.tls import TlsConnection


async def shake(tls: TlsConnection) -> None:
    """Carry out one side of a handshake."""
    await tls.handshake(Sweeper(), within=math.inf)
    await tls.flush()
