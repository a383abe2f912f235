"""`[telemetry] access_log` says which requests and connections have a line; all are counted."""

from __future__ import annotations

import pytest

from tests.scenarios.actors import dial
from tests.scenarios.http_actors import Caller, Origin
from tests.scenarios.stage import Stage, inbound, outbound, poll

PATHS = ["/open/a", "/shut", "/open/b"]


@pytest.mark.parametrize(("wanted", "told"), [("failures", ["/shut"]), ("off", [])])
def test_access_log_tells_as_much_as_is_wanted(stage: Stage, wanted: str, told: list[str]) -> None:
    origin = stage.keep(Origin())
    stage.write("web.allow.toml", '[[allow]]\nfrom = "/web"\npaths = "/open/**"\n')
    telemetry = f'[telemetry]\naccess_log = "{wanted}"\n'
    api = stage.sidecar("api", telemetry + inbound(forward=origin.address, protocol="http"))
    web = stage.sidecar("web", telemetry + outbound(endpoints=[api.address("api")], protocol="http"))
    with Caller(dial(web.address("to-api"))) as caller:
        assert [caller.ask("GET", path).status for path in PATHS] == [200, 403, 200]

    def answered(status: str, failure: str = "") -> float:
        return api.metric("meshproxy_requests_total", listener="api", status=status, failure=failure)

    poll(lambda: (answered("2xx"), answered("4xx", "denied")) == (2, 1), "all three counted")
    assert api.metric("meshproxy_response_flags_total", listener="api", flag="UAEX") == 1
    if told:
        assert api.log.request(path="/shut").flag == "UAEX"
    assert [line.text("path") for line in api.log.seen("request")] == told
    assert api.log.event("denied", path="/shut")  # an event is no access line
