"""What whoever starts the benchmark may choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """Choices for one run.

    rounds      how often each contestant's turn comes; figures are medians over them
    seconds     of load per turn
    held        connections held open in the memory row
    rate        requests per second in the constant-rate rows
    peer_logs   whether peers write an access log as the product does
    """

    rounds: int = 7
    seconds: int = 3
    held: int = 8000
    rate: int = 2000
    peer_logs: bool = True
    ghostunnel: Path | None = None

    def told(self) -> dict[str, str]:
        """Return the choices as the report tells them."""
        return {
            "rounds": str(self.rounds),
            "seconds per turn": str(self.seconds),
            "held": str(self.held),
            "rate": f"{self.rate}/s",
            "peers' access logs": "on" if self.peer_logs else "off",
        }
