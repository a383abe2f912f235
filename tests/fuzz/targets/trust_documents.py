"""`trust.json`, with its signed deny-list and its bundles: whatever a disk or a partner says, it denies no less."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ca import TrustDomain, deny_list, spiffe_bundle
from ca.bundle import BundleError
from ca.deny_list import DenyListError
from ca.messages import Trust
from meshproxy.identity.trust import Grounds, Trusted, judged
from tests.factory import make_mesh_ca
from tests.fuzz.target import Target
from tests.trusting import bundle_of, by_id, by_serial, list_of

if TYPE_CHECKING:
    from tests.factory import Identity, MeshCa

_HOME = TrustDomain("mesh.test")


@cache
def _mesh() -> tuple[MeshCa, MeshCa, Identity]:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-trust-"))
    mesh = make_mesh_ca(folder / "mesh")
    return mesh, make_mesh_ca(folder / "partner", trust_domain="partner.test"), mesh.issue("/web")


def _document() -> str:
    mesh, _, web = _mesh()
    return list_of(mesh, by_serial(mesh, web), by_id(web), number=7)


_DENIED = _document()


@cache
def _before() -> Trusted:
    now = datetime.now(UTC)
    mesh, _, _ = _mesh()
    return Trusted(deny_list.read(_DENIED.encode(), home="mesh.test", roots=mesh.roots, now=now))


def _run(data: bytes) -> None:
    now = datetime.now(UTC)
    mesh, _, web = _mesh()
    kind, said = data[:1], data[1:]
    if kind == b"D":
        try:
            found = deny_list.read(said, home="mesh.test", roots=mesh.roots, now=now)
        except DenyListError as error:
            assert str(error).isprintable()
        else:
            assert found.content.sequence == 7  # what is signed says so
            assert found.denies(web.der) is not None
        return
    if kind == b"B":
        try:
            bundle = spiffe_bundle.read(said, home=_HOME)
        except BundleError as error:
            assert str(error).isprintable()
        else:
            assert set(bundle.roots) <= set(mesh.roots)  # they are signed by themselves, so these or none
        return
    try:
        trust = msgspec.json.decode(said, type=Trust)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return
    after, faults = judged(trust, before=_before(), grounds=Grounds(_HOME, mesh.roots), now=now)
    assert after.deny_list is not None
    assert after.deny_list.denies(web.der) is not None  # nothing that is said lets him in again
    assert _HOME not in after.federation.roots
    assert all(fault.isprintable() for fault in faults)


def _seeds() -> tuple[bytes, ...]:
    mesh, partner, _ = _mesh()
    trust = Trust(bundle_of(mesh), _DENIED, {"partner.test": bundle_of(partner)})
    return (
        b"D" + _DENIED.encode(),
        b"B" + bundle_of(mesh).encode(),
        b"J" + msgspec.json.encode(trust),
        b"J" + msgspec.json.encode(Trust(bundle_of(mesh), "", {})),
    )


TARGET = Target(
    _run,
    _seeds(),
    (
        *(
            b"{",
            b"}",
            b"[" * 1100,
            b'"',
            b":",
            b",",
            b"null",
            b"1e999",
            b"\\u0000",
            b"\\ud800",
            b"\xff",
            b'"x5c":["',
            b'"kty":',
        ),
        *(
            b'"payload":"',
            b'"protected":"',
            b'"signature":"',
            b'"keys":[',
            b'"spiffe_sequence":',
            b'"mesh.test":',
            b"=",
        ),
        *(
            b'"deny_list":""',
            b'"federated":{',
            b"18446744073709551616",
            b"-1",
            b"AAAA",
            b'"use":"x509-svid"',
            b'"alg":"none"',
        ),
    ),
)
