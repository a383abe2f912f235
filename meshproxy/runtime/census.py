"""What the workers of a sidecar say of themselves, asked of all at once, and what those had counted that have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from meshproxy.admin.merge import remembered
from meshproxy.runtime.control import Report, Roster
from meshproxy.runtime.life import Life
from meshproxy.runtime.samples import combined, lasting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from meshproxy.admin.roster import ConnectionRow
    from meshproxy.admin.status import Status
    from meshproxy.runtime.control import Account
    from meshproxy.runtime.life import Reply, Said
    from meshproxy.runtime.member import Member
    from meshproxy.runtime.samples import Sample

_ACCOUNT = 0.3  # seconds to say what has happened; what comes later is taken with the next
_REPORT = 1.0  # seconds to say how it is; who scrapes does not wait long


class Census:
    """Asks whoever fills the places of `members`; who does not answer in time is left out."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members
        self.gone: Status | None = None  # what workers that have ended had counted
        self._gone_samples: list[Sample] = []
        self._accounts: list[Account] = []  # the last ones of workers that have ended

    def __repr__(self) -> str:
        return f"<Census of {len(self._members)}>"

    async def reports(self) -> list[tuple[Member, Report]]:
        """Ask all how they are."""
        return [(member, said) for member, said in await self._ask(Life.tell, _REPORT) if isinstance(said, Report)]

    @property
    def last(self) -> list[Report]:
        """What each has said last of itself, also who has not answered since."""
        return [each.report for each in self._members if each.report is not None]

    def samples(self, own: Iterable[Sample] = ()) -> list[Sample]:
        """Return the numbers of the sidecar as all told them last; `own` are the supervisor's.

        Who has not answered is counted as it was when it did: no total goes backwards.
        """
        return combined(own, [each.samples for each in self.last], self._gone_samples)

    async def accounts(self) -> list[Account]:
        """Ask all what has happened since; returns what was said, also by those that have ended meanwhile."""
        await self._ask(Life.recount, _ACCOUNT)
        found, self._accounts = self._accounts, []
        for member in self._members:
            if member.life is not None:
                found += member.life.accounts
                member.life.accounts.clear()
        return found

    async def roster(self, most: int) -> tuple[list[ConnectionRow], int]:
        """Ask all who is connected; returns the newest `most`, newest first, and how many are left out."""
        said = await self._ask(lambda life: life.who_is_there(most), _REPORT)
        rosters = [each for _, each in said if isinstance(each, Roster)]
        found = [row for each in rosters for row in each.connections]
        found.sort(key=lambda row: row.since, reverse=True)
        return found[:most], sum(each.more for each in rosters) + max(len(found) - most, 0)

    def let_go(self, member: Member) -> None:
        """Remember what a worker had counted that has ended."""
        if member.life is not None:
            self._accounts += member.life.accounts
        last, member.life = member.report, None
        if last is not None:
            self.gone = remembered(self.gone, last.status)
            self._gone_samples = combined((), [lasting(last.samples)], self._gone_samples)

    async def _ask(self, question: Callable[[Life], Reply], within: float) -> list[tuple[Member, Said]]:
        """Ask all who have something to serve by; together they have so many seconds to answer."""
        asked = [(each, question(each.life)) for each in self._members if each.life is not None and each.generation]
        deadline = trio.current_time() + within
        return [(member, await reply.get(max(deadline - trio.current_time(), 0.0))) for member, reply in asked]
