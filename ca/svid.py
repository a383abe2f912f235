"""Is this certificate a sound identity? Pure, and asked on every connection.

The TLS library has checked the chain to a root; it has not checked what makes a certificate an X509-SVID
(spiffe/spiffe, standards/X509-SVID.md): OpenSSL accepts two URI SANs, a missing keyUsage and a missing extended key
usage. `judge_leaf` does, on both ends of every connection, resumed or not. `chain_fault` re-checks a chain where no
TLS library stands in front: files under judgement, and `inspect`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

from ca.spiffe_id import SpiffeId, TrustDomain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

_CLAIM_LIMIT: Final = 300  # characters of a hostile certificate that may reach a log line
_REMEMBERED_BYTES: Final = 8192  # larger leaves are judged too, but not kept
# What cryptography raises for DER it cannot read: ValueError mostly, and these of its own, which are none.
UNREADABLE: Final = (
    ValueError,
    TypeError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)


class LeafFault(StrEnum):
    """Why a leaf is not a sound identity; the values are metric labels and log words."""

    MALFORMED = "malformed"
    NO_URI = "no_uri"
    SEVERAL_URIS = "several_uris"
    BAD_ID = "bad_id"
    ROOT_PATH = "root_path"
    IS_CA = "is_ca"
    KEY_USAGE = "key_usage"
    EXTENDED_KEY_USAGE = "extended_key_usage"
    FOREIGN_TRUST_DOMAIN = "foreign_trust_domain"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    REVOKED = "revoked"  # the deny-list says so: it is asked after the leaf was found sound


class LeafError(ValueError):
    """A leaf that is not a sound identity of our trust domain.

    `fault` is the rule it breaks, `detail` says how in a sentence without a full stop. `claimed` is the identity as
    the certificate claims it, as far as it can be read, at most 300 characters: it is hostile text, escape it.
    """

    def __init__(self, fault: LeafFault, detail: str, *, claimed: str = "") -> None:
        self.fault = fault
        self.detail = detail
        self.claimed = claimed[:_CLAIM_LIMIT]
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A judged leaf. `fingerprint` is the SHA-256 of its DER in lower-case hex; both times are aware and UTC."""

    id: SpiffeId
    serial: int
    fingerprint: str
    not_before: datetime
    not_after: datetime


def judge_leaf(der: bytes, *, home: TrustDomain, now: datetime) -> Leaf:
    """Judge a peer's (or our own) leaf certificate, given as DER, at the aware time `now`.

    Returns it as a `Leaf` of trust domain `home`. Raises LeafError with the first rule it breaks: X509-SVID section 5
    (leaf validation), sections 2 to 4 (one URI SAN, a path, key usages), RFC 5280 4.1.2.5 (both ends of the validity
    are inclusive), and the trust domain. The chain is not judged here.
    """
    leaf = _remembered_leaf(der) if len(der) <= _REMEMBERED_BYTES else read_leaf(der)
    if leaf.id.trust_domain != home:
        raise LeafError(
            LeafFault.FOREIGN_TRUST_DOMAIN,
            f"its trust domain is {leaf.id.trust_domain}, ours is {home}",
            claimed=str(leaf.id),
        )
    if now < leaf.not_before:
        raise LeafError(
            LeafFault.NOT_YET_VALID, f"it is valid only from {leaf.not_before:%Y-%m-%dT%H:%M:%SZ}", claimed=str(leaf.id)
        )
    if now > leaf.not_after:
        raise LeafError(LeafFault.EXPIRED, f"it expired at {leaf.not_after:%Y-%m-%dT%H:%M:%SZ}", claimed=str(leaf.id))
    return leaf


