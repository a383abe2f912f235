"""A sidecar serves the dashboard's page and files itself, under its policy, to names of this machine only."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.stage import PATIENCE, Sidecar, outbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage


@pytest.fixture(scope="module")
def web(shared_stage: Stage) -> Sidecar:
    return shared_stage.sidecar("web", outbound(endpoints=["127.0.0.1:9"]))


def test_page_and_its_files_come_from_the_sidecar(web: Sidecar) -> None:
    connection = http.client.HTTPConnection(web.admin, timeout=PATIENCE)
    connection.request("GET", "/dashboard")
    answer = connection.getresponse()
    assert answer.read().startswith(b"<!doctype html>")
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'")
    assert answer.headers.get_all("Cache-Control") == ["no-cache"]  # and not the no-store of all other pages
    connection.close()
    connection.request("GET", "/dashboard", headers={"If-None-Match": answer.headers["ETag"]})
    assert connection.getresponse().status == 304
    connection.close()
    assert web.get("/dashboard/main.js").content_type == "text/javascript; charset=utf-8"
    assert web.get("/dashboard", host="evil.example").status == 421
