"""`meshproxy ca rotate`: what a person types on a good day and on a bad one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from meshproxy.cli.main import cli

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESHPROXY_CA_DIR", "ca")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="meshproxy")


def rotate(*arguments: str, exit_code: int = 0) -> Result:
    result = run("ca", "rotate", *arguments)
    assert result.exit_code == exit_code, result.output
    return result


def made(*more: str) -> None:
    assert (
        run("ca", "init", "--dir", "ca", "--trust-domain", "mesh.test", *(more or ("--no-passphrase",))).exit_code == 0
    )


def test_a_root_from_the_first_word_to_the_last() -> None:
    made()
    assert run("ca", "issue", "/web", "--out", "web").exit_code == 0
    assert "is prepared" in rotate("prepare", "--what", "root").stdout
    status = rotate("status").stdout
    assert "1 would be cut off by activating the prepared root:" in status
    assert "spiffe://mesh.test/web  trusts bundle 1, its certificate ends in 23 h 59 min" in status
    refused = rotate("activate", "--what", "root", exit_code=2)
    assert refused.stderr.startswith("meshproxy: spiffe://mesh.test/web would be cut off: its holder has not loaded")
    assert "1 left behind" in rotate("activate", "--what", "root", "--force").stderr
    assert "lives for another 23 h 59 min" in rotate("retire", "--what", "root", exit_code=2).stderr
    rotate("taint", "--what", "root")
    rotate("retire", "--what", "root", "--force")
    report = json.loads(rotate("status", "--json").stdout)
    states = {(each["what"], each["slot"][:4]): each["state"] for each in report["authorities"]}
    assert states == {
        ("root", "0001"): "retired",
        ("intermediate", "0001"): "retired",
        ("root", "0002"): "active",
        ("intermediate", "0002"): "active",
    }
    assert (report["bundle_sequence"], report["laggards"]) == (3, [])
    assert run("ca", "issue", "/web", "--out", "web").exit_code == 0


def test_nobody_is_waited_for_when_nobody_is_there() -> None:
    made()
    rotate("prepare", "--what", "root", "--root-ttl", "30d", "--intermediate-ttl", "10d")
    assert "it can be activated" in rotate("status").stdout
    rotate("activate", "--what", "root")
    assert rotate("activate", "--what", "root", exit_code=2).stderr == (
        "meshproxy: no root is prepared; begin with meshproxy ca rotate prepare --what root\n"
    )


def test_what_needs_no_key_is_done_without_and_says_what_waits(tmp_path: Path) -> None:
    passphrase = tmp_path / "pass"
    passphrase.write_text("correct horse\n")
    passphrase.chmod(0o600)
    made("--passphrase-file", "pass")
    assert "is sealed; give --passphrase-file" in rotate("prepare", "--what", "intermediate", exit_code=2).stderr
    rotate("prepare", "--what", "intermediate", "--passphrase-file", "pass")
    head = (tmp_path / "ca/ledger.head").read_bytes()
    said = rotate("activate", "--what", "intermediate")
    assert "what is signed (ledger.head, deny-list, CRL) was not written anew" in said.stderr
    assert (tmp_path / "ca/ledger.head").read_bytes() == head
    wrong = tmp_path / "wrong"
    wrong.write_text("incorrect\n")
    wrong.chmod(0o600)
    refused = rotate("retire", "--what", "intermediate", "--passphrase-file", "wrong", exit_code=2)
    assert "this passphrase does not open" in refused.stderr
    assert "old" in rotate("status").stdout  # tried before anything was changed
    assert rotate("retire", "--what", "intermediate", "--passphrase-file", "pass").stderr == ""
    assert (tmp_path / "ca/ledger.head").read_bytes() != head


def test_the_way_out_when_the_key_in_use_was_stolen(tmp_path: Path) -> None:
    passphrase = tmp_path / "pass"
    passphrase.write_text("correct horse\n")
    passphrase.chmod(0o600)
    made("--passphrase-file", "pass")
    slot = next((tmp_path / "ca/authorities").iterdir()).name
    assert (
        "is active: first meshproxy ca rotate prepare"
        in rotate("taint", "--what", "intermediate", "--slot", slot, exit_code=2).stderr
    )
    rotate("taint", "--what", "intermediate", "--slot", slot, "--force")
    issue = ("ca", "issue", "/web", "--out", "web", "--passphrase-file", "pass")
    assert "holds no active intermediate" in run(*issue).stderr
    rotate("prepare", "--what", "intermediate", "--passphrase-file", "pass")
    rotate("activate", "--what", "intermediate", "--passphrase-file", "pass")
    assert run(*issue).exit_code == 0
    rotate("retire", "--what", "intermediate", "--passphrase-file", "pass")


@pytest.mark.parametrize("verb", ["prepare", "status", "activate", "retire", "taint"])
def test_every_verb_has_an_example_and_refuses_what_is_no_ca(verb: str) -> None:
    assert "Example:\n    meshproxy ca rotate" in rotate(verb, "--help").stdout
    what = () if verb == "status" else ("--what", "root")
    assert rotate(verb, *what, exit_code=2).stderr.startswith("meshproxy: ca holds no CA")
