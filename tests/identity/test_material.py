"""One look at an identity directory: what is judged is what is used, and every fault of it is told at once."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.x509 import load_pem_x509_certificates

from ca import keys
from ca.identity_directory import read_identity as really_read_identity
from meshproxy.errors import FaultyInput, Problem
from meshproxy.identity import material
from meshproxy.identity.expiry import CertificateRole, Validity
from meshproxy.identity.material import MissingIdentity, read_material
from meshproxy.settings.schema import IdentitySettings
from tests.factory import MeshCa, make_mesh_ca

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ca.identity_directory import IdentityFiles

NOT_ROOT = pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("mesh"))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("foreign"))


@pytest.fixture
def flat(tmp_path: Path, mesh: MeshCa) -> Path:
    """A flat directory of plain files, as other tools write it: easy to spoil."""
    issued = mesh.issue("/web", into=tmp_path / "issued")
    directory = tmp_path / "flat"
    directory.mkdir(mode=0o700)
    for source in (issued.key, issued.chain, issued.bundle):
        shutil.copy(source, directory / source.name)
    return directory


def problems(settings: IdentitySettings) -> list[Problem]:
    with pytest.raises(FaultyInput) as caught:
        read_material(settings)
    for problem in caught.value.problems:
        assert problem.expected
        assert problem.remedy
    return list(caught.value.problems)


def test_an_issued_identity_is_read_whole(mesh: MeshCa, tmp_path: Path) -> None:
    issued = mesh.issue("/web", into=tmp_path / "web")
    read = read_material(IdentitySettings(issued.directory))
    assert read.leaf.id == issued.id
    assert [term.role for term in read.terms] == [
        CertificateRole.LEAF,
        CertificateRole.INTERMEDIATE,
        CertificateRole.ROOT,
    ]
    assert read.not_after == read.leaf.not_after == min(term.not_after for term in read.terms)
    assert len(load_pem_x509_certificates(read.chain_pem)) == 2
    assert load_pem_x509_certificates(read.roots_pem) == list(mesh.roots)
    now = datetime.now(UTC)
    assert read.validity(now) is Validity.VALID
    assert read.validity(read.not_after + timedelta(seconds=1)) is Validity.EXPIRED


def test_a_flat_directory_does_as_well(flat: Path) -> None:
    assert str(read_material(IdentitySettings(flat)).leaf.id) == "spiffe://mesh.test/web"


def test_the_key_is_in_no_repr(flat: Path) -> None:
    read = read_material(IdentitySettings(flat))
    assert b"PRIVATE KEY" in read.key_pem
    assert repr(read) == (
        f"<Material spiffe://mesh.test/web serial={read.leaf.serial:x} until {read.not_after:%Y-%m-%dT%H:%M:%SZ}>"
    )


def test_an_expired_identity_is_a_state_and_no_fault(mesh: MeshCa, tmp_path: Path) -> None:
    issued = mesh.issue("/web", into=tmp_path / "old", expired=True)
    assert read_material(IdentitySettings(issued.directory)).validity(datetime.now(UTC)) is Validity.EXPIRED


@pytest.mark.parametrize("name", ["key.pem", "chain.pem", "bundle.pem"])
def test_a_missing_file_is_an_identity_yet_to_come(flat: Path, name: str) -> None:
    (flat / name).unlink()
    with pytest.raises(MissingIdentity, match=f"lacks {name}$") as caught:
        read_material(IdentitySettings(flat))
    assert caught.value.remedy.endswith(f"meshproxy ca issue /PATH --dir CA_DIR --out {flat}")


def test_a_missing_directory_is_an_identity_yet_to_come(tmp_path: Path) -> None:
    with pytest.raises(MissingIdentity, match="there is no identity in"):
        read_material(IdentitySettings(tmp_path / "nowhere"))


def test_an_empty_directory_lacks_everything(tmp_path: Path) -> None:
    with pytest.raises(MissingIdentity, match=r"lacks key\.pem and chain\.pem and bundle\.pem"):
        read_material(IdentitySettings(tmp_path))


def test_a_generation_removed_while_we_read_is_an_identity_yet_to_come(
    mesh: MeshCa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two re-issues at once take away what was being judged; looking again is the remedy, not an exit."""
    issued = mesh.issue("/web", into=tmp_path / "web")

    def read_and_lose(directory: Path) -> IdentityFiles:
        files = really_read_identity(directory)
        shutil.rmtree(files.place)
        return files

    monkeypatch.setattr(material, "read_identity", read_and_lose)
    with pytest.raises(MissingIdentity, match="was replaced while it was read"):
        read_material(IdentitySettings(issued.directory))


def test_a_file_where_a_directory_should_be_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (problem,) = problems(IdentitySettings(tmp_path / "file"))
    assert problem.found == "it cannot be read (Not a directory)"


