"""Grants that end by themselves: told of before, and whoever was let through by one is asked about again after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import trio

from meshproxy.policy.ending import Notice, notice
from meshproxy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from meshproxy.policy.document import Rule
    from meshproxy.settings.load import Configuration
    from meshproxy.telemetry.events import Logger
    from meshproxy.wire.relay import Wall

_LOOK_EVERY = 1.0

# A list may have ten thousand rules that end on one day: so many are spoken of at each look, who ends first at first.
_TOLD_PER_LOOK = 10


class Forewarn(Protocol):
    """Told of a rule that ends soon, by its file."""

    def __call__(self, file: str, rule: Rule, now: datetime) -> None:
        """Take it; the rule has an end, which is after `now`."""


class Grants:
    """The grants of one configuration that have an end; `on_end` is told once of each, by its file.

    `forewarn` is told of each once per configuration and `Notice`: two weeks and one day before.
    """

    def __init__(
        self,
        configuration: Configuration,
        wall: Wall,
        on_end: Callable[[list[tuple[str, Rule]]], None],
        forewarn: Forewarn | None = None,
    ) -> None:
        self._wall = wall
        self._on_end = on_end
        self._forewarn = forewarn
        self._looked_at = wall()
        self.replace(configuration)

    def __repr__(self) -> str:
        return f"<Grants ending={len(self._ending)}>"

    def replace(self, configuration: Configuration) -> None:
        """Follow the grants of this configuration from now on."""
        policies = {policy.file: policy for policy in configuration.policies.values()}
        ending = (
            (rule.expires, policy.file, rule)
            for policy in policies.values()
            for rule in policy.rules
            if rule.expires is not None
        )
        self._ending = [(file, rule) for _, file, rule in sorted(ending, key=lambda each: each[0])]
        self._noticed: dict[tuple[str, str], Notice] = {}  # by file and rule

    async def follow(self) -> None:
        """Look until cancelled; a wall clock that jumps is fine.

        A task of its own: a file system that hangs must not prolong a grant.
        """
        while True:
            await trio.sleep(_LOOK_EVERY)
            self.look()

    def look(self) -> None:
        """Tell of what has ended since the last look, and of what soon will."""
        before, now = self._looked_at, self._wall()
        self._looked_at = now
        ended = [(file, rule) for file, rule in self._ending if rule.expired(now) and not rule.expired(before)]
        if ended:
            self._on_end(ended)
        if self._forewarn is not None:
            self._tell_of_near(self._forewarn, now)

    def _tell_of_near(self, forewarn: Forewarn, now: datetime) -> None:
        told = 0
        for file, rule in self._ending:
            near = notice(rule, now)
            if near is Notice.NONE or told == _TOLD_PER_LOOK:
                return  # those behind it end later still
            if near is Notice.ENDED or near <= self._noticed.get((file, rule.name), Notice.NONE):
                continue
            self._noticed[file, rule.name] = near
            forewarn(file, rule, now)
            told += 1


def log_forewarning(log: Logger) -> Forewarn:
    """Return who writes a warning of each grant that ends soon."""

    def forewarn(file: str, rule: Rule, now: datetime) -> None:
        assert rule.expires is not None  # or nobody would be told
        log.warning(
            "grant_expires",
            rule=rule.name,
            policy=f"{file}:{rule.line}",
            expires=str(rule.expires),
            left=format_duration((rule.expires - now).total_seconds()),
            owner=rule.owner,
            remedy="write a later `expires`, or let it end and remove the rule",
        )

    return forewarn
