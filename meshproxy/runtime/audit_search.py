"""Looking for decisions in the audit logs of one sidecar, from the newest line back; blocks on the disk."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Final

from meshproxy.audit.lines import LONGEST, Decision, read_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from meshproxy.audit.query import Question

_BLOCK: Final = 256 * 1024
_MOST_BYTES: Final = 64 << 20  # read for one question: a third of a second


@dataclass(frozen=True, slots=True)
class Found:
    """Decisions, the newest first; `more`: there are others, or not all was read."""

    records: Sequence[Decision]
    more: bool


@dataclass(slots=True)
class _Budget:
    """How much may still be read."""

    bytes: int = field(default=_MOST_BYTES)


def audit_files(file: Path) -> list[list[Path]]:
    """Return the logs that are kept at `file`: a list for each process, the newest first.

    Several workers write `audit.1.jsonl`, `audit.2.jsonl`; what was put aside has a number behind its name.
    """
    # The number of a worker, and of the last line of what was put aside: that has twelve digits, and may have a chain.
    ours = re.compile(rf"{re.escape(file.stem)}(\.\d{{1,5}})?{re.escape(file.suffix)}(\.\d{{12,}}(?:\..+)?)?")
    try:
        names = [path.name for path in file.parent.iterdir()]
    except OSError:
        return []
    chains: dict[str, list[tuple[str, Path]]] = {}
    for name in names:
        found = ours.fullmatch(name)
        if found is not None:
            # What is written now comes first: `~` sorts behind every digit.
            chains.setdefault(found[1] or "", []).append((found[2] or "~", file.with_name(name)))
    return [[path for _, path in sorted(chain, reverse=True)] for _, chain in sorted(chains.items())]


def search(files: Callable[[], list[list[Path]]], question: Question, limit: int) -> Found:
    """Return the newest `limit` decisions that match."""
    budget = _Budget()
    chains = [_decisions(chain, question, budget) for chain in files()]
    newest_first = merge(*chains, key=lambda decision: decision.ts, reverse=True)
    found = list(islice(newest_first, limit + 1))
    return Found(found[:limit], len(found) > limit or budget.bytes <= 0)


def _decisions(chain: Sequence[Path], question: Question, budget: _Budget) -> Iterator[Decision]:
    since = question.since
    for file in chain:
        for line in _lines_backwards(file, budget):
            body = read_body(line)
            if not isinstance(body, Decision):
                continue  # nor what is no line: being written, or cut by a crash; `audit verify` tells of the rest
            if question.match(body):
                yield body
            elif since is not None and body.ts < since.strftime("%Y-%m-%dT%H:%M:%S"):
                return  # what stands before it is older still


def _lines_backwards(file: Path, budget: _Budget) -> Iterator[bytes]:
    try:
        with file.open("rb") as stream:
            end, rest = stream.seek(0, os.SEEK_END), b""
            while end > 0 and budget.bytes > 0:
                start = max(end - _BLOCK, 0)
                stream.seek(start)
                block = stream.read(end - start) + rest
                budget.bytes -= end - start
                end = start
                first, *lines = block.split(b"\n")
                yield from (line for line in reversed(lines) if line)
                rest = first[-LONGEST:]
            if rest and end == 0:
                yield rest
    except OSError:
        return  # put aside this very moment, or not ours to read