def read_leaf(der: bytes) -> Leaf:
    """Read a leaf and judge what depends on neither the time nor on who asks; raises LeafError.

    `judge_leaf` is for peers; this is for a certificate that tells us our own trust domain.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        found = {type(extension.value): extension.value for extension in certificate.extensions}
        not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        serial = certificate.serial_number
    except UNREADABLE as error:
        raise LeafError(LeafFault.MALFORMED, f"it cannot be read: {_one_line(error)}") from error

    identity = _identity(certificate, found.get(x509.SubjectAlternativeName))
    claimed = str(identity)
    constraints = found.get(x509.BasicConstraints)
    if isinstance(constraints, x509.BasicConstraints) and constraints.ca:
        raise LeafError(LeafFault.IS_CA, "it is a CA certificate (basicConstraints CA:TRUE)", claimed=claimed)
    if fault := _key_usage_fault(found.get(x509.KeyUsage)):
        raise LeafError(LeafFault.KEY_USAGE, fault, claimed=claimed)
    if fault := _extended_key_usage_fault(found.get(x509.ExtendedKeyUsage)):
        raise LeafError(LeafFault.EXTENDED_KEY_USAGE, fault, claimed=claimed)
    return Leaf(identity, serial, hashlib.sha256(der).hexdigest(), not_before, not_after)


# What a certificate says never changes, so the same DER is read once; only domain and time are judged each time.
# Reading takes about 35 us, remembering less than 1 us. Faulty leaves raise and are never kept; 512 leaves of at most
# 8 KiB bound the memory a hostile but certified peer could claim here.
_remembered_leaf = lru_cache(maxsize=512)(read_leaf)


def _identity(certificate: x509.Certificate, san: x509.ExtensionType | None) -> SpiffeId:
    """The one SPIFFE ID; any second URI SAN refuses, SPIFFE or not, even if equal (X509-SVID 2 and 5)."""
    names = list(san) if isinstance(san, x509.SubjectAlternativeName) else []
    uris = [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)]
    if not uris:
        raise LeafError(LeafFault.NO_URI, "it has no URI SAN, so no SPIFFE ID", claimed=_subject(certificate))
    if len(uris) > 1:
        raise LeafError(
            LeafFault.SEVERAL_URIS, f"it has {len(uris)} URI SANs, exactly one is allowed", claimed=" ".join(uris[:8])
        )
    try:
        identity = SpiffeId.parse(uris[0])
    except ValueError as error:
        raise LeafError(LeafFault.BAD_ID, str(error), claimed=uris[0]) from None
    if not identity.path:
        raise LeafError(LeafFault.ROOT_PATH, "its SPIFFE ID has no path, which only a CA's may lack", claimed=uris[0])
    return identity


def _subject(certificate: x509.Certificate) -> str:
    try:
        return certificate.subject.rfc4514_string()
    except ValueError:  # parsed only now, and it may be the malformed part
        return ""


def _key_usage_fault(usage: x509.ExtensionType | None) -> str | None:
    """X509-SVID 4.3: present, digitalSignature, and neither of the CA's bits."""
    if not isinstance(usage, x509.KeyUsage):
        return "it has no keyUsage"
    if not usage.digital_signature:
        return "its keyUsage lacks digitalSignature"
    if usage.key_cert_sign or usage.crl_sign:
        return "its keyUsage has keyCertSign or cRLSign, which only a CA may hold"
    return None


def _extended_key_usage_fault(usage: x509.ExtensionType | None) -> str | None:
    """X509-SVID 4.4 makes the extension a SHOULD; we require it, since each leaf is a server and a client."""
    if not isinstance(usage, x509.ExtendedKeyUsage):
        return "it has no extended key usage (serverAuth and clientAuth are needed)"
    if ExtendedKeyUsageOID.SERVER_AUTH not in usage:
        return "its extended key usage lacks serverAuth"
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        return "its extended key usage lacks clientAuth"
    return None


