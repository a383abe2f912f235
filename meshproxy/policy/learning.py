"""An allow-list proposed from what was seen: exactly that, and the generalisations that are stated beside it.

A path segment that looks like an identifier (a number, a UUID, a hash) becomes `*`; nothing else is generalised. What
comes of the same records is the same text, whatever their order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from meshproxy.policy.document import Rule
from meshproxy.policy.document import method as as_rules_name_it
from meshproxy.policy.grants import Grants, grants_of
from meshproxy.policy.match import IdentityPattern, PathPattern
from meshproxy.policy.regions import TooIntricate
from meshproxy.policy.written import rule_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from ca.spiffe_id import SpiffeId, TrustDomain
    from meshproxy.policy.records import Record

MOST_KINDS: Final = 100_000  # of caller, method and path; a log with more is no service's but a scanner's
_MOST_EXAMPLES: Final = 2

# What an identifier looks like, by kind. A word of letters alone is none, however long.
_IDENTIFIERS: Final = (
    ("a number", re.compile(r"[0-9]+")),
    ("a UUID", re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")),
    ("a hash", re.compile(r"(?=[0-9A-Fa-f]*[0-9])(?=[0-9A-Fa-f]*[A-Fa-f])[0-9A-Fa-f]{8,}")),
    ("a ULID", re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")),
)


_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")


class TooManyKinds(Exception):
    """So many different requests that no list of rules would tell a person anything."""


@dataclass(slots=True)
class Sighting:
    """What was seen of one kind of request: how often, when first and last, and paths that its pattern stands for."""

    count: int = 0
    first: str = ""
    last: str = ""
    examples: set[str] = field(default_factory=set)

    def take(self, ts: str, path: str) -> None:
        """Take one more."""
        self.count += 1
        if _TIME.match(ts):  # it goes into a comment, which it must not end
            self.first = min(self.first or ts, ts)
            self.last = max(self.last, ts)
        # The least ones, so that the order of the records makes no difference.
        self.examples.add(path)
        if len(self.examples) > _MOST_EXAMPLES:
            self.examples.discard(max(self.examples))


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request: who, with which method (empty: a connection), on which path pattern."""

    caller: SpiffeId
    method: str
    path: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """A rule, and what it is proposed for."""

    rule: Rule
    comments: tuple[str, ...]

    @property
    def text(self) -> str:
        """As it goes into a file."""
        return "".join(f"# {line}\n" for line in self.comments) + rule_text(self.rule)


