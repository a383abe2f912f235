"""An audit log holds every decision of its listener, whatever ends the sidecar, and shows what was done to it."""

from __future__ import annotations

import json
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Ended, Service, client_context, echo, tls_dial, underneath
from tests.scenarios.audit_logs import ONE_PROCESS, audit, decisions, lines, verify
from tests.scenarios.changes import allow, reload_changes, unix_admin
from tests.scenarios.http_actors import Ended as TalkEnded
from tests.scenarios.http_actors import Origin, mtls_caller
from tests.scenarios.stage import inbound, meshproxy, poll

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.scenarios.stage import Sidecar, Stage

WEB, BATCH = "spiffe://mesh.test/web", "spiffe://mesh.test/batch"
ASKED = [("GET", "/orders"), ("GET", "/orders/7"), ("POST", "/orders"), ("GET", "/refunds?secret=1")]


def http_api(stage: Stage, audited: str, *, more: str = "") -> Sidecar:
    origin = stage.keep(Origin())
    allow(stage, "/web", more='methods = ["GET"]\npaths = "/orders/**"')
    return stage.sidecar(
        "api",
        audit(more) + unix_admin("api") + inbound(forward=origin.address, protocol="http", more=f'audit = "{audited}"'),
    )


def ask_all(stage: Stage, api: Sidecar) -> None:
    for path in ("/web", "/batch"):
        with mtls_caller(api, client_context(stage.identity(path))) as caller:
            for request in ASKED:
                caller.ask(*request)


def stop(api: Sidecar) -> None:
    api.signal(signal.SIGTERM)
    assert api.exit_code() == 0


def test_every_decision_is_there_as_the_access_lines_have_it(stage: Stage) -> None:
    api = http_api(stage, "all")
    ask_all(stage, api)
    stop(api)

    recorded = decisions(stage.workspace / "audit.jsonl")
    assert [(each["caller"], each["method"], each["path"], each["decision"], each["reason"]) for each in recorded] == [
        (WEB, "GET", "/orders", "allow", "granted"),
        (WEB, "GET", "/orders/7", "allow", "granted"),
        (WEB, "POST", "/orders", "deny", "method"),
        (WEB, "GET", "/refunds", "deny", "path"),
        *((BATCH, method, path.partition("?")[0], "deny", "no_rule") for method, path in ASKED),
    ]
    for each in recorded:
        line = api.log.request(request_id=each.text("request_id"))
        assert (line.id, line.policy, line.peer, line.rule) == (
            each["id"],
            each["policy"],
            each["peer"],
            each.text("rule"),
        )
    assert len({each["serial"] for each in recorded}) == 2
    judged = verify(stage)
    assert judged.returncode == 0, judged.stdout + judged.stderr
    assert "8 decisions" in judged.stdout
    assert "signed by    spiffe://mesh.test/api" in judged.stdout


def test_only_denials_are_there_when_only_those_are_wanted(stage: Stage) -> None:
    api = http_api(stage, "denials")
    ask_all(stage, api)
    stop(api)
    recorded = decisions(stage.workspace / "audit.jsonl")
    assert len(recorded) == 6
    assert {each["decision"] for each in recorded} == {"deny"}


def test_connections_of_tcp_and_streams_that_are_cut_are_there(stage: Stage) -> None:
    service = stage.keep(Service(echo))
    allow(stage, "/web")
    tables = audit() + unix_admin("api") + inbound(forward=service.address, more='audit = "all"')
    api = stage.sidecar("api", tables)
    with tls_dial(api.address("api"), client_context(stage.identity("/batch"))) as batch:
        assert underneath(batch) == (b"", Ended.RESET)
    with tls_dial(api.address("api"), client_context(stage.identity("/web"))) as web:
        web.sendall(b"hello")
        assert web.recv(5) == b"hello"
        allow(stage, "/nobody")
        reload_changes(api)
        assert underneath(web) == (b"", Ended.RESET)
    stop(api)
    recorded = decisions(stage.workspace / "audit.jsonl")
    assert [(each["caller"], each["decision"], each.get("cut", False)) for each in recorded] == [
        (BATCH, "deny", False),
        (WEB, "allow", False),
        (WEB, "deny", True),
    ]
    assert recorded[1]["id"] == recorded[2]["id"]


