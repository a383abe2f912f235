"""An open CA: what it may issue, and the keys and certificates it does it with.

Where things lie in its directory, `ca/premises` says; what it may be asked for, ca.toml; what it is now, the ledger.

Time is always passed in as `now`, so a script can hold an identity that has already expired: make the CA with a `now`
in the past (`ca/founding`), and issue from it with another (`ca/issuing`). The limits hold in either case.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca import keys, premises, slots
from ca.events import What
from ca.premises import AuthorityError, NoActiveAuthority
from ca.rows import BUNDLE, AuthorityState, State, sequence
from ca.signed import Signer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric import ec

    from ca.configuration import Configuration
    from ca.ledger import View
    from ca.lifetime import LeafLimits
    from ca.spiffe_id import TrustDomain


@dataclass(frozen=True, slots=True)
class Authority:
    """An open CA: what it may issue, the intermediate that signs, the root above it, and the roots everybody trusts.

    It is as the ledger was when it was opened: after a rotation, open it again.
    """

    directory: Path
    configuration: Configuration
    slot: str  # the name of the signing intermediate's directory below authorities/
    root: x509.Certificate
    intermediate: x509.Certificate
    key_id: str  # the intermediate's
    roots: tuple[x509.Certificate, ...]  # of the bundle, oldest first
    bundle_sequence: int
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    others: tuple[Signer, ...] = ()  # intermediates that sign leaves no more, and CRLs still, where their keys are here

    @property
    def trust_domain(self) -> TrustDomain:
        """Who it speaks for."""
        return self.configuration.trust_domain

    @property
    def limits(self) -> LeafLimits:
        """How long its leaves may live."""
        return self.configuration.limits

    @property
    def bundle_pem(self) -> bytes:
        """The roots as PEM, encoded anew from the parsed certificates rather than copied from a file."""
        return b"".join(each.public_bytes(Encoding.PEM) for each in self.roots)

    @property
    def signer(self) -> Signer:
        """Who signs its documents."""
        return Signer(self.intermediate, self.key)


def is_sealed(directory: Path) -> bool:
    """Whether issuing from the CA in `directory` needs a passphrase: all its keys are sealed with one, or none is.

    Raises AuthorityError when there is no CA, LedgerError, OSError.
    """
    with premises.ledger_of(directory) as ledger, ledger.reading() as view:
        latest = max(each.slot for each in view.every(AuthorityState))
    return keys.is_sealed(premises.content(directory / premises.AUTHORITIES / latest / premises.KEY))


def open_authority(directory: Path, *, passphrase: bytes | None, configured: Configuration | None = None) -> Authority:
    """Open the CA in `directory` for issuing; only the intermediate's key is read, the root's may lie elsewhere.

    `configured` is for who keeps to what ca.toml said before somebody broke it; else it is read.

    Raises AuthorityError when there is no CA, when a file of it is damaged or its key is open to others, and when the
    passphrase is missing or wrong; LedgerError and OSError when something cannot be read.
    """
    configured = configured or premises.read_configuration(directory)
    with premises.ledger_of(directory) as ledger, ledger.reading() as view:
        signing, above = (active(view, directory, what) for what in (What.INTERMEDIATE, What.ROOT))
        roots = slots.roots(view)
        bundle_sequence = sequence(view, BUNDLE)
        former = [each for each in view.every(AuthorityState) if each.what is What.INTERMEDIATE and _is_former(each)]
    place = directory / premises.AUTHORITIES / signing.slot
    key_file, certificate_file = place / premises.KEY, place / premises.CERTIFICATE
    key = premises.private_key(key_file, passphrase=passphrase)
    intermediate = premises.certificate(certificate_file)
    if not keys.matches(key, intermediate):
        raise AuthorityError(f"{key_file} is not the key of {certificate_file}; restore both from the same backup")
    if intermediate.public_bytes(Encoding.DER) != signing.certificate:
        raise AuthorityError(
            f"{certificate_file} is not the certificate that the ledger holds for {signing.slot}; restore the CA's "
            "directory whole, from one backup"
        )
    return Authority(
        directory=directory,
        configuration=configured,
        slot=signing.slot,
        root=x509.load_der_x509_certificate(above.certificate),
        intermediate=intermediate,
        key_id=signing.key_id,
        roots=roots,
        bundle_sequence=bundle_sequence,
        key=key,
        others=tuple(_signers(directory, former, passphrase=passphrase)),
    )


def active(view: View, directory: Path, what: What) -> AuthorityState:
    """The authority that signs now. Raises NoActiveAuthority when none does."""
    found = slots.one(view.every(AuthorityState), what, State.ACTIVE)
    if found is None:
        raise NoActiveAuthority(
            f"{directory} holds no active {what}; make one with meshproxy ca rotate prepare, then activate"
        )
    return found


def _is_former(authority: AuthorityState) -> bool:
    return authority.state in {State.OLD, State.TAINTED}


def _signers(directory: Path, authorities: Iterable[AuthorityState], *, passphrase: bytes | None) -> Iterator[Signer]:
    for each in authorities:
        path = directory / premises.AUTHORITIES / each.slot / premises.KEY
        if path.exists():  # whoever removed it wants no more of it
            yield Signer(
                x509.load_der_x509_certificate(each.certificate), premises.private_key(path, passphrase=passphrase)
            )
