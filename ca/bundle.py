"""The roots one trust domain is judged by, read from a `bundle.pem`.

Bundles of different trust domains are never merged (spiffe/spiffe, standards/SPIFFE_Federation.md 4.2): a root in the
wrong bundle could sign identities of a domain it has no say in, and OpenSSL would accept them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from ca.spiffe_id import SCHEME, SpiffeId
from ca.svid import read_chain

if TYPE_CHECKING:
    from ca.spiffe_id import TrustDomain


class BundleError(ValueError):
    """A bundle that cannot judge anybody; the text is a phrase saying what was found and what was expected."""


def read_bundle(pem: bytes, *, home: TrustDomain) -> tuple[x509.Certificate, ...]:
    """The roots in a PEM text, in file order, each once: the self-signed CA certificates of trust domain `home`.

    Certificates that are no roots (an intermediate someone appended) are left out: load what this returns, not the
    file, or OpenSSL may take them for anchors. Validity is not judged, it changes while a bundle is in use. Raises
    BundleError when there is no certificate, when none is a root, and when a root names another trust domain, or a
    SPIFFE ID with a path (X509-SVID 3.2: a signing certificate's ID has none).
    """
    try:
        certificates = read_chain(pem)
    except ValueError as error:
        raise BundleError(str(error)) from error
    roots = tuple(dict.fromkeys(each for each in certificates if is_root(each)))
    if not roots:
        raise BundleError(
            f"no root: none of the {len(certificates)} certificates is a self-signed CA"
            if len(certificates) > 1
            else "no root: the only certificate is not a self-signed CA"
        )
    for root in roots:
        require_home(root, home)
    return roots


def is_root(certificate: x509.Certificate) -> bool:
    """Whether the certificate is a self-signed CA, judged by its signature and not only by its names."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        certificate.verify_directly_issued_by(certificate)
    except (
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        InvalidSignature,
        UnsupportedAlgorithm,
        ValueError,
        TypeError,
    ):
        return False
    return constraints.ca


def require_home(root: x509.Certificate, home: TrustDomain) -> None:
    """Raise BundleError when a root says that it is of another trust domain than `home`, or that it is a service."""
    try:
        names = root.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return  # X509-SVID 3.2: a signing certificate SHOULD carry its trust domain, a corporate root may not
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
        if not uri.startswith(SCHEME):
            continue  # some other kind of URI says nothing about trust domains
        try:
            claimed = SpiffeId.parse(uri)
        except ValueError as error:
            raise BundleError(f"a root with an unusable identity: {error}") from error
        if claimed.trust_domain != home:
            raise BundleError(f"a root of trust domain {claimed.trust_domain}, expected only roots of {home}")
        if claimed.path:
            raise BundleError(f"a root that claims the identity {claimed}, expected {home.id} without a path")
