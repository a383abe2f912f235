"""What cannot be recorded is not allowed: a full disk refuses, or has callers wait, and nothing is lost unsaid."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Ended, Service, client_context, echo, tls_dial, underneath
from tests.scenarios.audit_logs import audit, decisions, full_disk, verify
from tests.scenarios.changes import unix_admin
from tests.scenarios.http_actors import Origin, mtls_caller
from tests.scenarios.stage import inbound, meshproxy, poll

if TYPE_CHECKING:
    from tests.scenarios.stage import Sidecar, Stage

ALL = 'audit = "all"'


def failing(api: Sidecar) -> bool:
    return api.metric("meshproxy_audit_failing") == 1


def test_requests_are_refused_while_the_disk_is_full_and_served_afterwards(stage: Stage) -> None:
    origin = stage.keep(Origin())
    api = stage.sidecar("api", audit() + unix_admin("api") + inbound(forward=origin.address, protocol="http", more=ALL))
    file = stage.workspace / "audit.jsonl"
    with mtls_caller(api, client_context(stage.identity("/web"))) as caller:
        assert caller.ask("GET", "/1").status == 200
        poll(lambda: api.metric("meshproxy_audit_records_total") == 1, "the first is durable")
        with full_disk(api, file):
            caller.ask("GET", "/2")  # taken before the disk was known to be full
            poll(lambda: failing(api), "the disk refuses")
            assert api.get("/ready").status == 503
            assert api.status().state == "refusing"
            reached = len(origin.requests)
            for number in range(5):
                said = caller.ask("GET", f"/refused/{number}")
                assert said.status == 503
                assert "error=proxy_internal_error" in said.value("proxy-status")
            assert len(origin.requests) == reached
            line = api.log.request(path="/refused/0")
            assert (line.failure, line.decision, line.status) == ("not_recorded", "allow", 503)
            assert api.log.event("not_recorded")["effect"] == "refused: the audit log has no room"
            assert "File too large" in api.log.event("audit_log_failed").text("error")
            assert api.metric("meshproxy_audit_refused_total") == 5
            said_to_people = meshproxy("status", api.file).stdout
            assert "refusing" in said_to_people
            assert "it cannot be written: File too large" in said_to_people
            assert "5 refused for want of room" in said_to_people
            waited_for = meshproxy("wait-ready", "--timeout", "100ms", api.file)
            assert waited_for.returncode == 1
            assert "audit.jsonl cannot be written: File too large" in waited_for.stderr
        poll(lambda: not failing(api), "there is room again")
        assert api.get("/ready").status == 200
        assert caller.ask("GET", "/3").status == 200
    api.log.event("audit_log_good_again")
    api.signal(signal.SIGTERM)
    assert api.exit_code() == 0
    assert [each["path"] for each in decisions(file)] == ["/1", "/2", "/3"]
    judged = verify(stage)
    assert judged.returncode == 0, judged.stdout
    assert "5 decisions found no room, and were refused" in judged.stdout


def test_connections_are_reset_while_the_disk_is_full(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    api = stage.sidecar("api", audit() + unix_admin("api") + inbound(forward=service.address, more=ALL))
    context = client_context(stage.identity("/web"))
    with tls_dial(api.address("api"), context) as web:
        web.sendall(b"hello")
        assert web.recv(5) == b"hello"
    with full_disk(api, stage.workspace / "audit.jsonl"):
        tls_dial(api.address("api"), context).close()
        poll(lambda: failing(api), "the disk refuses")
        with tls_dial(api.address("api"), context) as web:
            assert underneath(web) == (b"", Ended.RESET)
        assert "cannot be recorded" in api.log.connection(end="denied").detail
        assert len(service.visits) <= 2  # the one before, and perhaps the one that found out


def test_denials_are_denied_all_the_same_and_grants_need_no_record(stage: Stage) -> None:
    origin = stage.keep(Origin())
    more = 'audit = "denials"'
    api = stage.sidecar(
        "api", audit() + unix_admin("api") + inbound(forward=origin.address, protocol="http", more=more)
    )
    web, batch = (client_context(stage.identity(path)) for path in ("/web", "/batch"))
    with mtls_caller(api, batch) as caller, mtls_caller(api, web) as granted:
        assert granted.ask("GET", "/").status == 200
        with full_disk(api, stage.workspace / "audit.jsonl"):
            assert caller.ask("GET", "/").status == 403
            poll(lambda: failing(api), "the disk refuses")
            assert caller.ask("GET", "/").status == 503
            assert granted.ask("GET", "/").status == 200
            assert api.get("/ready").status == 200  # most of it is served


@pytest.mark.long
def test_callers_wait_for_room_when_told_to(stage: Stage) -> None:
    origin = stage.keep(Origin())
    tables = audit('when_full = "wait"') + unix_admin("api")
    api = stage.sidecar("api", tables + inbound(forward=origin.address, protocol="http", more=ALL))
    file = stage.workspace / "audit.jsonl"
    context = client_context(stage.identity("/web"))
    with mtls_caller(api, context) as caller, mtls_caller(api, context) as patient:
        assert caller.ask("GET", "/1").status == 200
        answers: list[int] = []
        asking = threading.Thread(target=lambda: answers.append(patient.ask("GET", "/waited").status))
        with full_disk(api, file, room=0):
            caller.ask("GET", "/2")
            poll(lambda: failing(api), "the disk refuses")
            asking.start()
            time.sleep(0.5)
            assert answers == []
            assert api.get("/live").status == 200  # nothing else waits
            assert api.get("/ready").status == 503
            assert "/waited" not in origin.targets()
        asking.join(20)
        assert answers == [200]
        poll(lambda: not failing(api), "what waited is written")
        with full_disk(api, file, room=0):
            assert caller.ask("GET", "/3").status == 200
            poll(lambda: failing(api), "the disk refuses")
            began = time.monotonic()
            assert caller.ask("GET", "/too-long").status == 503
            assert 4 < time.monotonic() - began < 15
    poll(lambda: not failing(api), "what waited is written")
    api.signal(signal.SIGTERM)
    assert api.exit_code() == 0
    assert [each["path"] for each in decisions(file)] == ["/1", "/2", "/waited", "/3"]
    assert verify(stage).returncode == 0


def test_a_place_that_cannot_be_used_is_told_before_anything_starts(stage: Stage) -> None:
    tables = inbound(forward="127.0.0.1:1", more=ALL)
    file = stage.configure("api", audit().replace('"audit.jsonl"', '"nowhere/audit.jsonl"') + tables)
    for command in ("check", "run"):
        said = meshproxy(command, file)
        assert said.returncode == 1
        assert "nowhere/audit.jsonl" in said.stderr
        assert "mkdir -p" in said.stderr
    without = stage.configure("api", tables)
    said = meshproxy("check", without)
    assert said.returncode == 1
    assert "no file to record decisions in" in said.stderr
