"""Certificates for those who ask: once per token, never without a row, never to a copy, through any death."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from ca import events, granting, keys, premises, profiles, rotation, tokens
from ca.audit import audit
from ca.authority import Authority, open_authority
from ca.events import By, Entry, What
from ca.granting import Enrolment, Granted, Renewal
from ca.issuing import SvidRequest, issue_own, issue_svid
from ca.keys import generate
from ca.ledger import LedgerFull
from ca.lifetime import validity_of
from ca.profiles import Names
from ca.refusals import Refused, Why
from ca.rows import Issued, Lineage, Token, TokenState
from ca.spiffe_id import complete
from ca.sqlite_ledger import SqliteLedger, open_ledger
from ca.svid import chain_fault, judge_leaf, read_chain
from tests.factory import make_mesh_ca

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric import ec

NOW = datetime.now(UTC).replace(microsecond=0)
SECRET = bytes(range(32))
PEER = "10.0.0.7:4431"
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


@dataclass
class Desk:
    """The CA as its server has it: the authority and the ledger, open."""

    authority: Authority
    ledger: SqliteLedger
    keys: list[ec.EllipticCurvePrivateKey] = field(default_factory=lambda: [generate() for _ in range(4)])

    def token(
        self,
        name: str = "aa",
        *,
        uses: int = 1,
        leaf_ttl: int | None = None,
        path: str = "/web",
        expires: datetime = NOW + 10 * MINUTE,
    ) -> None:
        with self.ledger.writing() as transaction:
            transaction.append(
                events.TokenCreate(
                    at=NOW,
                    token=name,
                    secret_sha256=tokens.secret_hash(SECRET),
                    id=f"spiffe://mesh.test{path}",
                    expires=expires,
                    uses=uses,
                    dns=("web.internal",),
                    leaf_ttl=leaf_ttl,
                )
            )

    def enrol(
        self, key: int = 0, *, token: str = "aa", secret: bytes = SECRET, now: datetime = NOW, csr: bytes | None = None
    ) -> Granted | Refused:
        asked = request(self.keys[key]) if csr is None else csr
        return granting.enrol(self.authority, self.ledger, Enrolment(token, secret, asked, PEER), now=now)

    def renew(self, leaf: Granted | x509.Certificate, key: int, *, now: datetime = NOW + HOUR) -> Granted | Refused:
        certificate = leaf.certificate if isinstance(leaf, Granted) else leaf
        renewal = Renewal(certificate.public_bytes(Encoding.DER), request(self.keys[key]), PEER)
        return granting.renew(self.authority, self.ledger, renewal, now=now)

    def issued(self) -> list[Issued]:
        with self.ledger.reading() as view:
            assert list(audit(view)) == []
            return list(view.leaves())


def request(key: ec.EllipticCurvePrivateKey, *names: x509.GeneralName) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def granted(answer: Granted | Refused) -> Granted:
    assert isinstance(answer, Granted), answer
    return answer


def refused(answer: Granted | Refused, why: Why) -> Refused:
    assert isinstance(answer, Refused), answer
    assert answer.why is why, answer
    return answer


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    mesh = make_mesh_ca(tmp_path)
    with premises.ledger_of(mesh.directory) as ledger:
        yield Desk(mesh.authority, ledger)


def test_a_token_becomes_a_sound_identity_with_the_tokens_names(desk: Desk) -> None:
    desk.token()
    answer = granted(desk.enrol())
    chain = read_chain(answer.chain_pem)
    assert chain_fault(chain, desk.authority.roots, NOW) is None
    leaf = judge_leaf(chain[0].public_bytes(Encoding.DER), home=desk.authority.trust_domain, now=NOW)
    assert str(leaf.id) == "spiffe://mesh.test/web"
    assert keys.matches(desk.keys[0], chain[0])
    assert b"web.internal" in chain[0].public_bytes(Encoding.DER)
    (row,) = desk.issued()
    assert (row.online, row.generation, row.lineage, answer.again) == (True, 1, row.seq, False)


def test_a_lost_answer_is_given_again_and_a_copied_token_is_found_out(desk: Desk) -> None:
    desk.token()
    first = granted(desk.enrol())
    again = granted(desk.enrol(now=NOW + MINUTE))
    assert (again.again, again.certificate, again.chain_pem) == (True, first.certificate, first.chain_pem)
    answer = refused(desk.enrol(key=1), Why.TOKEN_USED)
    assert answer.alert
    assert f"used by {PEER} at {NOW:%Y-%m-%dT%H:%M:%SZ} with another key" in answer.text
    assert len(desk.issued()) == 1
    refused(desk.enrol(now=NOW + 11 * MINUTE), Why.TOKEN_EXPIRED)


def test_a_lost_answer_is_given_again_even_after_a_rotation(desk: Desk) -> None:
    desk.token()
    first = granted(desk.enrol())
    place = desk.authority.directory
    rotation.prepare(place, desk.ledger, What.INTERMEDIATE, passphrase=None, now=NOW)
    rotation.activate(desk.ledger, What.INTERMEDIATE, now=NOW)
    desk.authority = open_authority(place, passphrase=None)
    assert granted(desk.enrol()).chain_pem == first.chain_pem


def test_nothing_that_is_refused_burns_a_token(desk: Desk) -> None:
    desk.token()
    refused(desk.enrol(csr=b"nonsense"), Why.BAD_CSR)
    foreign = request(desk.keys[0], x509.UniformResourceIdentifier("spiffe://mesh.test/admin"))
    refused(desk.enrol(csr=foreign), Why.BAD_CSR)
    refused(desk.enrol(csr=request(desk.authority.key)), Why.BAD_CSR)
    refused(desk.enrol(secret=bytes(32)), Why.WRONG_SECRET)
    refused(desk.enrol(token="bb"), Why.WRONG_SECRET)
    assert desk.issued() == []
    granted(desk.enrol())


def test_what_the_rules_no_longer_allow_is_refused(desk: Desk) -> None:
    desk.token(path="/meshproxy/ca")
    assert "is reserved" in refused(desk.enrol(), Why.NOT_ALLOWED).text
    desk.token("bb")
    leaf = granted(desk.enrol(token="bb"))
    text = (desk.authority.directory / "ca.toml").read_text()
    (desk.authority.directory / "ca.toml").write_text(text + '\n[[issue]]\npaths = ["/web"]\ndeny = true\n')
    desk.authority = open_authority(desk.authority.directory, passphrase=None)
    assert "denies /web" in refused(desk.renew(leaf, 1), Why.NOT_ALLOWED).text


def test_lifetimes_that_were_granted_are_fitted_into_new_limits(desk: Desk) -> None:
    desk.token(leaf_ttl=7200)
    leaf = granted(desk.enrol())
    assert leaf.issued.not_after == NOW + 2 * HOUR
    text = (desk.authority.directory / "ca.toml").read_text()
    (desk.authority.directory / "ca.toml").write_text(text + '\n[[issue]]\npaths = ["/web"]\nmaximum_seconds = 600\n')
    desk.authority = open_authority(desk.authority.directory, passphrase=None)
    assert granted(desk.renew(leaf, 1)).issued.not_after == NOW + HOUR + 10 * MINUTE


def test_ten_wrong_secrets_lock_a_token(desk: Desk) -> None:
    desk.token()
    for _ in range(9):
        assert not refused(desk.enrol(secret=bytes(32)), Why.WRONG_SECRET).alert
    assert refused(desk.enrol(secret=bytes(32)), Why.WRONG_SECRET).alert
    refused(desk.enrol(), Why.TOKEN_LOCKED)
    with desk.ledger.reading() as view:
        token = view.get(Token, "aa")
        assert token is not None
        assert token.state is TokenState.LOCKED
        assert sum(isinstance(each.event, events.TokenLock) for each in view.entries()) == 1  # guesses are no events


def test_several_uses_are_several_lineages(desk: Desk) -> None:
    desk.token(uses=2)
    granted(desk.enrol(0))
    granted(desk.enrol(1))
    assert granted(desk.enrol(0)).again
    refused(desk.enrol(2), Why.TOKEN_USED)
    assert len({each.lineage for each in desk.issued()}) == 2


def test_renewals_follow_one_another_with_the_same_names(desk: Desk) -> None:
    desk.token()
    leaf = granted(desk.enrol())
    for number in (1, 2, 3):
        leaf = granted(desk.renew(leaf, number))
        assert (leaf.issued.generation, leaf.issued.id) == (number + 1, "spiffe://mesh.test/web")
        assert b"web.internal" in leaf.certificate.public_bytes(Encoding.DER)
    assert len({each.lineage for each in desk.issued()}) == 1


def test_what_was_issued_into_files_is_renewed_over_the_network(desk: Desk) -> None:
    svid = issue_svid(desk.authority, SvidRequest(Names(complete("/web", desk.authority.trust_domain))), now=NOW)
    assert granted(desk.renew(svid.certificate, 1)).issued.generation == 2


def test_a_lost_renewal_is_given_again(desk: Desk) -> None:
    desk.token()
    leaf = granted(desk.enrol())
    first, again = granted(desk.renew(leaf, 1)), granted(desk.renew(leaf, 1))
    assert (again.again, again.certificate) == (True, first.certificate)


def test_a_copied_leaf_stops_its_lineage_and_no_other(desk: Desk) -> None:
    desk.token(uses=2)
    leaf, other = granted(desk.enrol(0)), granted(desk.enrol(3))
    successor = granted(desk.renew(leaf, 1))
    answer = refused(desk.renew(leaf, 2), Why.SUSPECT)  # the thief, or the one whom he was faster than
    assert answer.alert
    assert "generation 1 was presented, and 2 is the latest" in answer.text
    refused(desk.renew(successor, 2), Why.SUSPECT)
    granted(desk.renew(other, 2))
    with desk.ledger.reading() as view:
        lineage = view.get(Lineage, leaf.issued.lineage)
        assert lineage is not None
        assert lineage.suspect
        (event,) = (each.event for each in view.entries() if isinstance(each.event, events.Suspect))
        assert (event.id, event.peer, event.serial) == ("spiffe://mesh.test/web", PEER, leaf.issued.serial)


def test_a_lost_answer_two_generations_ago_is_a_copy(desk: Desk) -> None:
    desk.token()
    leaf = granted(desk.enrol())
    granted(desk.renew(granted(desk.renew(leaf, 1)), 2))
    refused(desk.renew(leaf, 1), Why.SUSPECT)


def test_a_serial_the_ledger_does_not_know_is_not_renewed(desk: Desk, tmp_path: Path) -> None:
    """After a restore, say; or another certificate under a serial it knows, which only a stolen CA key could make."""
    desk.token()
    leaf = granted(desk.enrol())
    foreign = make_mesh_ca(tmp_path / "foreign").issue("/web").certificate
    assert refused(desk.renew(foreign, 1), Why.UNKNOWN_CERTIFICATE).alert
    forged = profiles.leaf(
        Names(complete("/web", desk.authority.trust_domain)),
        desk.keys[2].public_key(),
        issuer=desk.authority.intermediate,
        serial=leaf.certificate.serial_number,
        validity=validity_of(leaf.certificate),
    ).sign(desk.authority.key, hashes.SHA256())
    assert refused(desk.renew(forged, 1), Why.UNKNOWN_CERTIFICATE).alert
    granted(desk.renew(leaf, 1))


@pytest.mark.parametrize("by", list(By))
def test_what_is_revoked_is_not_renewed_nor_given_again(desk: Desk, by: By) -> None:
    desk.token()
    leaf = granted(desk.enrol())
    subject = {By.SERIAL: leaf.issued.serial, By.SPKI: leaf.issued.spki or "", By.ID: leaf.issued.id}[by]
    with desk.ledger.writing() as transaction:
        transaction.append(
            events.Revoke(
                at=NOW,
                by=by,
                subject=subject,
                issuer=leaf.issued.issuer if by is By.SERIAL else "",
                cutoff=NOW if by is By.ID else None,
                until=NOW + HOUR,
            )
        )
    refused(desk.renew(leaf, 1), Why.REVOKED)
    refused(desk.enrol(), Why.REVOKED)  # the answer that was lost
    desk.token("bb")
    if by is By.SPKI:
        refused(desk.enrol(0, token="bb"), Why.BAD_CSR)
    fresh = granted(desk.enrol(1, token="bb"))
    assert fresh.issued.not_before > NOW if by is By.ID else True
    granted(desk.renew(fresh, 2))


def test_an_expired_leaf_is_renewed_only_within_the_grace(desk: Desk) -> None:
    desk.token()
    leaf = granted(desk.enrol())
    end = leaf.issued.not_after
    answer = refused(desk.renew(leaf, 1, now=end + MINUTE), Why.EXPIRED)
    assert "it is not renewed after that; enrol with a new token" in answer.text
    text = (desk.authority.directory / "ca.toml").read_text()
    (desk.authority.directory / "ca.toml").write_text(
        text + '\n[[issue]]\npaths = ["/web"]\nrenew_grace_seconds = 86400\n'
    )
    desk.authority = open_authority(desk.authority.directory, passphrase=None)
    refused(desk.renew(leaf, 1, now=end + 25 * HOUR), Why.EXPIRED)
    granted(desk.renew(leaf, 1, now=end + 23 * HOUR))


def test_a_ca_that_runs_out_says_so_and_burns_nothing(desk: Desk) -> None:
    late = desk.authority.intermediate.not_valid_after_utc - MINUTE
    desk.token(expires=late + HOUR)
    assert refused(desk.enrol(now=late), Why.CA_RUNNING_OUT).alert
    assert desk.issued() == []
    granted(desk.enrol())


def test_reports_are_noted_once_and_never_believed_beyond_what_was_published(desk: Desk) -> None:
    desk.token()
    leaf = granted(desk.enrol())
    der = leaf.certificate.public_bytes(Encoding.DER)
    rotation.prepare(desk.authority.directory, desk.ledger, What.ROOT, passphrase=None, now=NOW)
    with desk.ledger.reading() as view:
        assert len(rotation.standing(view, now=NOW).laggards) == 1
    assert granting.report(desk.ledger, der, 1)
    assert granting.report(desk.ledger, der, 99)
    with desk.ledger.reading() as view:
        assert view.reported() == {leaf.issued.lineage: 2}
        assert rotation.standing(view, now=NOW).laggards == ()
        before = view.head()
    assert granting.report(desk.ledger, der, 2)
    with desk.ledger.reading() as view:
        assert view.head() == before
    desk.authority = open_authority(desk.authority.directory, passphrase=None)
    own = issue_own(desk.authority, desk.ledger, "/meshproxy/ca", now=NOW).certificate
    unknown = profiles.leaf(
        Names(complete("/x", desk.authority.trust_domain)),
        desk.keys[0].public_key(),
        issuer=desk.authority.intermediate,
        serial=1,
        validity=validity_of(own),
    ).sign(desk.authority.key, hashes.SHA256())
    assert not granting.report(desk.ledger, unknown.public_bytes(Encoding.DER), 2)
    with desk.ledger.reading() as view:
        assert rotation.standing(view, now=NOW).laggards == ()  # the CA's own leaf waits for nobody


def test_the_servers_own_leaf_asks_no_rule(desk: Desk) -> None:
    svid = issue_own(desk.authority, desk.ledger, "/meshproxy/ca", dns=("ca.internal",), now=NOW)
    leaf = judge_leaf(svid.certificate.public_bytes(Encoding.DER), home=desk.authority.trust_domain, now=NOW)
    assert str(leaf.id) == "spiffe://mesh.test/meshproxy/ca"


def test_of_many_who_use_a_token_at_once_one_is_let_in(tmp_path: Path) -> None:
    mesh = make_mesh_ca(tmp_path)
    with closing(open_ledger(mesh.directory / premises.LEDGER)) as ledger:
        Desk(mesh.authority, ledger).token()
    children = []
    for _ in range(6):
        child = os.fork()
        if child == 0:
            _exit_with_answer(mesh.authority, mesh.directory)
        children.append(child)
    exits = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert sorted(exits) == [0, 10, 10, 10, 10, 10]
    with closing(open_ledger(mesh.directory / premises.LEDGER)) as ledger:
        assert len(Desk(mesh.authority, ledger).issued()) == 1


def _exit_with_answer(authority: Authority, directory: Path) -> None:
    """In a child, which never returns: 0 for a certificate, 10 for the token having been used."""
    code = 1
    try:
        ledger = open_ledger(directory / premises.LEDGER)
        answer = granting.enrol(authority, ledger, Enrolment("aa", SECRET, request(generate()), PEER), now=NOW)
        code = 0 if isinstance(answer, Granted) else 10 if answer.why is Why.TOKEN_USED else 2
    finally:
        os._exit(code)


def killed_at_every_statement(directory: Path, act: Callable[[SqliteLedger], object]) -> Iterator[int]:
    """Yield after each death of a child that dies before its first, second... statement, and once after the last."""
    for step in range(1, 200):
        child = os.fork()
        if child == 0:
            _die_before(step, directory, act)
        _, status = os.waitpid(child, 0)
        yield step
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            return
    raise AssertionError("it never ended")


def _die_before(step: int, directory: Path, act: Callable[[SqliteLedger], object]) -> None:
    left = [step]

    def count_down(_statement: str) -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        ledger = open_ledger(directory / premises.LEDGER)
        ledger._connection.set_trace_callback(count_down)
        act(ledger)
    except BaseException:  # noqa: BLE001 - it must not unwind into the test runner's copy
        os._exit(1)
    os._exit(0)


def test_a_kill_between_question_and_answer_leaves_one_certificate_or_none(tmp_path: Path) -> None:
    mesh = make_mesh_ca(tmp_path)
    own = [generate() for _ in range(2)]
    number = 0

    def enrol(ledger: SqliteLedger) -> Granted | Refused:
        attempt = Enrolment(f"{number:02x}", SECRET, request(own[0]), PEER)
        return granting.enrol(mesh.authority, ledger, attempt, now=NOW)

    deaths = 0
    with closing(open_ledger(mesh.directory / premises.LEDGER)) as ledger:
        desk = Desk(mesh.authority, ledger)
        desk.token("00")
    for step in killed_at_every_statement(mesh.directory, enrol):
        deaths += 1
        with closing(open_ledger(mesh.directory / premises.LEDGER)) as ledger:
            desk = Desk(mesh.authority, ledger, own)
            with ledger.reading() as view:
                assert list(audit(view)) == []
                used = view.get(Token, f"{number:02x}")
                before = [each for each in view.leaves() if _token_of(view.entry(each.seq)) == f"{number:02x}"]
                assert used is not None
                assert len(before) == used.used  # no certificate without a use, no use without a certificate
            answer = granted(enrol(ledger))
            assert answer.again is bool(before)
            if before:
                assert answer.issued == before[0]
            refused(desk.enrol(1, token=f"{number:02x}"), Why.TOKEN_USED)
            number = step
            desk.token(f"{number:02x}")
    assert deaths > 15


def _token_of(entry: Entry | None) -> str | None:
    assert entry is not None
    return entry.event.token if isinstance(entry.event, events.Issue) else None


def test_a_kill_in_the_middle_of_a_renewal_costs_nobody_his_identity(tmp_path: Path) -> None:
    mesh = make_mesh_ca(tmp_path)
    own = generate()
    svid = issue_svid(mesh.authority, SvidRequest(Names(mesh.id("/web"))), now=NOW)
    leaf = svid.certificate.public_bytes(Encoding.DER)

    def renew(ledger: SqliteLedger) -> Granted | Refused:
        return granting.renew(mesh.authority, ledger, Renewal(leaf, request(own), PEER), now=NOW)

    successors: list[Issued] = []
    for _ in killed_at_every_statement(mesh.directory, renew):
        with closing(open_ledger(mesh.directory / premises.LEDGER)) as ledger:
            with ledger.reading() as view:
                assert list(audit(view)) == []
                successors = [each for each in view.leaves() if each.generation == 2]
            if successors:
                assert granted(renew(ledger)).issued == successors[0]
    assert successors


def test_what_cannot_be_recorded_is_not_answered(desk: Desk) -> None:
    for number in range(50):
        desk.token(f"{number:02x}")
    connection = desk.ledger._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 1}")

    def enrol_all() -> None:
        for number in range(50):
            granted(desk.enrol(token=f"{number:02x}"))

    with pytest.raises(LedgerFull, match="nothing was recorded or issued"):
        enrol_all()
    issued = len(desk.issued())
    with desk.ledger.reading() as view:
        assert sum(each.used for each in view.every(Token)) == issued > 0
    connection.execute("PRAGMA max_page_count = 100000")
    enrol_all()
