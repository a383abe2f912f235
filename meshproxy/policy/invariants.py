"""What must hold of allow-lists whoever edits them: a promise about grants, proved over patterns and not by samples.

# invariants.toml, in the directory of the allow-lists
[[invariant]]
name = "admin-is-for-pay"
services = ["/payments"]             # whose lists; patterns; left out: all
methods = ["DELETE"]                 # what it is about; left out: any
paths = ["/admin/**"]                # likewise
only = ["/team-pay/**"]              # nobody else may be granted it; []: nobody at all
reason = "PCI 7.2"

[[invariant]]
name = "somebody-answers"
require = ["owner"]                  # of every rule: owner, reason, expires
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from meshproxy.policy.document import method as read_method
from meshproxy.policy.document import note
from meshproxy.policy.grants import EVERY_PATH, Example, grants_of
from meshproxy.policy.match import IdentityPattern, PathPattern, spelt
from meshproxy.policy.overlaps import OverlapTree
from meshproxy.policy.regions import MOST_STEPS, Steps, TooIntricate, intersection, uncovered
from meshproxy.toml import Judge, parse_toml, written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from ca.spiffe_id import TrustDomain
    from meshproxy.policy.document import Rule
    from meshproxy.policy.grants import Grant
    from meshproxy.policy.match import Segments
    from meshproxy.toml import Table

FILE: Final = "invariants.toml"
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_KEYS: Final = ("owner", "reason", "expires")
_MOST_STEPS: Final = 10 * MOST_STEPS  # of all proofs about one list together
_ANY_METHOD: Final = "GET"  # an example of any


@dataclass(frozen=True, slots=True)
class Invariant:
    """One promise: of who may be granted something (`only` is not None), or of what every rule says (`require`)."""

    name: str
    file: str
    line: int
    services: tuple[IdentityPattern, ...] | None = None
    methods: tuple[str, ...] | None = None
    paths: tuple[PathPattern, ...] | None = None
    only: tuple[IdentityPattern, ...] | None = None
    require: tuple[str, ...] = ()
    reason: str = ""

    @property
    def wanted(self) -> tuple[Segments, ...]:
        """The patterns of the paths that it is about."""
        return (EVERY_PATH,) if self.paths is None else tuple(each.segments for each in self.paths)

    def is_about(self, service: str) -> bool:
        """Whether it is about the lists of a service, by the path of its identity."""
        segments = service.split("/")[1:]
        return self.services is None or any(pattern.segments.match(segments) for pattern in self.services)


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that breaks a promise: `found` is a phrase; `example` a request that shows it."""

    invariant: Invariant
    rule: Rule
    found: str
    example: Example | None = None


def read_invariants(content: bytes, *, file: str) -> tuple[Invariant, ...]:
    """Read the file that the user knows as `file`; raises FaultyInput with every problem in it."""
    judge = Judge(parse_toml(content, file=file))
    if "invariant" not in judge.root:
        judge.root.problem(
            found="neither an [[invariant]] nor `invariant = []`",
            expected="at least one promise, or the written wish to promise nothing",
            remedy="Add [[invariant]] with `only` or `require` below it, or remove the file",
        )
    tables = judge.root.tables("invariant")
    found = [_read(table, number, file) for number, table in enumerate(tables, 1)]
    judge.verdict()
    return tuple(found)


def violations(
    invariants: Iterable[Invariant], service: str, rules: Iterable[Rule], *, home: TrustDomain | None, now: datetime
) -> Iterator[Violation]:
    """Yield what breaks the promises about a service (the path of its identity) in the rules of its list.

    `home` and `now` as for `grants_of`: who does not know the own trust domain takes full names for strangers' names,
    unless the promise names them in full as well.
    """
    rules = tuple(rules)
    about = [each for each in invariants if each.is_about(service)]
    by_path: OverlapTree[list[tuple[int, Grant]]] = OverlapTree()
    if any(each.only is not None for each in about):
        for numbered in enumerate(grants_of(rules, home=home, now=now)):
            by_path.setdefault(numbered[1].paths, list).append(numbered)
    steps = Steps(_MOST_STEPS)
    for invariant in about:
        yield from _missing_words(invariant, rules, now)
        if invariant.only is not None:
            kept = (each for wanted in invariant.wanted for each in by_path.overlapping(wanted))
            touching = {number: grant for grants in kept for number, grant in grants}
            in_file_order = (touching[number] for number in sorted(touching))
            yield from _outsiders(invariant, invariant.only, in_file_order, home, steps)


