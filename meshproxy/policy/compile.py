"""A document made quick to ask: an index that finds the rules which may grant one caller.

The index is a tree over path segments, one per trust domain, with the `*` of patterns as one more kind of branch.
Ten thousand rules are looked up like ten; an identity of a thousand segments costs no more than the deepest pattern.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshproxy.policy.match import ANY_SEGMENT, identity_segments

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from ca.spiffe_id import SpiffeId, TrustDomain
    from meshproxy.policy.document import Document, Rule
    from meshproxy.policy.match import Segments


class _Node:
    """One place in the tree; the lists hold rule indices in file order."""

    __slots__ = ("below", "branches", "here")

    def __init__(self) -> None:
        self.branches: dict[str, _Node] = {}  # by literal segment, and by `*` (no identity has a segment `*`)
        self.here: list[int] = []  # rules with a pattern that ends here
        self.below: list[int] = []  # rules with a pattern that grants this and everything below

    def __repr__(self) -> str:
        return f"<_Node {len(self.branches)} branches, {len(self.here)} here, {len(self.below)} below>"

    def add(self, pattern: Segments, rule: int) -> None:
        node = self
        for segment in pattern.fixed:
            node = node.branches.setdefault(segment, _Node())
        rules = node.below if pattern.open_ended else node.here
        if not rules or rules[-1] != rule:  # `from = ["/web", "/web"]`
            rules.append(rule)

    def find(self, segments: list[str]) -> list[list[int]]:
        """Return the lists whose patterns match; the places that match so far are walked side by side."""
        found = [self.below] if self.below else []
        places = [self]
        for segment in segments:
            reached = []
            for place in places:
                for branch in (segment, ANY_SEGMENT):
                    if (node := place.branches.get(branch)) is not None:
                        reached.append(node)
                        if node.below:
                            found.append(node.below)
            if not reached:
                return found
            places = reached
        found.extend(place.here for place in places if place.here)
        return found


@dataclass(frozen=True, slots=True)
class Policy:
    """A compiled allow-list; it does not depend on the own trust domain, which is named when deciding.

    `generation` is which load of the file this is, `content_hash` what was loaded.
    """

    file: str
    generation: int
    content_hash: str
    rules: tuple[Rule, ...]
    _index: Mapping[TrustDomain | None, _Node]  # None: the own trust domain, whichever it is

    def __repr__(self) -> str:
        return f"<Policy {self.file} generation {self.generation} ({self.content_hash}), {len(self.rules)} rules>"

    def candidates(self, caller: SpiffeId, *, home: TrustDomain) -> Iterator[Rule]:
        """Yield, in file order, the rules whose `from` grants `caller`; expiry, methods and paths are not looked at."""
        segments = identity_segments(caller)
        found: list[list[int]] = []
        if caller.trust_domain == home and (tree := self._index.get(None)) is not None:
            found += tree.find(segments)
        if (tree := self._index.get(caller.trust_domain)) is not None:
            found += tree.find(segments)
        in_order: Iterable[int] = found[0] if len(found) == 1 else heapq.merge(*found)
        return map(self.rules.__getitem__, in_order)

    def expired(self, now: datetime) -> tuple[Rule, ...]:
        """Return the rules that no longer grant at `now` (aware), in file order; worth a warning, never an error."""
        return tuple(rule for rule in self.rules if rule.expired(now))


def compile_policy(document: Document, *, generation: int = 1) -> Policy:
    """Compile a faultless document; `generation` counts the loads of this file, from 1."""
    index: dict[TrustDomain | None, _Node] = {}
    for number, rule in enumerate(document.rules):
        for pattern in rule.callers:
            index.setdefault(pattern.trust_domain, _Node()).add(pattern.segments, number)
    return Policy(document.file, generation, document.content_hash, document.rules, index)
