"""The deny-list: what it denies, whom it is believed from, and that nothing is forgotten on behalf of others."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from ca.deny_list import LINGER, Content, DenyList, DenyListError, Entry, RetiredIssuer, follow, marks_of, read, sign
from ca.events import By
from ca.svid import LeafError
from tests.factory import Identity, MeshCa, make_mesh_ca

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("mesh"))


@pytest.fixture(scope="module")
def web(mesh: MeshCa) -> Identity:
    return mesh.issue("/web")


def listed(mesh: MeshCa, *entries: Entry, number: int = 1, at: datetime = NOW, **more: object) -> bytes:
    said = Content(
        trust_domain="mesh.test",
        sequence=number,
        issued=at,
        next_update=at + HOUR,
        entries=entries,
        **more,  # type: ignore[arg-type]
    )
    return sign(said, mesh.authority.signer)


def followed(mesh: MeshCa, *entries: Entry, number: int = 1, at: datetime = NOW, **more: object) -> DenyList:
    return read(listed(mesh, *entries, number=number, at=at, **more), home="mesh.test", roots=mesh.roots, now=NOW)


def by_serial(mesh: MeshCa, identity: Identity, until: datetime = NOW + HOUR) -> Entry:
    serial = f"{identity.certificate.serial_number:x}"
    return Entry(by=By.SERIAL, issuer=mesh.authority.key_id, subject=serial, until=until)


def by_key(identity: Identity) -> Entry:
    spki = identity.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Entry(by=By.SPKI, subject=hashlib.sha256(spki).hexdigest(), until=NOW + HOUR)


def by_id(cutoff: datetime) -> Entry:
    return Entry(by=By.ID, subject="spiffe://mesh.test/web", cutoff=cutoff, until=NOW + HOUR)


def test_each_way_to_name_a_certificate(mesh: MeshCa, web: Identity) -> None:
    begins = web.certificate.not_valid_before_utc
    for entry, words in (
        (by_serial(mesh, web), "serial .* was revoked"),
        (by_key(web), "its key was revoked"),
        (by_id(begins), "all certificates of spiffe://mesh.test/web up to"),
    ):
        denial = followed(mesh, entry).denies(web.der)
        assert denial is not None
        assert denial.entry == entry
        assert all(word in denial.detail for word in words.split(" .* "))
    retired = followed(mesh, retired=(RetiredIssuer(mesh.authority.key_id, NOW + HOUR),)).denies(web.der)
    assert retired is not None
    assert (retired.detail, retired.entry) == ("the intermediate that signed it was retired", None)


def test_what_is_not_meant_is_not_denied(mesh: MeshCa, web: Identity) -> None:
    other = mesh.issue("/other")
    for entry in (
        by_serial(mesh, other),
        by_key(other),
        by_id(web.certificate.not_valid_before_utc - timedelta(seconds=1)),
        Entry(by=By.SERIAL, issuer="00", subject=f"{web.certificate.serial_number:x}", until=NOW),
        Entry(by=By.ID, subject="spiffe://mesh.test/webx", cutoff=NOW, until=NOW),
    ):
        assert followed(mesh, entry).denies(web.der) is None
    assert followed(mesh).denies(web.der) is None


def test_whose_issuer_is_tainted_must_renew(mesh: MeshCa, web: Identity) -> None:
    assert followed(mesh, renew_now=(mesh.authority.key_id,)).must_renew(web.der)
    assert not followed(mesh, renew_now=("00",)).must_renew(web.der)


def test_what_is_no_leaf_is_for_the_judge(mesh: MeshCa) -> None:
    with pytest.raises(LeafError):
        followed(mesh).denies(mesh.authority.intermediate.public_bytes(Encoding.DER))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trust_domain": "partner.test"}, "it is of trust domain 'partner.test', expected mesh.test"),
        ({"version": 2}, "version 2, made by a later"),
        ({"issued": NOW + timedelta(minutes=11)}, "from the future"),
    ],
)
def test_a_list_for_others_is_not_followed(mesh: MeshCa, change: dict[str, object], words: str) -> None:
    fields: dict[str, object] = {
        "trust_domain": "mesh.test",
        "sequence": 1,
        "issued": NOW,
        "next_update": NOW + HOUR,
    }
    document = sign(Content(**fields | change), mesh.authority.signer)  # type: ignore[arg-type]
    with pytest.raises(DenyListError, match=words):
        read(document, home="mesh.test", roots=mesh.roots, now=NOW)


def test_only_the_own_ca_is_believed(mesh: MeshCa, tmp_path_factory: pytest.TempPathFactory) -> None:
    foreign = make_mesh_ca(tmp_path_factory.mktemp("foreign"))
    for document, words in ((listed(foreign), "not trusted"), (listed(mesh)[:-30], "no signed document"), (b"", "no")):
        with pytest.raises(DenyListError, match=words):
            read(document, home="mesh.test", roots=mesh.roots, now=NOW)


def test_a_stale_list_denies_still_and_says_that_it_is_stale(mesh: MeshCa, web: Identity) -> None:
    found = followed(mesh, by_serial(mesh, web), at=NOW - 3 * HOUR)
    assert found.denies(web.der) is not None
    assert found.stale_for(NOW) == 2 * HOUR
    assert followed(mesh).stale_for(NOW) is None


def test_an_older_list_never_takes_the_place_of_a_newer(mesh: MeshCa) -> None:
    now = followed(mesh, number=5)
    for number, at in ((4, NOW), (5, NOW - HOUR)):
        with pytest.raises(DenyListError, match=rf"it is older \(number {number}\)"):
            follow(now, followed(mesh, number=number, at=at), now=NOW)
    for number, at in ((5, NOW), (5, NOW + timedelta(minutes=1)), (6, NOW - HOUR)):
        assert follow(now, followed(mesh, number=number, at=at), now=NOW).content.sequence == number
    assert follow(None, now, now=NOW) is now


def test_nothing_that_was_denied_is_forgotten_before_its_end(mesh: MeshCa, web: Identity) -> None:
    """A CA restored from yesterday's backup un-revokes nothing at those who have seen the revocation."""
    seen = followed(mesh, by_serial(mesh, web), by_id(NOW), retired=(RetiredIssuer("aa", NOW + HOUR),))
    restored = follow(seen, followed(mesh, number=1_000_001), now=NOW)
    assert restored.denies(web.der) is not None
    assert restored.content.retired == (RetiredIssuer("aa", NOW + HOUR),)
    later = NOW + HOUR + LINGER
    assert follow(restored, followed(mesh, number=1_000_002), now=later).content.entries == ()


