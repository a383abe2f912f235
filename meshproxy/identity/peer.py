"""Who is at the far end: the leaf judged after each handshake, before the first forwarded byte, on both sides.

OpenSSL has checked the chain up to one of the roots it was given. `ssl` has no verify callback, so what makes the leaf
an identity is judged here, every time: in TLS 1.3 a handshake that succeeded says nothing about who was let in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ca.deny_list import Marks, marks_of
from ca.svid import Leaf, LeafError, LeafFault, judge_leaf

if TYPE_CHECKING:
    from datetime import datetime

    from ca import TrustDomain
    from meshproxy.identity.federation import Anchors
    from meshproxy.identity.trust import Trusted
    from meshproxy.wire.tls import TlsConnection


@dataclass(frozen=True, slots=True)
class Peer:
    """A judged peer, and what the deny-list tells its certificate by."""

    leaf: Leaf
    marks: Marks


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a peer whose leaf is sound is not believed; `detail` is a phrase for people."""

    fault: LeafFault
    detail: str


def judge_peer(tls: TlsConnection, *, anchors: Anchors, now: datetime) -> Peer:
    """Return the judged peer of a finished handshake. Raises LeafError.

    Without federation all roots are of `anchors.home`, so a leaf of another trust domain has no root of its own here
    and is refused whoever signed it. With it the leaf must be of the trust domain that the root above it speaks for:
    else a partner could sign one of our names, and we one of his (SPIFFE_Federation.md 4.2).
    """
    der = tls.peer_certificate
    if der is None:
        raise LeafError(LeafFault.MALFORMED, "the peer presented no certificate")
    if not anchors.others:
        return Peer(judge_leaf(der, home=anchors.home, now=now), marks_of(der))
    anchor = tls.anchor()
    domain = None if anchor is None else anchors.others.get(anchor)
    if domain is None:
        raise LeafError(LeafFault.FOREIGN_TRUST_DOMAIN, "no root of a trust domain we know is above it")
    try:
        return Peer(judge_leaf(der, home=domain, now=now), marks_of(der))
    except LeafError as error:
        if error.fault is not LeafFault.FOREIGN_TRUST_DOMAIN:
            raise
        detail = f"it was signed below a root of {domain}, which has no say in other trust domains"
        raise LeafError(error.fault, detail, claimed=error.claimed) from error


def objection_to(peer: Peer, trusted: Trusted, home: TrustDomain) -> Objection | None:
    """Why a peer that was judged sound is not to be believed now, or None.

    Asked after each handshake, and about all that are open when what is trusted changes.
    """
    domain = peer.leaf.id.trust_domain
    if domain != home and not trusted.federation.roots.get(domain):
        return Objection(LeafFault.FOREIGN_TRUST_DOMAIN, f"the trust domain {domain} is not federated with any more")
    if trusted.deny_list is None:
        return None
    denial = trusted.deny_list.denies_marked(peer.marks)
    if denial is None:
        return None
    said, entry = trusted.deny_list.content, denial.entry
    which = "" if entry is None else f", entry {entry.by} {entry.subject}"
    return Objection(
        LeafFault.REVOKED,
        f"{denial.detail}: certificate {peer.marks.serial} of {peer.leaf.id}{which}, by deny-list number "
        f"{said.sequence} of {said.issued:%Y-%m-%dT%H:%M:%SZ}",
    )
