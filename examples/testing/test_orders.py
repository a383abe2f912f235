"""The service behind mutual TLS, with the allow-list it has in production. `mesh` comes with meshproxy[testing]."""

from __future__ import annotations

import http.client
import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from orders import Orders

from meshproxy.testing import assert_allowed, assert_denied

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshproxy.testing import Mesh, Place

ALLOW_LIST = Path(__file__).with_name("orders.allow.toml")


@pytest.fixture
def service() -> Iterator[Orders]:
    with Orders(port=0) as service:
        thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield service
        service.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def sidecar(mesh: Mesh, service: Orders) -> None:
    mesh.clock.set(datetime(2027, 6, 1, tzinfo=UTC))  # the list has a date in it: today's must not matter
    mesh.serve("/orders", forward=service.server_port, policy=ALLOW_LIST)


def ask(place: Place, method: str, path: str, body: str | None = None) -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection(*place, timeout=10)
    try:
        connection.request(method, path, body, {"x-mesh-client-id": "spiffe://mesh.test/somebody-else"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_web_reads_orders(mesh: Mesh) -> None:
    web = mesh.call("/web", to="/orders")
    assert ask(web, "GET", "/orders/7") == (200, {"what": "a lamp", "by": "/checkout"})
    assert mesh.decisions()[-1].rule == "web-reads"


def test_web_writes_none_and_the_service_never_hears_of_it(mesh: Mesh, service: Orders) -> None:
    web = mesh.call("/web", to="/orders")
    status, _ = ask(web, "POST", "/orders", '{"what": "a yacht"}')
    assert (status, len(service.orders)) == (403, 1)
    decision = mesh.decisions()[-1]
    assert (decision.caller, decision.allowed, decision.reason) == ("/web", False, "method")


def test_an_order_remembers_who_made_it_whatever_he_says_he_is(mesh: Mesh, service: Orders) -> None:
    checkout = mesh.call("/checkout", to="/orders")
    assert ask(checkout, "POST", "/orders", '{"what": "a chair"}') == (201, {"number": 8})
    assert service.orders[8] == {"what": "a chair", "by": "/checkout"}


def test_the_audit_has_an_end(mesh: Mesh) -> None:
    auditor = mesh.call("/auditor", to="/orders")
    assert ask(auditor, "GET", "/orders/7")[0] == 200
    mesh.clock.set(datetime(2028, 4, 1, tzinfo=UTC))
    assert ask(auditor, "GET", "/orders/7")[0] == 403
    assert mesh.decisions()[-1].reason == "expired_grant"


def test_who_does_not_renew_his_certificate_gets_through_no_more(mesh: Mesh) -> None:
    mesh.issue("/web", ttl=timedelta(hours=24))
    web = mesh.call("/web", to="/orders")
    mesh.clock.advance(hours=25)
    assert ask(web, "GET", "/orders/7")[0] == 503
    mesh.issue("/web", ttl=timedelta(hours=24))
    assert ask(web, "GET", "/orders/7")[0] == 200


def test_an_edit_acts_at_once(mesh: Mesh) -> None:
    web = mesh.call("/web", to="/orders")
    mesh.edit_policy("/orders", "allow = []")
    assert ask(web, "GET", "/orders/7")[0] == 403


def test_the_allow_list_by_itself() -> None:
    assert_allowed(ALLOW_LIST, from_="/checkout", method="POST", path="/orders", rule="checkout-writes")
    assert_denied(ALLOW_LIST, from_="/intruder", method="GET", path="/orders/7", reason="no_rule")
