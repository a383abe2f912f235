"""A document made quick to ask: an index that finds the rules which may grant one caller, and one of its requests.

The first index is a tree over the segments of identities, one per trust domain; below each of its patterns is an index
over the requests that the rules there grant.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from meshproxy.policy.requests import RequestRules
from meshproxy.policy.tree import PatternTree

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ca.spiffe_id import SpiffeId, TrustDomain
    from meshproxy.policy.document import Document, Rule
    from meshproxy.policy.match import IdentityPattern
    from meshproxy.policy.requests import RequestIndex

# A rule of up to this many caller patterns, or paths, is written below each of its callers. One with more of both is
# in an index that its callers share, one for all rules of the same `from`: a thousand callers times a thousand paths
# would be a million entries out of a file of some kilobytes.
_FEW: Final = 16

_NEVER: Final = datetime.max.replace(tzinfo=UTC)


class _Grants:
    """What one caller pattern is granted: the rules that name it, in file order, and where their requests are found."""

    __slots__ = ("indexes", "rules")

    def __init__(self) -> None:
        self.rules: list[int] = []
        self.indexes: tuple[RequestIndex, ...] = ()  # the own one, and those shared with other patterns

    def __repr__(self) -> str:
        return f"<_Grants of {len(self.rules)} rules in {len(self.indexes)} indexes>"


@dataclass(frozen=True, slots=True)
class Policy:
    """A compiled allow-list; it does not depend on the own trust domain, which is named when deciding.

    `generation` is which load of the file this is, `content_hash` what was loaded.
    """

    file: str
    generation: int
    content_hash: str
    rules: tuple[Rule, ...]
    _index: Mapping[str | None, PatternTree[_Grants]]  # by trust domain; None: the own one, whichever it is
    _ends: Sequence[datetime]  # of all rules that expire, rising

    def __repr__(self) -> str:
        return f"<Policy {self.file} generation {self.generation} ({self.content_hash}), {len(self.rules)} rules>"

    def candidates(self, caller: SpiffeId, *, home: TrustDomain) -> Iterator[Rule]:
        """Yield, in file order, the rules whose `from` grants `caller`; expiry, methods and paths are not looked at.

        A rule comes once for each of its patterns that matches.
        """
        found = [grants.rules for grants in self._find(caller, home)]
        in_order: Iterable[int] = found[0] if len(found) == 1 else heapq.merge(*found)
        return map(self.rules.__getitem__, in_order)

    def request_indexes(self, caller: SpiffeId, *, home: TrustDomain) -> Sequence[RequestIndex]:
        """Return the indexes that together hold the rules whose `from` grants `caller`; none if there is no such."""
        found = self._find(caller, home)
        return found[0].indexes if len(found) == 1 else [index for grants in found for index in grants.indexes]

    def _find(self, caller: SpiffeId, home: TrustDomain) -> list[_Grants]:
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
    index: dict[str | None, PatternTree[_Grants]] = {}
    own: dict[_Grants, RequestRules] = {}
    shared: dict[frozenset[IdentityPattern], tuple[RequestRules, list[_Grants]]] = {}
    methods: dict[frozenset[str] | None, frozenset[str] | None] = {}  # equal sets are one: they stay in the CPU's cache
    for number, rule in enumerate(document.rules):
        allowed = None if rule.methods is None else frozenset(rule.methods)
        allowed = methods.setdefault(allowed, allowed)
        callers = dict.fromkeys(rule.callers)  # `from = ["/web", "/web"]`
        places = [_place(index, pattern) for pattern in callers]
        for grants in places:
            grants.rules.append(number)
        if min(len(callers), len(rule.paths or ())) <= _FEW:
            for grants in places:
                own.setdefault(grants, RequestRules()).add(number, rule, allowed)
        else:
            group, _ = shared.setdefault(frozenset(callers), (RequestRules(), places))
            group.add(number, rule, allowed)
    for grants, rules in own.items():
        grants.indexes = (rules.index(),)
    for rules, places in shared.values():
        request_index = rules.index()
        for grants in places:
            grants.indexes += (request_index,)
    ends = sorted({rule.expires for rule in document.rules if rule.expires is not None})
    return Policy(document.file, generation, document.content_hash, document.rules, index, ends)


def _place(index: dict[str | None, PatternTree[_Grants]], pattern: IdentityPattern) -> _Grants:
    domain = None if pattern.trust_domain is None else pattern.trust_domain.name
    if (tree := index.get(domain)) is None:
        tree = index[domain] = PatternTree()
    return tree.setdefault(pattern.segments, _Grants())
