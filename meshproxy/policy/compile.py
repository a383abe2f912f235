"""A document made quick to ask: an index that finds the rules which may grant one caller, and one of its requests.

The first index is over identities, one per trust domain; below each of its patterns is an index over the requests that
the rules there grant.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from meshproxy.policy.patterns import patterns_of
from meshproxy.policy.requests import RequestRules

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ca.spiffe_id import SpiffeId, TrustDomain
    from meshproxy.policy.document import Document, Rule
    from meshproxy.policy.match import IdentityPattern, Segments
    from meshproxy.policy.patterns import Patterns
    from meshproxy.policy.requests import RequestIndex

# A rule of up to this many caller patterns, or paths, is written below each of its callers. One with more of both is
# in an index that its callers share, one for all rules of the same `from`: a thousand callers times a thousand paths
# would be a million entries out of a file of some kilobytes.
_FEW: Final = 16

_NEVER: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Policy:
    """A compiled allow-list; it does not depend on the own trust domain, which is named when deciding.

    `generation` is which load of the file this is, `content_hash` what was loaded.
    """

    file: str
    generation: int
    content_hash: str
    rules: tuple[Rule, ...]
    _index: Mapping[str | None, Patterns[RequestIndex]]  # by trust domain; None: the own one, whichever it is
    _ends: Sequence[datetime]  # of all rules that expire, rising
    wants_records: bool  # whether some rule has its grants recorded, whatever the listener says

    def __repr__(self) -> str:
        return f"<Policy {self.file} generation {self.generation} ({self.content_hash}), {len(self.rules)} rules>"

    def candidates(self, caller: SpiffeId, *, home: TrustDomain) -> Iterator[Rule]:
        """Yield, in file order, the rules whose `from` grants `caller`; expiry, methods and paths are not looked at.

        A rule comes once for each of its patterns that matches.
        """
        found = [index.rules for index in self.request_indexes(caller, home=home)]
        in_order: Iterable[int] = found[0] if len(found) == 1 else heapq.merge(*found)
        return map(self.rules.__getitem__, in_order)

    def request_indexes(self, caller: SpiffeId, *, home: TrustDomain) -> Sequence[RequestIndex]:
        """Return the indexes that together hold the rules whose `from` grants `caller`; none if there is no such."""
        domain = caller.trust_domain.name
        named = self._index.get(domain)
        found = named.find(caller.path) if named is not None else []
        if domain == home.name and (own := self._index.get(None)) is not None:
            found += own.find(caller.path)
        return found

    def unchanged_until(self, now: datetime) -> datetime:
        """Return when a rule that grants at `now` (aware) grants no more: until then the clock changes no decision."""
        ended = bisect_right(self._ends, now)
        return self._ends[ended] if ended < len(self._ends) else _NEVER

    def expired(self, now: datetime) -> tuple[Rule, ...]:
        """Return the rules that no longer grant at `now` (aware), in file order; worth a warning, never an error."""
        return tuple(rule for rule in self.rules if rule.expired(now))


def compile_policy(document: Document, *, generation: int = 1) -> Policy:
    """Compile a faultless document; `generation` counts the loads of this file, from 1."""
    by_domain: dict[str | None, dict[Segments, RequestRules]] = {}
    shared: dict[frozenset[IdentityPattern], RequestRules] = {}
    methods: dict[frozenset[str] | None, frozenset[str] | None] = {}  # equal sets are one: they stay in the CPU's cache
    for number, rule in enumerate(document.rules):
        allowed = None if rule.methods is None else frozenset(rule.methods)
        allowed = methods.setdefault(allowed, allowed)
        callers = dict.fromkeys(rule.callers)  # `from = ["/web", "/web"]`
        places = [_place(by_domain, pattern) for pattern in callers]
        for place in places:
            place.name(number)
        if min(len(callers), len(rule.paths or ())) <= _FEW:
            for place in places:
                place.add(rule, allowed)
            continue
        group = shared.get(among := frozenset(callers))
        if group is None:
            group = shared[among] = RequestRules()
            for place in places:
                place.shared.append(group)
        group.add(rule, allowed)
    index = {
        domain: patterns_of({pattern: place.index() for pattern, place in places.items()})
        for domain, places in by_domain.items()
    }
    ends = sorted({rule.expires for rule in document.rules if rule.expires is not None})
    wants_records = any(rule.recorded for rule in document.rules)
    return Policy(document.file, generation, document.content_hash, document.rules, index, ends, wants_records)


def _place(by_domain: dict[str | None, dict[Segments, RequestRules]], pattern: IdentityPattern) -> RequestRules:
    domain = None if pattern.trust_domain is None else pattern.trust_domain.name
    return by_domain.setdefault(domain, {}).setdefault(pattern.segments, RequestRules())
