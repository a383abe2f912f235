"""What a certificate is, for a person: who it names, who signed it, how long it lasts, and all that is wrong with it.

`inspect_identity` judges a leaf and its chain, `inspect_authorities` the certificates of a CA. The shell reads files or
asks an endpoint and hands over what it found; here it becomes one frozen report, the same for eyes and for JSON.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from ca.bundle import is_root
from ca.lifetime import in_words
from ca.svid import LeafError, read_leaf, signature_fault, time_fault, trust_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from ca.spiffe_id import TrustDomain

_LEAF_RENEWAL: Final = 0.5  # of its life: a mesh renews at half, so less left means nobody renews it
_CA_NOTICE: Final = timedelta(days=60)  # what `linkerd check` warns at
_CA_NOTICE_SHARE: Final = 1 / 6  # of a CA's life, when that is shorter: the last sixth signs clamped leaves


class Weight(StrEnum):
    """How much a finding matters: `wrong` is refused somewhere, `warning` will be, or is unwise."""

    WRONG = "wrong"
    WARNING = "warning"


class Verdict(StrEnum):
    """The report in one word."""

    FINE = "fine"
    WARNED = "fine, with warnings"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong or worth a warning: a sentence without a full stop. It may quote escaped hostile text."""

    weight: Weight
    text: str


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What one certificate says. Times are UTC; `left` is in words, `used` the fraction of its life that has passed."""

    subject: str
    issuer: str
    serial: str
    sha256: str
    key: str
    not_before: datetime
    not_after: datetime
    left: str
    used: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a shell found out. `roots` None: no bundle to judge trust by; `key_matches` None: there was no key to try.

    `home` is the trust domain to expect, None for whatever the leaf claims. `findings` are the shell's own (file
    modes, what an endpoint did).
    """

    chain: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...] | None = None
    home: TrustDomain | None = None
    key_matches: bool | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """The whole answer. `id` is None when no sound SPIFFE ID could be read; `claimed` is then the hostile text, raw.

    `trusted` is None when there was no bundle. `leaf` is None in a report on authorities. `authorities` are the CAs
    above the leaf, nearest first.
    """

    id: str | None
    claimed: str
    dns: tuple[str, ...]
    ips: tuple[str, ...]
    leaf: CertificateFacts | None
    authorities: tuple[CertificateFacts, ...]
    trusted: bool | None
    key_matches: bool | None
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """Wrong if anything is, else warned if anything is, else fine."""
        weights = {finding.weight for finding in self.findings}
        if Weight.WRONG in weights:
            return Verdict.WRONG
        return Verdict.WARNED if weights else Verdict.FINE


def inspect_identity(evidence: Evidence, *, now: datetime) -> Report:
    """Judge a leaf and its chain (leaf first, not empty) at the aware time `now`, finding all, not the first.

    X509-SVID and the trust domain by `read_leaf`, signatures by `signature_fault` against the bundle if there is one,
    each certificate's times, the key, and what is unwise: an old leaf, a CA about to end, a leaf outliving its issuer.
    """
    leaf = evidence.chain[0]
    identity, claimed, leaf_findings = _judged(leaf, evidence.home, now)
    path = evidence.chain if evidence.roots is None else trust_path(evidence.chain, evidence.roots)
    untrusted = None if evidence.roots is None else signature_fault(evidence.chain, evidence.roots)
    dns, ips = _other_names(leaf)
    findings = [*evidence.findings, *leaf_findings]
    if untrusted is not None:
        findings.append(Finding(Weight.WRONG, f"it is not trusted: {untrusted}"))
    if evidence.key_matches is False:
        findings.append(Finding(Weight.WRONG, "the private key beside it belongs to another certificate"))
    findings += _leaf_warnings(leaf, path, now)
    for authority in path[1:]:
        findings += _authority_findings(authority, now)
    return Report(
        id=identity,
        claimed=claimed,
        dns=dns,
        ips=ips,
        leaf=_facts(leaf, now),
        authorities=tuple(_facts(each, now) for each in path[1:]),
        trusted=None if evidence.roots is None else untrusted is None,
        key_matches=evidence.key_matches,
        findings=tuple(findings),
    )


def inspect_authorities(
    certificates: Sequence[x509.Certificate], *, now: datetime, findings: tuple[Finding, ...] = ()
) -> Report:
    """Judge the certificates of a CA (a root, an intermediate, a bundle): times, signatures, whose trust domain."""
    claims = {claim for each in certificates for claim in _uris(each)}
    found = [*findings]
    if len(claims) > 1:
        listed = ", ".join(ascii(claim[:300]) for claim in sorted(claims))
        found.append(Finding(Weight.WRONG, f"certificates of several trust domains in one bundle: {listed}"))
    roots = tuple(each for each in certificates if is_root(each))
    for each in certificates:
        if roots and (fault := signature_fault((each, *certificates), roots)):
            found.append(Finding(Weight.WRONG, fault))
        found += _authority_findings(each, now)
    return Report(
        id=next(iter(claims)) if len(claims) == 1 else None,
        claimed=" ".join(sorted(claims))[:300],
        dns=(),
        ips=(),
        leaf=None,
        authorities=tuple(_facts(each, now) for each in certificates),
        trusted=None,
        key_matches=None,
        findings=tuple(found),
    )


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether a certificate calls itself a CA; unreadable extensions count as not."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False


