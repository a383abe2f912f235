"""Who may open an upstream connection, who waits for one, and who is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from meshproxy.errors import Failure
from meshproxy.upstream.pool import Pool, UpstreamConnection
from meshproxy.upstream.queue import NoUpstreamConnection, Queue
from tests.upstream.test_pool import stand  # noqa: F401 - a fixture
from tests.wire.conftest import buffers, contexts, engine, wires  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from trio.testing import MockClock

    from meshproxy.upstream.endpoint import OnFailure
    from tests.inbound.conftest import Peer
    from tests.upstream.test_pool import Stand


class Upstreams:
    """Dials on the stand, and counts."""

    def __init__(self, stand: Stand, *, most: int = 2, longest: int = 2, idle: float = 3.0) -> None:  # noqa: F811
        self.stand = stand
        queue = Queue[UpstreamConnection](most=most, longest=longest, within=5.0)
        self.pool = stand.pool = Pool(stand.engine, stand.sweeper, idle=idle, most=100 if idle else 0, queue=queue)
        self.generation = 0
        self.dialled = 0
        self.failure: Exception | None = None
        self.peers: list[Peer] = []

    def resting(self) -> UpstreamConnection | None:
        return self.pool.take(generation=self.generation)

    async def dial(self, on_failure: OnFailure) -> UpstreamConnection:
        del on_failure
        self.dialled += 1
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure
        connection, peer = self.stand.bare()
        connection.generation = self.generation
        self.peers.append(peer)
        return connection

    async def fetch(self) -> UpstreamConnection:
        return await self.pool.fetch(self, lambda _: None)


@pytest.fixture
def upstreams(stand: Stand) -> Upstreams:  # noqa: F811
    stand.pool.close_all()
    return Upstreams(stand)


class Asker:
    """Somebody who fetches in a task of his own."""

    def __init__(self, upstreams: Upstreams) -> None:
        self.upstreams = upstreams
        self.got: UpstreamConnection | None = None
        self.refused: NoUpstreamConnection | None = None
        self.scope = trio.CancelScope()

    async def run(self) -> None:
        with self.scope:
            try:
                self.got = await self.upstreams.fetch()
            except NoUpstreamConnection as refused:
                self.refused = refused


async def asker(upstreams: Upstreams, nursery: trio.Nursery) -> Asker:
    made = Asker(upstreams)
    nursery.start_soon(made.run)
    await trio.testing.wait_all_tasks_blocked()
    return made


async def test_who_is_next_gets_what_is_given_back_and_nobody_comes_before_him(
    upstreams: Upstreams, nursery: trio.Nursery
) -> None:
    one, two = await upstreams.fetch(), await upstreams.fetch()
    first, second = await asker(upstreams, nursery), await asker(upstreams, nursery)
    assert repr(upstreams.pool.queue) == "<Queue open=2/2 waiting=2/2>"
    upstreams.pool.give_back(one)
    assert upstreams.resting() is None  # it is on its way to who waits
    await trio.testing.wait_all_tasks_blocked()
    assert (first.got, second.got) == (one, None)
    upstreams.pool.give_back(two)
    await trio.testing.wait_all_tasks_blocked()
    assert second.got is two
    assert upstreams.dialled == 2
    assert upstreams.pool.flight.count == 2
    for connection in (one, two):
        upstreams.pool.drop(connection)


async def test_when_one_ends_the_next_may_open_another(upstreams: Upstreams, nursery: trio.Nursery) -> None:
    one, two = await upstreams.fetch(), await upstreams.fetch()
    waiting = await asker(upstreams, nursery)
    upstreams.pool.drop(one)
    await trio.testing.wait_all_tasks_blocked()
    assert waiting.got not in {None, one, two}
    assert (upstreams.dialled, upstreams.pool.queue.open) == (3, 2)
    for connection in (waiting.got, two):
        assert connection is not None
        upstreams.pool.drop(connection)


async def test_a_full_queue_refuses_at_once_and_says_by_which_limit(
    upstreams: Upstreams, nursery: trio.Nursery
) -> None:
    taken = [await upstreams.fetch() for _ in range(2)]
    waiting = [await asker(upstreams, nursery) for _ in range(2)]
    with pytest.raises(NoUpstreamConnection) as refused:
        await upstreams.fetch()
    assert (refused.value.failure, refused.value.limit) == (Failure.LIMIT, "max_upstream_queue")
    assert upstreams.pool.queue.refuses == "max_upstream_queue"
    for each in waiting:
        each.scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert upstreams.pool.queue.refuses == ""
    for connection in taken:
        upstreams.pool.drop(connection)


async def test_without_a_queue_it_is_the_number_of_connections_that_refuses(stand: Stand) -> None:  # noqa: F811
    stand.pool.close_all()
    upstreams = Upstreams(stand, most=1, longest=0)
    one = await upstreams.fetch()
    with pytest.raises(NoUpstreamConnection) as refused:
        await upstreams.fetch()
    assert refused.value.limit == "max_upstream_connections"
    upstreams.pool.drop(one)


async def test_who_waits_too_long_is_refused(
    upstreams: Upstreams, nursery: trio.Nursery, settling_clock: MockClock
) -> None:
    taken = [await upstreams.fetch() for _ in range(2)]
    waiting = Asker(upstreams)
    nursery.start_soon(waiting.run)
    await trio.sleep(4.9)
    assert "waiting=1" in repr(upstreams.pool.queue)
    await trio.sleep(0.2)
    refused = waiting.refused
    assert refused is not None
    assert (refused.limit, refused.failure) == ("upstream_queue_timeout", Failure.LIMIT)
    for connection in taken:
        upstreams.pool.drop(connection)
    assert upstreams.pool.queue.open == 0


async def test_a_dial_that_fails_leaves_its_place_to_the_next(upstreams: Upstreams, nursery: trio.Nursery) -> None:
    upstreams.failure = NoUpstreamConnection(Failure.CONNECT_REFUSED, "refused")
    for _ in range(3):
        with pytest.raises(NoUpstreamConnection):
            await upstreams.fetch()
    upstreams.failure = None
    one, two = await upstreams.fetch(), await upstreams.fetch()
    upstreams.failure = NoUpstreamConnection(Failure.CONNECT_REFUSED, "refused")
    failing, next_one = await asker(upstreams, nursery), await asker(upstreams, nursery)
    upstreams.pool.drop(one)
    await trio.testing.wait_all_tasks_blocked()
    assert failing.refused is not None
    assert next_one.refused is not None
    upstreams.pool.drop(two)


async def test_who_is_cancelled_while_he_opens_one_or_waits_leaves_his_place(
    upstreams: Upstreams, nursery: trio.Nursery
) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await upstreams.fetch()
    assert upstreams.pool.queue.open == 0
    taken = [await upstreams.fetch() for _ in range(2)]
    gone, waiting = await asker(upstreams, nursery), await asker(upstreams, nursery)
    gone.scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    upstreams.pool.give_back(taken[0])
    await trio.testing.wait_all_tasks_blocked()
    assert waiting.got is taken[0]
    for connection in taken:
        upstreams.pool.drop(connection)


@pytest.mark.parametrize("fault", ["ended", "renewed", "expired", "revoked"])
async def test_what_is_of_no_use_any_more_is_not_handed_on(
    upstreams: Upstreams, nursery: trio.Nursery, fault: str
) -> None:
    one, two = await upstreams.fetch(), await upstreams.fetch()
    waiting = Asker(upstreams)
    nursery.start_soon(waiting.run)
    await trio.testing.wait_all_tasks_blocked()
    if fault == "ended":
        upstreams.peers[0].sock.close()
    elif fault == "renewed":
        upstreams.generation = 1
    elif fault == "expired":
        one.ends_at = trio.current_time() - 1
        one.valid_until = datetime.now(UTC) - timedelta(seconds=1)
    upstreams.pool.give_back(one)
    if fault == "revoked":
        assert one.user is not None
        one.user.on_upstream_revoked(one, "revoked")
    await trio.testing.wait_all_tasks_blocked()
    assert waiting.got not in {None, one, two}
    assert (upstreams.dialled, upstreams.pool.queue.open, upstreams.pool.flight.count) == (3, 2, 2)
    for connection in (waiting.got, two):
        assert connection is not None
        upstreams.pool.drop(connection)


async def test_where_nothing_is_used_again_each_opens_his_own(stand: Stand, nursery: trio.Nursery) -> None:  # noqa: F811
    stand.pool.close_all()
    upstreams = Upstreams(stand, most=1, idle=0.0)
    one = await upstreams.fetch()
    waiting = await asker(upstreams, nursery)
    upstreams.pool.give_back(one)
    await trio.testing.wait_all_tasks_blocked()
    assert waiting.got not in {None, one}
    assert waiting.got is not None
    upstreams.pool.drop(waiting.got)


async def test_an_upgraded_one_counts_as_open_but_as_no_request(upstreams: Upstreams) -> None:
    one = await upstreams.fetch()
    upstreams.pool.lend()
    assert (upstreams.pool.queue.open, upstreams.pool.flight.count) == (1, 0)
    upstreams.pool._discard(one)
    upstreams.pool.lent_has_ended()
    assert (upstreams.pool.queue.open, upstreams.pool.flight.count) == (0, 0)


async def test_beyond_the_room_in_flight_nothing_at_rest_is_taken(upstreams: Upstreams) -> None:
    one, two = await upstreams.fetch(), await upstreams.fetch()
    upstreams.pool.give_back(one)
    upstreams.pool.flight.most, upstreams.pool.flight.is_bounded = 1, True
    assert upstreams.resting() is None
    upstreams.pool.give_back(two)
    assert upstreams.resting() is two
    assert upstreams.resting() is None
    upstreams.pool.drop(two)
