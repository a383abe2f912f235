"""A CA to be asked, and whoever asks it for one directory."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from meshproxy.enroll.approach import Approach
from meshproxy.enroll.client import CaClient
from meshproxy.enroll.errand import Errands
from meshproxy.enroll.holding import Holding
from meshproxy.wire.dial import Resolver
from meshproxy.wire.sweep import Sweeper
from tests.enroll.ca_room import CaRoom

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import trio

    from meshproxy.enroll.faults import EnrolmentError


@dataclass
class Customer:
    """A directory, and errands for it; `off_by` is how wrong its clock is."""

    errands: Errands
    directory: Path
    off_by: timedelta = timedelta(0)
    told: list[EnrolmentError] = field(default_factory=list)

    @property
    def wall(self) -> datetime:
        return datetime.now(UTC) + self.off_by


@dataclass
class Visitors:
    """Makes customers."""

    sweeper: Sweeper
    workspace: Path

    def one(self, name: str = "web", resolver: Resolver | None = None) -> Customer:
        customer: Customer

        def wall() -> datetime:
            return customer.wall

        def told(fault: EnrolmentError) -> None:
            customer.told.append(fault)

        directory = self.workspace / name
        client = CaClient(Approach(resolver or Resolver(), self.sweeper, wall), told)
        customer = Customer(Errands(Holding(directory), client, wall), directory)
        return customer


@pytest.fixture
async def room(nursery: trio.Nursery, tmp_path: Path) -> AsyncIterator[CaRoom]:
    made = await CaRoom.open(nursery, tmp_path / "of-ca")
    yield made
    made.close()


@pytest.fixture
async def visitors(nursery: trio.Nursery, tmp_path: Path) -> Visitors:
    sweeper = Sweeper()
    await nursery.start(sweeper.run)
    return Visitors(sweeper, tmp_path)


@pytest.fixture
def web(visitors: Visitors) -> Customer:
    return visitors.one()
