"""What was measured, as values that are saved and read back: samples, what they are held against, who was missing."""

from __future__ import annotations

import msgspec


class Must(msgspec.Struct, frozen=True, omit_defaults=True):
    """A bound the product has to keep.

    limit, goal   the bound, and where we want to stand
    against       the peers whose best the ratio is taken to; none: the bound is on the figure itself
    """

    limit: float
    goal: float | None = None
    against: tuple[str, ...] = ()


class Block(msgspec.Struct, frozen=True, omit_defaults=True):
    """One figure of everybody who was measured, smaller being better.

    subject    who the ratios are about
    samples    by contestant, one per round; those of one round belong together
    floor      what the kernel and the cryptography alone take, one per round
    also       other things seen meanwhile, by name and contestant: throughput, latencies
    note       what a reader must know to read it rightly
    """

    row: str
    title: str
    unit: str
    subject: str
    samples: dict[str, list[float]]
    floor: list[float] = []
    musts: tuple[Must, ...] = ()
    also: dict[str, dict[str, list[float]]] = {}
    note: str = ""


class Report(msgspec.Struct, frozen=True):
    """One run of the benchmark.

    machine, versions   by what they are of
    missing             peers that were not here, and how to get them
    failures            rows that could not be measured, and why
    """

    date: str
    command: str
    machine: dict[str, str]
    versions: dict[str, str]
    options: dict[str, str]
    missing: dict[str, str]
    blocks: list[Block]
    failures: dict[str, str]


def to_json(report: Report) -> bytes:
    """Encode for saving."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1)


def from_json(raw: bytes) -> Report:
    """Decode what was saved; raises msgspec.ValidationError."""
    return msgspec.json.decode(raw, type=Report)
