"""Making a CA and issuing from it: what is refused, what is recorded, what a crash or a full disk leaves."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ca import SpiffeId, TrustDomain, events, keys
from ca.audit import audit
from ca.authority import Authority, is_sealed, open_authority
from ca.bundle import read_bundle
from ca.events import What
from ca.founding import initialise
from ca.identity_directory import IdentityDirectoryError, read_identity
from ca.issuance import IssuanceRefused
from ca.issuing import SvidRequest, issue_into, issue_svid
from ca.ledger import LedgerError
from ca.ledger_head import Seal, judge
from ca.lifetime import LifetimeError
from ca.premises import AuthorityError, ledger_of
from ca.profiles import Names
from ca.rows import Issued
from ca.sqlite_ledger import open_ledger
from ca.svid import chain_fault, judge_leaf, read_chain
from tests.crashes import killed_at_every_step
from tests.factory import make_mesh_ca

if TYPE_CHECKING:
    from pathlib import Path

HOME = TrustDomain.parse("mesh.test")
NOW = datetime(2026, 11, 22, 12, 0, 0, 500_000, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def web(path: str = "/web") -> SvidRequest:
    return SvidRequest(Names(SpiffeId.of(HOME, path)))


def make(directory: Path, *, passphrase: bytes | None = None) -> Authority:
    return initialise(directory, HOME, passphrase=passphrase, now=NOW)


def open_again(directory: Path, *, passphrase: bytes | None = None) -> Authority:
    return open_authority(directory, passphrase=passphrase)


def issued(directory: Path) -> list[Issued]:
    with ledger_of(directory) as ledger, ledger.reading() as view:
        return list(view.every(Issued))


def faults(directory: Path) -> list[str]:
    with ledger_of(directory) as ledger, ledger.reading() as view:
        return list(audit(view))


def files(directory: Path) -> dict[str, int]:
    return {
        str(path.relative_to(directory)): stat.S_IMODE(path.stat().st_mode) for path in sorted(directory.rglob("*"))
    }


def test_init_lays_out_the_directory_privately(tmp_path: Path) -> None:
    made = make(tmp_path / "ca")
    slot = f"authorities/{made.slot}"
    assert made.slot.startswith("0001-")
    assert files(tmp_path / "ca") == {
        "authorities": 0o700,
        slot: 0o700,
        f"{slot}/int.crt": 0o644,
        f"{slot}/int.key": 0o600,
        f"{slot}/root.crt": 0o644,
        f"{slot}/root.key": 0o600,
        f"{slot}/state": 0o600,
        "ca.toml": 0o600,
        "ledger.head": 0o600,
        "ledger.sqlite3": 0o600,
        "trust": 0o700,
        "trust/bundle.json": 0o644,
        "trust/bundle.pem": 0o644,
    }
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700
    assert read_bundle((tmp_path / "ca/trust/bundle.pem").read_bytes(), home=HOME) == (made.root,)


def test_a_ca_opens_as_it_was_made(tmp_path: Path) -> None:
    made = make(tmp_path / "ca")
    opened = open_again(tmp_path / "ca")
    assert (opened.root, opened.intermediate, opened.limits) == (made.root, made.intermediate, made.limits)
    assert (opened.trust_domain, opened.slot) == (HOME, made.slot)
    assert opened.key.private_numbers() == made.key.private_numbers()
    assert "key=" not in repr(opened)


def test_both_keys_are_sealed_with_the_passphrase(tmp_path: Path) -> None:
    made = make(tmp_path / "ca", passphrase=b"secret")
    for name in ("root.key", "int.key"):
        assert keys.is_sealed((tmp_path / "ca/authorities" / made.slot / name).read_bytes())
    assert is_sealed(tmp_path / "ca")
    assert open_again(tmp_path / "ca", passphrase=b"secret").intermediate == made.intermediate
    for passphrase, words in ((None, "none was given"), (b"wrong", "does not open")):
        with pytest.raises(AuthorityError, match=f"int.key is a sealed private key|sealed with a passphrase.*{words}"):
            open_again(tmp_path / "ca", passphrase=passphrase)


def test_the_lives_of_both_certificates(tmp_path: Path) -> None:
    made = make(tmp_path / "ca")
    start = NOW.replace(microsecond=0)
    assert made.root.not_valid_before_utc == made.intermediate.not_valid_before_utc == start - timedelta(minutes=2)
    assert made.root.not_valid_after_utc == start + 3650 * DAY
    assert made.intermediate.not_valid_after_utc == start + 365 * DAY


@pytest.mark.parametrize("occupant", ["file", "full directory", "dangling link"])
def test_no_ca_is_made_over_anything(tmp_path: Path, occupant: str) -> None:
    target = tmp_path / "ca"
    if occupant == "file":
        target.touch()
    elif occupant == "full directory":
        target.mkdir()
        (target / "x").touch()
    else:
        target.symlink_to("nowhere")
    with pytest.raises(AuthorityError, match="already exists and is not an empty directory"):
        make(target)
    assert [entry.name for entry in tmp_path.iterdir()] == ["ca"]


def test_an_empty_directory_may_become_a_ca(tmp_path: Path) -> None:
    (tmp_path / "ca").mkdir(mode=0o755)
    make(tmp_path / "ca")
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700


def test_a_bad_name_or_lifetime_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(AuthorityError, match="not a name for a CA"):
        initialise(tmp_path / "ca", HOME, passphrase=None, now=NOW, name="x" * 50)
    with pytest.raises(LifetimeError, match="at least 1 h"):
        initialise(tmp_path / "ca", HOME, passphrase=None, now=NOW, intermediate_ttl=timedelta(minutes=1))
    assert list(tmp_path.iterdir()) == []


def test_an_issued_identity_is_sound_trusted_and_recorded_once(tmp_path: Path) -> None:
    made = make(tmp_path / "ca")
    svid, generation = issue_into(made, web(), tmp_path / "web", now=NOW)
    found = read_identity(tmp_path / "web")
    assert generation == found.generation == 1
    assert found.chain is not None
    assert found.key is not None
    chain = read_chain(found.chain)
    assert chain == (svid.certificate, made.intermediate)
    assert chain_fault(chain, [made.root], NOW) is None
    assert keys.matches(keys.from_pem(found.key, passphrase=None), chain[0])
    assert found.bundle == (tmp_path / "ca/trust/bundle.pem").read_bytes()
    (row,) = issued(tmp_path / "ca")
    assert (row.id, row.serial) == ("spiffe://mesh.test/web", f"{svid.certificate.serial_number:x}")
    assert (row.issuer, row.lineage, row.generation, row.online) == (made.key_id, row.seq, 1, False)
    der = svid.certificate.public_bytes(Encoding.DER)
    assert row.fingerprint == judge_leaf(der, home=HOME, now=NOW).fingerprint
    with ledger_of(tmp_path / "ca") as ledger, ledger.reading() as view:
        entry = view.entry(row.seq)
    assert entry is not None
    assert isinstance(entry.event, events.Issue)
    assert (entry.event.at, entry.event.uid, entry.event.certificate) == (NOW, os.getuid(), der)
    assert (entry.event.ttl, entry.event.bundle_sequence) == (86400, 1)


def test_every_issue_has_its_own_key_and_serial(tmp_path: Path) -> None:
    made = make(tmp_path / "ca")
    first, second = (issue_svid(made, web(), now=NOW) for _ in range(2))
    assert first.key_pem != second.key_pem
    assert first.certificate.serial_number != second.certificate.serial_number
    assert "PRIVATE" not in repr(first)


@pytest.mark.parametrize("path", ["/meshproxy", "/meshproxy/ca", "/meshproxy/a/b"])
def test_reserved_paths_are_refused_and_not_recorded(tmp_path: Path, path: str) -> None:
    made = make(tmp_path / "ca")
    with pytest.raises(IssuanceRefused, match="reserved"):
        issue_into(made, web(path), tmp_path / "out", now=NOW)
    assert issued(tmp_path / "ca") == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("path", ["/meshproxy2", "/MeshProxy", "/a/meshproxy", "/meshproxy-web/x"])
def test_paths_that_only_resemble_the_reserved_ones_are_issued(tmp_path: Path, path: str) -> None:
    assert issue_svid(make(tmp_path / "ca"), web(path), now=NOW).clamped_by is None


def test_another_trust_domain_is_refused(tmp_path: Path) -> None:
    foreign = SvidRequest(Names(SpiffeId.parse("spiffe://partner.test/web")))
    with pytest.raises(IssuanceRefused, match=r"another trust domain; this CA issues for mesh.test only"):
        issue_svid(make(tmp_path / "ca"), foreign, now=NOW)


def test_a_leaf_near_the_end_of_its_ca_is_clamped_and_then_refused_by_name(tmp_path: Path) -> None:
    made = make(tmp_path / "ca")
    end = made.intermediate.not_valid_after_utc
    svid = issue_svid(made, web(), now=end - 10 * HOUR)
    assert svid.certificate.not_valid_after_utc == end
    assert svid.clamped_by is not None
    assert svid.clamped_by.startswith("intermediate CA 'meshproxy intermediate ")
    with pytest.raises(LifetimeError, match=r"the intermediate CA 'meshproxy intermediate .* expires in 2 min"):
        issue_svid(made, web(), now=end - timedelta(minutes=2))


def test_a_directory_that_could_not_take_it_is_refused_before_anything_is_recorded(tmp_path: Path) -> None:
    made = make(tmp_path / "ca")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "holiday.jpg").touch()
    with pytest.raises(IdentityDirectoryError):
        issue_into(made, web(), tmp_path / "out", now=NOW)
    assert issued(tmp_path / "ca") == []


def test_what_cannot_be_recorded_is_not_issued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path / "ca")

    def refuse(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(events, "encode", refuse)
    with pytest.raises(LedgerError, match="cannot be used: disk I/O error"):
        issue_into(made, web(), tmp_path / "out", now=NOW)
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    assert issued(tmp_path / "ca") == []


def test_the_head_is_signed_with_every_issue_and_shows_what_was_cut_off(tmp_path: Path) -> None:
    made = make(tmp_path / "ca")
    (tmp_path / "yesterday").write_bytes((tmp_path / "ca/ledger.sqlite3").read_bytes())
    issue_svid(made, web(), now=NOW)
    head = (tmp_path / "ca/ledger.head").read_bytes()
    (tmp_path / "mesh").mkdir()
    for place, seal in (
        (tmp_path / "ca/ledger.sqlite3", Seal((), 0)),
        (
            tmp_path / "yesterday",
            Seal(("the signed head covers 5 events, and only 4 are here: the end is cut off",), 0),
        ),
    ):
        with closing(open_ledger(place)) as ledger, ledger.reading() as view:
            assert judge(head, view, trust_domain="mesh.test", roots=made.roots) == seal


def test_a_rotation_since_it_was_opened_stops_an_authority(tmp_path: Path) -> None:
    made = make(tmp_path / "ca")
    with ledger_of(tmp_path / "ca") as ledger, ledger.writing() as transaction:
        transaction.append(events.RotateTaint(at=NOW, what=What.INTERMEDIATE, slot=made.slot))
    with pytest.raises(AuthorityError, match="rotated in this moment"):
        issue_svid(made, web(), now=NOW)
    with pytest.raises(AuthorityError, match=r"no active intermediate; make one with meshproxy ca rotate prepare"):
        open_again(tmp_path / "ca")


def test_tightened_limits_are_obeyed_and_weakened_ones_refused(tmp_path: Path) -> None:
    make(tmp_path / "ca")
    settings = tmp_path / "ca/ca.toml"
    original = settings.read_text()
    settings.write_text(original.replace("maximum_seconds = 604800", "maximum_seconds = 86400"))
    with pytest.raises(LifetimeError, match="at most 1 d"):
        issue_svid(open_again(tmp_path / "ca"), SvidRequest(web().names, 2 * DAY), now=NOW)
    settings.write_text(original.replace("maximum_seconds = 604800", "maximum_seconds = 604801"))
    with pytest.raises(AuthorityError, match=r"ca.toml cannot be used: .*maximum <= 7d"):
        open_again(tmp_path / "ca")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "trust_domain"),
        ("nonsense", "ca.toml cannot be used"),
        ('trust_domain = "Mesh"', "ca.toml cannot be used"),
        ("\xff", "ca.toml cannot be used"),
        ('trust_domain = "a"\nleaf = {default_seconds = "x", minimum_seconds = 1, maximum_seconds = 1}', "default_sec"),
        ('trust_domain = "a"\nx = 1\n[leaf]\ndefault_seconds = 1\nminimum_seconds = 1\nmaximum_seconds = 1', "`x`"),
        (
            'trust_domain = "a"\nleaf = {default_seconds = 9999999999999999, minimum_seconds = 1, maximum_seconds = 1}',
            "",
        ),
    ],
)
def test_a_damaged_ca_toml_is_one_sentence(tmp_path: Path, content: str, words: str) -> None:
    make(tmp_path / "ca")
    (tmp_path / "ca/ca.toml").write_bytes(content.encode("latin-1"))
    with pytest.raises(AuthorityError) as refused:
        open_again(tmp_path / "ca")
    assert words in str(refused.value)


def test_a_ca_whose_key_others_can_read_does_not_issue(tmp_path: Path) -> None:
    made = make(tmp_path / "ca")
    (tmp_path / "ca/authorities" / made.slot / "int.key").chmod(0o644)
    with pytest.raises(AuthorityError, match=r"mode 0644, readable by everyone.*ask who has read it"):
        open_again(tmp_path / "ca")


def test_missing_and_mixed_up_files_are_named(tmp_path: Path) -> None:
    made = make(tmp_path / "ca")
    place = tmp_path / "ca/authorities" / made.slot
    key = (place / "int.key").read_bytes()
    (place / "int.key").write_bytes((place / "root.key").read_bytes())
    with pytest.raises(AuthorityError, match="is not the key of"):
        open_again(tmp_path / "ca")
    (place / "int.key").unlink()
    with pytest.raises(AuthorityError, match=r"int.key is missing"):
        open_again(tmp_path / "ca")
    (place / "int.key").write_bytes(key)
    (place / "int.key").chmod(0o600)
    (place / "int.crt").write_bytes(b"rubbish")
    with pytest.raises(AuthorityError, match=r"int.crt cannot be used: no certificate"):
        open_again(tmp_path / "ca")
    (place / "int.crt").write_bytes((place / "root.crt").read_bytes())
    (place / "int.key").write_bytes((place / "root.key").read_bytes())
    with pytest.raises(AuthorityError, match="is not the certificate that the ledger holds"):
        open_again(tmp_path / "ca")
    (tmp_path / "ca/ledger.sqlite3").unlink()
    with pytest.raises(LedgerError, match=r"ledger.sqlite3 is missing; restore the CA from a backup"):
        open_again(tmp_path / "ca")
    with pytest.raises(AuthorityError, match="holds no CA"):
        open_again(tmp_path)


@pytest.mark.parametrize("fail_at", range(0, 30, 3))
def test_a_disk_that_fills_up_during_init_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail_at: int
) -> None:
    left = [fail_at]
    real = os.fsync

    def fsync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    try:
        make(tmp_path / "ca")
    except OSError:
        assert list(tmp_path.iterdir()) in ([], [tmp_path / "ca"])
    assert left[0] < 0 or (tmp_path / "ca/ca.toml").is_file()


@pytest.mark.long
def test_a_kill_at_any_step_of_init_leaves_no_ca_or_a_whole_one(tmp_path: Path) -> None:
    for _ in killed_at_every_step(lambda: make(tmp_path / "ca") if not (tmp_path / "ca").exists() else None):
        if (tmp_path / "ca").exists():
            issue_svid(open_again(tmp_path / "ca"), web(), now=NOW)
    assert (tmp_path / "ca").exists()


def test_a_kill_at_any_step_of_issuing_never_leaves_a_certificate_without_its_line(tmp_path: Path) -> None:
    mesh = make_mesh_ca(tmp_path)
    now, out = datetime.now(UTC), tmp_path / "web"
    request = SvidRequest(Names(mesh.id("/web")))
    issue_into(mesh.authority, request, out, now=now)
    deaths = 0
    for _ in killed_at_every_step(lambda: issue_into(mesh.authority, request, out, now=now)):
        deaths += 1
        found = read_identity(out)
        assert found.chain is not None
        assert found.key is not None
        leaf = read_chain(found.chain)[0]
        assert keys.matches(keys.from_pem(found.key, passphrase=None), leaf)
        assert f"{leaf.serial_number:x}" in {each.serial for each in issued(mesh.directory)}
        assert faults(mesh.directory) == []
    assert deaths > 10
