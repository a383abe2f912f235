"""The identities of a mesh that lives for one test, signed by a CA that was made for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from ca import founding, identity_directory, keys, profiles
from ca.lifetime import BACKDATE, Validity
from meshproxy.testing.fault import MeshError

if TYPE_CHECKING:
    from pathlib import Path

    from ca.spiffe_id import SpiffeId, TrustDomain

_YEAR: Final = timedelta(days=365)
_LONG: Final = 30 * _YEAR


class Issuer:
    """A CA in `directory`/ca, and beside it an identity directory for each who was issued one.

    An identity is good for thirty years to both sides of today, as one that is always renewed: a test may then put the
    clock anywhere, and only its allow-lists answer differently.
    """

    def __init__(self, directory: Path, trust_domain: TrustDomain) -> None:
        self._directory = directory
        self._numbers: dict[str, int] = {}
        self._today = datetime.now(UTC).replace(microsecond=0)
        self._authority = founding.initialise(
            directory / "ca",
            trust_domain,
            passphrase=None,
            now=self._today - _LONG - _YEAR,
            root_ttl=2 * (_LONG + _YEAR),
            intermediate_ttl=2 * (_LONG + _YEAR),
        )

    def __repr__(self) -> str:
        return f"<Issuer of {self._authority.trust_domain} in {self._directory}>"

    def directory_of(self, identity: SpiffeId) -> Path:
        """Return where the identity is, or will be."""
        number = self._numbers.setdefault(identity.path, len(self._numbers) + 1)
        return self._directory / f"identity-{number}"

    def issue(self, identity: SpiffeId, *, ttl: timedelta | None, now: datetime) -> Path:
        """Make `identity` anew, good until `ttl` from `now` (the mesh's time); returns its directory."""
        directory = self.directory_of(identity)
        key = keys.generate()
        issuer = self._authority.intermediate
        certificate = profiles.leaf(
            profiles.Names(identity),
            key.public_key(),
            issuer=issuer,
            serial=x509.random_serial_number(),
            validity=self._validity(identity, ttl, now),
        ).sign(self._authority.key, hashes.SHA256())
        identity_directory.write_identity(
            directory,
            key=keys.to_pem(key, passphrase=None),
            chain=certificate.public_bytes(Encoding.PEM) + issuer.public_bytes(Encoding.PEM),
            bundle=self._authority.bundle_pem,
        )
        return directory

    def _validity(self, identity: SpiffeId, ttl: timedelta | None, now: datetime) -> Validity:
        """OpenSSL goes by the machine's clock, we by the mesh's: a certificate must have begun by both."""
        if ttl is None:
            return Validity(self._today - _LONG, self._today + _LONG)
        real, until = datetime.now(UTC), (now + ttl).replace(microsecond=0)
        if until <= real:
            raise MeshError(
                f"a certificate of {identity.path} until {until:%Y-%m-%dT%H:%M:%SZ} has ended by this machine's own "
                "clock, which OpenSSL goes by; put the clock of the mesh forward instead of back"
            )
        return Validity((min(now, real) - BACKDATE).replace(microsecond=0), until)
