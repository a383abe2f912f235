"""Who is at the far end: the leaf judged after each handshake, before the first forwarded byte, on both sides.

OpenSSL has checked the chain up to one of our roots. `ssl` has no verify callback, so what makes the leaf an identity
is judged here, every time: in TLS 1.3 a handshake that succeeded says nothing about who was let in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ca.svid import Leaf, LeafError, LeafFault, judge_leaf

if TYPE_CHECKING:
    from datetime import datetime

    from ca import TrustDomain
    from meshproxy.wire.tls import TlsConnection


def judge_peer(tls: TlsConnection, *, home: TrustDomain, now: datetime) -> Leaf:
    """Return the judged leaf of a finished handshake.

    The bundle holds roots of `home` only, so a leaf of another trust domain has no anchor of its own here and is
    refused whoever signed it. Raises LeafError.
    """
    der = tls.peer_certificate
    if der is None:
        raise LeafError(LeafFault.MALFORMED, "the peer presented no certificate")
    return judge_leaf(der, home=home, now=now)
