"""Making a leaf: the rules asked, its life decided, signed, and added to the ledger, all within one transaction.

The certificate exists when `certify` returns, and may be shown to anybody only when the transaction has ended well.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca import events, issuance, lifetime, profiles, slots
from ca.events import By, What
from ca.issuance import Allowed
from ca.premises import Rotated
from ca.rows import BUNDLE, AuthorityState, Revocation, State, sequence

if TYPE_CHECKING:
    from datetime import datetime

    from ca.authority import Authority
    from ca.ledger import Transaction, View
    from ca.profiles import LeafKey, Names
    from ca.rows import Issued


@dataclass(frozen=True, slots=True)
class ByCommand:
    """Somebody on the CA's machine asked for it."""

    uid: int


@dataclass(frozen=True, slots=True)
class ByToken:
    """Somebody with a token asked for it, from an address."""

    token: str
    peer: str


@dataclass(frozen=True, slots=True)
class ByRenewal:
    """The holder of a leaf asked for the next, from an address."""

    previous: Issued
    peer: str


@dataclass(frozen=True, slots=True)
class Certified:
    """A leaf, and the number of the event that holds it. `clamped_by` names the CA that cut its life short, or None."""

    certificate: x509.Certificate
    seq: int
    clamped_by: str | None


def certify(
    authority: Authority,
    transaction: Transaction,
    names: Names,
    key: LeafKey,
    *,
    ttl: timedelta | None,
    origin: ByCommand | ByToken | ByRenewal,
    now: datetime,
    fit: bool = False,
    own: bool = False,
) -> Certified:
    """Certify `key` as `names` for `ttl` (None: as the rules say) at the aware time `now`.

    `fit`: fit the lifetime into what the rules allow by now, instead of refusing it. `own`: a leaf of the mesh's own
    services, which no rule is asked about. Raises IssuanceRefused, LifetimeError,
    Rotated when the authority is no longer the one that signs, and LedgerError.
    """
    _require_current(authority, transaction)
    if own:
        allowed = Allowed(authority.limits.default if ttl is None else ttl, authority.limits, timedelta(0))
    else:
        configured = authority.configuration
        allowed = issuance.decide(configured.rules, configured.limits, configured.trust_domain, names, ttl, fit=fit)
    revoked = transaction.get(Revocation, By.ID, "", str(names.id))
    decided = lifetime.leaf_lifetime(
        allowed.ttl,
        now=now,
        limits=allowed.limits,
        issuers=[
            (f"intermediate CA {_common_name(authority.intermediate)!r}", lifetime.validity_of(authority.intermediate)),
            (f"root CA {_common_name(authority.root)!r}", lifetime.validity_of(authority.root)),
        ],
        after=revoked.cutoff if revoked else None,
    )
    certificate = profiles.leaf(
        names, key, issuer=authority.intermediate, serial=x509.random_serial_number(), validity=decided.validity
    ).sign(authority.key, hashes.SHA256())
    event = _event(authority, names, certificate, origin, ttl=allowed.ttl, now=now)
    return Certified(certificate, transaction.append(event), decided.clamped_by)


def signer_of(view: View, leaf: Issued) -> x509.Certificate:
    """The intermediate that signed a leaf, whatever became of it since."""
    signers = (each for each in view.every(AuthorityState) if each.what is What.INTERMEDIATE)
    return next(x509.load_der_x509_certificate(each.certificate) for each in signers if each.key_id == leaf.issuer)


def published(view: View) -> int:
    """The number of the latest bundle."""
    return sequence(view, BUNDLE)


def _require_current(authority: Authority, view: View) -> None:
    """A rotation may have happened since the authority was opened: what it would sign with may be tainted by now."""
    signing = slots.one(view.every(AuthorityState), What.INTERMEDIATE, State.ACTIVE)
    if signing is None or signing.slot != authority.slot or sequence(view, BUNDLE) != authority.bundle_sequence:
        raise Rotated(f"the authorities in {authority.directory} were rotated in this moment; try again")


def _event(
    authority: Authority,
    names: Names,
    certificate: x509.Certificate,
    origin: ByCommand | ByToken | ByRenewal,
    *,
    ttl: timedelta,
    now: datetime,
) -> events.Certified:
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    fields: dict[str, Any] = {
        "at": now.astimezone(UTC),
        "id": str(names.id),
        "issuer": authority.key_id,
        "serial": f"{certificate.serial_number:x}",
        "fingerprint": certificate.fingerprint(hashes.SHA256()).hex(),
        "spki": hashlib.sha256(spki).hexdigest(),
        "not_before": certificate.not_valid_before_utc,
        "not_after": certificate.not_valid_after_utc,
        "dns": names.dns,
        "ips": tuple(map(str, names.ips)),
        "ttl": int(ttl.total_seconds()),
        "bundle_sequence": authority.bundle_sequence,
        "certificate": certificate.public_bytes(Encoding.DER),
    }
    match origin:
        case ByCommand(uid):
            return events.Issue(**fields, uid=uid)
        case ByToken(token, peer):
            return events.Issue(**fields, token=token, peer=peer)
        case ByRenewal(previous, peer):
            return events.Renew(**fields, peer=peer, previous_issuer=previous.issuer, previous_serial=previous.serial)


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()
