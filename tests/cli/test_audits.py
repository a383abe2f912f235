"""What `meshproxy audit` says of files that are none, and how it is asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from meshproxy.audit.lines import Why
from meshproxy.cli.audits import audit
from tests.audit.conftest import Chain, decision, signer_of
from tests.factory import make_mesh_ca

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

API = "spiffe://mesh.test/api"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of two files, its bundle beside it."""
    identity = make_mesh_ca(tmp_path / "mesh").issue("/api")
    chain = Chain(signer_of(identity), identity.certificate.not_valid_after_utc.isoformat())
    file = tmp_path / "audit.jsonl"
    chain.opens()
    chain.add(decision(1, method="GET", path="/a\x1b[2J"))
    chain.seals(Why.ROTATED)
    file.with_name("audit.jsonl.000000000003").write_bytes(b"".join(chain.lines))
    begins = len(chain.lines)
    chain.opens(Why.ROTATED)
    chain.add(decision(2, decision="deny", reason="no_rule"))
    chain.seals()
    file.write_bytes(b"".join(chain.lines[begins:]))
    (tmp_path / "bundle.pem").write_bytes(identity.bundle.read_bytes())
    return file


def said(*arguments: str | Path) -> Result:
    return CliRunner().invoke(audit, [str(each) for each in arguments])


def files(log: Path) -> list[Path]:
    return list(log.parent.glob("audit.jsonl*"))


def test_files_may_come_in_any_order(log: Path) -> None:
    for given in (files(log), files(log)[::-1]):
        result = said("verify", *given, "--bundle", log.with_name("bundle.pem"), "--id", API, "--json")
        assert result.exit_code == 0, result.output
        [report] = json.loads(result.stdout)
        assert (report["sound"], report["decisions"], report["reached"], report["signers"]) == (True, 2, 6, [API])


def test_what_is_not_proved_is_said(log: Path) -> None:
    alone = said("verify", log)
    assert alone.exit_code == 0
    assert "give --bundle F" in alone.stdout
    assert "lines 1 to 3" in alone.stdout  # not here
    assert "is no proper one" in alone.stdout


def test_another_owner_is_found(log: Path) -> None:
    result = said("verify", *files(log), "--id", "spiffe://mesh.test/web")
    assert result.exit_code == 1
    assert f"signed by {API}, expected spiffe://mesh.test/web" in result.stdout


def test_a_head_that_was_kept_is_compared(log: Path) -> None:
    kept = log.with_name("kept")
    kept.write_text(said("head", log).stdout)
    assert said("verify", *files(log), "--head", kept).exit_code == 0
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:1]))
    result = said("verify", *files(log), "--head", kept)
    assert result.exit_code == 1
    assert "the end is cut off" in result.stdout
    assert said("head", log).exit_code == 1


def test_text_of_a_stranger_moves_no_cursor(log: Path) -> None:
    result = said("query", *files(log), "--who", "/web")
    assert result.exit_code == 0
    assert "\x1b[2J" not in result.stdout
    assert result.stdout.count("\n") == 2


def test_nobody_found_is_told_by_the_exit(log: Path) -> None:
    result = said("query", log, "--who", "/nobody")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "nothing was decided like that" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["verify", "nowhere"], "cannot be read"),
        (["verify", "."], "cannot be read"),
        (["verify", "LOG", "--bundle", "nowhere"], "cannot be read"),
        (["verify", "LOG", "--id", "/api"], "SPIFFE ID"),
        (["verify", "LOG", "--head", "LOG.none"], "cannot be read"),
        (["verify", "LOG", "--head", "BUNDLE"], "holds no checkpoint"),
        (["query", "LOG", "--who", "web"], "expected an identity"),
        (["query", "LOG", "--what", "a b c"], "expected a method"),
        (["query", "LOG", "--since", "yesterday"], "expected a time"),
        (["query", "LOG", "--trust-domain", "a/b"], "--trust-domain"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(log: Path, arguments: list[str], told: str) -> None:
    places = {"LOG": str(log), "BUNDLE": str(log.with_name("bundle.pem")), "LOG.none": str(log.with_name("none"))}
    result = said(*(places.get(each, each) for each in arguments))
    assert result.exit_code == 2, result.output
    assert told in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.output


def test_a_line_that_is_nested_too_deeply_is_no_line(log: Path) -> None:
    deep = b'{"seq":1,"prev":"","event":"opened","chain":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
    log.write_bytes(deep + log.read_bytes())
    for command, code in (("verify", 1), ("query", 0), ("head", 0)):
        result = said(command, log)
        assert result.exit_code == code, result.output
        assert not isinstance(result.exception, RecursionError)


def test_a_bundle_that_is_none_vouches_for_nobody(log: Path) -> None:
    result = said("verify", *files(log), "--bundle", log)
    assert result.exit_code == 1
    assert "nobody vouches" in result.stdout
