"""Rotation on disk: new keys, the ledger, what is published; killed at any step; with TLS to prove it."""

from __future__ import annotations

import json
import shutil
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from ca import TrustDomain, keys, rotation
from ca.audit import audit
from ca.authority import open_authority
from ca.events import What
from ca.founding import initialise
from ca.issuing import SvidRequest, issue_into, issue_svid
from ca.listing import Fate, listed
from ca.premises import AuthorityError, NoActiveAuthority, ledger_of
from ca.profiles import Names
from ca.publishing import publish
from ca.rows import AuthorityState
from ca.slots import RotationError
from ca.spiffe_id import complete
from ca.svid import chain_fault, read_chain
from tests.crashes import killed_at_every_step

if TYPE_CHECKING:
    from pathlib import Path

    from ca.authority import Authority

HOME = TrustDomain.parse("mesh.test")
NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)
ROOT, INT = What.ROOT, What.INTERMEDIATE
WEB = SvidRequest(Names(complete("/web", HOME)))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    initialise(tmp_path / "ca", HOME, passphrase=None, now=NOW - 30 * 24 * HOUR, name="mesh")
    return tmp_path / "ca"


def opened(place: Path, passphrase: bytes | None = None) -> Authority:
    return open_authority(place, passphrase=passphrase)


def prepare(place: Path, what: What, *, passphrase: bytes | None = None) -> str:
    with ledger_of(place) as ledger:
        slot = rotation.prepare(place, ledger, what, passphrase=passphrase, now=NOW)
        publish(place, ledger, now=NOW, signer=opened(place, passphrase).signer)
    return slot


def activate(place: Path, what: What, *, force: bool = False) -> str:
    with ledger_of(place) as ledger:
        slot, _ = rotation.activate(ledger, what, now=NOW, force=force)
        publish(place, ledger, now=NOW, signer=opened(place).signer)
    return slot


def retire(place: Path, what: What, *, slot: str | None = None, now: datetime = NOW) -> None:
    with ledger_of(place) as ledger:
        rotation.retire(ledger, what, slot=slot, now=now)
        publish(place, ledger, now=now, signer=opened(place).signer)


def states(place: Path) -> dict[str, str]:
    return {path.parent.name[:4]: path.read_text() for path in sorted(place.glob("authorities/*/state"))}


def sequence(place: Path) -> object:
    return json.loads((place / "trust/bundle.json").read_text())["spiffe_sequence"]


def talk(server: Path, client: Path, *, server_trusts: Path, client_trusts: Path) -> None:
    """A TLS handshake in memory, both sides proving themselves; raises ssl.SSLError."""
    contexts = []
    for own, trusts, purpose in (
        (server, server_trusts, ssl.PROTOCOL_TLS_SERVER),
        (client, client_trusts, ssl.PROTOCOL_TLS_CLIENT),
    ):
        context = ssl.SSLContext(purpose)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(own / "chain.pem", own / "key.pem")
        context.load_verify_locations(trusts / "bundle.pem")
        contexts.append(context)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        contexts[0].wrap_bio(to_server, to_client, server_side=True),
        contexts[1].wrap_bio(to_client, to_server),
    ]
    for _ in range(6):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert all(end.getpeercert(binary_form=True) for end in ends)


