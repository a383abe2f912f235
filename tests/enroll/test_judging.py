"""What a CA sends is judged before it is kept, whatever channel it came over."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ca import deny_list, keys, premises, spiffe_bundle
from ca.deny_list import Content
from ca.messages import Trust
from ca.spiffe_bundle import SpiffeBundle
from meshproxy.enroll import judging
from meshproxy.enroll.faults import ClockApart, Untrusted
from tests.factory import make_mesh_ca

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.factory import MeshCa

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("mesh"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("other"))


@pytest.fixture(scope="module")
def partner(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("partner"), trust_domain="partner.test")


def said_by(mesh: MeshCa, *, number: int = 3, listed: int = 1, federated: dict[str, str] | None = None) -> Trust:
    content = Content(trust_domain="mesh.test", sequence=listed, issued=NOW, next_update=NOW + HOUR)
    bundle = spiffe_bundle.write(SpiffeBundle(mesh.roots, number, 60)).decode()
    return Trust(bundle, deny_list.sign(content, mesh.authority.signer).decode(), federated or {})


def test_sound_trust_is_believed_and_kept_as_it_came(mesh: MeshCa) -> None:
    said = said_by(mesh)
    believed = judging.trust(said, home=mesh.trust_domain, before=None, now=NOW)
    assert (believed.sequence, believed.bundle.roots) == (3, mesh.roots)
    kept = judging.kept_trust(judging.encode(believed), home=mesh.trust_domain, now=NOW)
    assert kept is not None
    assert kept.trust == said


FAULTY: dict[str, tuple[Callable[[MeshCa, MeshCa], Trust], str]] = {
    "no bundle": (lambda mesh, _: Trust("{}", said_by(mesh).deny_list), "no array of keys"),
    "no roots": (
        lambda mesh, _: Trust('{"keys": [], "spiffe_sequence": 9}', said_by(mesh).deny_list),
        "there are none",
    ),
    "older": (lambda mesh, _: said_by(mesh, number=2), "are older"),
    "another under the same number": (lambda _, other: said_by(other), "are others"),
    "no deny-list": (lambda mesh, _: Trust(said_by(mesh).bundle, ""), "deny-list"),
    "a deny-list of others": (lambda mesh, other: Trust(said_by(mesh).bundle, said_by(other).deny_list), "not trusted"),
    "an older deny-list": (lambda mesh, _: said_by(mesh, number=4, listed=0), "it is older"),
}


@pytest.mark.parametrize("case", FAULTY)
def test_what_is_faulty_is_not_taken(mesh: MeshCa, other: MeshCa, case: str) -> None:
    make, words = FAULTY[case]
    before = judging.trust(said_by(mesh), home=mesh.trust_domain, before=None, now=NOW)
    with pytest.raises(Untrusted, match=words):
        judging.trust(make(mesh, other), home=mesh.trust_domain, before=before, now=NOW)


def test_a_partner_who_is_not_sound_is_left_out_and_stops_nobody(mesh: MeshCa, partner: MeshCa) -> None:
    sound = spiffe_bundle.write(SpiffeBundle(partner.roots, 1)).decode()
    said = said_by(
        mesh, federated={"partner.test": sound, "broken.test": "{", "mesh.test": sound, "NO": sound, "a.test": sound}
    )
    believed = judging.trust(said, home=mesh.trust_domain, before=None, now=NOW)
    assert list(believed.trust.federated) == ["partner.test"]


def test_what_lies_on_disk_and_is_nothing_is_asked_for_anew(mesh: MeshCa) -> None:
    for content in (None, b"", b"{", json.dumps({"bundle": "", "deny_list": ""}).encode()):
        assert judging.kept_trust(content, home=mesh.trust_domain, now=NOW) is None


CERTIFICATES = [
    ({}, None, ""),
    ({"key": keys.generate()}, Untrusted, "for another key than ours"),
    ({"expected": "/api"}, Untrusted, "and we are spiffe://mesh.test/api"),
    ({"now": NOW - HOUR}, ClockApart, "clock is behind the CA's"),
    ({"now": NOW + 48 * HOUR}, ClockApart, "clock is ahead of the CA's"),
    ({"roots": ()}, Untrusted, "does not lead to its roots"),
    ({"chain": "nothing"}, Untrusted, "no certificate"),
]


@pytest.mark.parametrize(("change", "kind", "words"), CERTIFICATES, ids=lambda each: str(each)[:20])
def test_a_certificate_is_for_our_key_our_name_and_now(
    mesh: MeshCa, tmp_path: Path, change: dict[str, object], kind: type[Exception] | None, words: str
) -> None:
    web = mesh.issue("/web", into=tmp_path / "web")
    key = keys.from_pem(web.key.read_bytes(), passphrase=None)
    expected = change.get("expected")

    def judge() -> judging.Certificate:
        now, roots, given = (
            change.get("now", datetime.now(UTC)),
            change.get("roots", mesh.roots),
            change.get("key", key),
        )
        assert isinstance(now, datetime)
        assert isinstance(roots, tuple)
        assert isinstance(given, keys.SigningKey)
        return judging.certificate(
            str(change.get("chain", web.chain.read_text())),
            key=given,
            expected=mesh.id(str(expected)) if expected else None,
            home=mesh.trust_domain,
            roots=roots,
            now=now,
        )

    if kind is None:
        assert judge().leaf.id == web.id
        return
    with pytest.raises(kind, match=words):
        judge()


def test_nobody_is_certified_as_the_ca_itself(mesh: MeshCa, tmp_path: Path) -> None:
    forged = mesh.forge(into=tmp_path / "forged", uris=["spiffe://mesh.test/meshproxy/ca"])
    key = keys.from_pem(forged.key.read_bytes(), passphrase=None)
    with pytest.raises(Untrusted, match="is no service of"):
        judging.certificate(
            forged.chain.read_text(), key=key, expected=None, home=mesh.trust_domain, roots=mesh.roots, now=NOW
        )


def test_the_trust_domain_of_pinned_roots(mesh: MeshCa, partner: MeshCa) -> None:
    assert judging.home_of(mesh.roots) == mesh.trust_domain
    assert judging.home_of(()) is None
    with pytest.raises(Untrusted, match="of several trust domains"):
        judging.home_of((*mesh.roots, *partner.roots))


def test_the_authority_is_the_one_the_ledger_has(mesh: MeshCa) -> None:
    """The factory's CA and its bundle agree, or nothing above means anything."""
    written = (mesh.directory / premises.TRUST / premises.BUNDLE_JSON).read_bytes()
    found = spiffe_bundle.read(written, home=None)
    assert [each.public_bytes(Encoding.DER) for each in found.roots] == [
        each.public_bytes(Encoding.DER) for each in mesh.roots
    ]
