"""Our own identity, ready for handshakes: what was judged, the contexts made of it, and whom its roots speak for."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from ca.deny_list import marks_of
from ca.svid import read_chain
from meshproxy.errors import FaultyInput, Problem
from meshproxy.identity.contexts import Contexts
from meshproxy.identity.federation import Anchors
from meshproxy.identity.material import read_material, remedy_for
from meshproxy.identity.trust import Grounds, Trusted, judged
from meshproxy.identity.trust_file import FaultyTrust, read_document

if TYPE_CHECKING:
    from datetime import datetime

    from ca import TrustDomain
    from ca.deny_list import Marks
    from ca.svid import Leaf
    from meshproxy.identity.federation import Federation
    from meshproxy.identity.material import Material
    from meshproxy.settings.schema import IdentitySettings

_LOOKS = 3
_BETWEEN_LOOKS = 0.1


@dataclass(frozen=True, slots=True)
class Identity:
    """What a handshake needs: who we are, the contexts that prove it, and for whom the roots in them may speak."""

    material: Material
    federation: Federation
    contexts: Contexts
    anchors: Anchors
    marks: Marks  # what a deny-list would tell our own leaf by

    @property
    def leaf(self) -> Leaf:
        """Our own leaf."""
        return self.material.leaf

    @property
    def home(self) -> TrustDomain:
        """Our own trust domain."""
        return self.anchors.home


@dataclass(frozen=True, slots=True)
class Loaded:
    """An identity with what is trusted beside it, and what is wrong with the latter, in phrases."""

    identity: Identity
    trusted: Trusted
    faults: tuple[str, ...] = ()


def look_at_trust(
    material: Material, settings: IdentitySettings, *, before: Trusted, now: datetime
) -> tuple[Trusted, tuple[str, ...]]:
    """Read and judge `trust.json` by what `material` trusts (blocking); also what is wrong with it, in phrases."""
    return _trusted(settings, _grounds_of(material), before=before, now=now)


def leaf_marks(material: Material) -> Marks:
    """What a deny-list would tell our own leaf by."""
    return marks_of(read_chain(material.chain_pem)[0].public_bytes(Encoding.DER))


def load(settings: IdentitySettings, *, before: Trusted, now: datetime) -> Loaded:
    """Read, judge and make contexts (blocking); raises MissingIdentity or FaultyInput.

    `before` is what was trusted so far. A faulty look is taken twice more: a flat directory may be in the middle of
    being written, key first.
    """
    for _ in range(_LOOKS - 1):
        try:
            return load_beside(read_material(settings), settings, before=before, now=now)
        except FaultyInput:
            time.sleep(_BETWEEN_LOOKS)
    return load_beside(read_material(settings), settings, before=before, now=now)


def load_beside(
    material: Material, settings: IdentitySettings, *, before: Trusted, now: datetime, keep: Identity | None = None
) -> Loaded:
    """Read and judge `trust.json` by what `material` trusts (blocking): nothing in that file is a reason to fail.

    Returns the identity `keep` if it would be made of the same again. Raises FaultyInput when TLS takes no `material`.
    """
    grounds = _grounds_of(material)
    trusted, faults = _trusted(settings, grounds, before=before, now=now)
    if keep is not None and keep.material == material and keep.federation == trusted.federation:
        return Loaded(keep, trusted, faults)
    return Loaded(_made(material, trusted.federation, grounds, settings), trusted, faults)


def _grounds_of(material: Material) -> Grounds:
    standing_in = read_chain(material.stand_in_pem) if material.stand_in_pem else ()
    return Grounds(material.leaf.id.trust_domain, read_chain(material.roots_pem), standing_in)


def _trusted(
    settings: IdentitySettings, grounds: Grounds, *, before: Trusted, now: datetime
) -> tuple[Trusted, tuple[str, ...]]:
    try:
        said = read_document(settings)
    except FaultyTrust as faulty:
        return before, (str(faulty),)
    if said is None:
        return before, () if before == Trusted() else ("it is gone",)
    return judged(said, before=before, grounds=grounds, now=now)


def _made(material: Material, federation: Federation, grounds: Grounds, settings: IdentitySettings) -> Identity:
    try:
        contexts = Contexts(material, federation.pem)
    except (ssl.SSLError, OSError) as error:
        # What cryptography can read OpenSSL may still refuse, a key that is too weak for example.
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        raise FaultyInput(
            [
                Problem(
                    file=str(settings.dir / "chain.pem"),
                    found=f"an identity that TLS does not take ({str(reason).lower().replace('_', ' ')})",
                    expected="a key and certificates that OpenSSL accepts",
                    remedy=remedy_for(settings, material.leaf.id.path),
                )
            ]
        ) from error
    anchors = Anchors.of(grounds.home, (*grounds.roots, *grounds.stand_in), federation)
    return Identity(material, federation, contexts, anchors, leaf_marks(material))