# What is done to it.


def change(content: list[bytes]) -> list[bytes]:
    return [each.replace(b"/refunds", b"/orders") for each in content]


def remove(content: list[bytes]) -> list[bytes]:
    return content[:3] + content[4:]


def reorder(content: list[bytes]) -> list[bytes]:
    return [*content[:3], content[4], content[3], *content[5:]]


def cut(content: list[bytes]) -> list[bytes]:
    return content[:5]


@pytest.mark.parametrize(
    ("tamper", "told"),
    [
        (change, "was changed or exchanged"),
        (remove, "lines 4 to 4 of the chain are missing"),
        (reorder, "moved, or put in"),
    ],
)
def test_tampering_is_told_with_its_place(
    stage: Stage, tamper: Callable[[list[bytes]], list[bytes]], told: str
) -> None:
    api = http_api(stage, "all")
    ask_all(stage, api)
    stop(api)
    file = stage.workspace / "audit.jsonl"
    file.write_bytes(b"".join(tamper(file.read_bytes().splitlines(keepends=True))))
    judged = verify(stage)
    assert judged.returncode == 1
    assert told in judged.stdout
    assert f"{file}:" in judged.stdout
    assert "Traceback" not in judged.stderr


@pytest.mark.long
def test_a_cut_tail_shows_against_what_the_sidecars_own_log_says(stage: Stage) -> None:
    api = http_api(stage, "all")
    ask_all(stage, api)
    stop(api)
    told = api.log.event("audit_checkpoint", why="stopped")
    file = stage.workspace / "audit.jsonl"
    kept = stage.write("kept.head", meshproxy("audit", "head", file).stdout)
    heads = (f"{told['covers']}:{told['hash']}", str(kept))
    for head in heads:
        assert verify(stage, "--head", head).returncode == 0
    file.write_bytes(b"".join(cut(file.read_bytes().splitlines(keepends=True))))
    alone = verify(stage)
    assert alone.returncode == 0
    assert "no proper one" in alone.stdout
    for head in heads:
        judged = verify(stage, "--head", head)
        assert judged.returncode == 1
        assert "the end is cut off" in judged.stdout


# What ends the sidecar, or changes it.


@pytest.mark.long
def test_killed_under_load_it_goes_on_where_it_was(stage: Stage) -> None:
    api = http_api(stage, "all")
    over = threading.Event()
    answered = 0

    def load() -> None:
        nonlocal answered
        try:
            with mtls_caller(api, client_context(stage.identity("/web"))) as caller:
                while not over.is_set():
                    caller.ask("GET", "/orders")
                    answered += 1
        except (OSError, TalkEnded):
            pass

    loading = threading.Thread(target=load)
    loading.start()
    poll(lambda: api.metric("meshproxy_audit_records_total") > 50, "some are durable")
    durable = int(api.metric("meshproxy_audit_records_total"))
    api.kill()
    over.set()
    loading.join()
    again = stage.run(api.file)
    ask_all(stage, again)
    stop(again)
    judged = verify(stage, "--json")
    assert judged.returncode == 0, judged.stdout
    [report] = json.loads(judged.stdout)
    assert report["crashes"] == 1
    assert report["decisions"] >= durable + 8


def test_files_are_put_aside_under_load_and_the_chain_goes_on(stage: Stage) -> None:
    api = http_api(stage, "all", more='rotate_size = "64KiB"')
    with mtls_caller(api, client_context(stage.identity("/web"))) as caller:
        for _ in range(600):
            assert caller.ask("GET", "/orders").status == 200
    stop(api)
    files = sorted(stage.workspace.glob("audit.jsonl*"))
    assert len(files) >= 3
    judged = verify(stage, "--json")
    assert judged.returncode == 0, judged.stdout
    assert json.loads(judged.stdout)[0]["decisions"] == 600
    middle: Path = files[2]
    middle.unlink()
    assert "are missing" in verify(stage).stdout