def read_chain(pem: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM text in file order, which in a `chain.pem` is leaf first; other blocks are skipped.

    Raises ValueError with a phrase when there is no certificate or one of them cannot be read.
    """
    if b"-----BEGIN CERTIFICATE-----" not in pem:
        raise ValueError("no certificate (no PEM block BEGIN CERTIFICATE)")
    try:
        return tuple(map(_with_readable_names, x509.load_pem_x509_certificates(pem)))
    except UNREADABLE as error:
        raise ValueError(f"a certificate that cannot be read ({_one_line(error)})") from error


def read_certificate(der: bytes) -> x509.Certificate:
    """One certificate from DER, as an endpoint presents it. Raises ValueError with a phrase when it cannot be read."""
    try:
        return _with_readable_names(x509.load_der_x509_certificate(der))
    except UNREADABLE as error:
        raise ValueError(f"a certificate that cannot be read ({_one_line(error)})") from error


def _with_readable_names(certificate: x509.Certificate) -> x509.Certificate:
    """The certificate, after touching what the library parses only when asked: no later reader meets a fault."""
    _ = certificate.subject, certificate.issuer, certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return certificate


def chain_fault(chain: Sequence[x509.Certificate], roots: Iterable[x509.Certificate], now: datetime) -> str | None:
    """Why `chain` (leaf first) does not lead up to one of `roots` at `now`, as a phrase; None when it does.

    RFC 5280 section 6 as far as a mesh needs it: each certificate signed by the next and the last by a root, each
    issuer a CA allowed to sign at that depth, all within their validity. The leaf's own rules are `judge_leaf`'s.
    """
    anchors = tuple(roots)
    fault = signature_fault(chain, anchors)
    if fault is not None:
        return fault
    return next((fault for each in trust_path(chain, anchors) if (fault := time_fault(each, now))), None)


def signature_fault(chain: Sequence[x509.Certificate], roots: Iterable[x509.Certificate]) -> str | None:
    """`chain_fault` without the times: whether the signatures lead up to one of `roots`."""
    if not chain:
        return "the chain is empty"
    anchors = tuple(roots)
    path = trust_path(chain, anchors)
    top = path[-1]
    if top not in anchors:
        namesake = next((each for each in (*anchors, *chain) if each != top and each.subject == top.issuer), None)
        if namesake is not None:
            return f"{_name(top)} names {_name(namesake)} as its issuer, but is not signed by it (a foreign CA?)"
        return f"nothing in chain or bundle is the {top.issuer.rfc4514_string()!a} that signed {_name(top)}"
    faults = (_issuer_fault(issuer, depth=depth) for depth, issuer in enumerate(path[1:]))
    return next(filter(None, faults), None)


def trust_path(chain: Sequence[x509.Certificate], roots: Iterable[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """The way from the leaf (first in `chain`) up to one of `roots`, or as far up as signatures lead.

    Found as a TLS library finds it: by names and signatures, so that the order of the certificates above the leaf, a
    repeated or a needless one do not matter.
    """
    anchors = tuple(roots)
    path = [chain[0]]
    while path[-1] not in anchors:
        candidates = (each for each in (*anchors, *chain[1:]) if each not in path)
        signer = next((each for each in candidates if _is_signed(path[-1], each)), None)
        if signer is None:
            break
        path.append(signer)
    return tuple(path)


def stand_in(chain: Sequence[x509.Certificate], roots: Iterable[x509.Certificate]) -> x509.Certificate | None:
    """The intermediate that signed the leaf, if a verifier may take it for an anchor and not look above it again.

    It may when nothing above says anything about leaves that the intermediate and one look at this very chain do not
    say: no name constraints (RFC 5280 4.2.1.10), and a path length of zero (4.2.1.9), so that every leaf below stands
    as deep as this one. Validity is not judged: whoever relies on it watches the whole chain's.
    """
    anchors = tuple(roots)
    path = trust_path(chain, anchors)
    if path[-1] not in anchors:
        return None
    issuer, above = path[1:2], path[2:]
    try:
        if not above or issuer[0].extensions.get_extension_for_class(x509.BasicConstraints).value.path_length != 0:
            return None
        named = any(isinstance(each.value, x509.NameConstraints) for higher in above for each in higher.extensions)
    except (*UNREADABLE, x509.ExtensionNotFound):
        return None
    return None if named else issuer[0]


def _is_signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*UNREADABLE, InvalidSignature):  # another name, a key of another kind, another signature
        return False
    return True


def _issuer_fault(issuer: x509.Certificate, *, depth: int) -> str | None:
    """RFC 5280 4.2.1.9 and 4.2.1.3: a CA, allowed `depth` intermediates below itself, holding keyCertSign."""
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (*UNREADABLE, x509.ExtensionNotFound):
        return f"{_name(issuer)} is not a CA"
    if not constraints.ca:
        return f"{_name(issuer)} is not a CA"
    if constraints.path_length is not None and depth > constraints.path_length:
        return f"{_name(issuer)} allows {constraints.path_length} intermediates below it, the chain has {depth}"
    try:
        may_sign = issuer.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return None
    return None if may_sign else f"{_name(issuer)} may not sign certificates (keyUsage lacks keyCertSign)"


def time_fault(certificate: x509.Certificate, now: datetime) -> str | None:
    """Why a certificate is not valid at `now`, as a phrase; None when it is (RFC 5280 4.1.2.5, both ends inclusive)."""
    if now < certificate.not_valid_before_utc:
        return f"{_name(certificate)} is valid only from {certificate.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}"
    if now > certificate.not_valid_after_utc:
        return f"{_name(certificate)} expired at {certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
    return None


def _name(certificate: x509.Certificate) -> str:
    subject = _subject(certificate)
    return ascii(subject[:_CLAIM_LIMIT]) if subject else f"the leaf {certificate.serial_number:x}"


def _one_line(error: Exception) -> str:
    return ascii(str(error).split("\n", 1)[0][:_CLAIM_LIMIT])
