"""Giving certificates to those who ask over the network: read, ask, act, record, in one transaction each.

No certificate leaves before its row is durable, and no token is consumed by a request that gets nothing. A caller that
dies in between has given nothing away: the same token with the same key, or the same leaf with the same new key, gets
the same certificate when it asks again.

LedgerError, and Rotated when the authorities were rotated since this one was opened, are for the caller to meet: open
the authority again and ask again, or answer that he should come back.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca import csr, enrollment, events, issuance, leaves, tokens
from ca.csr import CsrError
from ca.enrollment import Doubtful, Presented, Renewable, Renewed
from ca.issuance import IssuanceRefused
from ca.leaves import ByRenewal, ByToken
from ca.lifetime import LifetimeError
from ca.profiles import Names
from ca.refusals import Refused, Why
from ca.revocation import revoking
from ca.rows import Issued, Redemption, Token, TokenState
from ca.spiffe_id import SpiffeId
from ca.svid import read_certificate

if TYPE_CHECKING:
    from datetime import datetime

    from ca.authority import Authority
    from ca.csr import Csr
    from ca.ledger import Ledger, Transaction, View


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Somebody with a token, and a request for a certificate (DER)."""

    token: str  # its id, in hex
    secret: bytes = field(repr=False)
    csr: bytes
    peer: str  # the address that asks, for the record


@dataclass(frozen=True, slots=True)
class Renewal:
    """Somebody who has proved to hold the leaf (DER), and a request for the next (DER)."""

    leaf: bytes
    csr: bytes
    peer: str


@dataclass(frozen=True, slots=True)
class Granted:
    """A certificate that is in the ledger. `again`: it was given before, and the answer was probably lost."""

    issued: Issued
    certificate: x509.Certificate
    chain_pem: bytes  # leaf, then intermediate
    again: bool
    clamped_by: str | None = None


def enrol(authority: Authority, ledger: Ledger, attempt: Enrolment, *, now: datetime) -> Granted | Refused:
    """Use a token: certify the key of the request as what the token says. Raises LedgerError, Rotated."""
    with ledger.reading() as view:
        refused = tokens.refusal(view.get(Token, attempt.token), attempt.secret, now=now)
    if refused is not None:
        return _count_wrong_secret(authority, ledger, attempt, refused, now=now)
    try:
        request = csr.read(attempt.csr)
    except CsrError as error:
        return _bad_csr(str(error))
    with ledger.writing() as transaction:
        token = transaction.get(Token, attempt.token)
        refused = tokens.refusal(token, attempt.secret, now=now)  # it may have been revoked in between
        if refused is not None:
            return refused
        assert token is not None, "who has none was refused"
        decided = tokens.redeem(token, _uses(transaction, token), request.spki)
        if isinstance(decided, Refused):
            return decided
        if isinstance(decided, tokens.Again):
            return _again(transaction, decided.redemption.issuer, decided.redemption.serial)
        return _use(authority, transaction, token, request, number=decided.number, peer=attempt.peer, now=now)


def renew(authority: Authority, ledger: Ledger, attempt: Renewal, *, now: datetime) -> Granted | Refused:
    """Certify another key as what a leaf says, for whoever has proved to hold the leaf.

    That it is one of ours, and that it is held, is for whoever calls this to have seen to (mutual TLS; after its end, a
    signature by its key). Raises LedgerError, Rotated, and ValueError for a leaf that cannot be read.
    """
    shown = presented(attempt.leaf)
    try:
        request = csr.read(attempt.csr)
    except CsrError as error:
        return _bad_csr(str(error))
    with ledger.writing() as transaction:
        verdict = enrollment.judge(transaction, shown, request.spki)
        match verdict:
            case Renewable(previous):
                return _renew(authority, transaction, previous, request, peer=attempt.peer, now=now)
            case Renewed(successor):
                return _again(transaction, successor.issuer, successor.serial)
            case Doubtful(leaf, why, refusal):
                transaction.append(
                    events.Suspect(
                        at=now.astimezone(UTC),
                        lineage=leaf.lineage,
                        id=leaf.id,
                        issuer=leaf.issuer,
                        serial=leaf.serial,
                        why=why,
                        peer=attempt.peer,
                    )
                )
                return refusal
        return verdict


def report(ledger: Ledger, leaf: bytes, bundle_sequence: int) -> bool:
    """Note which roots the holder of a leaf (DER) says it has loaded; whether the leaf is known. Raises LedgerError.

    The activation of a root waits for this. A number beyond what was ever published is not believed.
    """
    shown = presented(leaf)
    with ledger.reading() as view:
        known = view.get(Issued, shown.issuer, shown.serial)
        if known is None or known.fingerprint != shown.fingerprint:
            return False
        if view.reported().get(known.lineage, 0) >= bundle_sequence:
            return True  # said before: nothing to write, and most reports are like this
    with ledger.writing() as transaction:
        transaction.report(known.lineage, min(bundle_sequence, leaves.published(transaction)))
    return True


