"""Ten thousand different paths, granted and refused, make no more series, edges or memory than ten of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.scenarios.http_actors import Origin, mesh_pair
from tests.scenarios.stage import poll

if TYPE_CHECKING:
    from tests.scenarios.stage import Sidecar, Stage

pytestmark = pytest.mark.long

PATHS = 10_000
GROWTH = 16 << 20
MOST_ROWS = 100
REFUSED = {"listener": "api", "status": "4xx", "failure": "denied"}


def shape(sidecar: Sidecar) -> tuple[int, int, int]:
    """How many samples, edges and rows of denials there are."""
    edges, denials = sidecar.get("/series?tier=1m").json["edges"], sidecar.get("/denials").json["denials"]
    assert isinstance(edges, list)
    assert isinstance(denials, list)
    return sum(1 for _ in sidecar.samples()), len(edges), len(denials)


def test_ten_thousand_paths(stage: Stage) -> None:
    pair = mesh_pair(stage, stage.keep(Origin()), allow='[[allow]]\nfrom = "/web"\npaths = "/open/**"\n')
    with pair.caller() as caller:

        def ask(first: int, last: int) -> None:
            for number in range(first, last):
                open_or_not = ("open", "shut")[number % 2]
                status = caller.ask("GET", f"/{open_or_not}/{number}").status
                assert status == (200 if open_or_not == "open" else 403)

        ask(0, 400)
        poll(lambda: shape(pair.api)[1] == 1, "the first are told")
        poll(lambda: pair.api.metric("meshproxy_requests_total", **REFUSED) == 200, "and counted")
        before, weight = shape(pair.api), pair.api.resident
        ask(400, PATHS)
        poll(lambda: pair.api.metric("meshproxy_requests_total", **REFUSED) == PATHS / 2, "all are counted")
        samples, edges, denials = shape(pair.api)
        assert (samples, edges) == before[:2]
        assert denials <= MOST_ROWS
        assert pair.api.resident - weight < GROWTH
