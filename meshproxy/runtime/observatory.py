"""All pages about one sidecar, and the task that explains refusals to those who listen to its events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from meshproxy.dashboard import assets
from meshproxy.runtime.chronicle import Chronicle
from meshproxy.runtime.telling import wall_clock
from meshproxy.runtime.traffic_pages import TrafficPages
from meshproxy.runtime.trust_pages import TrustPages

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meshproxy.admin.answers import Inquiry
    from meshproxy.runtime.trust_pages import Subject


class Observatory:
    """What is to be seen of `subject`, whose admin server is at `address`; `file` names it while it has no identity."""

    def __init__(self, file: str, address: str, subject: Subject) -> None:
        self.chronicle = chronicle = Chronicle(wall_clock)
        self._traffic = TrafficPages(file, address, chronicle, subject)
        self._trust = TrustPages(chronicle, subject, wall_clock)

    def __repr__(self) -> str:
        return f"<Observatory {self.chronicle!r}>"

    def all(self) -> Mapping[str, Inquiry]:
        """Return every page by its path."""
        return {**self._traffic.all(), **self._trust.all(), **assets.views()}

    async def tell_denials(self) -> None:
        """Tell those who listen of refusals, explained, until cancelled."""
        async for refused in self.chronicle.refused:
            for row in await self._trust.explained([refused]):
                self.chronicle.feed.tell("denial", msgspec.json.encode(row))
