"""The listing of tests/scenarios is the list of promises, one to one."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

HOUSE = Path(__file__).parent.parent
SCENARIOS = {file.stem for file in (HOUSE / "tests/scenarios").glob("test_*.py")}


def named_in(page: str) -> Counter[str]:
    return Counter(re.findall(r"`(test_\w+)`", (HOUSE / "docs" / page).read_text()))


def test_every_scenario_is_a_promise_and_every_promise_has_its_scenario() -> None:
    listed = named_in("promises.md")
    missing = [f"| what it promises | `{name}` |" for name in sorted(SCENARIOS - set(listed))]
    assert not missing, "add to docs/promises.md:\n" + "\n".join(missing)
    assert sorted(set(listed) - SCENARIOS) == []
    assert {name: count for name, count in listed.items() if count > 1} == {}


def test_what_the_threat_model_names_is_there() -> None:
    named = set(named_in("security.md"))
    assert sorted(named - SCENARIOS) == []
    assert len(named) > 50