def test_a_directory_where_a_file_should_be_is_a_problem(flat: Path) -> None:
    (flat / "chain.pem").unlink()
    (flat / "chain.pem").mkdir()
    (problem,) = problems(IdentitySettings(flat))
    assert (problem.file, problem.found) == (str(flat / "chain.pem"), "it cannot be read (Is a directory)")


@pytest.mark.parametrize("name", ["key.pem", "chain.pem", "bundle.pem"])
def test_a_fifo_is_a_problem_and_not_a_wait(flat: Path, name: str) -> None:
    """Whoever reads it must not be held up: renewal and the drain would be with him."""
    (flat / name).unlink()
    os.mkfifo(flat / name)
    (problem,) = problems(IdentitySettings(flat))
    assert problem.found == "it cannot be read (it is not a regular file)"


def test_a_file_without_end_is_a_problem(flat: Path) -> None:
    (flat / "bundle.pem").write_bytes(b"x" * (1 << 20) + b"x")
    (problem,) = problems(IdentitySettings(flat))
    assert problem.found == "it cannot be read (File too large)"


def test_who_may_write_the_directory_may_point_current_elsewhere(mesh: MeshCa, tmp_path: Path) -> None:
    issued = mesh.issue("/web", into=tmp_path / "web")
    issued.directory.chmod(0o777)
    assert [p.found for p in problems(IdentitySettings(issued.directory)) if "writable by everyone" in p.found]


@NOT_ROOT
def test_an_unreadable_key_is_a_problem(flat: Path) -> None:
    (flat / "key.pem").chmod(0)
    (problem,) = problems(IdentitySettings(flat))
    assert (problem.file, problem.found) == (str(flat / "key.pem"), "it cannot be read (Permission denied)")


def spoil_key_mode(flat: Path, _mesh: MeshCa, _foreign: MeshCa) -> None:
    (flat / "key.pem").chmod(0o644)


def spoil_directory_mode(flat: Path, _mesh: MeshCa, _foreign: MeshCa) -> None:
    flat.chmod(0o777)


def spoil_bundle_mode(flat: Path, _mesh: MeshCa, _foreign: MeshCa) -> None:
    (flat / "bundle.pem").chmod(0o666)


def put_another_key(flat: Path, _mesh: MeshCa, _foreign: MeshCa) -> None:
    (flat / "key.pem").write_bytes(keys.to_pem(keys.generate(), passphrase=None))


def seal_key(flat: Path, _mesh: MeshCa, _foreign: MeshCa) -> None:
    key = keys.from_pem((flat / "key.pem").read_bytes(), passphrase=None)
    (flat / "key.pem").write_bytes(keys.to_pem(key, passphrase=b"secret"))


def put_garbage_key(flat: Path, _mesh: MeshCa, _foreign: MeshCa) -> None:
    (flat / "key.pem").write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")


def put_garbage_chain(flat: Path, _mesh: MeshCa, _foreign: MeshCa) -> None:
    (flat / "chain.pem").write_bytes(b"garbage")


