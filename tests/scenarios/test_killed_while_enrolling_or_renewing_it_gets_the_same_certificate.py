"""kill -9 at every touch of the disk, while enrolling and while renewing: no half identity, no second certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from trio._core import _thread_cache

from ca import premises
from ca.rows import Lineage
from meshproxy.enroll.approach import Approach
from meshproxy.enroll.client import CaClient
from meshproxy.enroll.errand import Errands
from meshproxy.enroll.holding import Holding
from meshproxy.identity.material import MissingIdentity, read_material
from meshproxy.runtime.telling import wall_clock
from meshproxy.settings.schema import IdentitySettings
from meshproxy.wire.dial import Resolver
from meshproxy.wire.sweep import Sweeper
from tests.crashes import killed_at_every_step
from tests.scenarios.authority import CaServer, serve
from tests.scenarios.enrolled import invite

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from ca.svid import Leaf
    from meshproxy.enroll.errand import Taken
    from tests.scenarios.stage import Stage


@pytest.fixture(scope="module")
def ca(shared_stage: Stage) -> CaServer:
    return serve(shared_stage)


def go(directory: Path, errand: Callable[[Errands], Awaitable[Taken]]) -> Taken:
    """One errand, as the commands do it."""
    _thread_cache.THREAD_CACHE._idle_workers.clear()  # those of the parent did not come along in the fork

    async def run() -> Taken:
        sweeper = Sweeper()
        client = CaClient(Approach(Resolver(), sweeper, wall_clock))
        async with trio.open_nursery() as nursery:
            await nursery.start(sweeper.run)
            taken = await errand(Errands(Holding(directory), client, wall_clock))
            nursery.cancel_scope.cancel()
        return taken

    return trio.run(run)


def leaf_in(directory: Path) -> Leaf | None:
    """Whose identity lies there, as a sidecar reads it; None when there is none yet. Half of one raises."""
    try:
        return read_material(IdentitySettings(directory)).leaf
    except MissingIdentity:
        return None


@pytest.mark.long
def test_while_enrolling(shared_stage: Stage, ca: CaServer) -> None:
    directory, token = shared_stage.workspace / "killed-enrol", invite(ca, "/web")
    steps = 0
    for _ in killed_at_every_step(lambda: go(directory, lambda errands: errands.enrol(token))):
        steps += 1
        leaf = leaf_in(directory)
        issued = ca.issued("/web")
        assert len(issued) <= 1
        assert leaf is None or f"{leaf.serial:x}" == issued[0].serial
    assert steps > 20
    taken = go(directory, lambda errands: errands.enrol(token))
    assert [f"{taken.held.leaf.serial:x}"] == [each.serial for each in ca.issued("/web")]
    assert not (directory / "pending" / "key.pem").exists()


@pytest.mark.long
def test_while_renewing(shared_stage: Stage, ca: CaServer) -> None:
    directory, token = shared_stage.workspace / "killed-renew", invite(ca, "/api")
    first = go(directory, lambda errands: errands.enrol(token)).held.leaf
    serials = [f"{first.serial:x}"]

    def renew() -> None:
        go(directory, lambda errands: errands.renew(leaf_of(directory)))

    for _ in killed_at_every_step(renew):
        leaf = leaf_in(directory)
        assert leaf is not None
        serial = f"{leaf.serial:x}"
        if serial != serials[-1]:
            serials.append(serial)
        issued = {each.serial: each.generation for each in ca.issued("/api")}
        assert max(issued.values()) - issued[serial] <= 1  # at most the one whose answer was lost
    with premises.ledger_of(ca.directory) as ledger, ledger.reading() as view:
        assert not any(each.suspect for each in view.every(Lineage))
    renew()
    generations = [each.generation for each in ca.issued("/api")]
    assert generations == list(range(1, len(generations) + 1))


def leaf_of(directory: Path) -> str:
    leaf = leaf_in(directory)
    assert leaf is not None
    return leaf.fingerprint
