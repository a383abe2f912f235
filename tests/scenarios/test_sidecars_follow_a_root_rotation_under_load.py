"""The root is replaced under load: prepared, reported as loaded, activated, renewed by, and the old one retired."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ca.svid import read_chain
from tests.scenarios.authority import serve
from tests.scenarios.changes import Load, allow
from tests.scenarios.enrolled import enrolled, leaves_of
from tests.scenarios.http_actors import Origin, Pair, fingerprints
from tests.scenarios.stage import inbound, meshproxy, outbound, poll

if TYPE_CHECKING:
    from tests.scenarios.authority import CaServer
    from tests.scenarios.stage import Stage

LIFE = 20


def goes_well(ca: CaServer, *arguments: str) -> bool:
    return meshproxy("ca", "rotate", *arguments, "--what", "root", "--dir", ca.directory).returncode == 0


@pytest.mark.long
def test_no_request_fails(stage: Stage) -> None:
    ca = serve(stage, configure=leaves_of(seconds=LIFE))
    origin = stage.keep(Origin(fingerprints))
    allow(stage, "/web", more='paths = "/orders"')
    api = enrolled(stage, ca, "api", inbound(forward=origin.address, protocol="http"))
    web = enrolled(stage, ca, "web", outbound(endpoints=[api.address("api")], protocol="http"))
    bundles = [stage.workspace / f"enrolled-{name}" / "bundle.pem" for name in ("api", "web")]
    chains = [bundle.with_name("chain.pem") for bundle in bundles]
    first = read_chain(chains[0].read_bytes())[1]

    with Load(Pair(stage, api, web).caller, clients=6, pause=0.02) as load:
        ca.run("rotate", "prepare", "--what", "root")
        poll(lambda: all(len(read_chain(each.read_bytes())) == 2 for each in bundles), "both roots", within=60)
        poll(lambda: goes_well(ca, "activate"), "everybody has told that he has loaded it", within=60)
        poll(
            lambda: all(read_chain(each.read_bytes())[1] != first for each in chains),
            "both are renewed below the new root",
            within=60,
        )
        poll(lambda: goes_well(ca, "retire"), "nobody needs the old root", within=120)
        poll(lambda: all(len(read_chain(each.read_bytes())) == 1 for each in bundles), "the new root", within=60)
        load.wait_for(50)
    load.judge(at_least=200)