def test_what_is_recorded_changes_at_once_and_where_needs_a_restart(stage: Stage) -> None:
    api = http_api(stage, "off")
    file = stage.workspace / "audit.jsonl"
    with mtls_caller(api, client_context(stage.identity("/web"))) as caller:
        assert caller.ask("GET", "/orders").status == 200
        api.file.write_text(api.file.read_text().replace('audit = "off"', 'audit = "all"'))
        reload_changes(api)
        assert caller.ask("GET", "/orders/1").status == 200
    poll(lambda: [each["path"] for each in decisions(file)] == ["/orders/1"], "it is recorded")
    api.file.write_text(api.file.read_text().replace("audit.jsonl", "other.jsonl"))
    said = api.log.event("reload_failed")
    assert "audit" in said.text("error")
    assert not (stage.workspace / "other.jsonl").exists()


def test_a_rule_has_its_grants_recorded_where_the_listener_records_nothing(stage: Stage) -> None:
    api = http_api(stage, "off")
    file = stage.workspace / "audit.jsonl"
    with mtls_caller(api, client_context(stage.identity("/web"))) as caller:
        assert caller.ask("GET", "/orders").status == 200
        paid = '\npaths = "/pay"\naudit = "all"'
        allow(stage, "/web", more='paths = "/orders/**"\n[[allow]]\nname = "pay"\nfrom = "/web"' + paid)
        reload_changes(api)
        assert caller.ask("GET", "/orders/1").status == 200
        assert caller.ask("GET", "/pay").status == 200
        assert caller.ask("GET", "/else").status == 403
    poll(lambda: [(each["path"], each["rule"]) for each in decisions(file)] == [("/pay", "pay")], "it is recorded")


@pytest.mark.long
def test_each_of_several_workers_has_a_file_of_its_own(stage: Stage) -> None:
    origin = stage.keep(Origin())
    tables = audit().replace(ONE_PROCESS, "[runtime]\nworkers = 2\n")
    api = stage.sidecar("api", tables + inbound(forward=origin.address, protocol="http", more='audit = "all"'))
    for _ in range(8):
        with mtls_caller(api, client_context(stage.identity("/web"))) as caller:
            assert caller.ask("GET", "/").status == 200
    poll(lambda: api.metric("meshproxy_audit_records_total") == 8, "all are durable")
    stop(api)
    files = [stage.workspace / f"audit.{number}.jsonl" for number in (1, 2)]
    assert sum(len(decisions(file)) for file in files) == 8
    assert {each["event"] for file in files for each in lines(file)} == {"opened", "decision", "checkpoint"}
    judged = verify(stage)
    assert judged.returncode == 0, judged.stdout


def test_it_can_be_searched(stage: Stage) -> None:
    api = http_api(stage, "all")
    ask_all(stage, api)
    stop(api)
    file = stage.workspace / "audit.jsonl"

    def found(*arguments: str) -> list[tuple[object, object]]:
        said = meshproxy("audit", "query", file, "--json", *arguments)
        assert said.returncode == (0 if said.stdout else 1)
        return [(each["caller"], each["path"]) for each in map(json.loads, said.stdout.splitlines())]

    assert len(found()) == 8
    assert found("--who", "/web", "--decision", "deny") == [(WEB, "/orders"), (WEB, "/refunds")]
    assert found("--who", "/batch", "--what", "POST /orders", "--since", "1h") == [(BATCH, "/orders")]
    assert found("--since", "2090-01-01") == []
    words = meshproxy("audit", "query", file, "--what", "/orders/*").stdout.splitlines()
    assert words[0].endswith(f"allow       {WEB} -> api: GET /orders/7 (web-calls)"), words
    explained = meshproxy("policy", "report", stage.workspace / "web.allow.toml", "--log", file)
    assert explained.returncode == 0, explained.stderr  # the other commands read it as they read the sidecar's log
