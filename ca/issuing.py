"""Issuing into files, on the CA's own machine: decide, sign, record, then write."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from ca import identity_directory, keys, leaves, premises, publishing
from ca.leaves import ByCommand
from ca.profiles import Names
from ca.spiffe_id import SpiffeId

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from ipaddress import IPv4Address, IPv6Address
    from pathlib import Path

    from cryptography import x509

    from ca.authority import Authority
    from ca.ledger import Ledger


@dataclass(frozen=True, slots=True)
class SvidRequest:
    """What is asked for: the names to certify, and for how long (None: the CA's default)."""

    names: Names
    ttl: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Svid:
    """An issued identity, recorded but not yet on disk. `clamped_by` names the CA that cut its life short, or None."""

    certificate: x509.Certificate
    clamped_by: str | None
    chain_pem: bytes  # leaf, then intermediate
    bundle_pem: bytes
    key_pem: bytes = field(repr=False)


def issue_svid(authority: Authority, request: SvidRequest, *, now: datetime) -> Svid:
    """Issue one identity with a new key at the aware time `now`: decided, signed, and recorded when this returns.

    Nothing is written but the ledger; `issue_into` also writes the identity directory. Raises IssuanceRefused for what
    the rules do not allow, LifetimeError for a lifetime outside the limits or a CA that is running out, AuthorityError,
    LedgerError and OSError when it cannot be recorded (then no certificate leaves this function).
    """
    with premises.ledger_of(authority.directory) as ledger:
        return _issue(authority, ledger, request, now=now, own=False)


def issue_own(
    authority: Authority,
    ledger: Ledger,
    path: str,
    *,
    dns: tuple[str, ...] = (),
    ips: tuple[IPv4Address | IPv6Address, ...] = (),
    now: datetime,
) -> Svid:
    """Issue a leaf for one of the mesh's own services (`/meshproxy/ca`), which nobody else can have.

    Raises what `issue_svid` raises, but for IssuanceRefused: no rule is asked.
    """
    names = Names(SpiffeId.of(authority.trust_domain, path), dns, ips)
    return _issue(authority, ledger, SvidRequest(names), now=now, own=True)


def issue_into(authority: Authority, request: SvidRequest, out: Path, *, now: datetime) -> tuple[Svid, int]:
    """Issue one identity and make it the current one of the identity directory `out`; returns it and its generation.

    Raises what `issue_svid` and `identity_directory.write_identity` raise. A directory that could not take the identity
    is refused before anything is signed or recorded.
    """
    identity_directory.refuse_foreign(out)
    svid = issue_svid(authority, request, now=now)
    generation = identity_directory.write_identity(out, key=svid.key_pem, chain=svid.chain_pem, bundle=svid.bundle_pem)
    return svid, generation


def _issue(authority: Authority, ledger: Ledger, request: SvidRequest, *, now: datetime, own: bool) -> Svid:
    key = keys.generate()
    with ledger.writing() as transaction:
        made = leaves.certify(
            authority,
            transaction,
            request.names,
            key.public_key(),
            ttl=request.ttl,
            origin=ByCommand(os.getuid()),
            now=now,
            own=own,
        )
        head = transaction.head()
    publishing.sign_head(authority.directory, authority.trust_domain, head, authority.signer, now=now)
    return Svid(
        made.certificate,
        made.clamped_by,
        chain_pem=made.certificate.public_bytes(Encoding.PEM) + authority.intermediate.public_bytes(Encoding.PEM),
        bundle_pem=authority.bundle_pem,
        key_pem=keys.to_pem(key, passphrase=None),
    )
