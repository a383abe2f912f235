"""Grants that end by themselves: whoever was let through by one is asked about again when its time is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshproxy.policy.document import Rule
    from meshproxy.settings.load import Configuration
    from meshproxy.wire.relay import Wall

_LOOK_EVERY = 1.0


class Grants:
    """The grants of one configuration that have an end; `on_end` is told once of each, by its file."""

    def __init__(
        self, configuration: Configuration, wall: Wall, on_end: Callable[[list[tuple[str, Rule]]], None]
    ) -> None:
        self._wall = wall
        self._on_end = on_end
        self._looked_at = wall()
        self.replace(configuration)

    def __repr__(self) -> str:
        return f"<Grants ending={len(self._ending)}>"

    def replace(self, configuration: Configuration) -> None:
        """Follow the grants of this configuration from now on."""
        policies = {policy.file: policy for policy in configuration.policies.values()}
        self._ending = [
            (policy.file, rule) for policy in policies.values() for rule in policy.rules if rule.expires is not None
        ]

    async def follow(self) -> None:
        """Look until cancelled; a wall clock that jumps is fine.

        A task of its own: a file system that hangs must not prolong a grant.
        """
        while True:
            await trio.sleep(_LOOK_EVERY)
            self.look()

    def look(self) -> None:
        """Tell of what has ended since the last look."""
        before, now = self._looked_at, self._wall()
        self._looked_at = now
        ended = [(file, rule) for file, rule in self._ending if rule.expired(now) and not rule.expired(before)]
        if ended:
            self._on_end(ended)