class Learner:
    """Takes records, and proposes."""

    def __init__(self, *, with_denied: bool = False) -> None:
        """Learn from what was let pass; `with_denied`: from what was refused as well."""
        self._with_denied = with_denied
        self._seen: dict[Kind, Sighting] = {}
        self.taken = 0
        self.unwritable: set[str] = set()  # methods and paths that no rule names

    def __repr__(self) -> str:
        return f"<Learner of {len(self._seen)} kinds>"

    @property
    def mixes_connections_and_requests(self) -> bool:
        """Whether both were seen: a rule for connections, in a list that judges requests, would grant all of them."""
        return len({bool(kind.method) for kind in self._seen}) > 1

    @property
    def callers(self) -> frozenset[SpiffeId]:
        """Who was seen."""
        return frozenset(kind.caller for kind in self._seen)

    def take(self, record: Record) -> None:
        """Take one; what is no decision on an authenticated caller is passed over. Raises TooManyKinds."""
        if not record.is_decision or (record.decision == "deny" and not self._with_denied):
            return
        try:
            caller = record.identity()
        except ValueError:
            return
        if not caller.path:
            return  # a trust domain's own name, which no service has and no rule can grant
        path = generalised(record.path) if record.method else ""
        if record.method and not _is_writable(record.method, record.path):
            if len(self.unwritable) < _MOST_EXAMPLES * 10:
                self.unwritable.add(f"{record.method} {record.path}")
            return
        kind = Kind(caller, record.method, path)
        if kind not in self._seen and len(self._seen) >= MOST_KINDS:
            raise TooManyKinds
        self._seen.setdefault(kind, Sighting()).take(record.ts, record.path)
        self.taken += 1

    def propose(self, home: TrustDomain, *, against: Iterable[Rule] = (), now: datetime) -> Iterator[Proposal]:
        """Yield rules that grant what was seen and `against` does not, in order of their callers.

        One rule for all callers that were seen with just the same methods on just the same paths. `home` is the trust
        domain whose identities are written short.
        """
        there = Grants(grants_of(against, home=home, now=now))
        missing = [kind for kind in self._seen if not _is_granted(kind, there, home, now)]
        by_caller: dict[SpiffeId, dict[str, set[str]]] = {}
        for kind in missing:
            by_caller.setdefault(kind.caller, {}).setdefault(kind.path, set()).add(kind.method)
        same: dict[tuple[tuple[str, ...], tuple[str, ...]], list[SpiffeId]] = {}
        for caller, paths in by_caller.items():
            by_methods: dict[tuple[str, ...], list[str]] = {}
            for path, methods in paths.items():
                by_methods.setdefault(tuple(sorted(methods)), []).append(path)
            for asked, among in by_methods.items():
                same.setdefault((asked, tuple(sorted(among))), []).append(caller)
        whole = [(sorted(_named(each, home) for each in callers), what, callers) for what, callers in same.items()]
        for ordinal, (names, (asked, on), callers) in enumerate(sorted(whole, key=lambda each: each[:2]), 1):
            kinds = [Kind(caller, method, path) for caller in callers for method in asked for path in on]
            yield Proposal(_rule(ordinal, names, asked, on), tuple(self._comments(kinds, home)))

    def _comments(self, kinds: list[Kind], home: TrustDomain) -> Iterator[str]:
        seen = [self._seen[kind] for kind in kinds]
        total = sum(each.count for each in seen)
        what = "request" if kinds[0].method else "connection"
        first = min((each.first for each in seen if each.first), default="")
        last = max(each.last for each in seen)
        when = f", {first[:19]} to {last[:19]}" if first != last else f", {first[:19]}" if first else ""
        yield f"{total:,} {what}{'s' if total != 1 else ''}{when}"
        for path in sorted({kind.path for kind in kinds}):
            if looks := looks_like(path, {e for k in kinds if k.path == path for e in self._seen[k].examples}):
                yield looks
        counts: dict[SpiffeId, int] = {}
        for kind, each in zip(kinds, seen, strict=True):
            counts[kind.caller] = counts.get(kind.caller, 0) + each.count
        for once in sorted(_named(caller, home) for caller, count in counts.items() if count == 1):
            yield f"REVIEW: {once} was seen once"


def generalised(path: str) -> str:
    """Return a path with `*` in the place of each segment that looks like an identifier."""
    return "/".join("*" if _kind_of(segment) else segment for segment in path.split("/"))


def looks_like(pattern: str, examples: Iterable[str]) -> str:
    """Say what the `*` of a pattern stand for, with examples; empty where there is none."""
    shown = sorted(examples)
    if not shown or "*" not in pattern.split("/"):
        return ""
    kinds = dict.fromkeys(kind for path in shown for segment in path.split("/") if (kind := _kind_of(segment)))
    return f"{pattern}: * stands for {' or '.join(sorted(kinds))}, as in {', '.join(shown)}"


def _kind_of(segment: str) -> str:
    return next((kind for kind, pattern in _IDENTIFIERS if pattern.fullmatch(segment)), "")


def _is_writable(method: str, path: str) -> bool:
    try:
        as_rules_name_it(method)
        PathPattern.parse(path)
    except ValueError:
        return False
    # A segment that is a `*` as it was sent would be a pattern, and grant more than was seen.
    return "*" not in path


def _named(caller: SpiffeId, home: TrustDomain) -> str:
    return caller.path if caller.trust_domain == home else str(caller)


def _rule(ordinal: int, names: list[str], methods: tuple[str, ...], paths: tuple[str, ...]) -> Rule:
    callers = tuple(map(IdentityPattern.parse, names))
    if methods == ("",):
        return Rule(f"rule-{ordinal}", ordinal, 0, callers)
    return Rule(f"rule-{ordinal}", ordinal, 0, callers, methods, tuple(map(PathPattern.parse, paths)))


def _is_granted(kind: Kind, there: Grants, home: TrustDomain, now: datetime) -> bool:
    rule = _rule(1, [_named(kind.caller, home)], (kind.method,), (kind.path,))
    try:
        return all(there.left_of(grant) is None for grant in grants_of((rule,), home=home, now=now))
    except TooIntricate:
        return False
