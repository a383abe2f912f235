"""`meshproxy policy explain`: the sidecar's own answer, with its reasons and what would change it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from ca.spiffe_id import SpiffeId, TrustDomain
from ca.svid import Leaf
from meshproxy.cli.main import cli
from meshproxy.cli.policy.explain import Asked, explained
from meshproxy.cli.policy.lists import AllowList
from meshproxy.inbound.authorize import Authorizer
from meshproxy.inbound.visit import Visit
from meshproxy.policy.compile import compile_policy
from meshproxy.policy.document import Document, Rule
from meshproxy.settings.schema import Inbound, Protocol
from meshproxy.snapshot import Snapshot
from meshproxy.telemetry.metrics import Metrics
from meshproxy.telemetry.record import Recorder
from meshproxy.wire.address import TcpAddress
from tests.factory import make_mesh_ca
from tests.hearing import listening_log
from tests.inbound.test_authorize import request
from tests.policy.test_difference import some_rules

HOME = TrustDomain("mesh.test")
NOW = datetime(2026, 11, 22, tzinfo=UTC)
LIST = """\
# Who may call.

[[allow]]
name = "web-reads"
from = "/web"
methods = ["GET"]   # reading
paths = ["/orders/**"]

# The nightly one.
[[allow]]
name = "batch"
from = "/batch/*"
methods = ["POST"]
paths = ["/orders"]
expires = 2026-01-01
"""


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("api.allow.toml").write_text(LIST)


def explain(*arguments: str, said: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["policy", "explain", *arguments], input=said, prog_name="meshproxy")


def asked(caller: str, method: str, path: str, *more: str) -> Result:
    return explain("api.allow.toml", "--from", caller, "--method", method, "--path", path, *more)


@settings(max_examples=60, deadline=None)
@given(some_rules(), st.lists(st.tuples(st.sampled_from(["GET", "PUT"]), st.sampled_from(["/a", "/b/zz", "/"]))))
@pytest.mark.parametrize("caller", ["/a", "/b/a"])
def test_it_gives_the_running_sidecars_answer(
    caller: str, rules: tuple[Rule, ...], requests: list[tuple[str, str]]
) -> None:
    policy = compile_policy(Document("x.allow.toml", rules, "0"))
    who = SpiffeId.of(HOME, caller)
    here = TcpAddress("127.0.0.1", 0)
    log, _ = listening_log()
    recorder = Recorder(Metrics(), log, lambda _line: None, lambda: 0.0)
    listener = Inbound("api", here, here, Protocol.HTTP, Path("x.allow.toml"))
    authorizer = Authorizer(listener, Snapshot(policy), recorder)
    leaf = Leaf(who, 1, "00", NOW - timedelta(days=1), NOW + timedelta(days=9))
    judge = authorizer.judge_of(
        Visit("api", "inbound", "p", started=0.0, caller=str(who)), leaf, home=HOME, wall=lambda: NOW
    )
    for method, path in requests:
        running = judge(request(path, method), b"1").decided
        assert running is not None
        found = explained(AllowList(Document("x", rules, "0"), policy, ()), Asked(who, HOME, (method, path)), now=NOW)
        decision = found.decision
        assert (
            decision.granted,
            decision.rule.name if decision.rule else "",
            decision.reason.value,
            f"{decision.file}@{decision.generation}",
        ) == (running.decision == "allow", running.rule, running.reason, running.policy)
        granting = [each.rule for each in found.verdicts if each.failed is None]
        assert (granting[0] if granting else None) is decision.rule


@settings(max_examples=60, deadline=None)
@given(some_rules(), st.sampled_from(["/a", "/b/a", "/zz"]))
def test_it_gives_the_running_sidecars_answer_about_connections(rules: tuple[Rule, ...], caller: str) -> None:
    policy = compile_policy(Document("x.allow.toml", rules, "0"))
    who = SpiffeId.of(HOME, caller)
    here = TcpAddress("127.0.0.1", 0)
    log, _ = listening_log()
    recorder = Recorder(Metrics(), log, lambda _line: None, lambda: 0.0)
    listener = Inbound("api", here, here, Protocol.TCP, Path("x.allow.toml"))
    leaf = Leaf(who, 1, "00", NOW - timedelta(days=1), NOW + timedelta(days=9))
    visit = Visit("api", "inbound", "p", started=0.0, caller=str(who))
    allowed = Authorizer(listener, Snapshot(policy), recorder).ask(visit, leaf, home=HOME, now=NOW) is not None
    found = explained(AllowList(Document("x", rules, "0"), policy, ()), Asked(who, HOME, None), now=NOW)
    decision = found.decision
    assert (decision.granted, decision.rule.name if decision.rule else "", decision.reason.value) == (
        allowed,
        visit.rule,
        visit.reason,
    )
    granting = [each.rule for each in found.verdicts if each.failed is None]
    assert (granting[0] if granting else None) is decision.rule


def test_what_is_allowed_shows_the_rule_as_it_is_written() -> None:
    said = asked("/web", "GET", "/orders/7?x=1")
    assert said.exit_code == 0
    assert said.output.startswith("allowed  /web GET /orders/7\n")
    assert (
        '    [[allow]]\n    name = "web-reads"\n    from = "/web"\n    methods = ["GET"]   # reading\n'
        '    paths = ["/orders/**"]\n\n' in said.output
    )


def test_what_is_denied_shows_each_rule_the_nearest_and_the_edit() -> None:
    said = asked("/web", "DELETE", "/orders/7")
    assert said.exit_code == 1
    assert said.output.splitlines()[0] == "denied   /web DELETE /orders/7"
    text = " ".join(said.output.split())
    assert 'rule "web-reads" (api.allow.toml:3) grants the caller other methods on this path' in text
    assert 'rule "batch" (api.allow.toml:10) does not grant the caller' in text
    assert 'grants the caller GET on /orders/**, the request is "DELETE"' in text
    assert 'methods = ["DELETE"] paths = ["/orders/7"]' in text


def test_an_expired_grant_says_so() -> None:
    said = asked("/batch/nightly", "POST", "/orders")
    assert "reason   expired_grant: a rule granted just this, and has expired" in said.output
    assert "edit     in the place of api.allow.toml:10, which grants what the rule granted" in said.output


def test_the_path_is_judged_as_a_sidecar_does() -> None:
    assert asked("/web", "GET", "/orders/%37").output.startswith("allowed  /web GET /orders/7\n")
    for path in ("/orders/../x", "/orders/%2f", "//x", "nothing"):
        said = asked("/web", "GET", path)
        assert (said.exit_code, "refused with 400 before any rule" in said.output) == (1, True)


def test_as_json_it_says_the_same() -> None:
    said = json.loads(asked("/web", "DELETE", "/orders/7", "--json").output)
    assert (said["allowed"], said["reason"], said["rule"]) == (False, "method", None)
    assert [(each["rule"], each["stopped_at"]) for each in said["rules"]] == [
        ("web-reads", "method"),
        ("batch", "caller"),
    ]
    assert said["edit"]["replaces_line"] is None


def test_a_short_identity_is_of_the_trust_domain_named_or_of_the_identity_in_reach(tmp_path: Path) -> None:
    Path("api.allow.toml").write_text('[[allow]]\nfrom = "spiffe://mesh.test/web"\n')
    tcp = ("api.allow.toml", "--from", "/web", "--tcp")
    assert explain(*tcp).exit_code == 1
    assert explain(*tcp, "--trust-domain", "mesh.test").exit_code == 0
    make_mesh_ca(tmp_path).issue("/web", into=tmp_path / "identity")
    assert explain(*tcp).exit_code == 0


def test_log_lines_are_explained_each_by_the_file_it_names() -> None:
    lines = [
        {
            "event": "request",
            "direction": "inbound",
            "caller": "spiffe://mesh.test/web",
            "decision": "allow",
            "method": "GET",
            "path": "/orders/1",
            "policy": "api.allow.toml@3",
        },
        {"event": "handshake_failed", "peer": "x"},
        {
            "event": "denied",
            "caller": "spiffe://mesh.test/web",
            "method": "PUT",
            "path": "/orders/1",
            "policy": "api.allow.toml",
        },
        {
            "event": "denied",
            "caller": "spiffe://mesh.test/web",
            "method": "GET",
            "path": "/orders/1",
            "policy": "api.allow.toml",
        },
    ]
    said = explain("--log", "-", said="not JSON\n" + "\n".join(map(json.dumps, lines)) + "\n")
    assert said.exit_code == 1
    assert [line for line in said.output.splitlines() if line.startswith(("allowed", "denied", "then"))] == [
        "allowed  /web GET /orders/1",
        "denied   /web PUT /orders/1",
        "allowed  /web GET /orders/1",
        "then     deny, by api.allow.toml: the file has changed since",
    ]
    assert explain("--log", "-", "--json", said=json.dumps(lines[0])).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gone.toml", "--from", "/web", "--tcp"), "gone.toml is no file"),
        (("api.allow.toml", "--from", "web", "--tcp"), "web is no identity"),
        (("api.allow.toml", "--from", "/web", "--tcp"), "expected only `from`"),
        (("api.allow.toml", "--from", "/web", "--tcp", "--path", "/"), "or --tcp for a connection"),
        (("api.allow.toml", "--from", "/web", "--method", "GET"), "or --tcp for a connection"),
        (("api.allow.toml",), "name the allow-list and --from ID"),
        (("--log", "-"), "holds no decision"),
        (("--log", "gone.log"), "gone.log cannot be read"),
        (("--log", "-", "--tcp"), "brings its own questions"),
        ((".", "--from", "/web", "--tcp"), ". is a directory"),
    ],
)
def test_what_cannot_be_answered_is_one_sentence_and_exit_2(arguments: tuple[str, ...], words: str) -> None:
    said = explain(*arguments, said="")
    assert said.exit_code == 2
    assert words in " ".join(said.output.split())
    assert "Traceback" not in said.output


def test_a_rule_is_shown_as_it_stands_whatever_else_ends_a_line_elsewhere() -> None:
    Path("api.allow.toml").write_text('# \u2028 \x85 \x9b31m\n[[allow]]\nfrom = "/web"  # \x9b31m größer\r\n')
    said = explain("api.allow.toml", "--from", "/web", "--tcp")
    assert '\n    [[allow]]\n    from = "/web"  # \\x9b31m größer\n' in said.stdout


def test_who_came_too_late_is_told_so() -> None:
    line = {"event": "decision", "caller": "spiffe://mesh.test/web", "method": "GET", "path": "/orders/1"}
    line |= {"decision": "deny", "reason": "certificate_expired", "listener": "api"}
    told = explain("--log", "-", said=json.dumps(line))
    assert told.exit_code == 1
    assert "denied   spiffe://mesh.test/web GET /orders/1\nreason   certificate_expired: the caller's" in told.stdout
    assert json.loads(explain("--log", "-", "--json", said=json.dumps(line)).stdout)["reason"] == "certificate_expired"


@pytest.mark.parametrize(
    ("method", "path"), [("G T", "/"), ("GÉT", "/"), ("", "/"), ("\x1b[2J", "/"), ("GET", "/\udcff"), ("CONNECT", "/")]
)
def test_what_a_sidecar_refuses_before_any_rule_is_told_so(method: str, path: str) -> None:
    said = explain("api.allow.toml", "--from", "/web", "--method", method, "--path", path)
    assert said.exit_code == 1
    assert "before any rule is asked" in said.stderr


def test_a_line_that_is_nested_too_deeply_is_passed_over() -> None:
    deep = '{"event":"denied","caller":"spiffe://mesh.test/web","x":' + "[" * 100_000 + "]" * 100_000 + "}\n"
    told = explain("api.allow.toml", "--log", "-", said=deep)
    assert (told.exit_code, "holds no decision" in told.stderr) == (2, True)


def test_a_line_of_nobody_does_not_end_the_reading_of_a_log() -> None:
    said = '{"event":"denied","caller":"nobody","method":"GET","path":"/x"}\n'
    said += '{"event":"denied","caller":"spiffe://mesh.test/web","method":"PUT","path":"/x"}\n'
    told = explain("api.allow.toml", "--log", "-", said=said)
    assert (told.exit_code, "denied   /web PUT /x" in told.output) == (1, True)
