"""The wall clock jumps an hour on, an hour back, and 400 days: deadlines stand, what has expired is refused, all heals.

Deadlines go by a clock that nobody sets. Certificates go by the wall clock: while that says that our own is not good,
the sidecar lives, refuses and says why; the moment it is right again, it serves. No restart, no crash, no loop of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Ended, Service, client_context, echo, tls_dial, tls_exchange, underneath
from tests.scenarios.clocks import IN_REACH, LIBRARY, Clock
from tests.scenarios.http_actors import Origin, mtls_caller
from tests.scenarios.stage import inbound, poll

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from tests.scenarios.stage import Sidecar, Stage

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed")


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


@pytest.fixture
def api(stage: Stage, clock: Clock) -> Sidecar:
    """A sidecar that goes by the clock, with a certificate of a day; connections may be idle for ten minutes."""
    service = stage.keep(Service(echo))
    with clock.beside():
        return stage.sidecar("api", IN_REACH + inbound(forward=service.address, more='idle_timeout = "10m"'))


def is_served(api: Sidecar, context: ssl.SSLContext) -> bool:
    try:
        return tls_exchange(api.address("api"), context, b"hello") == b"hello"
    except OSError:
        return False


def test_an_hour_on_ends_nobody(stage: Stage, clock: Clock, api: Sidecar) -> None:
    context = client_context(stage.identity("/web"))
    with tls_dial(api.address("api"), context) as caller:
        caller.sendall(b"hello")
        assert caller.recv(5) == b"hello"
        clock.set("+1h")
        for _ in range(3):  # sweeps of the idle deadline come and go: it is six times over, by the wall clock
            assert is_served(api, context)
        caller.sendall(b"still")
        assert caller.recv(5) == b"still"
    assert api.status().state == "serving"


@pytest.mark.long
def test_an_hour_back_is_told_and_heals(stage: Stage, clock: Clock, api: Sidecar) -> None:
    context = client_context(stage.identity("/web"))
    with tls_dial(api.address("api"), context) as caller:
        caller.sendall(b"hello")
        assert caller.recv(5) == b"hello"
        clock.set("-1h")
        poll(lambda: api.status().state == "refusing", "our certificate is of the future")
        assert not is_served(api, context)
        assert api.get("/live").status == 200
        told = api.log.event("identity_not_ready")
        assert "valid only from" in told.text("reason")
        caller.sendall(b"still")  # who was let in when the clock was right is not cut off
        assert caller.recv(5) == b"still"
        clock.set("+0")
        poll(lambda: api.status().state == "serving", "it heals")
        assert is_served(api, context)
        caller.sendall(b"again")
        assert caller.recv(5) == b"again"


@pytest.mark.long
def test_four_hundred_days_on_refuse_and_heal(stage: Stage, clock: Clock, api: Sidecar) -> None:
    context = client_context(stage.identity("/web"))
    with tls_dial(api.address("api"), context) as caller:
        caller.sendall(b"hello")
        assert caller.recv(5) == b"hello"
        clock.set("+400d")
        caller.settimeout(60)  # an open connection looks at the wall clock every 30 s
        assert underneath(caller) == (b"", Ended.RESET)  # both certificates are over by a year
    assert api.log.connection(end="aged").detail == "a certificate of this connection has expired"
    poll(lambda: api.status().state == "refusing", "our certificate has expired")
    assert not is_served(api, context)
    assert api.get("/live").status == 200
    assert api.get("/ready").status == 503
    told = api.log.event("identity_not_ready")
    assert "expired" in told.text("reason")
    assert told.text("remedy")
    assert len(api.log.seen("identity_not_ready")) == len(api.serving)  # said once, not at every look
    clock.set("+0")
    poll(lambda: api.status().state == "serving", "it heals")
    assert is_served(api, context)


@pytest.mark.long
def test_a_request_on_an_open_connection_goes_by_the_new_time(stage: Stage, clock: Clock) -> None:
    """The caller's certificate is over by the wall clock: what it asks next is refused, and reaches no service."""
    origin = stage.keep(Origin())
    with clock.beside():
        api = stage.sidecar("api", IN_REACH + inbound(forward=origin.address, protocol="http"))
    with mtls_caller(api, client_context(stage.identity("/web"))) as caller:
        assert caller.ask("GET", "/before").status == 200
        clock.set("+400d")
        poll(lambda: api.status().state == "refusing", "it has seen the new time")
        assert caller.ask("GET", "/after").status == 403
    assert origin.targets() == ["/before"]
