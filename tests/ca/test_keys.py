"""Keys: sealed or not, opened with words for what is wrong, against the real openssl too."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from ca import keys
from tests.factory import make_mesh_ca

if TYPE_CHECKING:
    from pathlib import Path

PASSPHRASE = b"correct horse"


def test_a_new_key_is_p256_and_survives_both_forms() -> None:
    key = keys.generate()
    assert isinstance(key.curve, ec.SECP256R1)
    plain, sealed = keys.to_pem(key, passphrase=None), keys.to_pem(key, passphrase=PASSPHRASE)
    assert not keys.is_sealed(plain)
    assert keys.is_sealed(sealed)
    for pem, passphrase in ((plain, None), (plain, PASSPHRASE), (sealed, PASSPHRASE)):
        opened = keys.from_pem(pem, passphrase=passphrase)
        assert isinstance(opened, ec.EllipticCurvePrivateKey)
        assert opened.private_numbers() == key.private_numbers()


@pytest.mark.parametrize(
    ("passphrase", "words"),
    [(None, "none was given"), (b"wrong", "does not open"), (b"", "does not open"), (PASSPHRASE + b"\n", "not open")],
)
def test_a_sealed_key_says_what_it_lacks(passphrase: bytes | None, words: str) -> None:
    sealed = keys.to_pem(keys.generate(), passphrase=PASSPHRASE)
    with pytest.raises(keys.PrivateKeyError, match=words):
        keys.from_pem(sealed, passphrase=passphrase)


@pytest.mark.parametrize(
    ("pem", "words"),
    [
        (b"", "no private key"),
        (b"-----BEGIN CERTIFICATE-----\n", "no private key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "cannot be read"),
        (b"-----BEGIN PRIVATE KEY-----\n\xff", "cannot be read"),
        (b"-----BEGIN FANCY PRIVATE KEY-----\nAAAA\n-----END FANCY PRIVATE KEY-----\n", "cannot be read"),
    ],
)
def test_what_is_no_key_says_so(pem: bytes, words: str) -> None:
    with pytest.raises(keys.PrivateKeyError, match=words):
        keys.from_pem(pem, passphrase=None)


def test_a_damaged_key_never_shows_itself_in_the_error() -> None:
    pem = keys.to_pem(keys.generate(), passphrase=None)
    secret = pem.splitlines()[1]
    with pytest.raises(keys.PrivateKeyError) as refused:
        keys.from_pem(pem.replace(secret, secret[:-4] + b"AAAA"), passphrase=None)
    assert secret[:12].decode() not in str(refused.value)


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["p384", "ed25519", "rsa"],
)
def test_other_kinds_that_can_sign_are_opened_in_the_older_forms_too(key: keys.SigningKey) -> None:
    traditional = (
        PrivateFormat.PKCS8 if isinstance(key, ed25519.Ed25519PrivateKey) else PrivateFormat.TraditionalOpenSSL
    )
    for sealing in (NoEncryption(), BestAvailableEncryption(PASSPHRASE)):
        pem = key.private_bytes(Encoding.PEM, traditional, sealing)
        assert keys.is_sealed(pem) == isinstance(sealing, BestAvailableEncryption)
        assert type(keys.from_pem(pem, passphrase=PASSPHRASE)) is type(key)


def test_a_key_that_cannot_sign_is_refused() -> None:
    pem = x25519.X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(keys.PrivateKeyError, match="cannot sign"):
        keys.from_pem(pem, passphrase=None)


def test_a_key_matches_its_own_certificate_only(tmp_path: Path) -> None:
    mesh = make_mesh_ca(tmp_path)
    assert keys.matches(mesh.authority.key, mesh.authority.intermediate)
    assert not keys.matches(mesh.authority.key, mesh.authority.root)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_opens_what_we_seal_and_only_with_the_passphrase(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(keys.to_pem(keys.generate(), passphrase=PASSPHRASE))
    command = ["openssl", "pkey", "-in", str(tmp_path / "key.pem"), "-noout", "-passin"]
    assert subprocess.run([*command, f"pass:{PASSPHRASE.decode()}"], check=False, capture_output=True).returncode == 0
    assert subprocess.run([*command, "pass:wrong"], check=False, capture_output=True).returncode != 0
