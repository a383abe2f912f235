"""`meshproxy policy learn`: from a log to an allow-list, and to what one lacks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from meshproxy.cli.main import cli
from tests.cli.policy.test_replay import line

WEB = "spiffe://mesh.test/web"


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.log").write_text(
        line(WEB, "GET", "/orders/1", "would_deny", listener="api", policy="policies/team/api.allow.toml@2")
        + line(WEB, "GET", "/orders/2", "allow", listener="api", policy="policies/team/api.allow.toml@2")
        + line(WEB, "PUT", "/x", "would_deny", listener="other", policy="other.allow.toml@1")
    )


def policy(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["policy", *arguments], prog_name="meshproxy")


def test_what_is_learnt_can_be_used_and_nothing_would_change() -> None:
    said = policy("learn", "--log", "a.log", "--out", "new.allow.toml")
    assert (said.exit_code, said.stdout) == (0, "")
    assert 'from = ["/web"]' in Path("new.allow.toml").read_text()
    assert policy("check", "new.allow.toml").exit_code == 0
    assert policy("replay", "new.allow.toml", "--log", "a.log", "--json").exit_code == 1  # the would-be denials
    groups = json.loads(policy("replay", "new.allow.toml", "--log", "a.log", "--json").stdout)["groups"]
    assert all(not group["was_allowed"] for group in groups)
    again = policy("learn", "--log", "a.log", "--against", "new.allow.toml")
    assert (again.exit_code, again.stdout, again.stderr) == (1, "", "nothing is missing\n")
    assert policy("learn", "--log", "a.log", "--out", "new.allow.toml").exit_code == 2  # it is there already


@pytest.mark.parametrize("service", ["api", "/team/api"])
def test_one_service_of_several(service: str) -> None:
    said = policy("learn", "--log", "a.log", "--service", service)
    assert "/orders/*" in said.stdout
    assert "/x" not in said.stdout


def test_what_is_missing_only() -> None:
    Path("old.allow.toml").write_text('[[allow]]\nfrom = "/web"\nmethods = ["GET"]\n')
    said = policy("learn", "--log", "a.log", "--against", "old.allow.toml")
    assert said.stdout.count("[[allow]]") == 1
    assert 'methods = ["PUT"]' in said.stdout


@pytest.mark.parametrize("arguments", [("--log", "gone"), ("--log", "a.log", "--service", "none")])
def test_nothing_to_learn_from_is_exit_2(arguments: tuple[str, ...]) -> None:
    said = policy("learn", *arguments)
    assert (said.exit_code, "Traceback" in said.output) == (2, False)


def test_a_report_tells_which_rules_are_used_and_which_never() -> None:
    Path("old.allow.toml").write_text('[[allow]]\nname = "old"\nfrom = "/web"\n[[allow]]\nname = "idle"\nfrom = "/x"\n')
    said = policy("report", "old.allow.toml", "--log", "a.log")
    assert said.exit_code == 1
    assert [" ".join(each.split()) for each in said.stdout.splitlines()] == [
        "3 x old (line 1)",
        "never used idle (line 4)",
    ]
    assert said.stderr == "3 decisions; 1 of 2 rules were not used\n"
    rows = json.loads(policy("report", "old.allow.toml", "--log", "a.log", "--service", "other", "--json").stdout)
    assert [(row["rule"], row["count"]) for row in rows["rules"]] == [("old", 1), ("idle", 0)]
    Path("old.allow.toml").write_text('[[allow]]\nname = "new"\nfrom = "/web"\n')
    assert "3 x  old, and no longer there" in policy("report", "old.allow.toml", "--log", "a.log").stdout


def test_connections_and_requests_make_no_list_together() -> None:
    Path("both.log").write_text(
        '{"event":"connection","caller":"spiffe://m.test/db","decision":"would_deny","listener":"db"}\n'
        '{"event":"request","caller":"spiffe://m.test/web","method":"GET","path":"/a","decision":"allow","listener":"api"}\n'
    )
    said = CliRunner().invoke(cli, ["policy", "learn", "--log", "both.log"])
    assert (said.exit_code, "which no one list can judge: name --service" in said.stderr) == (2, True)
    said = CliRunner().invoke(cli, ["policy", "learn", "--log", "both.log", "--service", "db"])
    assert 'from = ["/db"]' in said.stdout
    assert "/web" not in said.stdout
