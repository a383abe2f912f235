"""`meshproxy policy test`: expectations written down, and compared with what the evaluator says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from meshproxy.cli.main import cli

LIST = """
[[allow]]
name = "web-reads"
from = "/web"
methods = ["GET"]
paths = ["/orders/**"]

[[allow]]
name = "batch"
from = "/batch"
expires = 2027-01-01
"""
GOOD = """
policy = "../api.allow.toml"
at = 2026-11-22

[[case]]
from = "/web"
method = "GET"
path = "/orders/%37?x"
expect = "allow"
rule = "web-reads"

[[case]]
from = "/web"
method = "PUT"
path = "/orders/7"
expect = "deny"
reason = "method"

[[case]]
from = "/batch"
method = "GET"
path = "/"
expect = "allow"

[[case]]
from = "/batch"
method = "GET"
path = "/"
at = 2027-01-01
expect = "deny"
reason = "expired_grant"

[[case]]
from = "/web"
method = "GET"
path = "/orders/../admin"
expect = "deny"

[[case]]
policy = "../tcp.allow.toml"
from = "spiffe://other.test/x"
expect = "deny"
"""


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("api.allow.toml").write_text(LIST)
    Path("tcp.allow.toml").write_text('[[allow]]\nfrom = "/x"\n')
    Path("cases").mkdir()
    Path("cases/good.toml").write_text(GOOD)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["policy", "test", *arguments], prog_name="meshproxy")


def test_all_as_expected() -> None:
    said = run("cases/good.toml")
    assert (said.exit_code, said.stdout, said.stderr) == (0, "", "6 as expected, 0 not\n")
    assert run("cases/good.toml", "-v").stdout.count("as expected") == 6


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            'expect = "allow"\nrule = "web-reads"',
            'expect = "deny"',
            "allowed by 'web-reads' (cases/../api.allow.toml:2), expected denied",
        ),
        ('rule = "web-reads"', 'rule = "batch"', "expected rule 'batch' to decide"),
        ('reason = "method"', 'reason = "path"', "denied (method), expected path as the reason"),
        ("at = 2027-01-01\n", "", "allowed by 'batch'"),
        (
            '/orders/../admin"\nexpect = "deny"',
            '/orders/../admin"\nexpect = "allow"',
            "refused before any rule is asked: a dot segment",
        ),
    ],
)
def test_what_is_not_as_expected_is_told_with_its_line(old: str, new: str, fault: str) -> None:
    assert old in GOOD
    Path("cases/good.toml").write_text(GOOD.replace(old, new))
    said = run("cases/good.toml")
    assert (said.exit_code, said.stderr) == (1, "5 as expected, 1 not\n")
    assert fault in said.stdout
    line = int(said.stdout.split(":")[1])
    assert GOOD.replace(old, new).splitlines()[line - 1] == "[[case]]"


def test_as_json() -> None:
    said = json.loads(run("cases/good.toml", "--json").stdout)
    assert (said["passed"], said["failed"]) == (6, 0)
    assert [each["rule"] for each in said["cases"]] == ["web-reads", None, "batch", None, None, None]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "found no [[case]]"),
        ('[[case]]\nfrom = "/a"\nexpect = "allow"\n', "found no `policy`"),
        ('policy = "x"\n[[case]]\nfrom = "a"\nexpect = "maybe"\n', "an identity such as /web"),
        ('policy = "x"\n[[case]]\nfrom = "/a"\nexpect = "maybe"\n', '"allow" or "deny"'),
        ('policy = "x"\n[[case]]\nfrom = "/a"\nexpect = "deny"\nrule = "r"\n', "no rule denies"),
        ('policy = "x"\n[[case]]\nfrom = "/a"\nexpect = "allow"\nmethod = "GET"\n', "Add the other"),
        ('policy = "x"\n[[case]]\nfrom = "/a"\nexpct = "allow"\n', "Did you mean `expect`"),
        ('policy = "gone"\n[[case]]\nfrom = "/a"\nexpect = "allow"\n', "cases/gone is no file"),
        ('policy = "../api.allow.toml"\n[[case]]\nfrom = "/a"\nexpect = "allow"\n', "sees no requests"),
    ],
)
def test_what_cannot_be_asked_is_exit_2_and_told_with_its_line(text: str, words: str) -> None:
    Path("cases/bad.toml").write_text(text)
    said = run("cases/good.toml", "cases/bad.toml")
    assert said.exit_code == 2
    assert words in said.stderr
