"""sslscan and testssl.sh find TLS 1.3 with sound ciphers at an inbound listener, and nothing above informational."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.tls_report import judge_sslscan, judge_testssl, scan_with_sslscan, scan_with_testssl
from tests.scenarios.actors import Service, client_context, echo, tls_exchange
from tests.scenarios.programs import require
from tests.scenarios.stage import inbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Sidecar, Stage


@pytest.fixture
def api(stage: Stage) -> Sidecar:
    service = stage.keep(Service(echo))
    return stage.sidecar("api", inbound(forward=service.address))


def test_sslscan(stage: Stage, api: Sidecar) -> None:
    require("sslscan")
    web = stage.identity("/web")

    said = scan_with_sslscan(api.address("api"), chain=web.chain, key=web.key)

    assert judge_sslscan(said) == []
    assert tls_exchange(api.address("api"), client_context(web), b"hello") == b"hello"  # it is none the worse for it


@pytest.mark.long
def test_testssl(stage: Stage, api: Sidecar) -> None:
    require("testssl")
    web = stage.identity("/web")

    said = scan_with_testssl("api.test", api.address("api"), bundle=web.bundle, into=stage.workspace / "testssl.json")

    assert [finding for finding in judge_testssl(said) if not finding.excused] == []
    assert tls_exchange(api.address("api"), client_context(web), b"hello") == b"hello"
