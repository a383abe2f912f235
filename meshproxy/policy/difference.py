"""Two allow-lists compared by what they grant, not by their text: what appears, vanishes, widens, narrows.

There is no change if and only if every request is decided alike by both, now and later (rules that expire are compared
for as long as they last).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from meshproxy.policy.grants import Grants, grants_of, of_like_callers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from ca.spiffe_id import TrustDomain
    from meshproxy.policy.document import Rule
    from meshproxy.policy.grants import Example, Grant


class Kind(StrEnum):
    """What became of a grant."""

    APPEARS = "appears"  # nothing like it was granted before
    WIDENS = "widens"  # some of it was
    VANISHES = "vanishes"  # nothing like it is granted any more
    NARROWS = "narrows"  # some of it still is


@dataclass(frozen=True, slots=True)
class Change:
    """A grant of the new list (of the old one: VANISHES, NARROWS) that the other does not grant, with one request.

    The request is decided differently from `since` on, where the other list grants it until then; None: at once.
    """

    kind: Kind
    grant: Grant
    example: Example
    since: datetime | None = None


def difference(
    old: Sequence[Rule], new: Sequence[Rule], *, home: TrustDomain | None, now: datetime
) -> Iterator[Change]:
    """Yield what `new` grants and `old` does not, then what `old` does and `new` does not; each in file order.

    `home` and `now` as for `grants_of`. Raises TooIntricate.
    """
    before, after = (tuple(grants_of(rules, home=home, now=now)) for rules in (old, new))
    yield from _more(after, before, whole=Kind.APPEARS, part=Kind.WIDENS)
    yield from _more(before, after, whole=Kind.VANISHES, part=Kind.NARROWS)


def _more(grants: Sequence[Grant], among: Sequence[Grant], *, whole: Kind, part: Kind) -> Iterator[Change]:
    # Of two versions most is the same; what is so to the letter needs no proof.
    there = {_terms(each) for each in among}
    rest = [each for each in grants if _terms(each) not in there]
    others = Grants(of_like_callers(among, rest))
    for grant in rest:
        example = others.left_of(grant)
        if example is not None:
            is_part = next(others.overlapping(grant), None) is not None
            yield Change(part if is_part else whole, grant, example, others.until(example))


def _terms(grant: Grant) -> tuple[object, ...]:
    return (grant.domain, grant.callers, grant.methods, grant.path, grant.expires)
