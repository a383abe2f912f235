"""A nonce is ours and fresh or nothing; a signature is the old key's over just this, or nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from ca.messages import LateRenewRequest
from meshproxy.enroll.late import Nonces, is_proven, to_be_signed

NOW = datetime(2030, 1, 1, tzinfo=UTC)
CSR = b"a request"


def test_a_nonce_is_good_for_a_minute_at_the_process_that_made_it() -> None:
    nonces = Nonces()
    nonce = nonces.make(NOW)
    assert nonces.is_good(nonce, NOW)
    assert nonces.is_good(nonce, NOW + timedelta(seconds=60))
    assert not nonces.is_good(nonce, NOW + timedelta(seconds=60, milliseconds=1))
    assert not nonces.is_good(nonce, NOW - timedelta(seconds=1))  # of a clock that went back
    assert not Nonces().is_good(nonce, NOW)
    assert nonces.make(NOW) != nonce
    assert "<Nonces>" in repr(nonces)


@given(st.binary(max_size=80))
def test_nobody_else_can_make_one(nonce: bytes) -> None:
    assert not Nonces(b"k" * 32).is_good(nonce, NOW)


@given(st.integers(0, 55), st.integers(1, 255))
def test_no_bit_of_one_can_be_changed(at: int, change: int) -> None:
    nonces = Nonces(b"k" * 32)
    nonce = bytearray(nonces.make(NOW))
    nonce[at] ^= change
    assert not nonces.is_good(bytes(nonce), NOW)


def leaf(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey) -> bytes:
    name = x509.Name([])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(NOW).not_valid_after(NOW)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)


def signed(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey, said: bytes) -> bytes:
    match key:
        case ec.EllipticCurvePrivateKey():
            return key.sign(said, ec.ECDSA(hashes.SHA256()))
        case ed25519.Ed25519PrivateKey():
            return key.sign(said)
        case _:
            return key.sign(said, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP256R1()),
        lambda: ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate,
        lambda: rsa.generate_private_key(65537, 2048),
    ],
    ids=["p256", "p384", "ed25519", "rsa"],
)
def test_only_the_old_key_proves_only_this_request(
    make: type[ec.EllipticCurvePrivateKey],
) -> None:
    key, other = make(), make()
    proof = signed(key, to_be_signed(b"nonce", CSR))
    assert is_proven(LateRenewRequest(leaf(key), b"nonce", proof, CSR))
    assert not is_proven(LateRenewRequest(leaf(key), b"nonce", proof, b"another request"))
    assert not is_proven(LateRenewRequest(leaf(key), b"another nonce", proof, CSR))
    assert not is_proven(LateRenewRequest(leaf(other), b"nonce", proof, CSR))
    assert not is_proven(LateRenewRequest(leaf(key), b"nonce", signed(key, b"nonce" + CSR), CSR))
    assert not is_proven(LateRenewRequest(leaf(key), b"nonce", b"", CSR))
    assert not is_proven(LateRenewRequest(b"no leaf", b"nonce", proof, CSR))
