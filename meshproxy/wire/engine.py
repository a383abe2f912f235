"""Which engine this system has."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from meshproxy.wire.epoll_readiness import EpollReadiness
from meshproxy.wire.trio_readiness import TrioReadiness

if TYPE_CHECKING:
    from meshproxy.wire.readiness import Readiness


def make_readiness() -> Readiness:
    """Return the best engine this system has."""
    return EpollReadiness() if hasattr(select, "epoll") else TrioReadiness()
