"""Python before 3.11.5 (Debian 12 has 3.11.2) matches possessive and atomic groups wrongly: cpython#106052.

There `"(?:a|b)*+"` may accept what it must not. Possessive classes, `[ab]*+`, are sound everywhere.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from typing import TYPE_CHECKING

import pytest

import ca
import meshproxy

if TYPE_CHECKING:
    from collections.abc import Iterator

POSSESSIVE_GROUP = re.compile(r"\)(?:[*+?]|\{[0-9,]*\})\+|\(\?>")
IN_BRACKETS = re.compile(r"\[\^?\]?(?:[^\]\\]|\\.)*\]")


def modules() -> list[str]:
    return [
        module.name
        for package in (ca, meshproxy)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not module.name.endswith("__main__")
    ]


def patterns(name: str) -> Iterator[str]:
    for value in vars(importlib.import_module(name)).values():
        if isinstance(value, re.Pattern):
            yield value.pattern if isinstance(value.pattern, str) else value.pattern.decode("latin-1")


def is_possessive_group(pattern: str) -> bool:
    bare = IN_BRACKETS.sub("[]", pattern.replace("\\\\", "").replace("\\[", "").replace("\\)", ""))
    return POSSESSIVE_GROUP.search(bare) is not None


@pytest.mark.parametrize("pattern", ["(?:a|b)*+", "(a)++", "(?:a)?+", "(?:a){2,3}+", "(?>a|b)"])
def test_what_is_not_to_be_used_is_known(pattern: str) -> None:
    assert is_possessive_group(pattern)
    assert not is_possessive_group("[(a)]*+ [^()*+]++ \\)+")


@pytest.mark.parametrize("name", modules())
def test_no_pattern_is_possessive_about_a_group(name: str) -> None:
    assert [pattern for pattern in patterns(name) if is_possessive_group(pattern)] == []
