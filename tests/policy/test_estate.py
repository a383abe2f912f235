"""The two questions of an auditor are answered as the lists decide."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from hypothesis import given, settings

from ca.spiffe_id import SpiffeId
from meshproxy.policy.document import Document
from meshproxy.policy.estate import accesses, what_can, who_can
from meshproxy.policy.match import PathPattern
from tests.policy.test_difference import CALLERS, HOME, METHODS, NOW, PATHS, plainly_granted, some_rules

if TYPE_CHECKING:
    from meshproxy.policy.document import Rule


@settings(max_examples=40, deadline=None)
@given(some_rules())
def test_who_can_names_a_pattern_of_each_who_is_granted_it_and_of_nobody_else(rules: tuple[Rule, ...]) -> None:
    found = list(accesses({"/api": Document("x", rules, "")}, now=NOW))
    for method, path in product(METHODS, [each for each in PATHS if each != "*"]):
        able = list(who_can(found, method=method, path=PathPattern.parse(path)))
        for caller in CALLERS:
            named = any(each.callers.match(SpiffeId.of(HOME, caller), home=HOME) for each in able)
            assert named == plainly_granted(rules, caller, method, path, NOW)


@settings(max_examples=40, deadline=None)
@given(some_rules(), some_rules())
def test_what_can_names_each_service_that_grants_something(one: tuple[Rule, ...], other: tuple[Rule, ...]) -> None:
    lists = {"/one": one, "/other": other}
    found = list(accesses({name: Document("x", rules, "") for name, rules in lists.items()}, now=NOW))
    for caller in CALLERS:
        able = {each.service for each in what_can(found, SpiffeId.of(HOME, caller), home=HOME)}
        assert able >= {
            name
            for name, rules in lists.items()
            if any(plainly_granted(rules, caller, method, path, NOW) for method, path in product(METHODS, PATHS))
        }
        for each in what_can(found, SpiffeId.of(HOME, caller), home=HOME):
            assert each.rule in lists[each.service]
