"""New authorities: a key, a certificate for it, and the directory they lie in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from ca import keys, premises, profiles, storage

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric import ec

    from ca.lifetime import Validity
    from ca.spiffe_id import TrustDomain


@dataclass(frozen=True, slots=True)
class Pair:
    """A CA's certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)


def new_root(name: str, trust_domain: TrustDomain, validity: Validity) -> Pair:
    """A root with a new key."""
    key = keys.generate()
    builder = profiles.root(name, trust_domain, key.public_key(), serial=x509.random_serial_number(), validity=validity)
    return Pair(builder.sign(key, hashes.SHA256()), key)


def new_intermediate(name: str, trust_domain: TrustDomain, validity: Validity, *, below: Pair) -> Pair:
    """An intermediate with a new key, signed by a root."""
    key = keys.generate()
    builder = profiles.intermediate(
        name,
        trust_domain,
        key.public_key(),
        issuer=below.certificate,
        serial=x509.random_serial_number(),
        validity=validity,
    )
    return Pair(builder.sign(below.key, hashes.SHA256()), key)


def write(place: Path, root: Pair | x509.Certificate, intermediate: Pair, *, passphrase: bytes | None) -> None:
    """Fill the directory of a slot, but for its state; a root that lies in another slot is given without its key."""
    if isinstance(root, Pair):
        storage.write_file(place / premises.ROOT_KEY, keys.to_pem(root.key, passphrase=passphrase))
        root = root.certificate
    storage.write_file(place / premises.KEY, keys.to_pem(intermediate.key, passphrase=passphrase))
    for name, certificate in ((premises.ROOT_CERTIFICATE, root), (premises.CERTIFICATE, intermediate.certificate)):
        storage.write_file(place / name, certificate.public_bytes(Encoding.PEM), mode=0o644)
