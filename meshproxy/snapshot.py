"""A value that is swapped whole: policy and identity are read once per decision, a reload replaces them once."""

from __future__ import annotations

from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class Snapshot(Generic[T]):
    """Holds the current value and its generation (1 for the first), and wakes who waits for the next one.

    Readers take `value` once and decide on that; nothing is ever changed inside it, and only `replace` sets another.
    `generation` is how many there have been.
    """

    def __init__(self, value: T) -> None:
        self.value = value
        self.generation = 1
        self._replaced = trio.Event()

    def __repr__(self) -> str:
        return f"<Snapshot generation={self.generation} {self.value!r}>"

    def replace(self, value: T) -> None:
        """Make `value` the current one and wake everybody who waits; synchronous, so nobody sees half a swap."""
        self.value = value
        self.generation += 1
        replaced, self._replaced = self._replaced, trio.Event()
        replaced.set()

    async def newer_than(self, generation: int) -> int:
        """Wait until the generation exceeds `generation` and return it; returns at once if it does already."""
        while self.generation <= generation:
            await self._replaced.wait()
        return self.generation
