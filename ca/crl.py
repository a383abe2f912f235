"""Certificate revocation lists (RFC 5280 section 5), for those who know no deny-list: nginx, databases, auditors.

Our own TLS never loads them: a CRL that is missing or late stops every handshake of whoever demands one. There is one
for each intermediate that is still believed, all in one PEM file.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from ca.profiles import key_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ca.events import Reason
    from ca.rows import Issued, Revocation
    from ca.signed import Signer

LIFE: Final = timedelta(hours=24)
_RENEWED: Final = 2 / 3  # of its life: then another is made
_END: Final = b"-----END X509 CRL-----"


@dataclass(frozen=True, slots=True)
class Line:
    """One revoked certificate: its issuer's key id, its serial, when and why."""

    issuer: str
    serial: int
    at: datetime
    reason: Reason


def lines(revoked: Iterable[tuple[Issued, Revocation]]) -> tuple[Line, ...]:
    """What CRLs say about these leaves; a CRL knows serials only."""
    found = (
        Line(leaf.issuer, int(leaf.serial, 16), why.at.replace(microsecond=0), why.reason) for leaf, why in revoked
    )
    return tuple(sorted(found, key=lambda line: (line.issuer, line.serial)))


def build(said: Iterable[Line], signer: Signer, *, number: int, now: datetime) -> bytes:
    """The CRL of one intermediate as PEM, good for a day."""
    own, issuer = list(said), key_id(signer.certificate)
    identifier = signer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(signer.certificate.subject)
        .last_update(now)
        .next_update(now + LIFE)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    for line in own:
        if line.issuer != issuer:
            continue
        entry = x509.RevokedCertificateBuilder().serial_number(line.serial).revocation_date(line.at)
        if line.reason.value != "unspecified":  # RFC 5280 5.3.1: then the reason should be left out
            entry = entry.add_extension(x509.CRLReason(x509.ReasonFlags(line.reason.value)), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(signer.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def is_current(pem: bytes, said: Sequence[Line], signers: Sequence[Signer], *, now: datetime) -> bool:
    """Whether a file of CRLs still says what is to be said, for each of these intermediates, and long enough."""
    try:
        found = _read(pem)
    except ValueError:
        return False
    if len(found) != len(signers):
        return False
    for crl, signer in zip(found, signers, strict=True):
        ends = crl.next_update_utc
        issuer = key_id(signer.certificate)
        expected = {line.serial for line in said if line.issuer == issuer}
        if ends is None or now >= crl.last_update_utc + (ends - crl.last_update_utc) * _RENEWED:
            return False
        if {each.serial_number for each in crl} != expected or not crl.is_signature_valid(signer.key.public_key()):
            return False
    return True


def ends(pem: bytes) -> datetime:
    """When the first CRL of a file stops being good; the beginning of time for a file that holds none."""
    try:
        found = [each.next_update_utc for each in _read(pem)]
    except ValueError:
        found = []
    return min((each for each in found if each is not None), default=datetime.min.replace(tzinfo=UTC))


def _read(pem: bytes) -> list[x509.CertificateRevocationList]:
    return [x509.load_pem_x509_crl(each + _END) for each in pem.split(_END)[:-1]]
