"""What a CA says of whom to believe, laid down in identity directories as a sidecar finds it.

say(web.directory, mesh, by_serial(mesh, caller), number=2)         # trust.json, with a deny-list of one entry
say(web.directory, mesh, federated={"partner.test": bundle_of(partner)})
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca import deny_list, spiffe_bundle
from ca.deny_list import Content, Entry, RetiredIssuer
from ca.events import By
from ca.identity_directory import write_trust
from ca.messages import Trust
from ca.spiffe_bundle import SpiffeBundle

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.factory import Identity, MeshCa

HOUR = timedelta(hours=1)


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def by_serial(mesh: MeshCa, identity: Identity) -> Entry:
    """The entry that denies this one certificate."""
    serial = f"{identity.certificate.serial_number:x}"
    return Entry(by=By.SERIAL, issuer=mesh.authority.key_id, subject=serial, until=now() + HOUR)


def by_key(identity: Identity) -> Entry:
    """The entry that denies its key."""
    spki = identity.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Entry(by=By.SPKI, subject=hashlib.sha256(spki).hexdigest(), until=now() + HOUR)


def by_id(identity: Identity) -> Entry:
    """The entry that denies all of its identity so far."""
    return Entry(by=By.ID, subject=str(identity.id), until=now() + HOUR, cutoff=now())


def list_of(
    mesh: MeshCa,
    *entries: Entry,
    number: int = 1,
    at: datetime | None = None,
    life: timedelta = HOUR,
    retired: tuple[RetiredIssuer, ...] = (),
) -> str:
    """A signed deny-list."""
    issued = at or now()
    said = Content(
        trust_domain=mesh.trust_domain.name,
        sequence=number,
        issued=issued,
        next_update=issued + life,
        entries=entries,
        retired=retired,
    )
    return deny_list.sign(said, mesh.authority.signer).decode()


def bundle_of(mesh: MeshCa, *, sequence: int = 1) -> str:
    """Its roots, as SPIFFE writes them."""
    return spiffe_bundle.write(SpiffeBundle(mesh.roots, sequence, 60)).decode()


def trust_of(mesh: MeshCa, deny: str, federated: Mapping[str, str] | None = None) -> Trust:
    return Trust(bundle=bundle_of(mesh), deny_list=deny, federated=dict(federated or {}))


def lay_down(directory: Path, said: Trust) -> None:
    """As whoever polls the CA does."""
    write_trust(directory, msgspec.json.encode(said))


def say(
    directory: Path,
    mesh: MeshCa,
    *entries: Entry,
    number: int = 1,
    at: datetime | None = None,
    life: timedelta = HOUR,
    retired: tuple[RetiredIssuer, ...] = (),
    federated: Mapping[str, str] | None = None,
) -> None:
    """Lay down a deny-list of these entries, and these federated bundles."""
    document = list_of(mesh, *entries, number=number, at=at, life=life, retired=retired)
    lay_down(directory, trust_of(mesh, document, federated))
