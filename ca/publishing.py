"""What the CA shows to others, written from the ledger: it decides, the files repeat it.

Whoever changed something calls `publish` afterwards. A kill in between leaves files that lag behind until the next
call, and never files that say what did not happen.
"""

from __future__ import annotations

import hashlib
from datetime import UTC
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca import ledger_head, premises, slots, spiffe_bundle, storage
from ca.events import What
from ca.rows import BUNDLE, AuthorityState, sequence
from ca.spiffe_bundle import SpiffeBundle

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

    from ca.events import Head
    from ca.ledger import Ledger, View
    from ca.signed import Signer


def publish(directory: Path, ledger: Ledger, *, now: datetime, signer: Signer | None) -> None:
    """Write the trust bundle, the states of the slots and, with somebody to sign, the signed head.

    Without a signer (the key is sealed, and nobody gave a passphrase) what is signed stays as it was, which is no
    fault: the next who has the key open signs it. Raises AuthorityError, LedgerError, OSError.
    """
    with storage.locked(directory / premises.TRUST), ledger.reading() as view:  # the last to look is the last to write
        authorities = list(view.every(AuthorityState))
        for name, content in trust_files(directory, view).items():
            _write(directory / premises.TRUST / name, content)
        for slot in {each.slot for each in authorities}:
            place = directory / premises.AUTHORITIES / slot
            if place.is_dir():
                _write(
                    place / premises.STATE, state_text(each for each in authorities if each.slot == slot), mode=0o600
                )
        if signer is not None:
            sign_head(directory, view.head(), signer, now=now)


def trust_files(directory: Path, view: View) -> dict[str, bytes]:
    """The roots that everybody is to trust, by file name: for programs that read PEM, and as SPIFFE writes them."""
    roots = roots_of(view)
    configuration = premises.read_configuration(directory)
    return {
        premises.BUNDLE_PEM: b"".join(each.public_bytes(Encoding.PEM) for each in roots),
        premises.BUNDLE_JSON: spiffe_bundle.write(
            SpiffeBundle(roots, sequence(view, BUNDLE), int(configuration.refresh_hint.total_seconds()))
        ),
    }


def roots_of(view: View) -> tuple[x509.Certificate, ...]:
    """The roots of the bundle, oldest first."""
    return tuple(x509.load_der_x509_certificate(each.certificate) for each in slots.trusted(view.every(AuthorityState)))


def sha256(certificate: x509.Certificate) -> str:
    """The fingerprint of a certificate, in hex."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def state_text(authorities: Iterable[AuthorityState]) -> bytes:
    """The file `state` of a slot: one word when all in it is in the same state, as earlier versions have it."""
    states = {each.what: each.state for each in authorities}
    if len(set(states.values())) == 1:
        return f"{next(iter(states.values()))}\n".encode()
    return "".join(f"{what} = {states[what]}\n" for what in What if what in states).encode()


def sign_head(directory: Path, head: Head, signer: Signer, *, now: datetime) -> None:
    """Sign how far the ledger goes. Nothing depends on it being done at once: a head covers what it covers."""
    domain = premises.read_configuration(directory).trust_domain.name
    document = ledger_head.sign(head, trust_domain=domain, by=signer, now=now.astimezone(UTC))
    storage.write_file(directory / premises.HEAD, document)


def _write(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Replace a file if it says something else: readers look at the time it was changed."""
    if not path.is_file() or path.read_bytes() != content:
        storage.write_file(path, content, mode=mode)
