"""A web page cannot make a browser read the admin API under a name of its own (DNS rebinding): such a Host gets 421."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.scenarios.stage import Sidecar, outbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage


@pytest.fixture(scope="module")
def web(shared_stage: Stage) -> Sidecar:
    return shared_stage.sidecar("web", outbound(endpoints=["127.0.0.1:9"]))


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9900", "127.0.0.1.evil.example", "", "10.0.0.7"])
def test_another_name_is_misdirected(web: Sidecar, host: str) -> None:
    for path in ("/status", "/metrics", "/ready", "/live"):
        assert web.get(path, host=host).status == 421


@pytest.mark.parametrize("host", ["localhost", "localhost:1234", "127.0.0.1", "127.0.0.1:9900", "[::1]:9900"])
def test_names_of_this_machine_are_answered(web: Sidecar, host: str) -> None:
    assert web.get("/status", host=host).status == 200


def test_only_get_and_only_known_pages(web: Sidecar) -> None:
    assert web.get("/status", method="POST").status == 405
    unknown = web.get("/favicon.ico")
    pages = unknown.body.decode().removeprefix("there is: ").split()
    assert (unknown.status, pages) == (404, sorted(pages))
    assert {"/live", "/metrics", "/ready", "/status", "/series", "/events", "/dashboard"} <= set(pages)
    assert not any(page.startswith("/dashboard/") for page in pages)
    head = web.get("/status", method="HEAD")
    assert (head.status, head.body) == (200, b"")
