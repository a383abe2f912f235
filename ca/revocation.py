"""Taking back what was certified: what falls under a revocation, and what to write down for one. Decisions only.

Three ways to name what is meant: a serial (one certificate), a key (every certificate of it, and the key itself for
good), an ID (every certificate of it that has begun so far; whoever is certified as it afterwards is somebody else).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from ca import deny_list, events
from ca.events import By, Reason, What
from ca.rows import AuthorityState, Issued, Revocation, Token, TokenState

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from ca.ledger import Transaction, View
    from ca.rows import Rows


class RevocationError(ValueError):
    """A revocation that cannot be; the text is a sentence that says why and what to do."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """What a revocation did: how many living leaves it took back, and which tokens ended with it."""

    leaves: tuple[Issued, ...]
    tokens: tuple[Token, ...] = ()


def revoking(rows: Rows, leaf: Issued) -> Revocation | None:
    """The revocation that a leaf falls under, or None."""
    if found := rows.get(Revocation, By.SERIAL, leaf.issuer, leaf.serial):
        return found
    if leaf.spki is not None and (found := rows.get(Revocation, By.SPKI, "", leaf.spki)):
        return found
    found = rows.get(Revocation, By.ID, "", leaf.id)
    if found is not None and (found.cutoff is None or leaf.not_before <= found.cutoff):
        return found
    return None


def revoke_serial(
    transaction: Transaction, serial: str, *, reason: Reason, now: datetime, uid: int | None = None
) -> Revoked:
    """Revoke the certificate of a serial (hex). Raises RevocationError when the ledger knows none, LedgerError."""
    wanted = serial.lower().replace(":", "").lstrip("0")
    issuers = (each.key_id for each in transaction.every(AuthorityState) if each.what is What.INTERMEDIATE)
    known = [leaf for issuer in issuers if (leaf := transaction.get(Issued, issuer, wanted))]
    if not known:
        raise RevocationError(
            "the ledger has no certificate with that serial; give the certificate itself with --cert FILE"
        )
    for leaf in known:  # serials are random: there is one
        transaction.append(_event(By.SERIAL, leaf.serial, reason, now, uid, until=leaf.not_after, issuer=leaf.issuer))
    return Revoked(tuple(each for each in known if each.not_after >= now))


def revoke_certificate(
    transaction: Transaction, certificate: x509.Certificate, *, reason: Reason, now: datetime, uid: int | None = None
) -> Revoked:
    """Revoke a certificate that is at hand, whether the ledger knows it or not.

    Raises RevocationError when no intermediate of this CA signed it, LedgerError.
    """
    signers = [each for each in transaction.every(AuthorityState) if each.what is What.INTERMEDIATE]
    issuer = next((each.key_id for each in signers if _has_signed(each, certificate)), None)
    if issuer is None:
        raise RevocationError("that certificate was not issued by this CA")
    serial = f"{certificate.serial_number:x}"
    ends = certificate.not_valid_after_utc
    transaction.append(_event(By.SERIAL, serial, reason, now, uid, until=ends, issuer=issuer))
    leaf = transaction.get(Issued, issuer, serial)
    return Revoked((leaf,) if leaf is not None and ends >= now else ())


def revoke_key(
    transaction: Transaction,
    spki: str,
    *,
    reason: Reason,
    now: datetime,
    longest: timedelta,
    uid: int | None = None,
) -> Revoked:
    """Revoke every certificate of a key, by the SHA-256 of its SubjectPublicKeyInfo, and refuse that key from now on.

    `longest` is how long a leaf may live: one that the ledger does not know may, too. Raises RevocationError for what
    is no such hash, LedgerError.
    """
    wanted = spki.lower().replace(":", "")
    if len(wanted) != 64 or set(wanted) - set("0123456789abcdef"):
        raise RevocationError("--spki takes the SHA-256 of a SubjectPublicKeyInfo: 64 hexadecimal digits")
    living = tuple(each for each in transaction.leaves(alive_at=now) if each.spki == wanted)
    until = max((each.not_after for each in living), default=now)
    transaction.append(_event(By.SPKI, wanted, reason, now, uid, until=max(until, now + longest)))
    return Revoked(living)


def revoke_id(
    transaction: Transaction,
    identity: str,
    *,
    reason: Reason,
    now: datetime,
    longest: timedelta,
    uid: int | None = None,
) -> Revoked:
    """Revoke every certificate of an identity so far, known to the ledger or not, and end the tokens for it.

    `longest` as for `revoke_key`. Raises LedgerError.
    """
    living = tuple(
        each for each in transaction.leaves(id=identity, alive_at=now) if revoking(transaction, each) is None
    )
    until = max((each.not_after for each in living), default=now)
    cutoff = now.astimezone(UTC).replace(microsecond=0)  # certificates know whole seconds only
    transaction.append(_event(By.ID, identity, reason, now, uid, until=max(until, now + longest), cutoff=cutoff))
    tokens = tuple(each for each in transaction.every(Token) if each.id == identity and each.state is TokenState.OPEN)
    for token in tokens:
        transaction.append(
            events.TokenRevoke(at=now.astimezone(UTC), uid=uid, token=token.token, why="its identity was revoked")
        )
    return Revoked(living, tuple(each for each in tokens if each.used < each.uses and now <= each.expires))


def require_room(transaction: Transaction, *, now: datetime) -> None:
    """Raise RevocationError when the deny-list has become longer than everybody who reads it takes.

    To be asked last in the transaction of a revocation, which is then not recorded: one that reaches nobody, and that
    keeps all others from being heard, is worse than a sentence. LedgerError too.
    """
    if deny_list.weight(transaction, now=now) > deny_list.MOST_BYTES:
        raise RevocationError(
            "the deny-list has no room for more, and nothing was revoked; to take back so much at once, replace the "
            "intermediate that signed it: meshproxy ca rotate prepare --what intermediate, activate, taint the old "
            "one, and retire it with --force (docs/ca.md, Rotation: a key was stolen)"
        )


def revoked_leaves(view: View, *, alive_at: datetime) -> list[tuple[Issued, Revocation]]:
    """The leaves that have not expired by a moment and fall under a revocation, with that."""
    found = ((leaf, revoking(view, leaf)) for leaf in view.leaves(alive_at=alive_at))
    return [(leaf, revocation) for leaf, revocation in found if revocation is not None]


def _event(
    by: By,
    subject: str,
    reason: Reason,
    now: datetime,
    uid: int | None,
    *,
    until: datetime,
    issuer: str = "",
    cutoff: datetime | None = None,
) -> events.Revoke:
    return events.Revoke(
        at=now.astimezone(UTC),
        uid=uid,
        by=by,
        subject=subject,
        issuer=issuer,
        reason=reason,
        cutoff=cutoff,
        until=until.astimezone(UTC).replace(microsecond=0),
    )


def _has_signed(authority: AuthorityState, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(x509.load_der_x509_certificate(authority.certificate))
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