def presented(leaf: bytes) -> Presented:
    """What the ledger knows a leaf (DER) by. Raises ValueError when it cannot be read."""
    certificate = read_certificate(leaf)
    try:
        issuer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except (x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise ValueError("a certificate that does not say who signed it") from error
    return Presented((issuer or b"").hex(), f"{certificate.serial_number:x}", hashlib.sha256(leaf).hexdigest())


def _uses(view: View, token: Token) -> list[Redemption]:
    found = (view.get(Redemption, token.token, number) for number in range(1, token.used + 1))
    return [each for each in found if each is not None]


def _use(
    authority: Authority,
    transaction: Transaction,
    token: Token,
    request: Csr,
    *,
    number: int,
    peer: str,
    now: datetime,
) -> Granted | Refused:
    """Certify, and only then consume: a request that gets nothing burns no token."""
    names = _names(token.id, token.dns, token.ips)
    ttl = None if token.leaf_ttl is None else timedelta(seconds=token.leaf_ttl)
    origin = ByToken(token.token, peer)
    made = _certify(authority, transaction, names, request, ttl=ttl, origin=origin, now=now)
    if isinstance(made, Granted):
        transaction.append(
            events.TokenUse(
                at=now.astimezone(UTC),
                token=token.token,
                use=number,
                spki=request.spki,
                issuer=made.issued.issuer,
                serial=made.issued.serial,
                peer=peer,
            )
        )
    return made


def _count_wrong_secret(
    authority: Authority, ledger: Ledger, attempt: Enrolment, refused: Refused, *, now: datetime
) -> Refused:
    """A wrong secret on a token that exists is counted, and locks it in the end; the answer stays the same."""
    if refused.why is not Why.WRONG_SECRET:
        return refused
    with ledger.writing() as transaction:
        token = transaction.get(Token, attempt.token)
        if token is None or token.state is not TokenState.OPEN:
            return refused
        if transaction.wrong_secret(attempt.token) >= authority.configuration.rates.wrong_secrets:
            transaction.append(events.TokenLock(at=now.astimezone(UTC), token=attempt.token, peer=attempt.peer))
            return Refused(refused.why, refused.text, alert=True)
    return refused


def _renew(
    authority: Authority, transaction: Transaction, previous: Issued, request: Csr, *, peer: str, now: datetime
) -> Granted | Refused:
    before = _event_of(transaction, previous)
    names = _names(before.id, before.dns, before.ips)
    configured = authority.configuration
    try:
        allowed = issuance.decide(configured.rules, configured.limits, configured.trust_domain, names, None)
    except IssuanceRefused as error:
        return Refused(Why.NOT_ALLOWED, str(error))
    if expired := enrollment.expiry_fault(previous, grace=allowed.renew_grace, now=now):
        return expired
    ttl = timedelta(seconds=before.ttl) if before.ttl else None
    origin = ByRenewal(previous, peer)
    return _certify(authority, transaction, names, request, ttl=ttl, origin=origin, now=now)


def _certify(
    authority: Authority,
    transaction: Transaction,
    names: Names,
    request: Csr,
    *,
    ttl: timedelta | None,
    origin: ByToken | ByRenewal,
    now: datetime,
) -> Granted | Refused:
    if fault := csr.fault(request, names, transaction):
        return _bad_csr(fault)
    try:
        made = leaves.certify(authority, transaction, names, request.key, ttl=ttl, fit=True, origin=origin, now=now)
    except IssuanceRefused as error:
        return Refused(Why.NOT_ALLOWED, str(error))
    except LifetimeError as error:
        return Refused(Why.CA_RUNNING_OUT, str(error), alert=True)
    serial = f"{made.certificate.serial_number:x}"
    issued = transaction.get(Issued, authority.key_id, serial)
    assert issued is not None, "it was recorded a moment ago"
    chain = _chain(made.certificate, authority.intermediate)
    return Granted(issued, made.certificate, chain, again=False, clamped_by=made.clamped_by)


def _again(view: View, issuer: str, serial: str) -> Granted | Refused:
    """The certificate of an earlier answer, with the intermediate that signed it then."""
    issued = view.get(Issued, issuer, serial)
    assert issued is not None, "a use or a lineage names it"
    if revoked := revoking(view, issued):
        return Refused(Why.REVOKED, f"what was granted was revoked at {revoked.at:%Y-%m-%dT%H:%M:%SZ}", alert=True)
    der = _event_of(view, issued).certificate
    assert der is not None, "whatever was granted over the network is kept whole"
    certificate = x509.load_der_x509_certificate(der)
    chain = _chain(certificate, leaves.signer_of(view, issued))
    return Granted(issued, certificate, chain, again=True)


def _event_of(view: View, issued: Issued) -> events.Certified:
    entry = view.entry(issued.seq)
    assert entry is not None, "the row came from it"
    assert isinstance(entry.event, events.Issue | events.Renew), "as above"
    return entry.event


def _names(identity: str, dns: tuple[str, ...], ips: tuple[str, ...]) -> Names:
    return Names(SpiffeId.parse(identity), dns, tuple(map(ip_address, ips)))


def _chain(*certificates: x509.Certificate) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def _bad_csr(fault: str) -> Refused:
    return Refused(Why.BAD_CSR, f"the certificate request is not answered: {fault}")
