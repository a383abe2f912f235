"""What strangers say to the CA: certificate requests, tokens, and the JSON around them."""

from __future__ import annotations

import contextlib

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from ca import csr, messages, tokens
from tests.fuzz.target import Target

_NAME = x509.Name([])
_SAN = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://mesh.test/web"), x509.DNSName("web.test")])
_KEYS = (ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate())
_DER = tuple(
    x509.CertificateSigningRequestBuilder()
    .subject_name(_NAME)
    .add_extension(_SAN, critical=False)
    .sign(key, hashes.SHA256() if isinstance(key, ec.EllipticCurvePrivateKey) else None)
    .public_bytes(Encoding.DER)
    for key in _KEYS
)


def _run(data: bytes) -> None:
    kind, said = data[:1], data[1:]
    if kind == b"C":
        try:
            request = csr.read(said)
        except csr.CsrError as error:
            assert str(error).isprintable()
            return
        assert len(request.spki) == 64
        return
    if kind == b"T":
        text = said.decode("utf-8", "replace")
        try:
            token = tokens.decode(text)
        except tokens.TokenError as error:
            assert len(text) < 20 or text[4:] not in str(error)  # a secret is in it
        else:
            assert tokens.encode(token) == text
            assert token.secret.hex() not in repr(token)
        return
    for shape in (messages.EnrolRequest, messages.RenewRequest, messages.LateRenewRequest):
        with contextlib.suppress(msgspec.DecodeError, RecursionError, UnicodeDecodeError):  # as `enroll.service`
            assert isinstance(msgspec.json.decode(said, type=shape), shape)


_TOKEN = tokens.encode(tokens.JoinToken(bytes(16), bytes(32), (bytes(32),), ("127.0.0.1:8440",)))

TARGET = Target(
    _run,
    (
        *(b"C" + der for der in _DER),
        b"T" + _TOKEN.encode(),
        b'J{"token":"00","secret":"AA==","csr":"AA=="}',
        b'J{"csr":"AA==","leaf":"","nonce":"","signature":""}',
    ),
    (
        b"\x30\x82",
        b"\x06\x03\x55\x1d\x11",
        b"\x86\x16spiffe://",
        b"{",
        b"[" * 40,
        b'"csr":',
        b'"token":',
        b"\\u0000",
        b"=",
        b"mj1.",
    ),
)
