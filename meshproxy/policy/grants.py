"""Allow-lists by what they mean: what each rule grants, and whether others grant all of it.

A rule is taken apart into grants, one for each of its caller patterns and path patterns. Whether some grants cover
another is proved over patterns (`regions`): callers first, then methods, then paths, each only as far as it matters.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Final

from meshproxy.policy.match import ANY_SEGMENT, Segments, spelt
from meshproxy.policy.overlaps import OverlapTree
from meshproxy.policy.regions import Steps, covers, regions, uncovered

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence
    from datetime import datetime

    from ca.spiffe_id import TrustDomain
    from meshproxy.policy.document import Rule

EVERY_PATH: Final = Segments((), open_ended=True)
ASTERISK: Final = "*"  # the target of OPTIONS that is no path (RFC 9112 section 3.2.4); rules without `paths` grant it
_OPTIONS: Final = "OPTIONS"
_OTHER_METHOD: Final = "OTHER"
_LIKELY_METHOD: Final = "GET"
_SOME_SEGMENT: Final = "other"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a rule grants by one of its callers and one of its paths.

    `domain` is the trust domain's name, None for the own one where nobody said which it is; `methods` and `path` are
    None for any. Until `expires`, or for ever.
    """

    domain: str | None
    callers: Segments
    methods: frozenset[str] | None
    path: Segments | None
    expires: datetime | None
    rule: Rule

    @property
    def paths(self) -> Segments:
        """The pattern of its paths."""
        return EVERY_PATH if self.path is None else self.path

    def outlasts(self, other: Grant) -> bool:
        """Whether it holds for as long as the other does, once both do."""
        return self.expires is None or (other.expires is not None and self.expires >= other.expires)

    def covers(self, other: Grant) -> bool:
        """Whether it alone grants all that the other does, for as long."""
        return (
            self.domain == other.domain
            and (self.methods is None or (other.methods is not None and other.methods <= self.methods))
            and (self.path is None or (other.path is not None and covers(self.path, other.path)))
            and covers(self.callers, other.callers)
            and self.outlasts(other)
        )


@dataclass(frozen=True, slots=True)
class Example:
    """One request: who, and what; the caller's path within its trust domain."""

    domain: str | None
    caller: str
    method: str
    path: str

    def __str__(self) -> str:
        who = self.caller if self.domain is None else f"spiffe://{self.domain}{self.caller}"
        return f"{who} {self.method} {self.path}"


def grants_of(rules: Iterable[Rule], *, home: TrustDomain | None, now: datetime) -> Iterator[Grant]:
    """Take rules apart, in file order; those that have expired at `now` (aware) grant nothing.

    `home` is the trust domain that short patterns speak of; None: nobody knows, and they are told apart from all full
    ones.
    """
    own = None if home is None else home.name
    for rule in rules:
        if rule.expired(now):
            continue
        methods = None if rule.methods is None else frozenset(rule.methods)
        for caller in dict.fromkeys(rule.callers):
            domain = own if caller.trust_domain is None else caller.trust_domain.name
            for path in (None,) if rule.paths is None else dict.fromkeys(rule.paths):
                segments = None if path is None else path.segments
                yield Grant(domain, caller.segments, methods, segments, rule.expires, rule)


def of_like_callers(grants: Iterable[Grant], others: Iterable[Grant]) -> Iterator[Grant]:
    """Yield those of `grants` whose callers may be among those of `others`; no other has anything to do with them."""
    trees: dict[str | None, OverlapTree[bool]] = {}
    for each in others:
        trees.setdefault(each.domain, OverlapTree()).setdefault(each.callers, lambda: True)
    known: dict[tuple[str | None, Segments], bool] = {}
    for each in grants:
        who = (each.domain, each.callers)
        if who not in known:
            tree = trees.get(each.domain)
            known[who] = tree is not None and next(tree.overlapping(each.callers), False)
        if known[who]:
            yield each