def _missing_words(invariant: Invariant, rules: Iterable[Rule], now: datetime) -> Iterator[Violation]:
    for rule in rules:
        missing = [key for key in invariant.require if not getattr(rule, key)]
        if missing and not rule.expired(now):
            yield Violation(invariant, rule, f"it says no {' and no '.join(missing)}")


def _outsiders(
    invariant: Invariant,
    only: tuple[IdentityPattern, ...],
    grants: Iterable[Grant],
    home: TrustDomain | None,
    steps: Steps,
) -> Iterator[Violation]:
    """Who else is granted it; each of a rule's callers is told of once, whatever its paths."""
    own = None if home is None else home.name
    inside: dict[str | None, list[Segments]] = {}
    for each in only:
        inside.setdefault(own if each.trust_domain is None else each.trust_domain.name, []).append(each.segments)
    whom = ", ".join(each.text for each in only) or "nobody"
    outsiders: dict[tuple[str | None, Segments], tuple[str, ...] | None] = {}
    told: set[tuple[int, str | None, Segments]] = set()
    for grant in grants:
        who = grant.domain, grant.callers
        touched = None if (grant.rule.ordinal, *who) in told else _touched(invariant, grant)
        if touched is None:
            continue
        try:
            if who not in outsiders:
                within = inside.get(grant.domain, ())
                outsiders[who] = uncovered(grant.callers, within, empty_end=False, steps=steps.at_most(MOST_STEPS))
            outsider = outsiders[who]
        except TooIntricate:
            words = "it overlaps in so many ways that nobody can tell who is granted this"
            yield Violation(invariant, grant.rule, words)
            return  # nobody can tell of the others either, in any time worth waiting
        if outsider is not None:
            told.add((grant.rule.ordinal, *who))
            example = Example(grant.domain, spelt(outsider), *touched)
            yield Violation(invariant, grant.rule, f"it grants {example}, and only {whom} may be", example)


def _touched(invariant: Invariant, grant: Grant) -> tuple[str, str] | None:
    """A method and a path that a grant and a promise have in common, or None."""
    if invariant.methods is None:
        methods = sorted(grant.methods) if grant.methods is not None else [_ANY_METHOD]
    else:
        methods = sorted(each for each in invariant.methods if grant.methods is None or each in grant.methods)
    common = next((both for each in invariant.wanted if (both := intersection(grant.paths, each)) is not None), None)
    if not methods or common is None:
        return None
    return methods[0], _one_of(common)


def _one_of(pattern: Segments) -> str:
    """A path that a pattern matches."""
    fixed = pattern.fixed or ("any",)
    return spelt(tuple("any" if segment == "*" else segment for segment in fixed))


def _read(table: Table, number: int, file: str) -> Invariant:
    only: tuple[IdentityPattern, ...] | None = None
    if "only" in table:
        # Unlike elsewhere an empty list has a meaning here, and the strictest one: nobody.
        only = table.take_each("only", written(IdentityPattern.parse), (), like='["/team-pay/**"]', may_be_empty=True)
    require = table.take_each("require", written(_key), (), like='["owner"]')
    if only is None and not require:
        table.problem(
            found="neither `only` nor `require`",
            expected="what must hold: `only` (who alone may be granted this), or `require` (what every rule must say)",
            remedy='Add `only = ["/team-pay/**"]` or `require = ["owner"]`',
        )
    return Invariant(
        name=table.take("name", written(_name), f"invariant-{number}", like='"admin-is-for-pay"'),
        file=file,
        line=table.place_of().line,
        services=table.take_each("services", written(_services), None, like='["/payments"]'),
        methods=table.take_each("methods", written(read_method), None, like='["DELETE"]'),
        paths=table.take_each("paths", written(PathPattern.parse), None, like='["/admin/**"]'),
        only=only,
        require=require,
        reason=table.take("reason", written(note), "", like='"why this must hold"'),
    )


def _services(text: str) -> IdentityPattern:
    pattern = IdentityPattern.parse(text)
    if pattern.trust_domain is not None:  # it would be about no service, and promise nothing
        raise ValueError("services of the own trust domain, such as /payments or /team/**")
    return pattern


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("a name of 1 to 64 letters, digits, dots, hyphens and underscores")
    return text


def _key(text: str) -> str:
    if text not in _KEYS:
        raise ValueError(f"one of {', '.join(_KEYS)}")
    return text
