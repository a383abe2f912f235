"""What is fuzzed: a function that takes any bytes and raises for none of them, unless something is wrong.

A target stands in a file of its own below `targets/`, as `TARGET`. It asserts what must hold whatever comes: no
exception but the documented refusals, and an oracle where there is one (another reader, a way there and back).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_HERE = Path(__file__).resolve().parent
FINDINGS = _HERE / "findings"


@dataclass(frozen=True)
class Target:
    """Something to be fuzzed.

    run     takes the bytes; raises what was not to be raised
    seeds   where to begin: sound input, and input that is nearly so
    words   what means something there, to be strewn in
    """

    run: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()


def names() -> list[str]:
    """All targets there are."""
    return sorted(path.stem for path in (_HERE / "targets").glob("*.py"))


def load(name: str) -> Target:
    """The target of a name."""
    target = importlib.import_module(f"tests.fuzz.targets.{name}").TARGET
    assert isinstance(target, Target)
    return target


def found_before(name: str) -> dict[str, bytes]:
    """What once broke a target, by the names of the files: it stays with the tests, and must not again."""
    return {path.name: path.read_bytes() for path in sorted((FINDINGS / name).glob("*"))}
