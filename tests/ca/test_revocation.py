"""What may be revoked at once: as much as everybody who reads the deny-list takes, and no more."""

from __future__ import annotations

import shutil
import stat
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

from ca import deny_list, premises, publishing, revocation
from ca.events import Reason
from ca.federation import MOST_TOGETHER
from ca.identity_directory import MOST_TRUST_BYTES
from ca.messages import Trust
from ca.revocation import RevocationError
from ca.rows import Revocation
from tests.factory import MeshCa, make_mesh_ca

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ca.ledger import Ledger

NOW = datetime.now(UTC).replace(microsecond=0)
WEEK = timedelta(days=7)


@pytest.fixture
def mesh(tmp_path: Path) -> MeshCa:
    return make_mesh_ca(tmp_path)


@pytest.fixture
def ledger(mesh: MeshCa) -> Iterator[Ledger]:
    with premises.ledger_of(mesh.directory) as opened:
        yield opened


def take_back(ledger: Ledger, *names: str) -> None:
    with ledger.writing() as transaction:
        for name in names:
            revocation.revoke_id(
                transaction, f"spiffe://mesh.test/{name}", reason=Reason.KEY_COMPROMISE, now=NOW, longest=WEEK
            )
        revocation.require_room(transaction, now=NOW)


def count(ledger: Ledger) -> int:
    with ledger.reading() as view:
        return len(list(view.every(Revocation)))


@pytest.mark.long
def test_ten_thousand_identities_can_be_revoked_and_everybody_can_take_the_list(mesh: MeshCa, ledger: Ledger) -> None:
    take_back(ledger, *(f"{number:05d}/" + "name-of-a-service" for number in range(10_000)))
    assert publishing.publish_revocations(mesh.authority, ledger, now=NOW)
    document = (mesh.directory / "trust/denylist.json").read_text()
    found = deny_list.read(document.encode(), home="mesh.test", roots=mesh.roots, now=NOW)
    assert len(found.content.entries) == 10_000
    assert len(msgspec.json.encode(Trust("x", document))) < MOST_TRUST_BYTES


def test_what_is_published_comes_back_when_somebody_removed_it(mesh: MeshCa, ledger: Ledger) -> None:
    take_back(ledger, "a")
    trust = mesh.directory / "trust"
    assert publishing.publish_revocations(mesh.authority, ledger, now=NOW)
    publishing.publish(mesh.directory, ledger, now=NOW, signer=mesh.authority.signer)
    before = {path.name for path in trust.iterdir()}
    shutil.rmtree(trust)
    assert publishing.publish_revocations(mesh.authority, ledger, now=NOW)
    publishing.publish(mesh.directory, ledger, now=NOW, signer=mesh.authority.signer)
    assert {path.name for path in trust.iterdir()} == before
    assert stat.S_IMODE(trust.stat().st_mode) == 0o700
    shutil.rmtree(trust)
    publishing.publish(mesh.directory, ledger, now=NOW, signer=None)
    assert (trust / "bundle.pem").is_file()


def test_the_longest_list_fits_into_what_clients_take() -> None:
    in_base64_twice_over = deny_list.MOST_BYTES * 4 / 3 * 2  # of a CA that was restored: its own, and the last list
    assert in_base64_twice_over + MOST_TOGETHER * 2 + (1 << 20) < MOST_TRUST_BYTES


def test_what_nobody_could_read_any_more_is_not_recorded(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deny_list, "MOST_BYTES", 1000)
    take_back(ledger, "a", "b", "c")
    with pytest.raises(RevocationError, match=r"has no room.* rotate prepare --what intermediate"):
        take_back(ledger, *(f"more-{number}" for number in range(10)))
    assert count(ledger) == 3
    take_back(ledger, "a")  # what is on it already takes no more room
    assert count(ledger) == 3
