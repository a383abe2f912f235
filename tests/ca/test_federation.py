"""The bundles of others: judged before they are kept, never older than what was known, never our own."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

from ca import federation, spiffe_bundle
from ca.federation import Endpoint, FederationError, Partner, Profile, Url
from ca.spiffe_bundle import SpiffeBundle
from ca.spiffe_id import TrustDomain
from tests.crashes import killed_at_every_step
from tests.factory import make_mesh_ca

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509

HOME = TrustDomain.parse("mesh.test")
PARTNER = TrustDomain.parse("partner.test")
NOW = datetime(2030, 1, 1, tzinfo=UTC)
WEB = Endpoint("https://partner.test/bundle", Profile.WEB)


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> tuple[x509.Certificate, ...]:
    return make_mesh_ca(tmp_path_factory.mktemp("partner"), trust_domain=PARTNER.name).roots


def partner(
    roots: tuple[x509.Certificate, ...],
    *,
    sequence: int | None = 7,
    hint: int | None = 60,
    endpoint: Endpoint | None = None,
) -> Partner:
    return Partner(PARTNER.name, spiffe_bundle.write(SpiffeBundle(roots, sequence, hint)).decode(), NOW, endpoint)


def test_what_is_kept_is_found_again_until_it_is_deleted(tmp_path: Path, roots: tuple[x509.Certificate, ...]) -> None:
    assert federation.every(tmp_path) == []
    assert federation.mark(tmp_path) == frozenset()
    known = partner(roots, endpoint=WEB)
    assert federation.put(tmp_path, known, home=HOME).roots == roots
    assert federation.every(tmp_path) == [known]
    assert federation.get(tmp_path, PARTNER) == known
    mark = federation.mark(tmp_path)
    federation.put(tmp_path, known, home=HOME)
    assert federation.mark(tmp_path) != mark
    (file,) = (tmp_path / federation.PLACE).glob("*.json")
    assert file.stat().st_mode & 0o777 == 0o644
    assert federation.delete(tmp_path, PARTNER)
    assert not federation.delete(tmp_path, PARTNER)
    assert federation.get(tmp_path, PARTNER) is None


@pytest.mark.parametrize(("before", "after"), [(7, 6), (7, None), (1, 0)])
def test_a_number_never_goes_back(
    tmp_path: Path, roots: tuple[x509.Certificate, ...], before: int, after: int | None
) -> None:
    federation.put(tmp_path, partner(roots, sequence=before), home=HOME)
    with pytest.raises(FederationError, match="never goes back"):
        federation.put(tmp_path, partner(roots, sequence=after), home=HOME)
    federation.put(tmp_path, partner(roots, sequence=before + 1), home=HOME)


def test_our_own_and_others_names_are_not_taken(tmp_path: Path, roots: tuple[x509.Certificate, ...]) -> None:
    with pytest.raises(FederationError, match="own trust domain"):
        federation.put(tmp_path, partner(roots), home=PARTNER)
    ours = make_mesh_ca(tmp_path / "own").roots
    with pytest.raises(FederationError, match=r"of trust domain mesh\.test, expected only roots of partner\.test"):
        federation.put(tmp_path, partner(ours), home=HOME)
    with pytest.raises(FederationError, match="not taken"):
        federation.put(tmp_path, msgspec.structs.replace(partner(roots), bundle="{}"), home=HOME)
    with pytest.raises(FederationError, match="larger than"):
        federation.put(tmp_path, msgspec.structs.replace(partner(roots), bundle=" " * 2_000_000), home=HOME)
    assert federation.every(tmp_path) == []


def test_what_is_fetched_late_does_not_undo_what_was_said_meanwhile(
    tmp_path: Path, roots: tuple[x509.Certificate, ...]
) -> None:
    fetched = partner(roots, sequence=8, endpoint=WEB)
    (tmp_path / federation.PLACE).mkdir()
    assert not federation.refresh(tmp_path, fetched, home=HOME)  # deleted
    federation.put(tmp_path, partner(roots, sequence=7), home=HOME)
    assert not federation.refresh(tmp_path, fetched, home=HOME)  # set by hand
    federation.put(tmp_path, partner(roots, sequence=7, endpoint=WEB), home=HOME)
    assert federation.refresh(tmp_path, fetched, home=HOME)
    later = msgspec.structs.replace(fetched, at=NOW + timedelta(hours=1))
    assert not federation.refresh(tmp_path, later, home=HOME)  # the same, and looked at again
    assert federation.every(tmp_path) == [later]


def test_a_damaged_file_holds_up_nobody_else(tmp_path: Path, roots: tuple[x509.Certificate, ...]) -> None:
    federation.put(tmp_path, partner(roots), home=HOME)
    (tmp_path / federation.PLACE / f"{'0' * 64}.json").write_text("{")
    assert [each.trust_domain for each in federation.every(tmp_path)] == [PARTNER.name]


def test_only_so_many(tmp_path: Path, roots: tuple[x509.Certificate, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(federation, "MOST", 1)
    federation.put(tmp_path, partner(roots), home=HOME)
    other = make_mesh_ca(tmp_path / "other", trust_domain="other.test").roots
    text = spiffe_bundle.write(SpiffeBundle(other)).decode()
    with pytest.raises(FederationError, match="delete one first"):
        federation.put(tmp_path, Partner("other.test", text, NOW), home=HOME)
    federation.put(tmp_path, partner(roots, sequence=8), home=HOME)


def test_what_is_handed_out_is_written_anew(tmp_path: Path, roots: tuple[x509.Certificate, ...]) -> None:
    document = json.loads(partner(roots).bundle)
    document["keys"].append({"use": "jwt-svid", "kty": "EC", "kid": "x"})
    document["more"] = "than is known here"
    federation.put(tmp_path, msgspec.structs.replace(partner(roots), bundle=json.dumps(document)), home=HOME)
    assert federation.every(tmp_path) == [partner(roots)]


def test_all_together_fit_into_an_answer(
    tmp_path: Path, roots: tuple[x509.Certificate, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    federation.put(tmp_path, partner(roots), home=HOME)
    monkeypatch.setattr(federation, "MOST_TOGETHER", len(partner(roots).bundle) + 10)
    federation.put(tmp_path, partner(roots, sequence=8), home=HOME)
    other = make_mesh_ca(tmp_path / "other", trust_domain="other.test").roots
    text = spiffe_bundle.write(SpiffeBundle(other)).decode()
    with pytest.raises(FederationError, match="together; delete one first"):
        federation.put(tmp_path, Partner("other.test", text, NOW), home=HOME)
    monkeypatch.setattr(federation, "MOST_ROOTS", 0)
    with pytest.raises(FederationError, match="has 1 roots, expected at most 0"):
        federation.put(tmp_path, partner(roots, sequence=9), home=HOME)


def test_a_kill_leaves_the_old_or_the_new(tmp_path: Path, roots: tuple[x509.Certificate, ...]) -> None:
    old, new = partner(roots, sequence=7), partner(roots, sequence=8)
    federation.put(tmp_path, old, home=HOME)
    for _ in killed_at_every_step(lambda: federation.put(tmp_path, new, home=HOME)):
        assert federation.get(tmp_path, PARTNER) in (old, new)


@pytest.mark.parametrize(
    ("hint", "seconds"), [(60, 60), (1, 10), (None, 300), (0, 300)], ids=["said", "too often", "unsaid", "zero"]
)
def test_when_it_is_asked_again(roots: tuple[x509.Certificate, ...], hint: int | None, seconds: int) -> None:
    assert federation.next_look(partner(roots, hint=hint)) == NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://a.test", Url("a.test", 443, "/", "a.test")),
        ("https://a.test:8440/v1/bundle", Url("a.test", 8440, "/v1/bundle", "a.test:8440")),
        ("https://[::1]:1/x", Url("::1", 1, "/x", "[::1]:1")),
    ],
)
def test_urls_are_taken_apart(text: str, url: Url) -> None:
    assert federation.read_url(text) == url


@pytest.mark.parametrize(
    "text",
    ["http://a.test/", "https://", "https://a@b/", "https://a.test/?x=1", "https://a.test/#x", "https://a.test:0/",
     "https://a.test:99999/", "https://a.test/\r\nX: y", "https://a.test/ x", "https://a.test/x\n", "HTTPS://a.test/"],
)  # fmt: skip
def test_nothing_else_is_a_url(text: str) -> None:
    with pytest.raises(FederationError, match="is no URL of a bundle endpoint"):
        federation.read_url(text)


def test_an_endpoint_proves_itself_in_one_way() -> None:
    assert federation.endpoint(WEB.url, Profile.WEB, "", of=PARTNER) == WEB
    spiffe = federation.endpoint(WEB.url, Profile.SPIFFE, "spiffe://partner.test/meshproxy/ca", of=PARTNER)
    assert spiffe.id == "spiffe://partner.test/meshproxy/ca"
    for profile, identity in (
        (Profile.WEB, "spiffe://partner.test/x"),
        (Profile.SPIFFE, ""),
        (Profile.SPIFFE, "spiffe://mesh.test/x"),
        (Profile.SPIFFE, "spiffe://partner.test"),
    ):
        with pytest.raises(FederationError):
            federation.endpoint(WEB.url, profile, identity, of=PARTNER)


def test_a_name_that_stands_twice_is_refused(tmp_path: Path, roots: tuple[x509.Certificate, ...]) -> None:
    text = json.dumps(json.loads(partner(roots).bundle))[:-1] + ', "keys": []}'
    with pytest.raises(FederationError, match="stands twice"):
        federation.put(tmp_path, msgspec.structs.replace(partner(roots), bundle=text), home=HOME)
