"""Documents of the CA: believed from a CA below a root, and from nobody else."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from ca import base64url, keys
from ca.signed import SignatureError, Signer, sign, verify
from tests.factory import MeshCa, make_mesh_ca

if TYPE_CHECKING:
    from cryptography import x509

KIND = "meshproxy-test"
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("mesh"))


def signed(mesh: MeshCa, payload: bytes = b'{"a":1}', *, kind: str = KIND) -> bytes:
    return sign(payload, kind=kind, by=mesh.authority.signer)


def changed(document: bytes, **fields: object) -> bytes:
    """The document with another protected header, `x5c` say, under the old signature, or with another outer field."""
    outer = msgspec.json.decode(document, type=dict[str, str])
    header = msgspec.json.decode(base64url.decode(outer["protected"]))
    for name, value in fields.items():
        if name in outer:
            outer[name] = str(value)
        else:
            header[name] = value
            outer["protected"] = base64url.encode(msgspec.json.encode(header))
    return msgspec.json.encode(outer)


def x5c(*certificates: x509.Certificate) -> list[str]:
    return [base64.b64encode(each.public_bytes(Encoding.DER)).decode() for each in certificates]


def test_what_the_intermediate_signed_is_believed_by_whoever_holds_the_root(mesh: MeshCa) -> None:
    found = verify(signed(mesh), kind=KIND, roots=mesh.roots, now=NOW)
    assert (found.payload, found.signer) == (b'{"a":1}', mesh.authority.intermediate)


def test_a_leaf_signs_no_documents(mesh: MeshCa) -> None:
    web = mesh.issue("/web")
    key = keys.from_pem(web.key.read_bytes(), passphrase=None)
    assert isinstance(key, type(mesh.authority.key))
    forged = sign(b"{}", kind=KIND, by=Signer(web.certificate, key))
    with pytest.raises(SignatureError, match="its signer is not a CA"):
        verify(forged, kind=KIND, roots=mesh.roots, now=NOW)


def test_a_foreign_ca_of_the_same_name_is_not_believed(mesh: MeshCa, tmp_path_factory: pytest.TempPathFactory) -> None:
    foreign = make_mesh_ca(tmp_path_factory.mktemp("foreign"))
    with pytest.raises(SignatureError, match="its signer is not trusted"):
        verify(signed(foreign), kind=KIND, roots=mesh.roots, now=NOW)


def test_a_signer_is_believed_within_its_life_where_that_is_asked(mesh: MeshCa) -> None:
    later = NOW + timedelta(days=400)
    with pytest.raises(SignatureError, match="expired"):
        verify(signed(mesh), kind=KIND, roots=mesh.roots, now=later)
    assert verify(signed(mesh), kind=KIND, roots=mesh.roots, now=None).payload == b'{"a":1}'


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"alg": "none"}, "another way than ES256"),
        ({"alg": "HS256"}, "another way than ES256"),
        ({"crit": ["x"]}, "another way than ES256"),
        ({"typ": "meshproxy-other"}, "it is a 'meshproxy-other', expected a meshproxy-test"),
        ({"x5c": []}, "names 0 signers"),
        ({"x5c": ["AAAA"]}, "cannot be read"),
        ({"x5c": ["!"]}, "its signer is"),
        ({"more": 1}, "its signature is wrong"),
        ({"payload": base64url.encode(b'{"a":2}')}, "its signature is wrong"),
        ({"signature": base64url.encode(bytes(64))}, "its signature is wrong"),
        ({"signature": base64url.encode(bytes(63))}, "wrong length"),
        ({"signature": "ab=="}, "no signed document"),
    ],
)
def test_whatever_is_changed_is_refused(mesh: MeshCa, fields: dict[str, object], words: str) -> None:
    with pytest.raises(SignatureError, match=words):
        verify(changed(signed(mesh), **fields), kind=KIND, roots=mesh.roots, now=NOW)


def test_several_signers_and_the_root_below_another_name_are_refused(mesh: MeshCa) -> None:
    both = x5c(mesh.authority.intermediate, mesh.authority.root)
    with pytest.raises(SignatureError, match="names 2 signers"):
        verify(changed(signed(mesh), x5c=both), kind=KIND, roots=mesh.roots, now=NOW)
    with pytest.raises(SignatureError, match="its signature is wrong"):
        verify(changed(signed(mesh), x5c=both[1:]), kind=KIND, roots=mesh.roots, now=NOW)


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"payload":"","protected":"","signature":""}', b"\xff"])
def test_what_is_no_document_is_refused(mesh: MeshCa, document: bytes) -> None:
    with pytest.raises(SignatureError, match="no signed document"):
        verify(document, kind=KIND, roots=mesh.roots, now=NOW)


@given(content=st.binary(max_size=40))
def test_base64url_round_trip(content: bytes) -> None:
    assert base64url.decode(base64url.encode(content)) == content


@pytest.mark.parametrize("text", ["A", "AB", "AAB", "AA==", "A+A/", "AA\n", " AA", "\uff21\uff21", "AAAAA"])
def test_base64url_reads_one_text_for_each_value(text: str) -> None:
    with pytest.raises(ValueError, match="not base64url"):
        base64url.decode(text)