def _judged(leaf: x509.Certificate, home: TrustDomain | None, now: datetime) -> tuple[str | None, str, list[Finding]]:
    """The identity or None, the text it claims, and what is wrong with the leaf itself."""
    findings: list[Finding] = []
    identity: str | None = None
    try:
        sound = read_leaf(leaf.public_bytes(Encoding.DER))
    except LeafError as error:
        claimed = error.claimed
        findings.append(Finding(Weight.WRONG, error.detail))
    else:
        identity = claimed = str(sound.id)
        if home is not None and sound.id.trust_domain != home:
            findings.append(Finding(Weight.WRONG, f"its trust domain is {sound.id.trust_domain}, expected {home}"))
    if fault := time_fault(leaf, now):
        findings.append(Finding(Weight.WRONG, fault))
    return identity, claimed, findings


def _leaf_warnings(leaf: x509.Certificate, path: Sequence[x509.Certificate], now: datetime) -> Iterator[Finding]:
    used = _used(leaf, now)
    if _LEAF_RENEWAL < used <= 1:
        left = in_words(leaf.not_valid_after_utc - now)
        yield Finding(Weight.WARNING, f"{used:.0%} of its life has passed, renewal is due at half; {left} left")
    first = min(path[1:], key=lambda each: each.not_valid_after_utc, default=leaf)
    if leaf.not_valid_after_utc > first.not_valid_after_utc:
        yield Finding(Weight.WARNING, f"it outlives {_title(first)}, and stops being trusted when that one ends")
    if _is_critical(leaf, x509.KeyUsage) is False:
        yield Finding(Weight.WARNING, "its keyUsage is not critical (X509-SVID 4.3 demands it)")
    if _is_critical(leaf, x509.SubjectAlternativeName) is False and not list(leaf.subject):
        yield Finding(Weight.WARNING, "its subject is empty but its SAN is not critical: strict peers refuse it")
    yield from _key_warnings(leaf, "its key")


def _authority_findings(authority: x509.Certificate, now: datetime) -> Iterator[Finding]:
    if fault := time_fault(authority, now):
        yield Finding(Weight.WRONG, fault)
    else:
        life = authority.not_valid_after_utc - authority.not_valid_before_utc
        left = authority.not_valid_after_utc - now
        if left < min(_CA_NOTICE, life * _CA_NOTICE_SHARE):
            yield Finding(Weight.WARNING, f"{_title(authority)} expires in {in_words(left)}; replace the CA in time")
    yield from _key_warnings(authority, f"the key of {_title(authority)}")


def _key_warnings(certificate: x509.Certificate, whose: str) -> Iterator[Finding]:
    """NIST SP 800-57 part 1, table 2: keys of less than 112 bits of strength are acceptable nowhere."""
    key = _public_key(certificate)
    if isinstance(key, rsa.RSAPublicKey | dsa.DSAPublicKey) and key.key_size < 2048:
        yield Finding(Weight.WARNING, f"{whose} is too weak: {_key_words(key)}")


def _is_critical(certificate: x509.Certificate, kind: type[x509.ExtensionType]) -> bool | None:
    """Whether the certificate's extension of this kind is marked critical; None when it has none (or is unreadable)."""
    try:
        return certificate.extensions.get_extension_for_class(kind).critical
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return None


def _facts(certificate: x509.Certificate, now: datetime) -> CertificateFacts:
    left = certificate.not_valid_after_utc - now
    return CertificateFacts(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        serial=f"{certificate.serial_number:x}",
        sha256=hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest(),
        key=_key_words(_public_key(certificate)),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        left=f"{in_words(left)} left" if left >= timedelta(0) else f"expired {in_words(left)} ago",
        used=round(_used(certificate, now), 4),
    )


def _used(certificate: x509.Certificate, now: datetime) -> float:
    """The fraction of its life that has passed; below 0 before it begins, above 1 after its end."""
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return (now - certificate.not_valid_before_utc) / life if life else 1.0


def _title(authority: x509.Certificate) -> str:
    kind = "root" if is_root(authority) else "intermediate"
    return f"the {kind} CA {authority.subject.rfc4514_string()[:300]!a}"


def _names(certificate: x509.Certificate) -> tuple[x509.GeneralName, ...]:
    try:
        return tuple(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return ()


def _uris(certificate: x509.Certificate) -> tuple[str, ...]:
    return tuple(name.value for name in _names(certificate) if isinstance(name, x509.UniformResourceIdentifier))


def _other_names(leaf: x509.Certificate) -> tuple[tuple[str, ...], tuple[str, ...]]:
    names = _names(leaf)
    return (
        tuple(name.value for name in names if isinstance(name, x509.DNSName)),
        tuple(str(name.value) for name in names if isinstance(name, x509.IPAddress)),
    )


def _public_key(certificate: x509.Certificate) -> object:
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None


def _key_words(key: object) -> str:
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "P-256" if key.curve.name == "secp256r1" else key.curve.name
    if isinstance(key, rsa.RSAPublicKey | dsa.DSAPublicKey):
        return f"{'RSA' if isinstance(key, rsa.RSAPublicKey) else 'DSA'} {key.key_size} bits"
    return "unreadable" if key is None else type(key).__name__.removesuffix("PublicKey")