def test_the_stricter_of_two_entries_stays(mesh: MeshCa) -> None:
    early, late = by_id(NOW - HOUR), by_id(NOW)
    for one, other in ((early, late), (late, early)):
        found = follow(followed(mesh, one), followed(mesh, other, number=2), now=NOW)
        assert [each.cutoff for each in found.content.entries] == [NOW]


def test_a_retired_intermediate_signs_no_lists(mesh: MeshCa) -> None:
    before = followed(mesh, retired=(RetiredIssuer(mesh.authority.key_id, NOW + HOUR),))
    with pytest.raises(DenyListError, match="signed by an intermediate that was retired"):
        follow(before, followed(mesh, number=2), now=NOW)


entries = st.builds(
    Entry,
    by=st.sampled_from(By),
    subject=st.sampled_from(["a", "b", "c"]),
    issuer=st.sampled_from(["", "x"]),
    cutoff=st.sampled_from([NOW, NOW - HOUR]),
    until=st.sampled_from([NOW - 2 * HOUR, NOW, NOW + HOUR]),
)


@given(one=st.lists(entries, max_size=5), other=st.lists(entries, max_size=5))
def test_following_only_ever_adds(mesh: MeshCa, one: Sequence[Entry], other: Sequence[Entry]) -> None:
    before, after = followed(mesh, *one), followed(mesh, *other, number=2)
    found = {(each.by, each.issuer, each.subject): each for each in follow(before, after, now=NOW).content.entries}
    for each in (*(old for old in one if old.until + LINGER > NOW), *other):
        kept = found[(each.by, each.issuer, each.subject)]
        assert kept.until >= each.until


def test_an_identity_without_a_cutoff_is_denied_whenever_it_was_issued(mesh: MeshCa, web: Identity) -> None:
    entry = Entry(by=By.ID, subject=str(web.id), until=NOW + HOUR)
    denial = followed(mesh, entry).denies(web.der)
    assert denial is not None
    assert denial.detail == "all certificates of spiffe://mesh.test/web were revoked"


def test_what_is_kept_of_a_leaf_is_enough_to_ask_again(mesh: MeshCa, web: Identity) -> None:
    marks = marks_of(web.der)
    assert followed(mesh).denies_marked(marks) is None
    assert followed(mesh, by_serial(mesh, web)).denies_marked(marks) is not None


def test_a_leaf_whose_key_nobody_can_read_is_none(mesh: MeshCa, web: Identity) -> None:
    """TLS may know more kinds of keys than we do; what cannot be compared with the list is not believed."""
    unknown = web.der.replace(bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d030177"))
    assert unknown != web.der
    with pytest.raises(LeafError, match="its key cannot be read"):
        followed(mesh).denies(unknown)
