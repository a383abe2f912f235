"""What a promise of the demo is, what is seen when it is tried, and how both are said."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from examples.shop.stage import TRUST_DOMAIN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from examples.shop.caller import Answer
    from examples.shop.processes import LogLine
    from examples.shop.stage import Stage


class Group(Enum):
    """What a promise is about."""

    IDENTITY = "identity: who gets in"
    HTTP = "HTTP: what may be asked"
    WIRE = "wire: when machines and cables fail"
    CHANGES = "changes: while everything runs"


@dataclass(frozen=True, slots=True)
class Evidence:
    """A line of a sidecar's log that explains what was seen."""

    sidecar: str
    line: LogLine


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a try: whether the promise was kept, what happened in words, and what the sidecars said."""

    kept: bool
    words: str
    evidence: tuple[Evidence, ...] = ()

    @property
    def told(self) -> tuple[Evidence, ...]:
        """The evidence that there is: a line that was waited for in vain is none."""
        return tuple(each for each in self.evidence if each.line)


@dataclass(frozen=True, slots=True)
class Promise:
    """One row: what is tried, what is expected, and how to try it."""

    group: Group
    name: str
    tried: str
    expected: str
    show: Callable[[Stage], Awaitable[Seen]]


def spiffe_id(path: str) -> str:
    """Return the whole identity of `/web` and the like."""
    return f"spiffe://{TRUST_DOMAIN}{path}"


def booked(stage: Stage, answer: Answer) -> tuple[bool, str]:
    """Whether the order in the answer is in both databases with the same amount, and how it stands in words."""
    number = answer.fields.get("order")
    if not isinstance(number, int):
        return False, f"no order: {answer.error or answer.data[:200]!r}"
    order = stage.look_up("orders", "SELECT state, cents FROM orders WHERE number = ?", number)
    charge = stage.look_up("ledger", "SELECT cents FROM charges WHERE reference = ?", f"order-{number}")
    if order is None or charge is None:
        return False, f"order {number}: {order} in orders.db, {charge} in ledger.db"
    state, cents = order
    same = (state, cents) == ("charged", charge[0])
    return same, f"order {number}: {cents} cents{' in both' if same else f' ({state}), {charge[0]} in the ledger'}"
