"""trust.json, part by part: what is good of it is taken, what was good before is kept, and nothing older ever is."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from ca import TrustDomain, identity_directory
from ca.messages import Trust
from meshproxy.identity.federation import Federation
from meshproxy.identity.trust import Grounds, Trusted, judged
from meshproxy.identity.trust_file import FaultyTrust, read_document
from meshproxy.settings.schema import IdentitySettings
from tests.factory import Identity, MeshCa, make_mesh_ca
from tests.trusting import HOUR, bundle_of, by_serial, lay_down, list_of, now, say, trust_of

if TYPE_CHECKING:
    from pathlib import Path

HOME = TrustDomain("mesh.test")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("mesh"))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("foreign"))


@pytest.fixture(scope="module")
def partner(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("partner"), trust_domain="partner.test")


@pytest.fixture(scope="module")
def web(mesh: MeshCa) -> Identity:
    return mesh.issue("/web")


def take(mesh: MeshCa, said: Trust, before: Trusted | None = None) -> tuple[Trusted, tuple[str, ...]]:
    return judged(said, before=before or Trusted(), grounds=Grounds(HOME, mesh.roots), now=now())


def test_all_of_it_comes_into_force(mesh: MeshCa, partner: MeshCa, web: Identity) -> None:
    deny = list_of(mesh, by_serial(mesh, web), number=7)
    found, faults = take(mesh, trust_of(mesh, deny, {"partner.test": bundle_of(partner)}))
    assert faults == ()
    assert found.deny_list is not None
    assert found.deny_list.content.sequence == 7
    assert found.deny_list.denies(web.der)
    assert found.federation.roots == {TrustDomain("partner.test"): partner.roots}
    assert found.sequence == 1
    assert found.stale_for(now()) is None


def test_the_bundles_number_counts_only_while_it_is_the_one_in_use(mesh: MeshCa, foreign: MeshCa) -> None:
    """Its roots come with the next identity."""
    said = Trust(bundle=bundle_of(foreign, sequence=9), deny_list=list_of(mesh))
    assert take(mesh, said)[0].sequence is None


def test_an_older_list_is_not_taken_and_nothing_is_forgotten(mesh: MeshCa, web: Identity) -> None:
    before, _ = take(mesh, trust_of(mesh, list_of(mesh, by_serial(mesh, web), number=7)))
    found, [fault] = take(mesh, trust_of(mesh, list_of(mesh, number=6)), before)
    assert found.deny_list is before.deny_list
    assert "older (number 6)" in fault
    found, faults = take(mesh, trust_of(mesh, list_of(mesh, number=8)), before)  # of a CA that forgot
    assert faults == ()
    assert found.deny_list is not None
    assert found.deny_list.denies(web.der)


def test_each_part_is_judged_by_itself(mesh: MeshCa, foreign: MeshCa, partner: MeshCa, web: Identity) -> None:
    before, _ = take(mesh, trust_of(mesh, list_of(mesh), {"partner.test": bundle_of(partner)}))
    # A faulty bundle of a partner holds up no revocation ...
    deny = list_of(mesh, by_serial(mesh, web), number=2)
    found, [fault] = take(mesh, trust_of(mesh, deny, {"partner.test": "nonsense"}), before)
    assert "partner.test" in fault
    assert found.federation == before.federation
    assert found.deny_list is not None
    assert found.deny_list.denies(web.der)
    # ... and a list of somebody else's no end of a federation.
    found, [fault] = take(mesh, trust_of(mesh, list_of(foreign, number=9)), before)
    assert "its deny-list: its signer is not trusted" in fault
    assert found.deny_list is before.deny_list
    assert found.federation == Federation()


@pytest.mark.parametrize("deny", ["", "nonsense", "\x00"])
def test_a_list_that_is_none_is_told(mesh: MeshCa, deny: str) -> None:
    before, _ = take(mesh, trust_of(mesh, list_of(mesh)))
    for had in (Trusted(), before):
        found, [fault] = take(mesh, trust_of(mesh, deny), had)
        assert "deny-list" in fault
        assert found.deny_list is had.deny_list


def test_the_file_is_read_as_it_was_laid_down(mesh: MeshCa, tmp_path: Path) -> None:
    settings = IdentitySettings(tmp_path)
    assert read_document(settings) is None
    said = trust_of(mesh, list_of(mesh))
    lay_down(tmp_path, said)
    assert read_document(settings) == said


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "not what a CA says"), (b"{}", "not what a CA says"), (b"[" * 100_000, "not what a CA says")],
)
def test_a_file_that_says_nothing_is_a_fault(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / identity_directory.TRUST).write_bytes(content)
    with pytest.raises(FaultyTrust, match=words):
        read_document(IdentitySettings(tmp_path))


def test_a_file_that_others_may_write_is_not_believed(mesh: MeshCa, tmp_path: Path) -> None:
    """It could let in another trust domain: the rule is the bundle's."""
    say(tmp_path, mesh)
    (tmp_path / identity_directory.TRUST).chmod(0o666)
    with pytest.raises(FaultyTrust, match="chmod go-w"):
        read_document(IdentitySettings(tmp_path))
    assert read_document(IdentitySettings(tmp_path, unsafe_key_mode=True)) is not None


def test_a_pipe_in_its_place_does_not_hold_up_anybody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / identity_directory.TRUST)
    with pytest.raises(FaultyTrust, match="cannot be read"):
        read_document(IdentitySettings(tmp_path))


def test_a_list_is_stale_from_its_end_on(mesh: MeshCa) -> None:
    found, _ = take(mesh, trust_of(mesh, list_of(mesh, at=now() - 2 * HOUR, life=HOUR)))
    late = found.stale_for(now())
    assert late is not None
    assert HOUR <= late < HOUR + timedelta(minutes=1)
