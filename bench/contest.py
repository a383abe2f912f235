"""A contest: everybody's pair stands side by side, and turns are taken round after round."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from bench.check import check
from bench.processes import BenchError
from bench.product import Product
from bench.stage import open_stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bench.options import Options
    from bench.pair import Contestant, Mode, Pair
    from bench.peers import Peer
    from bench.processes import Cores
    from bench.results import Block
    from bench.stage import Stage

Sample = dict[str, float]


@dataclass(frozen=True, slots=True)
class Contest:
    """What every row is given: who takes part, on which cores, how often and how long."""

    options: Options
    cores: Cores
    peers: Sequence[Peer]

    def contestants(self, mode: Mode) -> list[Contestant]:
        """Return the product and the peers that can carry a mode."""
        return [Product(), *(peer for peer in self.peers if mode in peer.modes)]

    @contextmanager
    def stage(self) -> Iterator[Stage]:
        """Make a stage for one row, and clear it away."""
        tell("making identities")
        with open_stage(self.cores, self.options) as stage:
            yield stage

    def take_turns(self, measures: Mapping[str, Callable[[], Sample]]) -> dict[str, dict[str, list[float]]]:
        """Measure everybody in turn, round after round; returns samples by what they are of and by contestant.

        Everybody has one turn before the rounds that is not counted: it warms caches, pools and interpreters. Raises
        BenchError naming whose turn it was when anything goes wrong: a figure from half a turn would be a lie.
        """
        samples: dict[str, dict[str, list[float]]] = {}
        for number in range(self.options.rounds + 1):
            for name, measure in measures.items():
                tell(f"round {number} of {self.options.rounds}: {name}" if number else f"warming up {name}")
                try:
                    taken = measure()
                except (BenchError, OSError, ValueError, subprocess.SubprocessError) as error:
                    raise BenchError(f"{name}: {str(error) or type(error).__name__}") from error
                if number:
                    for what, value in taken.items():
                        samples.setdefault(what, {}).setdefault(name, []).append(value)
        return samples


class Row(Protocol):
    """One line of work."""

    @property
    def name(self) -> str:
        """What `--only` calls it."""
        ...

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        ...

    def run(self, contest: Contest) -> list[Block]:
        """Measure it; raises BenchError when that cannot be done rightly."""
        ...


def line_up(stage: Stage, contestants: Sequence[Contestant], mode: Mode, backend: int) -> dict[str, Pair]:
    """Start everybody's pair in front of one backend and try each; raises BenchError naming who is not sound."""
    pairs = {}
    for contestant in contestants:
        tell(f"starting {contestant.name}")
        pairs[contestant.name] = contestant.start(stage, mode, backend)
        check(contestant.name, pairs[contestant.name], stage)
    return pairs


def announce(what: str) -> None:
    """Say on a line that stays what begins now."""
    tell("")
    print(what, file=sys.stderr, flush=True)


def tell(what: str) -> None:
    """Say what is going on, on a terminal only, where the next line takes its place."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)
