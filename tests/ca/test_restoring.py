"""Backup and restore: nothing that was revoked comes back, nobody unknown is renewed, no number is used twice."""

from __future__ import annotations

import io
import json
import tarfile
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from ca import backup, deny_list, granting, invitations, keys, premises, publishing, restoring, revocation, rotation
from ca.audit import audit
from ca.authority import open_authority
from ca.backup import BackupError, Sealing
from ca.events import Reason, What
from ca.founding import initialise
from ca.granting import Enrolment, Granted, Renewal
from ca.invitations import Invitation
from ca.issuing import SvidRequest, issue_svid
from ca.premises import AuthorityError, NoActiveAuthority, ledger_of
from ca.profiles import Names
from ca.refusals import Refused, Why
from ca.rows import Token, TokenState
from ca.spiffe_id import TrustDomain, complete

if TYPE_CHECKING:
    from pathlib import Path

    from ca.authority import Authority
    from ca.issuing import Svid
    from ca.restoring import Restored
    from ca.tokens import JoinToken

HOME = TrustDomain.parse("mesh.test")
NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)


class World:
    """A CA that lives on after its backup, is lost, and comes back."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        self.place = workspace / "ca"
        self.archive = workspace / "backup.tar"
        initialise(self.place, HOME, passphrase=None, now=NOW - 24 * HOUR)

    @property
    def authority(self) -> Authority:
        return open_authority(self.place, passphrase=None)

    def issue(self, path: str) -> Svid:
        return issue_svid(self.authority, SvidRequest(Names(complete(path, HOME))), now=NOW)

    def renew(self, svid: Svid) -> Granted | Refused:
        with ledger_of(self.place) as ledger:
            leaf = svid.certificate.public_bytes(Encoding.DER)
            return granting.renew(self.authority, ledger, Renewal(leaf, request(), "10.0.0.1:1"), now=NOW + HOUR)

    def token(self) -> JoinToken:
        with ledger_of(self.place) as ledger:
            invitation = Invitation(Names(complete("/token", HOME)), ttl=24 * HOUR)
            return invitations.create(self.authority.configuration, ledger, invitation, now=NOW)

    def enrol(self, token: JoinToken) -> Granted | Refused:
        with ledger_of(self.place) as ledger:
            attempt = Enrolment(token.id.hex(), token.secret, request(), "10.0.0.1:1")
            return granting.enrol(self.authority, ledger, attempt, now=NOW + HOUR)

    def revoke(self, path: str) -> None:
        with ledger_of(self.place) as ledger:
            with ledger.writing() as transaction:
                identity = str(complete(path, HOME))
                revocation.revoke_id(transaction, identity, reason=Reason.UNSPECIFIED, now=NOW, longest=168 * HOUR)
            self.publish()

    def publish(self) -> None:
        with ledger_of(self.place) as ledger:
            publishing.publish_revocations(self.authority, ledger, now=NOW)
            publishing.publish(self.place, ledger, now=NOW, signer=self.authority.signer)

    def pack(self) -> None:
        with ledger_of(self.place) as ledger:
            backup.pack(self.place, ledger, self.archive, now=NOW, sealing=Sealing(None))

    def lose_and_restore(self, *, deny_listed: bool = True) -> Restored:
        last = (self.place / "trust/denylist.json").read_bytes() if deny_listed else None
        self.place.rename(self.workspace / "lost")
        restored = restoring.restore(self.archive, self.place, last_deny_list=last, now=NOW)
        with ledger_of(self.place) as ledger, ledger.reading() as view:
            assert list(audit(view)) == []
        return restored


def request() -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(keys.generate(), hashes.SHA256()).public_bytes(Encoding.DER)


def refused(answer: Granted | Refused, why: Why) -> None:
    assert isinstance(answer, Refused), answer
    assert answer.why is why


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_restored_ca_goes_on(world: World) -> None:
    before = world.issue("/web")
    world.pack()
    assert (world.archive.stat().st_mode & 0o777) == 0o600
    restored = world.lose_and_restore(deny_listed=False)
    assert (restored.revoked_again, restored.tokens_ended, restored.signs) == (0, 0, True)
    world.publish()
    assert isinstance(world.renew(before), Granted)
    world.issue("/other")
    assert {path.name for path in world.archive.parent.iterdir()} == {"ca", "lost", "backup.tar"}


def test_what_was_revoked_since_stays_revoked(world: World) -> None:
    web, other = world.issue("/web"), world.issue("/other")
    world.pack()
    world.revoke("/web")
    assert world.lose_and_restore().revoked_again == 1
    refused(world.renew(web), Why.REVOKED)
    assert isinstance(world.renew(other), Granted)
    world.publish()
    document = (world.place / "trust/denylist.json").read_bytes()
    found = deny_list.read(document, home="mesh.test", roots=world.authority.roots, now=NOW)
    assert found.denies(web.certificate.public_bytes(Encoding.DER)) is not None
    lost = deny_list.read(
        (world.workspace / "lost/trust/denylist.json").read_bytes(),
        home="mesh.test",
        roots=world.authority.roots,
        now=NOW,
    )
    deny_list.follow(lost, found, now=NOW)  # everybody goes on from the last one he has seen


def test_what_was_issued_since_is_not_renewed(world: World) -> None:
    world.pack()
    since = world.issue("/web")
    world.lose_and_restore(deny_listed=False)
    refused(world.renew(since), Why.UNKNOWN_CERTIFICATE)


def test_tokens_that_may_have_been_used_since_are_over(world: World) -> None:
    token = world.token()
    world.pack()
    assert isinstance(world.enrol(token), Granted)
    assert world.lose_and_restore(deny_listed=False).tokens_ended == 1
    refused(world.enrol(token), Why.TOKEN_REVOKED)
    with ledger_of(world.place) as ledger, ledger.reading() as view:
        (row,) = view.every(Token)
        assert row.state is TokenState.REVOKED


def test_numbers_go_on_where_nobody_has_seen_any(world: World) -> None:
    world.revoke("/a")
    world.pack()
    world.revoke("/b")
    world.revoke("/c")
    with ledger_of(world.place) as ledger:
        rotation.prepare(world.place, ledger, What.ROOT, passphrase=None, now=NOW)
    world.publish()

    def numbers(place: Path) -> tuple[int, int, int]:
        document = (place / "trust/denylist.json").read_bytes()
        said = deny_list.read(document, home="mesh.test", roots=world.authority.roots, now=NOW).content.sequence
        crl = x509.load_pem_x509_crl((place / "trust/crl.pem").read_bytes())
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        return json.loads((place / "trust/bundle.json").read_text())["spiffe_sequence"], said, number

    before = numbers(world.place)
    world.lose_and_restore()
    world.publish()
    assert all(after > seen for after, seen in zip(numbers(world.place), before, strict=True))


def test_an_intermediate_that_was_retired_since_signs_nothing(world: World) -> None:
    world.pack()
    with ledger_of(world.place) as ledger:
        rotation.prepare(world.place, ledger, What.INTERMEDIATE, passphrase=None, now=NOW)
        rotation.activate(ledger, What.INTERMEDIATE, now=NOW)
        rotation.taint(ledger, What.INTERMEDIATE, slot=None, now=NOW)
        rotation.retire(ledger, What.INTERMEDIATE, slot=None, now=NOW)
    world.publish()
    assert not world.lose_and_restore().signs
    with pytest.raises(NoActiveAuthority):
        world.issue("/web")
    with ledger_of(world.place) as ledger:
        rotation.prepare(world.place, ledger, What.INTERMEDIATE, passphrase=None, now=NOW)
        rotation.activate(ledger, What.INTERMEDIATE, now=NOW)
    world.publish()
    world.issue("/web")


def test_keys_travel_sealed(tmp_path: Path) -> None:
    place, archive = tmp_path / "ca", tmp_path / "backup.tar"
    initialise(place, HOME, passphrase=None, now=NOW)
    with ledger_of(place) as ledger:
        with pytest.raises(AuthorityError, match="is not sealed, and a backup travels"):
            backup.pack(place, ledger, archive, now=NOW)
        assert not archive.exists()
        backup.pack(place, ledger, archive, now=NOW, sealing=Sealing(b"secret"))
    with tarfile.open(archive) as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            assert b"BEGIN PRIVATE KEY" not in content.read()
    restoring.restore(archive, tmp_path / "again", last_deny_list=None, now=NOW)
    with pytest.raises(AuthorityError, match="sealed"):
        open_authority(tmp_path / "again", passphrase=None)
    opened = open_authority(tmp_path / "again", passphrase=b"secret")
    issue_svid(opened, SvidRequest(Names(complete("/web", HOME))), now=NOW)


def rewritten(archive: Path, change: dict[str, bytes | None]) -> None:
    """The archive with members exchanged, left out (None) or added."""
    with tarfile.open(archive) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    with tarfile.open(archive, "w") as tar:
        for name, content in (members | change).items():
            if content is not None:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"../escape": b""}, "holds '../escape'"),
        ({"/etc/passwd": b""}, "holds '/etc/passwd'"),
        ({"authorities/0001-00000000/../../x.key": b""}, "holds 'authorities"),
        ({"manifest.json": None}, "its manifest or its ledger is missing"),
        ({"ledger.sqlite3": None}, "its manifest or its ledger is missing"),
        ({"manifest.json": b"{}"}, "is no backup of a CA, or damaged"),
        ({"ca.toml": b"#" * (1 << 21)}, "its ca.toml is too large"),
    ],
)
def test_only_the_files_of_a_backup_are_taken(world: World, change: dict[str, bytes | None], words: str) -> None:
    world.pack()
    rewritten(world.archive, change)
    with pytest.raises(BackupError, match=words):
        restoring.restore(world.archive, world.workspace / "new", last_deny_list=None, now=NOW)
    assert not (world.workspace / "new").exists()
    assert not (world.workspace / "escape").exists()


def test_a_backup_whose_ledger_is_another_is_refused(world: World) -> None:
    world.pack()
    older = world.archive.read_bytes()
    world.issue("/web")
    world.archive.rename(world.workspace / "older.tar")
    world.pack()
    with tarfile.open(world.workspace / "older.tar") as tar:
        ledger = tar.extractfile("ledger.sqlite3")
        assert ledger is not None
        content = ledger.read()
    rewritten(world.archive, {"ledger.sqlite3": content})
    with pytest.raises(BackupError, match="its ledger is not the one it was made with"):
        restoring.restore(world.archive, world.workspace / "new", last_deny_list=None, now=NOW)
    world.archive.write_bytes(older[: len(older) // 2])
    with pytest.raises(BackupError, match="is no backup of a CA"):
        restoring.restore(world.archive, world.workspace / "new", last_deny_list=None, now=NOW)
    world.archive.write_bytes(b"nonsense")
    with pytest.raises(BackupError, match="is no backup of a CA, or damaged"):
        restoring.restore(world.archive, world.workspace / "new", last_deny_list=None, now=NOW)


def test_a_deny_list_of_somebody_else_is_refused(world: World) -> None:
    world.pack()
    foreign = World(world.workspace / "foreign")
    foreign.revoke("/web")
    document = (foreign.place / "trust/denylist.json").read_bytes()
    with pytest.raises(BackupError, match="the deny-list cannot be believed"):
        restoring.restore(world.archive, world.workspace / "new", last_deny_list=document, now=NOW)


def test_a_backup_is_taken_while_the_ca_works(world: World) -> None:
    with ledger_of(world.place) as writer, writer.writing() as transaction, ledger_of(world.place) as reader:
        head = backup.pack(world.place, reader, world.archive, now=NOW, sealing=Sealing(None))
        assert head == transaction.head()
    with tarfile.open(world.archive) as tar:
        assert premises.LEDGER in tar.getnames()