def put_damaged_chain(flat: Path, _mesh: MeshCa, _foreign: MeshCa) -> None:
    (flat / "chain.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


def put_leaf_only(flat: Path, _mesh: MeshCa, _foreign: MeshCa) -> None:
    text = (flat / "chain.pem").read_text()
    (flat / "chain.pem").write_text(text[: text.index("-----END CERTIFICATE-----") + 26])


def put_garbage_bundle(flat: Path, _mesh: MeshCa, _foreign: MeshCa) -> None:
    (flat / "bundle.pem").write_bytes(b"")


def put_bundle_without_root(flat: Path, _mesh: MeshCa, _foreign: MeshCa) -> None:
    text = (flat / "chain.pem").read_text()
    (flat / "bundle.pem").write_text(text[text.index("-----END CERTIFICATE-----") + 26 :])


def put_foreign_bundle(flat: Path, _mesh: MeshCa, foreign: MeshCa) -> None:
    (flat / "bundle.pem").write_bytes(foreign.authority.bundle_pem)


def put_partners_bundle(flat: Path, mesh: MeshCa, _foreign: MeshCa) -> None:
    partner = make_mesh_ca(flat.parent / "partner", trust_domain="partner.test")
    (flat / "bundle.pem").write_bytes(mesh.authority.bundle_pem + partner.authority.bundle_pem)


def put_no_svid(flat: Path, mesh: MeshCa, _foreign: MeshCa) -> None:
    forged = mesh.forge(into=flat.parent / "two", uris=["spiffe://mesh.test/a", "spiffe://mesh.test/b"])
    for source in (forged.key, forged.chain):
        shutil.copy(source, flat / source.name)


SPOILT: dict[str, tuple[Callable[[Path, MeshCa, MeshCa], None], str, str, str]] = {
    "key others can read": (spoil_key_mode, "key.pem", "mode 0644, readable by everyone", "chmod 600"),
    "directory others can write": (spoil_directory_mode, "", "mode 0777, writable by everyone", "chmod go-w"),
    "bundle others can write": (spoil_bundle_mode, "bundle.pem", "mode 0666, writable by everyone", "chmod go-w"),
    "another key": (put_another_key, "key.pem", "does not belong to the first certificate", "issue it again"),
    "sealed key": (seal_key, "key.pem", "sealed with a passphrase, and none was given", "passphrase_file ="),
    "garbage key": (put_garbage_key, "key.pem", "cannot be read", "issue it again"),
    "garbage chain": (put_garbage_chain, "chain.pem", "no certificate", "issue it again"),
    "damaged chain": (put_damaged_chain, "chain.pem", "a certificate that cannot be read", "issue it again"),
    "leaf without its intermediate": (put_leaf_only, "chain.pem", "nothing in chain or bundle is", "issue it again"),
    "empty bundle": (put_garbage_bundle, "bundle.pem", "no certificate", "issue it again"),
    "bundle without root": (put_bundle_without_root, "bundle.pem", "no root", "issue it again"),
    "foreign root": (put_foreign_bundle, "chain.pem", "nothing in chain or bundle is", "issue it again"),
    "partner's root": (put_partners_bundle, "bundle.pem", "a root of trust domain partner.test", "issue it again"),
    "no SVID": (put_no_svid, "chain.pem", "no SPIFFE identity: it has 2 URI SANs", "issue it again"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_each_fault_is_told_with_its_file_and_a_remedy(flat: Path, mesh: MeshCa, foreign: MeshCa, case: str) -> None:
    spoil, name, found, remedy = SPOILT[case]
    spoil(flat, mesh, foreign)
    (problem,) = problems(IdentitySettings(flat))
    assert problem.file == str(flat / name)
    assert found in problem.found
    assert remedy in problem.remedy


def test_all_faults_are_told_in_one_go(flat: Path, mesh: MeshCa, foreign: MeshCa) -> None:
    put_another_key(flat, mesh, foreign)
    spoil_key_mode(flat, mesh, foreign)
    spoil_bundle_mode(flat, mesh, foreign)
    put_foreign_bundle(flat, mesh, foreign)
    found = [problem.file.rpartition("/")[2] for problem in problems(IdentitySettings(flat))]
    assert found == ["bundle.pem", "chain.pem", "key.pem", "key.pem"]


def test_a_loose_key_mode_can_be_waived_and_nothing_else(flat: Path, mesh: MeshCa, foreign: MeshCa) -> None:
    spoil_key_mode(flat, mesh, foreign)
    assert read_material(IdentitySettings(flat, unsafe_key_mode=True)).leaf.id == mesh.id("/web")
    put_another_key(flat, mesh, foreign)
    assert len(problems(IdentitySettings(flat, unsafe_key_mode=True))) == 1


@pytest.fixture
def sealed(flat: Path, mesh: MeshCa, foreign: MeshCa) -> IdentitySettings:
    seal_key(flat, mesh, foreign)
    passphrase = flat.parent / "passphrase"
    passphrase.write_text("secret\n")
    passphrase.chmod(0o600)
    return IdentitySettings(flat, passphrase)


def passphrase_of(settings: IdentitySettings) -> Path:
    assert settings.passphrase_file is not None
    return settings.passphrase_file


def test_a_sealed_key_opens_with_its_passphrase_and_is_held_open(sealed: IdentitySettings) -> None:
    assert b"BEGIN PRIVATE KEY" in read_material(sealed).key_pem


def test_a_wrong_passphrase_is_a_problem_that_does_not_tell_it(sealed: IdentitySettings) -> None:
    passphrase_of(sealed).write_text("wr0ng\n")
    (problem,) = problems(sealed)
    assert problem.found == "a sealed private key that this passphrase does not open"
    assert "wr0ng" not in str(problem)


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda path: path.unlink(), "it cannot be read (No such file or directory)"),
        (lambda path: path.chmod(0o644), "readable by everyone"),
        (lambda path: path.write_text("\nsecret"), "its first line is empty"),
    ],
    ids=["missing", "readable by everyone", "empty"],
)
def test_a_faulty_passphrase_file_is_told_as_itself(
    sealed: IdentitySettings, spoil: Callable[[Path], object], found: str
) -> None:
    spoil(passphrase_of(sealed))
    by_file = {problem.file: problem.found for problem in problems(sealed)}
    assert found in by_file[str(passphrase_of(sealed))]


def test_in_an_overlap_of_roots_the_signing_one_counts(flat: Path, mesh: MeshCa, tmp_path: Path) -> None:
    """A bundle may already hold the next root; it is the signing root's expiry that matters to us."""
    coming = make_mesh_ca(tmp_path / "coming", made=datetime.now(UTC) - timedelta(days=1))
    (flat / "bundle.pem").write_bytes(coming.authority.bundle_pem + mesh.authority.bundle_pem)
    read = read_material(IdentitySettings(flat))
    anchor = read.terms[-1]
    assert anchor.role is CertificateRole.ROOT
    assert anchor.not_after == mesh.roots[0].not_valid_after_utc
