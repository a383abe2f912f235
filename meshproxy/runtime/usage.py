"""Which rules of a listener have granted nothing: told from what is counted anyway, when somebody asks; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from meshproxy.policy.compile import Policy
    from meshproxy.policy.document import Rule


@dataclass(frozen=True, slots=True)
class _Standing:
    """A rule as it stands: whom it grants what since when, and what had been granted by its name before."""

    grants: tuple[object, ...]
    since: datetime
    before: int


class Usage:
    """Remembers of each rule since when it says what it says; an edit of others, of its name's place or end is none."""

    def __init__(self) -> None:
        self._standing: dict[str, _Standing] = {}

    def __repr__(self) -> str:
        return f"<Usage of {len(self._standing)} rules>"

    def judged_by(self, policy: Policy, granted: Mapping[str, int], now: datetime) -> None:
        """Take note of another allow-list; `granted` counts what was granted so far, by rule."""
        before, self._standing = self._standing, {}
        for rule in policy.rules:
            old, grants = before.get(rule.name), _grants(rule)
            stays = old is not None and old.grants == grants
            self._standing[rule.name] = (
                old if stays and old is not None else _Standing(grants, now, granted.get(rule.name, 0))
            )

    def unused(self, policy: Policy, granted: Mapping[str, int], now: datetime) -> dict[datetime, list[str]]:
        """Return the rules that could have granted and did not, in file order, by since when that is so."""
        found: dict[datetime, list[str]] = {}
        for rule in policy.rules:
            standing = self._standing.get(rule.name)
            if standing is not None and granted.get(rule.name, 0) == standing.before and not rule.expired(now):
                found.setdefault(standing.since, []).append(rule.name)
        return found


def _grants(rule: Rule) -> tuple[object, ...]:
    return rule.callers, rule.methods, rule.paths
