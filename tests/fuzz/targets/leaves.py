"""Certificates as a peer presents them: read, or refused with a reason that is fit for a log; never anything else."""

from __future__ import annotations

import contextlib
import tempfile
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca import TrustDomain
from ca.deny_list import marks_of
from ca.inspection import Evidence, inspect_authorities, inspect_identity
from ca.svid import LeafError, chain_fault, judge_leaf, read_certificate, read_chain
from tests.factory import make_mesh_ca
from tests.fuzz.target import Target

if TYPE_CHECKING:
    from tests.factory import MeshCa

_HOME = TrustDomain("mesh.test")


@cache
def _mesh() -> MeshCa:
    return make_mesh_ca(Path(tempfile.mkdtemp(prefix="fuzz-mesh-")))


def _seeds() -> tuple[bytes, ...]:
    mesh = _mesh()
    folder = mesh.workspace
    web = "spiffe://mesh.test/web"
    return (
        mesh.issue("/web", dns=("web.test",)).der,
        mesh.forge(into=folder / "two", uris=(web, web)).der,
        mesh.forge(into=folder / "none", uris=()).der,
        mesh.forge(into=folder / "authority", uris=(web,), is_ca=True, cert_sign=True).der,
        mesh.forge(into=folder / "bare", uris=(web,), with_key_usage=False, extended_key_usage=None).der,
        mesh.roots[0].public_bytes(Encoding.DER),
    )


def _run(data: bytes) -> None:
    now = datetime.now(UTC)
    try:
        leaf = judge_leaf(data, home=_HOME, now=now)
    except LeafError as error:
        assert error.fault
        assert error.detail.isprintable()
        assert "\n" not in error.detail
    else:
        assert leaf.id.trust_domain == _HOME
        assert leaf.not_before <= now <= leaf.not_after
        _agrees(data, str(leaf.id))
        with contextlib.suppress(LeafError):  # of a key that nobody can use
            marks_of(data)
    try:
        certificate = read_certificate(data)
    except ValueError as error:
        assert str(error).isprintable()
        return
    chain_fault((certificate,), _mesh().roots, now)
    pem = certificate.public_bytes(Encoding.PEM)
    assert read_chain(pem) == (certificate,)
    inspect_identity(Evidence((certificate,), _mesh().roots, _HOME), now=now)
    inspect_authorities((certificate,), now=now)


def _agrees(data: bytes, identity: str) -> None:
    """What was accepted has one name of kind URI, and all that makes it an identity, by a second look."""
    found = x509.load_der_x509_certificate(data).extensions
    names = found.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [identity]
    assert found.get_extension_for_class(x509.KeyUsage).value.digital_signature
    assert len(set(found.get_extension_for_class(x509.ExtendedKeyUsage).value)) >= 2
    assert data.count(identity.encode()) >= 1


TARGET = Target(
    _run,
    _seeds(),
    (
        *(b"\x30\x82", b"\x30\x80", b"\x02\x01\x02", b"\x06\x03\x55\x1d\x11", b"\x06\x03\x55\x1d\x13", b"\x01\x01\xff"),
        *(
            b"\x86\x16spiffe://mesh.test/web",
            b"\x82\x08web.test",
            b"\xa0\x03\x02\x01\x02",
            b"\x17\x0d",
            b"\x18\x0f",
            b"\0",
        ),
        *(b"99991231235959Z", b"500101000000Z", b"\x05\x00", b"\x0c", b"\xff\xff\xff\xff"),
    ),
)
