"""`meshproxy ca revoke`: what a person types, and what everybody else then sees."""

from __future__ import annotations

import hashlib
import json
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca import deny_list
from ca.svid import read_chain
from meshproxy.cli.main import cli
from tests.factory import make_mesh_ca

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESHPROXY_CA_DIR", "ca")
    assert run("ca", "init", "--dir", "ca", "--trust-domain", "mesh.test", "--no-passphrase").exit_code == 0
    assert run("ca", "issue", "/web", "--out", "web").exit_code == 0


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="meshproxy")


def revoke(*arguments: str, exit_code: int = 0) -> Result:
    result = run("ca", "revoke", *arguments)
    assert result.exit_code == exit_code, result.output
    return result


def leaf(tmp_path: Path) -> x509.Certificate:
    return read_chain((tmp_path / "web/chain.pem").read_bytes())[0]


def denies(tmp_path: Path) -> bool:
    roots = read_chain((tmp_path / "ca/trust/bundle.pem").read_bytes())
    document = (tmp_path / "ca/trust/denylist.json").read_bytes()
    found = deny_list.read(document, home="mesh.test", roots=roots, now=datetime.now(UTC))
    return found.denies(leaf(tmp_path).public_bytes(Encoding.DER)) is not None


def crl_verdict() -> str:
    """What OpenSSL says about the leaf, with the CRL."""
    return subprocess.run(
        [
            "openssl",
            "verify",
            "-crl_check",
            "-CRLfile",
            "ca/trust/crl.pem",
            "-CAfile",
            "web/bundle.pem",
            "-untrusted",
            "web/chain.pem",
            "web/chain.pem",
        ],
        capture_output=True,
        text=True,
        check=False,
    ).stderr


@pytest.mark.parametrize("by", ["serial", "cert", "id", "spki"])
def test_whatever_names_it_takes_it_back_for_everybody(tmp_path: Path, by: str) -> None:
    certificate = leaf(tmp_path)
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    arguments = {
        "serial": (f"{certificate.serial_number:X}",),
        "cert": ("--cert", "web/chain.pem"),
        "id": ("--id", "/web"),
        "spki": ("--spki", hashlib.sha256(spki).hexdigest()),
    }[by]
    said = revoke(*arguments, "--reason", "keyCompromise")
    assert said.stdout.startswith("revoked: 1 living certificate\n  spiffe://mesh.test/web  serial")
    assert said.stderr == ""
    assert denies(tmp_path)
    assert "certificate revoked" in crl_verdict()
    assert (
        "Key Compromise"
        in subprocess.run(
            ["openssl", "crl", "-in", "ca/trust/crl.pem", "-noout", "-text"], capture_output=True, text=True, check=True
        ).stdout
    )
    assert run("ca", "issue", "/web", "--out", "web").exit_code == 0
    assert not denies(tmp_path)
    assert "revoked" not in crl_verdict()


def test_what_is_not_revoked_passes_the_crl(tmp_path: Path) -> None:
    assert run("ca", "issue", "/other", "--out", "other").exit_code == 0
    revoke("--cert", "other/chain.pem")
    assert crl_verdict() == ""
    assert not denies(tmp_path)


def test_with_an_identity_its_tokens_end() -> None:
    for path in ("/web", "/other"):
        assert run("ca", "token", "create", path).exit_code == 0
    report = json.loads(revoke("--id", "/web", "--json").stdout)
    assert len(report["certificates"]) == len(report["tokens"]) == 1
    assert [each["id"] for each in json.loads(run("ca", "token", "list", "--json").stdout)] == [
        "spiffe://mesh.test/other"
    ]


def test_a_crl_for_each_intermediate_that_is_believed(tmp_path: Path) -> None:
    revoke("--id", "/web")
    for verb in ("prepare", "activate"):
        assert run("ca", "rotate", verb, "--what", "intermediate").exit_code == 0
    assert (tmp_path / "ca/trust/crl.pem").read_text().count("BEGIN X509 CRL") == 2
    assert "certificate revoked" in crl_verdict()
    assert run("ca", "issue", "/other", "--out", "web").exit_code == 0
    assert crl_verdict() == ""
    numbers = [
        crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        for crl in map(
            x509.load_pem_x509_crl,
            [
                part + b"-----END X509 CRL-----"
                for part in (tmp_path / "ca/trust/crl.pem").read_bytes().split(b"-----END X509 CRL-----")[:-1]
            ],
        )
    ]
    assert numbers == [2, 2]


def test_a_retired_intermediate_is_denied_though_its_root_is_trusted(tmp_path: Path) -> None:
    for step in (("prepare",), ("activate",), ("retire", "--force")):
        assert run("ca", "rotate", step[0], "--what", "intermediate", *step[1:]).exit_code == 0
    assert denies(tmp_path)


def test_with_a_sealed_key_it_is_recorded_and_published_later(tmp_path: Path) -> None:
    passphrase = tmp_path / "pass"
    passphrase.write_text("secret\n")
    passphrase.chmod(0o600)
    arguments = ("--dir", "sealed", "--passphrase-file", "pass")
    assert run("ca", "init", "--trust-domain", "mesh.test", *arguments).exit_code == 0
    assert run("ca", "issue", "/web", "--out", "web", *arguments).exit_code == 0
    said = revoke("--id", "/web", "--dir", "sealed")
    assert said.stdout.startswith("revoked: 1 living")
    assert "was not written anew" in said.stderr
    assert not (tmp_path / "sealed/trust/denylist.json").exists()
    revoke("--id", "/other", *arguments)
    text = (tmp_path / "sealed/trust/crl.pem").read_bytes()
    assert len(x509.load_pem_x509_crl(text)) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give exactly one of SERIAL, --cert, --id and --spki"),
        (("aa", "--id", "/web"), "give exactly one"),
        (("aa",), "the ledger has no certificate with that serial; give the certificate itself with --cert FILE"),
        (("--spki", "aa"), "64 hexadecimal digits"),
        (("--id", "web"), "is not an identity"),
        (("--id", "spiffe://partner.test/web"), "is of another trust domain"),
        (("--cert", "nowhere"), "nowhere cannot be read"),
        (("--cert", "ca/ca.toml"), "ca/ca.toml cannot be used"),
        (("--cert", "foreign/web/chain.pem"), "was not issued by this CA"),
        (("--id", "/web", "--reason", "cACompromise"), "is not one of"),
    ],
)
def test_what_cannot_be_revoked_is_said(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    if "foreign/web/chain.pem" in arguments:
        make_mesh_ca(tmp_path / "foreign").issue("/web")
    assert words in revoke(*arguments, exit_code=2).stderr
    assert not denies(tmp_path) if (tmp_path / "ca/trust/denylist.json").exists() else True


def test_a_name_that_nobody_ever_had_is_told() -> None:
    said = revoke("--id", "/wbe")
    assert "this CA has certified nothing as spiffe://mesh.test/wbe; it is revoked all the same" in said.stderr
    assert "certified nothing" not in revoke("--id", "/web").stderr
    assert "certified nothing" not in revoke("--id", "/web").stderr  # nothing of it lives any more, but it was there