class Grants:
    """Many grants, to be asked about what overlaps with one and whether they cover it."""

    def __init__(self, grants: Iterable[Grant] = ()) -> None:
        self._trees: dict[str | None, OverlapTree[OverlapTree[list[Grant]]]] = {}
        self._count = 0
        for grant in grants:
            self.add(grant)

    def __repr__(self) -> str:
        return f"<Grants {self._count}>"

    def add(self, grant: Grant) -> None:
        """Add one; a repetition of what is there adds nothing."""
        by_caller = self._trees.setdefault(grant.domain, OverlapTree())
        same: list[Grant] = by_caller.setdefault(grant.callers, OverlapTree).setdefault(grant.paths, list)
        if not any(each.covers(grant) for each in same):
            same.append(grant)
            self._count += 1

    def overlapping(self, grant: Grant) -> Iterator[Grant]:
        """Yield those that grant some request that `grant` grants, at some time, in no order."""
        tree = self._trees.get(grant.domain)
        for by_path in () if tree is None else tree.overlapping(grant.callers):
            for found in by_path.overlapping(grant.paths):
                yield from (each for each in found if _share_a_method(each, grant))

    def left_of(self, grant: Grant, *, steps: Steps | None = None) -> Example | None:
        """Return a request that `grant` grants and none of these does for as long, or None: they cover it.

        Mostly one request tells: nobody else grants it, or somebody who grants all of them. Only where it does not,
        the proof is made, which costs `steps`. Raises TooIntricate.
        """
        caller, path = _one_of(grant.callers), _one_of(grant.paths)
        there = [each for each in self._granting(grant.domain, caller, path) if each.outlasts(grant)]
        if any(each.covers(grant) for each in there):
            return None
        for method in sorted(grant.methods) if grant.methods is not None else (_LIKELY_METHOD,):
            if not any(_grants_method(each, method) for each in there):
                return Example(grant.domain, spelt(caller), method, spelt(path))
        others = [each for each in self.overlapping(grant) if each.outlasts(grant)]
        return _left(grant, others, steps or Steps())

    def covering(self, grant: Grant) -> Grant | None:
        """Return the first in file order that alone grants all that `grant` does, for as long, or None."""
        there = self._granting(grant.domain, _one_of(grant.callers), _one_of(grant.paths))
        return min((each for each in there if each.covers(grant)), key=lambda each: each.rule.ordinal, default=None)

    def until(self, example: Example) -> datetime | None:
        """Return when the last of these that grants a request, and does so not for ever, ends; None: none does."""
        caller = example.caller.split("/")[1:]
        path = (_SOME_SEGMENT,) if example.path == ASTERISK else example.path.split("/")[1:]
        there = (each for each in self._granting(example.domain, caller, path) if _grants_method(each, example.method))
        ends = [each.expires for each in there if example.path != ASTERISK or each.path is None]
        return max((each for each in ends if each is not None), default=None)

    def _granting(self, domain: str | None, caller: Sequence[str], path: Sequence[str]) -> Iterator[Grant]:
        """Those that grant one caller one path, at some time, with some method."""
        tree = self._trees.get(domain)
        for by_path in () if tree is None else tree.matching(caller):
            for found in by_path.matching(path):
                yield from found


def _one_of(pattern: Segments) -> tuple[str, ...]:
    """A path that a pattern matches, and few others do."""
    fixed = tuple(_SOME_SEGMENT if segment == ANY_SEGMENT else segment for segment in pattern.fixed)
    return (*fixed, _SOME_SEGMENT) if pattern.open_ended else fixed


def _left(grant: Grant, others: Sequence[Grant], steps: Steps) -> Example | None:
    seen: set[frozenset[int]] = set()
    for region in regions(grant.callers, [each.callers for each in others], empty_end=False, steps=steps):
        for method in _methods(grant, [others[number] for number in region.among]):
            among = frozenset(number for number in region.among if _grants_method(others[number], method))
            # Only what is left of the paths depends on these: the same ones leave the same. `*` is OPTIONS' alone.
            if method != _OPTIONS and among in seen:
                continue
            path = _left_path(grant, [others[number] for number in among], method, steps)
            if path is not None:
                return Example(grant.domain, spelt(region.example), method, path)
            seen.add(among)
    return None


def _left_path(grant: Grant, others: Sequence[Grant], method: str, steps: Steps) -> str | None:
    if any(each.path is None for each in others):
        return None
    found = uncovered(grant.paths, [each.paths for each in others], empty_end=True, steps=steps)
    if found is not None:
        return spelt(found)
    return ASTERISK if grant.path is None and method == _OPTIONS else None


def _methods(grant: Grant, others: Sequence[Grant]) -> Iterator[str]:
    """The methods worth trying: each that is granted by name, or each that somebody names, and another one."""
    if grant.methods is not None:
        yield from sorted(grant.methods)
        return
    named = {_OPTIONS}.union(*(each.methods for each in others if each.methods is not None))
    yield from sorted(named)
    yield _not_among(named)


def _not_among(named: Container[str]) -> str:
    names = (_OTHER_METHOD if number == 1 else f"{_OTHER_METHOD}-{number}" for number in count(1))
    return next(name for name in names if name not in named)


def _grants_method(grant: Grant, method: str) -> bool:
    return grant.methods is None or method in grant.methods


def _share_a_method(one: Grant, other: Grant) -> bool:
    return one.methods is None or other.methods is None or bool(one.methods & other.methods)
