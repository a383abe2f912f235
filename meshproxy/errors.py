"""What can be wrong with something a person wrote, told so that the person can mend it.

A `Problem` is one fault in one file; `FaultyInput` carries all of them at once, because being told of ten mistakes
one at a time is nine runs too many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault under judgement.

    `file` is the path as the user wrote or would recognise it, `line` counts from 1 (None when the fault has no line:
    a missing file, a binary key), `where` is the key path inside the file (`inbound[0].forward`) or empty.
    `found` and `expected` are phrases without a full stop; `remedy` is an imperative sentence, with the command to
    type where there is one. No field ever holds key material or a passphrase.
    """

    file: str
    found: str
    expected: str
    remedy: str
    line: int | None = None
    where: str = ""

    def __str__(self) -> str:
        """`sidecar.toml:12: inbound[0].forward: found ...; expected ... -> remedy`, on one line."""
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        subject = f"{self.where}: " if self.where else ""
        return f"{place}: {subject}found {self.found}; expected {self.expected} -> {self.remedy}"


class FaultyInput(Exception):
    """Files under judgement are faulty; `problems` lists every fault found, in file and line order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.file, p.line or 0)))
        super().__init__("\n".join(map(str, self.problems)))


class StartError(Exception):
    """The sidecar cannot start for a reason outside its files (an address in use); its text is one clear sentence."""
