"""What goes into a root, an intermediate and a leaf: X509-SVID (spiffe/spiffe, standards/X509-SVID.md) in one table.

Builders only: nothing is signed here, so what a certificate will say can be tested without a key of the CA.
Everything carries SKI and AKI (key id only: issuer and serial would tie it to one certificate of the issuer and block
cross-signing) and critical basicConstraints, as OpenSSL's X509_STRICT, Python 3.13's default, demands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

    from ca.lifetime import Validity
    from ca.spiffe_id import SpiffeId, TrustDomain

# What a leaf may certify; a CA of ours is always P-256.
LeafKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

# A CN holds at most 64 characters (RFC 5280 upper bounds); the longest addition is " intermediate 0123abcd".
_CA_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,38}[A-Za-z0-9])?")
_DNS_NAME: Final = re.compile(
    # A last label of digits alone is an address in disguise, which belongs into an IP SAN.
    r"(?=.{1,253}\Z)(?!(?:.*\.)?[0-9]+\Z)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*"
)


@dataclass(frozen=True, slots=True)
class Names:
    """What a leaf is called: its SPIFFE ID, and DNS names and addresses for peers that know no SPIFFE.

    Constructing it checks each DNS name (lower-case letters, digits and hyphens; no wildcard) and that the ID has a
    path (X509-SVID 3.1); ValueError with a sentence otherwise.
    """

    id: SpiffeId
    dns: tuple[str, ...] = ()
    ips: tuple[IPv4Address | IPv6Address, ...] = ()

    def __post_init__(self) -> None:
        if not self.id.path:
            raise ValueError(f"{self.id} names the trust domain itself; a service needs a path, such as {self.id}/web")
        for name in self.dns:
            if fault := dns_name_fault(name):
                raise ValueError(fault)


def dns_name_fault(name: str) -> str | None:
    """Why `name` cannot be a DNS name in a leaf, as a sentence, or None when it can."""
    if _DNS_NAME.fullmatch(name):
        return None
    return (
        f"{name[:80]!a} is not a DNS name to certify: expected lower-case letters, digits, hyphens and dots, no "
        "wildcard, no address, as in ledger.internal"
    )


def ca_name_fault(name: str) -> str | None:
    """Why `name` cannot be the beginning of a CA's subject, as a sentence, or None when it can."""
    if _CA_NAME.fullmatch(name):
        return None
    return f"{name[:80]!a} is not a name for a CA: expected 1 to 40 letters, digits, spaces, dots, hyphens"


def short_key_id(key: ec.EllipticCurvePublicKey) -> str:
    """The first 8 hex digits of a key's identifier (RFC 5280 4.2.1.2 (1)), enough to tell generations apart."""
    return x509.SubjectKeyIdentifier.from_public_key(key).digest.hex()[:8]


def key_id(authority: x509.Certificate) -> str:
    """The subject key identifier of a CA, in hex: what its leaves and its CRLs call it. ValueError when it has none."""
    try:
        return authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()
    except x509.ExtensionNotFound:
        raise ValueError("a CA certificate without a subject key identifier (RFC 5280 4.2.1.2)") from None


def root(
    name: str, trust_domain: TrustDomain, key: ec.EllipticCurvePublicKey, *, serial: int, validity: Validity
) -> x509.CertificateBuilder:
    """A self-signed root: pathLen 1, one intermediate below it. Its subject ends in its own short key id."""
    subject = _common_name(f"{name} root {short_key_id(key)}")
    return (
        _ca(trust_domain, key, subject=subject, issuer=subject, path_length=1)
        .serial_number(serial)
        .not_valid_before(validity.not_before)
        .not_valid_after(validity.not_after)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key), critical=False)
    )


def intermediate(
    name: str,
    trust_domain: TrustDomain,
    key: ec.EllipticCurvePublicKey,
    *,
    issuer: x509.Certificate,
    serial: int,
    validity: Validity,
) -> x509.CertificateBuilder:
    """An intermediate below `issuer`: pathLen 0, so it signs leaves only."""
    subject = _common_name(f"{name} intermediate {short_key_id(key)}")
    return (
        _ca(trust_domain, key, subject=subject, issuer=issuer.subject, path_length=0)
        .serial_number(serial)
        .not_valid_before(validity.not_before)
        .not_valid_after(validity.not_after)
        .add_extension(_authority_key_id(issuer), critical=False)
    )


def leaf(
    names: Names, key: LeafKey, *, issuer: x509.Certificate, serial: int, validity: Validity
) -> x509.CertificateBuilder:
    """An X509-SVID for `names` (X509-SVID 2 to 4): a server and a client, never a CA.

    The subject is empty, therefore the SAN is critical (RFC 5280 4.1.2.6), and digitalSignature is the only key usage:
    TLS 1.3 needs no other.
    """
    san = x509.SubjectAlternativeName(
        [
            x509.UniformResourceIdentifier(str(names.id)),
            *map(x509.DNSName, names.dns),
            *map(x509.IPAddress, names.ips),
        ]
    )
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(validity.not_before)
        .not_valid_after(validity.not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(digital_signature=True), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(san, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(_authority_key_id(issuer), critical=False)
    )


def _ca(
    trust_domain: TrustDomain,
    key: ec.EllipticCurvePublicKey,
    *,
    subject: x509.Name,
    issuer: x509.Name,
    path_length: int,
) -> x509.CertificateBuilder:
    """What both CAs share. No EKU: libraries disagree on what one means in a CA (X509-SVID 4.4)."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        # X509-SVID 3.2: a signing certificate's own ID is the trust domain's, without a path.
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(trust_domain.id)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def key_usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    """A KeyUsage of these bits and no other; the library wants all nine named."""
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key_id(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    ski = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski)


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
