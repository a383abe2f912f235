"""Other trust domains: the roots that speak for them, each for its own domain and no other.

A partner's root must be known to OpenSSL beside ours, so OpenSSL alone would believe it about our own names as well
(spiffe/spiffe, standards/SPIFFE_Federation.md 4.2). Whoever judges a peer asks `Anchors` for whom the root above it
may speak.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca import TrustDomain, spiffe_bundle
from ca.bundle import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cryptography import x509

MOST_DOMAINS: Final = 64
_MOST_ROOTS: Final = 16  # of one domain; two or three in a rotation
_NAME_SHOWN: Final = 80


@dataclass(frozen=True, slots=True)
class Federation:
    """The roots of the trust domains beside our own; none of a domain: nobody of it is believed."""

    roots: Mapping[TrustDomain, tuple[x509.Certificate, ...]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Federation with {', '.join(map(str, self.roots)) or 'nobody'}>"

    @property
    def pem(self) -> bytes:
        """All of them, for OpenSSL."""
        return b"".join(root.public_bytes(Encoding.PEM) for roots in self.roots.values() for root in roots)


@dataclass(frozen=True, slots=True)
class Anchors:
    """For which trust domain an anchor (DER) speaks. `others` is empty without federation: then all are `home`'s."""

    home: TrustDomain
    others: Mapping[bytes, TrustDomain] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, home: TrustDomain, own: Iterable[x509.Certificate], federation: Federation) -> Anchors:
        """`own` are the roots of `home`, and the intermediate that may stand in for one."""
        if not any(federation.roots.values()):
            return cls(home)
        domains = {_der(root): domain for domain, roots in federation.roots.items() for root in roots}
        return cls(home, domains | {_der(each): home for each in own})


def read_federation(
    bundles: Mapping[str, str], *, home: TrustDomain, own: Iterable[x509.Certificate], before: Federation
) -> tuple[Federation, tuple[str, ...]]:
    """Read the bundles (SPIFFE JWK Sets by trust domain); also returns what is wrong with some, in sentences.

    A bundle that cannot be read leaves its domain with what it had `before`. Where two domains claim the same key
    neither has it, for nobody could say for whom it speaks; a domain that claims one of our `own` is left out.
    """
    if len(bundles) > MOST_DOMAINS:
        return before, (
            f"there are bundles of {len(bundles)} trust domains, at most {MOST_DOMAINS} are federated with",
        )
    faults: list[str] = []
    found: dict[TrustDomain, tuple[x509.Certificate, ...]] = {}
    for name, text in bundles.items():
        shown = ascii(name[:_NAME_SHOWN])
        try:
            domain = TrustDomain.parse(name)
        except ValueError as error:
            faults.append(f"a bundle of {shown}, which is no trust domain: {error}")
            continue
        if domain == home:
            faults.append(f"a federated bundle of {home}, our own trust domain: its roots are in bundle.pem only")
            continue
        try:
            found[domain] = _roots_of(text, domain)
        except BundleError as error:
            kept = domain in before.roots
            faults.append(f"the bundle of {domain}: {error}" + ("; the last good one is kept" if kept else ""))
            if kept:
                found[domain] = before.roots[domain]
    disputed = _disputed(found, own)
    for domain in [each for each, roots in found.items() if any(_key(root) in disputed for root in roots)]:
        del found[domain]
        faults.append(f"the bundle of {domain} has a root that another trust domain has as well: {domain} is refused")
    return Federation(found), tuple(faults)


def _roots_of(text: str, domain: TrustDomain) -> tuple[x509.Certificate, ...]:
    roots = spiffe_bundle.read(text.encode(), home=domain).roots
    if len(roots) > _MOST_ROOTS:
        raise BundleError(f"it has {len(roots)} roots, expected at most {_MOST_ROOTS}")
    return roots


def _disputed(
    found: Mapping[TrustDomain, tuple[x509.Certificate, ...]], own: Iterable[x509.Certificate]
) -> frozenset[bytes]:
    """The keys that more than one domain has. By key: another certificate for the same key signs the same leaves."""
    of_each = ({_key(root) for root in roots} for roots in (tuple(own), *found.values()))
    return frozenset(key for key, domains in Counter(chain.from_iterable(of_each)).items() if domains > 1)


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def _key(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
