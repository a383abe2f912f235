"""`meshproxy policy who-can`, `what-can` and `graph`: a whole mesh's allow-lists, asked and drawn."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from meshproxy.cli.main import cli
from meshproxy.policy.estate import file_of, service_of

LEDGER = """
[[allow]]
name = "charges"
from = ["/orders", "/batch/*"]
methods = ["POST"]
paths = ["/accounts/*/charges"]

[[allow]]
name = "admin"
from = "/team-pay/**"

[[allow]]
name = "gone"
from = "/orders"
expires = 2020-01-01
"""


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (Path("policies/team/pay")).mkdir(parents=True)
    Path("policies/team/pay/ledger.allow.toml").write_text(LEDGER)
    Path("policies/feed.allow.toml").write_text('[[allow]]\nfrom = ["/orders", "spiffe://other.test/x"]\n')


def policy(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["policy", *arguments], prog_name="meshproxy")


def test_a_files_place_is_its_services_name() -> None:
    for name, service in (("a.allow.toml", "/a"), ("team/pay/ledger.allow.toml", "/team/pay/ledger")):
        assert service_of(name) == service
        assert file_of(service) == name
    for name in ("a.toml", "a b.allow.toml", "../x.allow.toml", ".allow.toml"):
        with pytest.raises(ValueError, match=r".+"):
            service_of(name)


@pytest.mark.parametrize(
    ("question", "callers"),
    [
        ((), ["/orders", "/batch/*", "/team-pay/**"]),
        (("--method", "POST", "--path", "/accounts/7/charges"), ["/orders", "/batch/*", "/team-pay/**"]),
        (("--method", "DELETE"), ["/team-pay/**"]),
        (("--path", "/accounts/**"), ["/orders", "/batch/*", "/team-pay/**"]),
        (("--path", "/accounts/7"), ["/team-pay/**"]),
    ],
)
def test_who_can(question: tuple[str, ...], callers: list[str]) -> None:
    said = policy("who-can", "/team/pay/ledger", *question, "--json")
    assert said.exit_code == 0
    assert [row["callers"] for row in json.loads(said.stdout)] == callers


def test_nobody_can_is_exit_1_and_no_such_service_is_exit_2() -> None:
    Path("policies/none.allow.toml").write_text("allow = []")
    assert (policy("who-can", "/none").exit_code, policy("who-can", "/none").stderr) == (1, "nobody\n")
    said = policy("who-can", "/gone")
    assert (said.exit_code, said.stderr) == (
        2,
        "meshproxy: /gone has no allow-list: expected it as policies/gone.allow.toml\n",
    )
    assert policy("who-can", "/none", "--path", "a//b").exit_code == 2


def test_what_can() -> None:
    said = policy("what-can", "/orders")
    assert said.exit_code == 0
    assert re.sub(" +", " ", said.stdout) == (
        "/feed anything (rule-1, policies/feed.allow.toml:1)\n"
        "/team/pay/ledger POST on /accounts/*/charges (charges, policies/team/pay/ledger.allow.toml:2)\n"
    )
    assert policy("what-can", "spiffe://other.test/x", "--trust-domain", "mesh.test").exit_code == 0
    assert policy("what-can", "/nobody").exit_code == 1


def test_the_graph_has_every_grant_that_lives_and_no_other() -> None:
    said = policy("graph", "policies").stdout
    assert said.startswith("flowchart LR\n")
    assert said.count("-->") == 5
    assert "gone" not in said
    dot = policy("graph", "policies", "--format", "dot").stdout
    assert '"/batch/*" -> "/team/pay/ledger" [label="POST on /accounts/*/charges"];' in dot
    if shutil.which("dot"):
        subprocess.run(["dot", "-Tsvg"], input=dot.encode(), check=True, capture_output=True)


def test_the_page_is_whole_and_needs_nothing_from_elsewhere() -> None:
    assert policy("graph", "policies", "--format", "html", "--out", "mesh.html").exit_code == 0
    page = Path("mesh.html").read_text()
    assert page.count("<tr><td>") == 5
    assert page.count('<path class="wide"') == 5
    assert page.count("<rect") == 6 + 5  # names, and what the arrows are for
    assert "http" not in page
    assert "<script" not in page
    HTMLParser().feed(page)


@pytest.mark.long
def test_a_thousand_services_are_drawn_and_asked(tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(1_000):
        text = f'[[allow]]\nfrom = "/s{number + 1}"\nmethods = ["GET"]\npaths = ["/x/{number}"]\n'
        (many / f"s{number}.allow.toml").write_text(text)
    assert policy("graph", str(many)).stdout.count("-->") == 1_000
    assert policy("what-can", "/s500", "--policies", str(many)).stdout.count("\n") == 1
    assert policy("check", str(many)).exit_code == 0
    assert policy("diff", str(many), str(many)).exit_code == 0


def test_a_service_may_be_named_in_full() -> None:
    said = policy("who-can", "spiffe://mesh.test/team/pay/ledger")
    assert said.exit_code == 0
    assert said.stdout == policy("who-can", "/team/pay/ledger").stdout
    said = policy("who-can", "/../ledger")
    assert (said.exit_code, "is no identity" in said.stderr) == (2, True)
