"""`meshproxy ca token`: a secret that is shown once, listed without itself, and ended."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import hashes

from ca import tokens
from ca.svid import read_chain
from meshproxy.cli.main import cli

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESHPROXY_CA_DIR", "ca")
    assert run("ca", "init", "--dir", "ca", "--trust-domain", "mesh.test", "--no-passphrase").exit_code == 0


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="meshproxy")


def token(*arguments: str, exit_code: int = 0) -> Result:
    result = run("ca", "token", *arguments)
    assert result.exit_code == exit_code, result.output
    return result


def test_a_token_holds_the_roots_and_the_way_to_the_ca(tmp_path: Path) -> None:
    made = tokens.decode(token("create", "/web", "--ca", "ca.internal:8440", "--ca", "[::1]:8440").stdout.strip())
    (root,) = read_chain((tmp_path / "ca/trust/bundle.pem").read_bytes())
    assert made.pins == (root.fingerprint(hashes.SHA256()),)
    assert made.addresses == ("ca.internal:8440", "[::1]:8440")
    run("ca", "rotate", "prepare", "--what", "root")
    assert len(tokens.decode(token("create", "/web").stdout.strip()).pins) == 2


def test_the_secret_is_nowhere_but_in_the_token(tmp_path: Path) -> None:
    said = token("create", "/web", "--out", "web.token", "--uses", "3", "--ttl", "1h")
    text = (tmp_path / "web.token").read_text().strip()
    assert (tmp_path / "web.token").stat().st_mode & 0o777 == 0o600
    assert said.stdout == ""
    made = tokens.decode(text)
    assert said.stderr == (
        f"meshproxy: token {made.id.hex()} for spiffe://mesh.test/web, 3 times, within 1 h, written to web.token\n"
        "meshproxy: it does not say where the CA is: enrol with --ca HOST:PORT\n"
    )
    listed = token("list", "--json").stdout
    (row,) = json.loads(listed)
    assert (row["id"], row["uses"], row["used"], row["open"]) == ("spiffe://mesh.test/web", 3, 0, True)
    digest = hashlib.sha256(made.secret).hexdigest()
    for shown in (listed, token("list").stdout, said.stderr):
        assert text not in shown
        assert digest not in shown
    for path in (tmp_path / "ca").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert text.encode() not in content
            assert made.secret not in content
            assert made.secret.hex().encode() not in content


def test_tokens_are_listed_until_they_are_over() -> None:
    assert token("list").stderr == "no tokens\n"
    name = tokens.decode(token("create", "/web").stdout.strip()).id.hex()
    assert token("list").stdout.startswith(f"{name}  spiffe://mesh.test/web  9 min 5")
    token("revoke", name, "--reason", "lost")
    token("revoke", name)  # again changes nothing
    assert token("list").stdout == ""
    assert "revoked, used 0/1" in token("list", "--all").stdout
    assert "there is no token" in token("revoke", "00", exit_code=2).stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("web",), "is not an identity"),
        (("/meshproxy/ca",), "is reserved"),
        (("/web", "--ttl", "8d"), "a token lives for at most 7 d"),
        (("/web", "--ttl", "0s"), "a token lives for at most 7 d"),
        (("/web", "--uses", "0"), "serves 1 to 1000 times"),
        (("/web", "--uses", "1001"), "serves 1 to 1000 times"),
        (("/web", "--leaf-ttl", "1m"), "shorter or longer than"),
        (("/web", "--dns", "*.internal"), "no wildcard"),
        (("/web", "--ca", "somewhere"), "not host:port"),
    ],
)
def test_what_makes_no_token_is_one_sentence(arguments: tuple[str, ...], words: str) -> None:
    result = token("create", *arguments, exit_code=2)
    assert (result.stdout, result.stderr.count("\n")) == ("", 1)
    assert words in result.stderr
    assert token("list", "--all").stderr == "no tokens\n"


def test_an_address_that_is_none_is_told_with_its_option() -> None:
    result = CliRunner().invoke(cli, ["ca", "token", "create", "/web", "--ca", "http://ca:1"], prog_name="meshproxy")
    assert result.exit_code == 2
    assert result.stderr == (
        "meshproxy: no token was made: an address in it is not host:port; --ca takes HOST:PORT, up to eight times\n"
    )


def test_a_token_that_nobody_could_keep_lets_nobody_in(tmp_path: Path) -> None:
    made = token("create", "/web", "--out", str(tmp_path / "missing" / "web.token"), exit_code=1)
    assert "No such file or directory" in made.stderr
    assert token("list").stderr == "no tokens\n"
