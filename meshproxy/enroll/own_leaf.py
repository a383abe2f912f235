"""The CA's own certificate, `/meshproxy/ca`: issued by itself through its ledger, and kept in memory only.

A restart costs one more certificate, and no key lies on the disk.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ca import issuing
from ca.messages import SERVICE_PATH
from ca.profiles import key_id
from meshproxy.identity.contexts import as_file

if TYPE_CHECKING:
    from datetime import datetime
    from ipaddress import IPv4Address, IPv6Address

    from cryptography import x509

    from ca.authority import Authority
    from ca.issuing import Svid
    from ca.ledger import Ledger


@dataclass(frozen=True, slots=True)
class ServerNames:
    """What it is called by programs that know no SPIFFE."""

    dns: tuple[str, ...] = ()
    ips: tuple[IPv4Address | IPv6Address, ...] = ()


@dataclass(frozen=True, slots=True)
class OwnLeaf:
    """A leaf of the CA itself."""

    svid: Svid
    issuer: str  # key id of the intermediate

    @property
    def certificate(self) -> x509.Certificate:
        """The leaf."""
        return self.svid.certificate

    def is_due(self, now: datetime) -> bool:
        """Whether half of its life is over: nobody but us renews it, so there is no herd to part."""
        life = self.certificate.not_valid_after_utc - self.certificate.not_valid_before_utc
        return now >= self.certificate.not_valid_before_utc + life / 2

    def is_valid(self, now: datetime) -> bool:
        """Whether a client takes it."""
        return self.certificate.not_valid_before_utc <= now <= self.certificate.not_valid_after_utc


def issue(authority: Authority, ledger: Ledger, names: ServerNames, *, now: datetime) -> OwnLeaf:
    """Issue the next one. Raises LedgerError, LifetimeError, AuthorityError, OSError."""
    svid = issuing.issue_own(authority, ledger, SERVICE_PATH, dns=names.dns, ips=names.ips, now=now)
    return OwnLeaf(svid, key_id(authority.intermediate))


def server_context(leaf: OwnLeaf, roots_pem: str) -> ssl.SSLContext:
    """Terminate TLS 1.3 as this leaf; a certificate is asked for and not demanded: who enrols has none yet.

    One that is presented is checked up to our own roots, and no other's; whose it is, the desk judges.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 0  # a resumed session skips the look at a certificate
    context.load_verify_locations(cadata=roots_pem)
    with as_file(leaf.svid.chain_pem) as chain, as_file(leaf.svid.key_pem) as key:
        context.load_cert_chain(chain, key, password=lambda: b"")
    return context
