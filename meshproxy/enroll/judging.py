"""What came from the CA, judged before any of it is kept: pure.

It came over TLS from whoever proved to be the CA, and is judged all the same: a fault of the CA's must not take a sound
identity from a service that has one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding

from ca import deny_list, json_text, keys, spiffe_bundle
from ca.bundle import BundleError
from ca.deny_list import DenyListError
from ca.messages import Trust
from ca.spiffe_id import SpiffeId, TrustDomain
from ca.svid import LeafError, chain_fault, read_chain, read_leaf
from meshproxy.enroll.faults import ClockApart, Untrusted
from meshproxy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from cryptography import x509

    from ca.deny_list import DenyList
    from ca.keys import SigningKey
    from ca.spiffe_bundle import SpiffeBundle
    from ca.svid import Leaf

_RESERVED = "/meshproxy/"  # the CA's own names (`ca.messages.SERVICE_PATH`)


@dataclass(frozen=True, slots=True)
class Believed:
    """Whom to believe, judged: `trust` is what is kept, `bundle` and `deny_list` what it means."""

    trust: Trust
    bundle: SpiffeBundle
    deny_list: DenyList

    @property
    def sequence(self) -> int:
        """The number of the bundle; 0 for one that has none."""
        return self.bundle.sequence or 0


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that is ours: the chain as PEM, leaf first, and what its leaf says."""

    chain_pem: bytes
    leaf: Leaf


def trust(said: Trust, *, home: TrustDomain, before: Believed | None, now: datetime) -> Believed:
    """Judge what the CA of `home` says of whom to believe, against what it said `before`. Raises Untrusted.

    A bundle of another trust domain that is not sound is left out: it is not our CA's fault, and whoever it is about is
    then not believed.
    """
    try:
        bundle = spiffe_bundle.read(said.bundle.encode(), home=home)
    except BundleError as error:
        raise Untrusted(f"what the CA sends as its roots is not taken: {error}") from error
    if not bundle.roots:
        raise Untrusted(
            "what the CA sends as its roots is not taken: there are none in it, so nobody could be believed"
        )
    if before is not None:
        _require_later(bundle, before)
    try:
        listed = deny_list.read(said.deny_list.encode(), home=home.name, roots=bundle.roots, now=now)
        deny_list.follow(None if before is None else before.deny_list, listed, now=now)
    except DenyListError as error:
        raise Untrusted(f"the deny-list the CA sends is not taken: {error}") from error
    federated = {name: text for name, text in said.federated.items() if _is_sound(name, text, home)}
    return Believed(msgspec.structs.replace(said, federated=federated), bundle, listed)


def kept_trust(content: bytes | None, *, home: TrustDomain, now: datetime) -> Believed | None:
    """What `encode` wrote, judged again; None when there is nothing to be followed: it is asked for anew."""
    if content is None:
        return None
    try:
        return trust(json_text.read(content, Trust), home=home, before=None, now=now)
    except (ValueError, Untrusted):
        return None


def certificate(
    chain_pem: str,
    *,
    key: SigningKey,
    expected: SpiffeId | None,
    home: TrustDomain,
    roots: Iterable[x509.Certificate],
    now: datetime,
) -> Certificate:
    """Judge a certificate that was asked for with `key`; `expected` is the identity we have, if we have one.

    Raises Untrusted; ClockApart for one that is sound, and not valid by our clock.
    """
    try:
        chain = read_chain(chain_pem.encode())
        leaf = read_leaf(chain[0].public_bytes(Encoding.DER))
    except LeafError as error:
        raise Untrusted(f"the certificate the CA sends is no SPIFFE identity: {error.detail}") from error
    except ValueError as error:
        raise Untrusted(f"what the CA sends is {error}") from error
    if not keys.matches(key, chain[0]):
        raise Untrusted("the certificate the CA sends is for another key than ours")
    if leaf.id.trust_domain != home or leaf.id.path.startswith(_RESERVED):
        raise Untrusted(f"the certificate the CA sends is for {leaf.id}, which is no service of {home}")
    if expected is not None and leaf.id != expected:
        raise Untrusted(f"the certificate the CA sends is for {leaf.id}, and we are {expected}")
    if now < leaf.not_before:
        behind = format_duration((leaf.not_before - now).total_seconds())
        raise ClockApart(
            f"the certificate the CA sends is valid only in {behind}: this machine's clock is behind the CA's; mend it"
        )
    if now > leaf.not_after:
        raise ClockApart(
            f"the certificate the CA sends expired at {leaf.not_after:%Y-%m-%dT%H:%M:%SZ}: this machine's clock is "
            "ahead of the CA's; mend it"
        )
    if fault := chain_fault(chain, roots, now):
        raise Untrusted(f"the certificate the CA sends does not lead to its roots: {fault}")
    return Certificate(b"".join(each.public_bytes(Encoding.PEM) for each in chain), leaf)


def home_of(roots: Iterable[x509.Certificate]) -> TrustDomain | None:
    """The trust domain that pinned roots name (X509-SVID 3.2), or None when none does. Raises Untrusted for several."""
    named = {each for root in roots if (each := spiffe_bundle.claimed_home(root)) is not None}
    if len(named) > 1:
        raise Untrusted(f"the roots are of several trust domains: {', '.join(sorted(each.name for each in named))}")
    return next(iter(named), None)


def encode(believed: Believed) -> bytes:
    """What is kept of it in `trust.json`."""
    return msgspec.json.encode(believed.trust)


def _require_later(bundle: SpiffeBundle, before: Believed) -> None:
    """Its number only ever grows (SPIFFE_Trust_Domain_and_Bundle.md section 4.1.1), and says what it said."""
    number = bundle.sequence or 0
    if number < before.sequence:
        raise Untrusted(f"the roots the CA sends are older (number {number}) than those we have ({before.sequence})")
    if number == before.sequence and set(bundle.roots) != set(before.bundle.roots):
        raise Untrusted(f"the roots the CA sends under number {number} are others than those we have under it")


def _is_sound(name: str, text: str, home: TrustDomain) -> bool:
    try:
        domain = TrustDomain.parse(name)
        spiffe_bundle.read(text.encode(), home=domain)
    except ValueError:
        return False
    return domain != home
