"""Where an exchange gets its upstream connection, and what its caller is told when there is none."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import trio

from meshproxy.errors import Failure
from meshproxy.http.head import HeadLimits
from meshproxy.upstream.attempt import Blame, FailedAttempt, Phase
from meshproxy.upstream.connections import ServiceConnections, Wiring, failure_of
from meshproxy.upstream.pool import Pool
from meshproxy.upstream.queue import NoUpstreamConnection
from meshproxy.wire.address import TcpAddress
from meshproxy.wire.dial import Resolver
from meshproxy.wire.listen import bind, bound_address, close_listener
from meshproxy.wire.relay import Relay
from meshproxy.wire.sweep import Sweeper
from tests.wire.conftest import buffers, engine  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from meshproxy.wire.buffers import Buffers
    from meshproxy.wire.readiness import Readiness


@pytest.mark.parametrize(
    ("phase", "timed_out", "failure"),
    [
        (Phase.RESOLVE, False, Failure.RESOLVE),
        (Phase.RESOLVE, True, Failure.RESOLVE_TIMEOUT),
        (Phase.CONNECT, False, Failure.CONNECT_REFUSED),
        (Phase.CONNECT, True, Failure.CONNECT_TIMEOUT),
        (Phase.HANDSHAKE, False, Failure.TLS),
        (Phase.HANDSHAKE, True, Failure.CONNECT_TIMEOUT),
        (Phase.IDENTITY, False, Failure.IDENTITY),
    ],
)
def test_the_caller_is_told_the_phase_the_last_attempt_failed_in(
    phase: Phase, *, timed_out: bool, failure: Failure
) -> None:
    earlier = FailedAttempt("one", Phase.IDENTITY, "somebody else")
    assert failure_of([earlier, FailedAttempt("two", phase, "why", timed_out)]) is failure


@pytest.mark.parametrize(
    ("blame", "failure"),
    [(Blame.CERTIFICATE, Failure.CERTIFICATE), (Blame.ALERT, Failure.TLS_ALERT), (None, Failure.TLS)],
)
def test_the_caller_is_told_whose_fault_a_handshake_was(blame: Blame | None, failure: Failure) -> None:
    assert failure_of([FailedAttempt("one", Phase.HANDSHAKE, "why", blame=blame)]) is failure


@pytest.fixture
async def address() -> TcpAddress:
    """Where nobody listens."""
    listener = bind(TcpAddress("127.0.0.1", 0))
    bound = bound_address(listener)
    close_listener(listener)
    assert isinstance(bound, TcpAddress)
    return bound


def connections(engine: Readiness, buffers: Buffers, address: TcpAddress) -> ServiceConnections:  # noqa: F811
    sweeper = Sweeper()
    relay = Relay(engine, buffers, sweeper, lambda: datetime.now(UTC))
    pool = Pool(engine, sweeper, idle=3.0, most=2)
    return ServiceConnections(address, pool, Wiring(relay, HeadLimits(), "api"), Resolver(), within=1.0)


async def test_a_service_is_dialled_once_and_its_connection_rests(
    engine: Readiness,  # noqa: F811
    buffers: Buffers,  # noqa: F811
) -> None:
    listener = bind(TcpAddress("127.0.0.1", 0))
    try:
        bound = bound_address(listener)
        assert isinstance(bound, TcpAddress)
        upstreams = connections(engine, buffers, bound)
        told: list[FailedAttempt] = []
        assert upstreams.resting() is None
        dialled = await upstreams.dial(told.append)
        assert (dialled.target, dialled.identity, dialled.used) == (str(bound), "", False)
        assert not told
        upstreams.pool.queue.open += 1
        upstreams.pool.adopt(dialled)
        upstreams.pool.give_back(dialled)
        assert upstreams.resting() is dialled
        upstreams.pool.drop(dialled)
    finally:
        close_listener(listener)


async def test_nobody_there_is_told_once_per_attempt(
    engine: Readiness,  # noqa: F811
    buffers: Buffers,  # noqa: F811
    address: TcpAddress,
) -> None:
    told: list[FailedAttempt] = []
    with trio.fail_after(5), pytest.raises(NoUpstreamConnection) as failed:
        await connections(engine, buffers, address).dial(told.append)
    assert failed.value.failure is Failure.CONNECT_REFUSED
    assert [attempt.phase for attempt in told] == [Phase.CONNECT]
    assert str(address) in str(failed.value)
