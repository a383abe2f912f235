"""The CA itself: making one, opening one, and issuing from it: decide, sign, record, then write.

Where things lie in its directory, `ca/premises` says; what it may be asked for, ca.toml.

Time is always passed in as `now`, so a script can hold an identity that has already expired: make the CA with a `now`
in the past, and issue from it with another. The limits hold in either case.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca import (
    configuration,
    events,
    identity_directory,
    keys,
    ledger_head,
    lifetime,
    premises,
    profiles,
    slots,
    storage,
)
from ca.configuration import Configuration
from ca.events import What
from ca.lifetime import INTERMEDIATE_TTL, ROOT_TTL, LeafLimits
from ca.premises import AuthorityError
from ca.rows import BUNDLE, AuthorityState, State, sequence
from ca.sqlite_ledger import open_ledger

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from ca.events import Head
    from ca.ledger import View
    from ca.spiffe_id import TrustDomain

__all__ = [
    "RESERVED",
    "Authority",
    "AuthorityError",
    "Svid",
    "SvidRequest",
    "initialise",
    "is_sealed",
    "issue_into",
    "issue_svid",
    "open_authority",
    "refuse_occupied",
    "sign_head",
]

RESERVED: Final = "/meshproxy"  # for the mesh's own services: a CA that hands it out hands out the mesh


@dataclass(frozen=True, slots=True)
class Authority:
    """An open CA: what it may issue, the intermediate that signs, the root above it, and the roots everybody trusts.

    It is as the ledger was when it was opened: after a rotation, open it again.
    """

    directory: Path
    configuration: Configuration
    slot: str  # the name of the signing intermediate's directory below authorities/
    root: x509.Certificate
    intermediate: x509.Certificate
    key_id: str  # the intermediate's
    roots: tuple[x509.Certificate, ...]  # of the bundle, oldest first
    bundle_sequence: int
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def trust_domain(self) -> TrustDomain:
        """Who it speaks for."""
        return self.configuration.trust_domain

    @property
    def limits(self) -> LeafLimits:
        """How long its leaves may live."""
        return self.configuration.limits

    @property
    def bundle_pem(self) -> bytes:
        """The roots as PEM, encoded anew from the parsed certificates rather than copied from a file."""
        return b"".join(each.public_bytes(Encoding.PEM) for each in self.roots)


@dataclass(frozen=True, slots=True)
class SvidRequest:
    """What is asked for: the names to certify, and for how long (None: the CA's default)."""

    names: profiles.Names
    ttl: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Svid:
    """An issued identity, recorded but not yet on disk. `clamped_by` names the CA that cut its life short, or None."""

    certificate: x509.Certificate
    clamped_by: str | None
    chain_pem: bytes  # leaf, then intermediate
    bundle_pem: bytes
    key_pem: bytes = field(repr=False)


def initialise(
    directory: Path,
    trust_domain: TrustDomain,
    *,
    passphrase: bytes | None,
    now: datetime,
    name: str = "meshproxy",
    root_ttl: timedelta = ROOT_TTL,
    intermediate_ttl: timedelta = INTERMEDIATE_TTL,
    limits: LeafLimits | None = None,
) -> Authority:
    """Make a CA in `directory`, which must not exist or be empty, and return it open.

    Both keys are sealed when a passphrase is given. `name` begins the subject of both certificates. The directory
    appears complete (0700) or not at all. Raises AuthorityError when it has content or `name` cannot be used,
    LifetimeError when the lifetimes do not fit together, LedgerError and OSError when it cannot be written.
    """
    refuse_occupied(directory)
    if fault := profiles.ca_name_fault(name):
        raise AuthorityError(fault)
    configured = Configuration(trust_domain, limits or LeafLimits())
    root_life = lifetime.root_validity(root_ttl, now=now)
    life = lifetime.intermediate_validity(intermediate_ttl, now=now, root=root_life, limits=configured.limits)
    root_key, key = keys.generate(), keys.generate()
    root = profiles.root(
        name, trust_domain, root_key.public_key(), serial=x509.random_serial_number(), validity=root_life
    ).sign(root_key, hashes.SHA256())
    intermediate = profiles.intermediate(
        name, trust_domain, key.public_key(), issuer=root, serial=x509.random_serial_number(), validity=life
    ).sign(root_key, hashes.SHA256())
    slot = slots.next_name([], profiles.short_key_id(root_key.public_key()))

    if directory.parent.is_dir():
        storage.clear_leftovers(directory.parent, of=directory.name)
    with storage.new_directory(directory) as fresh:
        place = fresh / premises.AUTHORITIES / slot
        for each in (fresh / premises.TRUST, place.parent, place):
            each.mkdir(mode=0o700)
        storage.write_file(place / premises.ROOT_KEY, keys.to_pem(root_key, passphrase=passphrase))
        storage.write_file(place / premises.KEY, keys.to_pem(key, passphrase=passphrase))
        storage.write_file(place / premises.ROOT_CERTIFICATE, root.public_bytes(Encoding.PEM), mode=0o644)
        storage.write_file(place / premises.CERTIFICATE, intermediate.public_bytes(Encoding.PEM), mode=0o644)
        storage.write_file(place / premises.STATE, f"{State.ACTIVE}\n".encode())
        storage.write_file(fresh / premises.TRUST / premises.BUNDLE_PEM, root.public_bytes(Encoding.PEM), mode=0o644)
        storage.write_file(fresh / premises.CONFIGURATION, configuration.first_text(configured))
        begin = premises.first_events(trust_domain.name, slot, root, intermediate, now=now)
        made = Authority(
            directory=fresh,
            configuration=configured,
            slot=slot,
            root=root,
            intermediate=intermediate,
            key_id=profiles.key_id(intermediate),
            roots=(root,),
            bundle_sequence=1,
            key=key,
        )
        with closing(open_ledger(fresh / premises.LEDGER, begin=begin)) as ledger, ledger.reading() as view:
            sign_head(made, view.head(), now=now)
    return replace(made, directory=directory)


def refuse_occupied(directory: Path) -> None:
    """Raise AuthorityError when `directory` exists and is not an empty directory: no CA is ever made over anything."""
    if os.path.lexists(directory) and not (directory.is_dir() and not any(directory.iterdir())):
        raise AuthorityError(f"{directory} already exists and is not an empty directory; name a new one for a new CA")


def is_sealed(directory: Path) -> bool:
    """Whether issuing from the CA in `directory` needs a passphrase.

    Raises AuthorityError when there is no CA, LedgerError, OSError.
    """
    with premises.ledger_of(directory) as ledger, ledger.reading() as view:
        place = directory / premises.AUTHORITIES / _active(view, directory, What.INTERMEDIATE).slot
    return keys.is_sealed(premises.content(place / premises.KEY))


def open_authority(directory: Path, *, passphrase: bytes | None) -> Authority:
    """Open the CA in `directory` for issuing; only the intermediate's key is read, the root's may lie elsewhere.

    Raises AuthorityError when there is no CA, when a file of it is damaged or its key is open to others, and when the
    passphrase is missing or wrong; LedgerError and OSError when something cannot be read.
    """
    configured = premises.read_configuration(directory)
    with premises.ledger_of(directory) as ledger, ledger.reading() as view:
        signing, above = (_active(view, directory, what) for what in (What.INTERMEDIATE, What.ROOT))
        roots = slots.trusted(view.every(AuthorityState))
        bundle_sequence = sequence(view, BUNDLE)
    place = directory / premises.AUTHORITIES / signing.slot
    key_file, certificate_file = place / premises.KEY, place / premises.CERTIFICATE
    try:
        key = keys.from_pem(premises.sealed_or_plain_key(key_file), passphrase=passphrase)
    except keys.PrivateKeyError as error:
        raise AuthorityError(f"{key_file} is {error}") from error
    intermediate = premises.certificate(certificate_file)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not keys.matches(key, intermediate):
        raise AuthorityError(f"{key_file} is not the key of {certificate_file}; restore both from the same backup")
    if intermediate.public_bytes(Encoding.DER) != signing.certificate:
        raise AuthorityError(
            f"{certificate_file} is not the certificate that the ledger holds for {signing.slot}; restore the CA's "
            "directory whole, from one backup"
        )
    return Authority(
        directory=directory,
        configuration=configured,
        slot=signing.slot,
        root=x509.load_der_x509_certificate(above.certificate),
        intermediate=intermediate,
        key_id=signing.key_id,
        roots=tuple(x509.load_der_x509_certificate(each.certificate) for each in roots),
        bundle_sequence=bundle_sequence,
        key=key,
    )


def issue_svid(authority: Authority, request: SvidRequest, *, now: datetime) -> Svid:
    """Issue one identity with a new key at the aware time `now`: decided, signed, and recorded when this returns.

    Nothing is written but the ledger; `issue_into` also writes the identity directory. Raises AuthorityError for an ID
    of another trust domain or a reserved path, LifetimeError for a lifetime outside the limits or a CA that is running
    out, LedgerError and OSError when it cannot be recorded (then no certificate leaves this function).
    """
    names = request.names
    if names.id.trust_domain != authority.trust_domain:
        raise AuthorityError(f"{names.id} is of another trust domain; this CA issues for {authority.trust_domain} only")
    if names.id.path == RESERVED or names.id.path.startswith(f"{RESERVED}/"):
        raise AuthorityError(f"{names.id.path} is reserved: {RESERVED}/** is for the mesh itself; choose another path")
    ttl = authority.limits.default if request.ttl is None else request.ttl
    key = keys.generate()
    with premises.ledger_of(authority.directory) as ledger, ledger.writing() as transaction:
        _require_current(authority, transaction)
        decided = lifetime.leaf_lifetime(
            ttl,
            now=now,
            limits=authority.limits,
            issuers=[
                (
                    f"intermediate CA {_common_name(authority.intermediate)!r}",
                    lifetime.validity_of(authority.intermediate),
                ),
                (f"root CA {_common_name(authority.root)!r}", lifetime.validity_of(authority.root)),
            ],
        )
        certificate = profiles.leaf(
            names,
            key.public_key(),
            issuer=authority.intermediate,
            serial=x509.random_serial_number(),
            validity=decided.validity,
        ).sign(authority.key, hashes.SHA256())
        transaction.append(_issue_event(authority, names, certificate, ttl=ttl, now=now))
        head = transaction.head()
    sign_head(authority, head, now=now)
    return Svid(
        certificate,
        decided.clamped_by,
        chain_pem=certificate.public_bytes(Encoding.PEM) + authority.intermediate.public_bytes(Encoding.PEM),
        bundle_pem=authority.bundle_pem,
        key_pem=keys.to_pem(key, passphrase=None),
    )


def sign_head(authority: Authority, head: Head, *, now: datetime) -> None:
    """Sign how far the ledger goes, after something was committed. Raises OSError.

    Nothing depends on it having been done: a head that stays behind is no fault, and covers what it covers.
    """
    document = ledger_head.sign(
        head,
        trust_domain=authority.trust_domain.name,
        key=authority.key,
        certificate=authority.intermediate,
        now=now.astimezone(UTC),
    )
    storage.write_file(authority.directory / premises.HEAD, document)


def issue_into(authority: Authority, request: SvidRequest, out: Path, *, now: datetime) -> tuple[Svid, int]:
    """Issue one identity and make it the current one of the identity directory `out`; returns it and its generation.

    Raises what `issue_svid` and `identity_directory.write_identity` raise. A directory that could not take the identity
    is refused before anything is signed or recorded.
    """
    identity_directory.refuse_foreign(out)
    svid = issue_svid(authority, request, now=now)
    generation = identity_directory.write_identity(out, key=svid.key_pem, chain=svid.chain_pem, bundle=svid.bundle_pem)
    return svid, generation


def _active(view: View, directory: Path, what: What) -> AuthorityState:
    found = slots.one(view.every(AuthorityState), what, State.ACTIVE)
    if found is None:
        raise AuthorityError(
            f"{directory} holds no active {what}; make one with meshproxy ca rotate prepare, then activate"
        )
    return found


def _require_current(authority: Authority, view: View) -> None:
    """A rotation may have happened since the authority was opened: what it would sign with may be tainted by now."""
    signing = slots.one(view.every(AuthorityState), What.INTERMEDIATE, State.ACTIVE)
    if signing is None or signing.slot != authority.slot or sequence(view, BUNDLE) != authority.bundle_sequence:
        raise AuthorityError(f"the authorities in {authority.directory} were rotated in this moment; try again")


def _issue_event(
    authority: Authority, names: profiles.Names, certificate: x509.Certificate, *, ttl: timedelta, now: datetime
) -> events.Issue:
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return events.Issue(
        at=now.astimezone(UTC),
        uid=os.getuid(),
        id=str(names.id),
        issuer=authority.key_id,
        serial=f"{certificate.serial_number:x}",
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        spki=hashlib.sha256(spki).hexdigest(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        dns=names.dns,
        ips=tuple(map(str, names.ips)),
        ttl=int(ttl.total_seconds()),
        bundle_sequence=authority.bundle_sequence,
        certificate=certificate.public_bytes(Encoding.DER),
    )


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()
