"""`meshproxy ca list`, `log`, `publish`, `backup`, `restore`, `doctor`: what they say and how they exit."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from ca.occupancy import sole
from meshproxy.cli.main import cli

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESHPROXY_CA_DIR", "ca")
    assert run("init", "--dir", "ca", "--trust-domain", "mesh.test", "--no-passphrase").exit_code == 0
    for path, ttl in (("/web", "24h"), ("/api", "1h"), ("/job", "10m")):
        assert run("issue", path, "--out", path[1:], "--ttl", ttl).exit_code == 0


def run(*arguments: str, exit_code: int | None = None) -> Result:
    result = CliRunner().invoke(cli, ("ca", *arguments), prog_name="meshproxy")
    assert exit_code is None or result.exit_code == exit_code, result.output
    return result


def listed(*arguments: str) -> list[str]:
    return [each["id"].rpartition("/")[2] for each in json.loads(run("list", "--json", *arguments).stdout)]


def test_the_list_is_narrowed_by_whatever_is_asked() -> None:
    assert listed() == ["web", "api", "job"]
    assert listed("--id", "/api") == ["api"]
    assert listed("--expiring", "2h") == ["api", "job"]
    assert listed("--revoked") == []
    run("revoke", "--id", "/web", exit_code=0)
    assert listed("--revoked") == ["web"]
    lines = run("list").stdout.splitlines()
    assert len(lines) == 3
    assert "  revoked   23 h 59 min left  spiffe://mesh.test/web" in lines[0]
    assert "  valid  " in lines[1]
    assert run("list", "--id", "/none").stderr == "no certificates\n"
    assert "is not an identity" in run("list", "--id", "none", exit_code=2).stderr


def test_a_ledger_is_verified_by_its_own_head_and_by_one_kept_elsewhere(tmp_path: Path) -> None:
    said = run("log", "verify", exit_code=0).stdout
    assert said.startswith("sound: 7 events, the last is ")
    (tmp_path / "kept").write_bytes((tmp_path / "ca/ledger.head").read_bytes())
    run("issue", "/web", "--out", "web", exit_code=0)
    assert "1 of them not covered" in run("log", "verify", "--head", "kept", exit_code=0).stdout
    report = json.loads(run("log", "verify", "--json", exit_code=0).stdout)
    assert (report["sound"], report["events"], report["faults"]) == (True, 8, [])
    assert "nowhere cannot be read" in run("log", "verify", "--head", "nowhere", exit_code=2).stderr


def tamper(statement: str) -> None:
    with closing(sqlite3.connect("ca/ledger.sqlite3")) as shell, shell:
        for trigger in ("events_are_never_changed", "events_are_never_removed"):
            shell.execute(f"DROP TRIGGER {trigger}")
        shell.execute(statement)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE events SET body = replace(body, '/api', '/apj') WHERE seq = 6", "event 6 was changed"),
        ("DELETE FROM events WHERE seq = 7", "the signed head covers 7 events, and only 6 are here"),
        ("DELETE FROM issued", "is not what the events add up to"),
    ],
)
def test_a_ledger_that_was_tampered_with_is_exit_1(statement: str, words: str) -> None:
    tamper(statement)
    assert words in run("log", "verify", exit_code=1).stdout
    assert words.partition(" and ")[0] in run("doctor", exit_code=1).stdout


def test_a_lost_state_is_rebuilt() -> None:
    tamper("DELETE FROM issued")
    assert listed() == []
    run("log", "rebuild", exit_code=0)
    assert listed() == ["web", "api", "job"]
    run("log", "verify", exit_code=0)


def test_the_log_is_shown_as_it_is_kept() -> None:
    lines = [json.loads(line) for line in run("log", "show", exit_code=0).stdout.splitlines()]
    assert [line["event"]["kind"] for line in lines] == [
        *("init", "rotate-prepare", "rotate-activate", "bundle"),
        *("issue", "issue", "issue"),
    ]
    assert [line["seq"] for line in map(json.loads, run("log", "show", "--after", "5").stdout.splitlines())] == [6, 7]


def test_backup_and_restore(tmp_path: Path) -> None:
    assert "give --passphrase-file to seal the keys" in run("backup", "--out", "b.tar", exit_code=2).stderr
    passphrase = tmp_path / "pass"
    passphrase.write_text("secret\n")
    passphrase.chmod(0o600)
    said = run("backup", "--out", "b.tar", "--passphrase-file", "pass", exit_code=0).stdout
    assert said.startswith("b.tar: 7 events, the last is ")
    run("revoke", "--id", "/web", exit_code=0)
    assert "or --without-deny-list" in run("restore", "b.tar", "--dir", "new", exit_code=2).stderr
    arguments = ("--dir", "new", "--deny-list", "ca/trust/denylist.json", "--passphrase-file", "pass")
    said = run("restore", "b.tar", *arguments, exit_code=0).stdout
    assert "The CA of mesh.test, as it was at " in said
    assert "revoked again  1\n" in said
    assert "are unknown and are not renewed" in said
    assert [each["fate"] for each in json.loads(run("list", "--dir", "new", "--json").stdout)] == [
        "revoked",
        "valid",
        "valid",
    ]
    run("log", "verify", "--dir", "new", exit_code=0)
    run("doctor", "--dir", "new", exit_code=0)
    assert "already exists" in run("restore", "b.tar", *arguments, exit_code=2).stderr
    without = run("restore", "b.tar", "--dir", "newer", "--without-deny-list", exit_code=0)
    assert "is no longer revoked here; revoke it again" in without.stderr
    assert "is no backup of a CA" in run("restore", "pass", "--dir", "x", "--without-deny-list", exit_code=2).stderr


def test_publishing_is_for_cron(tmp_path: Path) -> None:
    run("publish", exit_code=0)
    first = {path.name: path.read_bytes() for path in (tmp_path / "ca/trust").iterdir()}
    assert set(first) == {"bundle.pem", "bundle.json", "denylist.json", "crl.pem"}
    run("publish", exit_code=0)
    assert {path.name: path.read_bytes() for path in (tmp_path / "ca/trust").iterdir()} == first
    (tmp_path / "ca/trust/bundle.pem").unlink()
    run("publish", exit_code=0)
    assert (tmp_path / "ca/trust/bundle.pem").read_bytes() == first["bundle.pem"]


def test_a_ca_in_health() -> None:
    assert run("doctor", exit_code=0).stdout == "sound: nothing to say about the CA in ca\n"
    run("publish", exit_code=0)
    assert json.loads(run("doctor", "--json", exit_code=0).stdout) == {"sound": True, "served_by": None, "findings": []}


def test_who_serves_it_is_told(tmp_path: Path) -> None:
    with sole(tmp_path / "ca"):
        assert f"it is served by process {os.getpid()}" in run("doctor", exit_code=0).stdout


def slot(tmp_path: Path) -> Path:
    return next((tmp_path / "ca/authorities").iterdir())


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda place: (slot(place) / "int.key").chmod(0o644), "mode 0644, readable by everyone"),
        (lambda place: (place / "ca").chmod(0o777), "mode 0777, writable by everyone"),
        (lambda place: (place / "ca/ca.toml").chmod(0o666), "mode 0666, writable by everyone"),
        (lambda place: (slot(place) / "int.key").unlink(), "int.key is missing; this CA cannot issue"),
        (
            lambda place: (slot(place) / "int.crt").write_bytes((slot(place) / "root.crt").read_bytes()),
            "int.crt is not the certificate that the ledger holds",
        ),
        (lambda place: (place / "ca/trust/bundle.pem").write_bytes(b""), "bundle.pem is not what the ledger says"),
        (lambda place: (place / "ca/trust/denylist.json").symlink_to("/x"), "is a symbolic link"),
        (lambda place: (place / "ca/ledger.sqlite3").unlink(), "ledger.sqlite3 is missing"),
        (lambda place: (place / "ca/ca.toml").write_text("x"), "ca.toml cannot be used"),
        (lambda place: (place / "ca/ledger.head").write_text("x"), "ledger.head: the signed head cannot be believed"),
    ],
)
def test_what_is_wrong_is_found(tmp_path: Path, harm: Callable[[Path], object], words: str) -> None:
    harm(tmp_path)
    assert words in run("doctor", exit_code=1).stdout


def test_what_will_be_wrong_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "ca/ledger.head").unlink()
    (tmp_path / "ca/authorities/0007-00000000").mkdir(mode=0o700)
    run(
        "init",
        "--dir",
        "short",
        "--trust-domain",
        "mesh.test",
        "--no-passphrase",
        "--intermediate-ttl",
        "2h",
        exit_code=0,
    )
    said = run("doctor", exit_code=0).stdout
    assert "warning: there is no ledger.head" in said
    assert "warning: ca/authorities/0007-00000000 is in no event" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_of_somebody_else_are_found(tmp_path: Path) -> None:
    os.chown(tmp_path / "ca/ledger.sqlite3", 12345, 12345)
    assert "belongs to user 12345, the directory to 0" in run("doctor", exit_code=1).stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_is_sent_to_the_owner(tmp_path: Path) -> None:
    os.chown(tmp_path / "ca", 12345, 12345)
    said = run("revoke", "--id", "/web", exit_code=2).stderr
    assert said == "meshproxy: ca belongs to user 12345; run this as that user, with sudo -u '#12345'\n"


@pytest.mark.parametrize("verb", ["list", "log", "publish", "backup", "restore", "doctor", "revoke", "rotate", "token"])
def test_every_verb_has_an_example(verb: str) -> None:
    assert "Example:\n    meshproxy ca" in run(verb, "--help", exit_code=0).stdout
