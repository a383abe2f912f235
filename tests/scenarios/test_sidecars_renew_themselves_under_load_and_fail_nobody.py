"""Two sidecars come with a token each, get short certificates, and renew them four times under load: nobody notices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.scenarios.authority import serve
from tests.scenarios.changes import Load, allow
from tests.scenarios.enrolled import enrolled, leaves_of
from tests.scenarios.http_actors import Origin, Pair, fingerprints
from tests.scenarios.stage import inbound, outbound, poll

if TYPE_CHECKING:
    from tests.scenarios.stage import Sidecar, Stage

RENEWALS = 4
LIFE = 20


def renewals(sidecar: Sidecar) -> float:
    return sidecar.metric("meshproxy_renewals_total", result="renewed")


@pytest.mark.long
def test_four_renewals_and_no_failed_request(stage: Stage) -> None:
    ca = serve(stage, configure=leaves_of(seconds=LIFE))
    origin = stage.keep(Origin(fingerprints))
    allow(stage, "/web", more='paths = "/orders"')
    api = enrolled(stage, ca, "api", inbound(forward=origin.address, protocol="http"))
    web = enrolled(stage, ca, "web", outbound(endpoints=[api.address("api")], protocol="http"))
    pair = Pair(stage, api, web)
    with (
        Load(pair.caller, clients=8, pause=0.01) as kept_alive,
        Load(pair.caller, clients=2, per_connection=1, pause=0.02) as newcomers,
    ):
        poll(lambda: min(map(renewals, (api, web))) >= RENEWALS, "four renewals", within=12 * LIFE)
        for load in (kept_alive, newcomers):
            load.wait_for(20)
    kept_alive.judge(at_least=500)
    newcomers.judge(at_least=100)
    for path, sidecar in (("/api", api), ("/web", web)):
        issued = ca.issued(path)
        assert [each.generation for each in issued] == list(range(1, len(issued) + 1))
        assert len({each.spki for each in issued}) == len(issued)  # each has a key of its own
        status = sidecar.status().identity
        assert status.ready
        assert status.renewal is not None
        assert (status.renewal.last_error, status.renewal.bundle_loaded) == ("", 1)
        assert not sidecar.log.seen("renewal_failed")
        assert not sidecar.log.seen("certificate_expires")