def test_a_root_is_rotated_without_a_moment_in_which_two_cannot_talk(place: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    issue_into(opened(place), WEB, old, now=NOW)
    first = prepare(place, ROOT)
    assert states(place) == {"0001": "active\n", "0002": "prepared\n"}
    assert sequence(place) == 2
    assert len(read_chain((place / "trust/bundle.pem").read_bytes())) == 2
    with pytest.raises(RotationError, match="would be cut off"):
        activate(place, ROOT)
    issue_into(opened(place), WEB, old, now=NOW)  # both roots, still signed by the first
    with pytest.raises(RotationError, match="would be cut off"):  # the leaf before lives, and may be in use
        activate(place, ROOT)
    assert activate(place, ROOT, force=True) == first
    issue_into(opened(place), WEB, new, now=NOW)
    chain = read_chain((new / "chain.pem").read_bytes())
    root = opened(place).root
    assert chain_fault(chain, [root], NOW) is None
    talk(old, new, server_trusts=old, client_trusts=new)
    talk(new, old, server_trusts=new, client_trusts=old)
    with pytest.raises(RotationError, match="lives for another"):
        retire(place, ROOT)
    retire(place, ROOT, now=NOW + 25 * HOUR)
    assert states(place) == {"0001": "retired\n", "0002": "active\n"}
    assert sequence(place) == 3
    assert read_chain((place / "trust/bundle.pem").read_bytes()) == (root,)


def test_an_intermediate_is_replaced_at_once_and_without_a_new_bundle(place: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    issue_into(opened(place), WEB, old, now=NOW)
    slot = prepare(place, INT)
    assert not (place / "authorities" / slot / "root.key").exists()
    activate(place, INT)
    assert states(place) == {"0001": "root = active\nintermediate = old\n", "0002": "active\n"}
    assert sequence(place) == 1
    issue_into(opened(place), WEB, new, now=NOW)
    assert read_chain((new / "chain.pem").read_bytes())[1] != read_chain((old / "chain.pem").read_bytes())[1]
    talk(old, new, server_trusts=old, client_trusts=new)
    retire(place, INT, now=NOW + 25 * HOUR)
    assert states(place) == {"0001": "root = active\nintermediate = retired\n", "0002": "active\n"}
    prepare(place, ROOT)  # the root rotates from here as well
    activate(place, ROOT, force=True)
    assert states(place)["0002"] == "old\n"
    with ledger_of(place) as ledger, ledger.reading() as view:
        assert list(audit(view)) == []


def test_an_intermediate_is_replaced_by_itself_at_two_thirds_of_its_life(place: Path) -> None:
    with ledger_of(place) as ledger:
        assert rotation.replace_intermediate_if_due(place, ledger, passphrase=None, now=NOW) is None
        later = NOW + timedelta(days=250)
        slot = rotation.replace_intermediate_if_due(place, ledger, passphrase=None, now=later)
        assert rotation.replace_intermediate_if_due(place, ledger, passphrase=None, now=later) is None
    assert opened(place).slot == slot


def test_names_and_lives_are_those_of_the_ones_before(place: Path) -> None:
    before = opened(place)
    prepare(place, ROOT)
    activate(place, ROOT)
    after = opened(place)
    for old, new in ((before.root, after.root), (before.intermediate, after.intermediate)):
        assert new.subject.rfc4514_string()[:-8] == old.subject.rfc4514_string()[:-8]
        assert new.subject != old.subject
        assert new.not_valid_after_utc - new.not_valid_before_utc == old.not_valid_after_utc - old.not_valid_before_utc


def test_one_passphrase_seals_all(tmp_path: Path) -> None:
    place = tmp_path / "ca"
    initialise(place, HOME, passphrase=b"secret", now=NOW)
    for wrong in (None, b"other"):
        with pytest.raises(AuthorityError, match="sealed"):
            prepare(place, ROOT, passphrase=wrong)
    slot = prepare(place, ROOT, passphrase=b"secret")
    for name in ("root.key", "int.key"):
        assert keys.is_sealed((place / "authorities" / slot / name).read_bytes())
    plain = tmp_path / "plain"
    initialise(plain, HOME, passphrase=None, now=NOW)
    with ledger_of(plain) as ledger, pytest.raises(AuthorityError, match="are not sealed, so new ones are not either"):
        rotation.prepare(plain, ledger, ROOT, passphrase=b"secret", now=NOW)


def test_a_root_whose_key_lies_elsewhere_signs_no_intermediate(place: Path) -> None:
    (place / "authorities" / opened(place).slot / "root.key").unlink()
    with pytest.raises(AuthorityError, match=r"key of the active root is not here; bring it back as .*root.key"):
        prepare(place, INT)
    prepare(place, ROOT)  # a new root needs no other


def test_a_tainted_authority_signs_nothing(place: Path) -> None:
    before = opened(place)
    with ledger_of(place) as ledger:
        rotation.taint(ledger, INT, slot=before.slot, now=NOW, force=True)
    with pytest.raises(AuthorityError, match="rotated in this moment"):
        issue_svid(before, WEB, now=NOW)
    with pytest.raises(NoActiveAuthority, match="no active intermediate"):
        opened(place)
    with ledger_of(place) as ledger:  # the way out does not need one
        rotation.prepare(place, ledger, INT, passphrase=None, now=NOW)
        rotation.activate(ledger, INT, now=NOW)
    issue_svid(opened(place), WEB, now=NOW)


def test_an_expired_root_is_replaced_by_force(place: Path) -> None:
    """The way out when everybody slept: nobody can be asked any more, so nobody is waited for."""
    late = NOW + timedelta(days=4000)
    issue_svid(opened(place), WEB, now=NOW)
    with ledger_of(place) as ledger:
        rotation.prepare(place, ledger, ROOT, passphrase=None, now=late)
        rotation.activate(ledger, ROOT, now=late)  # no leaf lives any more
        rotation.retire(ledger, ROOT, slot=None, now=late)
        publish(place, ledger, now=late, signer=None)
    svid = issue_svid(opened(place), WEB, now=late)
    assert chain_fault(read_chain(svid.chain_pem), read_chain(svid.bundle_pem), late) is None


@pytest.mark.long
def test_a_kill_at_any_step_of_a_preparation_leaves_a_ca_that_works(place: Path, tmp_path: Path) -> None:
    spare = tmp_path / "spare"
    shutil.copytree(place, spare)
    for _ in killed_at_every_step(lambda: prepare(place, ROOT)):
        issue_svid(opened(place), WEB, now=NOW)
        with ledger_of(place) as ledger, ledger.reading() as view:
            assert list(audit(view)) == []
            known = {each.slot for each in view.every(AuthorityState)}
            for slot in known:
                assert (place / "authorities" / slot / "int.key").is_file()
        if len(known) == 1:  # then it can be begun again
            prepare(place, ROOT)
        with ledger_of(place) as ledger:
            publish(place, ledger, now=NOW, signer=None)
        assert sequence(place) == 2
        shutil.rmtree(place)
        shutil.copytree(spare, place)


def test_who_is_denied_with_a_retired_intermediate_counts_for_nothing_and_is_listed_as_such(
    place: Path, tmp_path: Path
) -> None:
    issue_into(opened(place), WEB, tmp_path / "denied", now=NOW)
    prepare(place, INT)
    activate(place, INT)
    with ledger_of(place) as ledger:
        rotation.retire(ledger, INT, slot=None, now=NOW, force=True)
        with ledger.reading() as view:
            assert [each.fate for each in listed(view, now=NOW)] == [Fate.RETIRED]
            assert [each.fate for each in listed(view, now=NOW + 48 * HOUR, expired=True)] == [Fate.EXPIRED]
    prepare(place, ROOT)
    with ledger_of(place) as ledger, ledger.reading() as view:
        assert rotation.standing(view, now=NOW).laggards == ()
    activate(place, ROOT)
    retire(place, ROOT)
    assert states(place)["0001"] == "retired\n"
