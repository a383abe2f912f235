"""The directory of a CA: what lies where, and reading it with errors a person can act on.

DIR/ca.toml                        the trust domain and what leaves may ask for
DIR/authorities/0001-<key id>/     root.crt root.key int.crt int.key state (see `ca/slots`)
DIR/trust/                         what everybody may read: bundle.pem bundle.json denylist.json crl.pem
DIR/ledger.sqlite3                 what happened, and what it adds up to; decides where a file says otherwise
DIR/issued.jsonl.taken-over        the record of earlier versions, kept aside
"""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from ca import configuration, events, issued_lines, keys, storage
from ca.configuration import Configuration, ConfigurationError
from ca.events import What
from ca.occupancy import shared_file_system
from ca.permissions import key_mode_fault
from ca.profiles import key_id
from ca.rows import AuthorityState, Issued, State
from ca.sqlite_ledger import PATIENCE, SqliteLedger, open_ledger
from ca.svid import read_chain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cryptography import x509

    from ca.ledger import Transaction

CONFIGURATION: Final = "ca.toml"
AUTHORITIES: Final = "authorities"
TRUST: Final = "trust"
BUNDLE_PEM: Final = "bundle.pem"
BUNDLE_JSON: Final = "bundle.json"
DENY_LIST: Final = "denylist.json"
CRL: Final = "crl.pem"
LEDGER: Final = "ledger.sqlite3"
HEAD: Final = "ledger.head"
ROOT_CERTIFICATE: Final = "root.crt"
ROOT_KEY: Final = "root.key"
CERTIFICATE: Final = "int.crt"
KEY: Final = "int.key"
STATE: Final = "state"
_LINES: Final = "issued.jsonl"
_TAKEN_OVER: Final = "issued.jsonl.taken-over"


class AuthorityError(ValueError):
    """The CA cannot be made, opened, or will not issue; the text is a sentence that says why and what to do."""


class NoActiveAuthority(AuthorityError):
    """There is nothing to sign with: what was is tainted, and nothing else was activated yet."""


class Rotated(AuthorityError):
    """The authorities are others than when the CA was opened; opening it again is the remedy."""


def require(directory: Path) -> None:
    """Raise AuthorityError when there is no CA in `directory`."""
    if not (directory / CONFIGURATION).is_file():
        raise AuthorityError(f"{directory} holds no CA (no ca.toml in it); make one with meshproxy ca init")


def read_configuration(directory: Path) -> Configuration:
    """What ca.toml says. Raises AuthorityError, OSError."""
    require(directory)
    path = directory / CONFIGURATION
    try:
        return configuration.read(content(path))
    except ConfigurationError as error:
        raise AuthorityError(f"{path} cannot be used: {error}") from error


def content(path: Path) -> bytes:
    """A file of the CA. Raises AuthorityError when it is missing, OSError when it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise AuthorityError(f"{path} is missing; restore the CA's directory from a backup") from None


def certificate(path: Path) -> x509.Certificate:
    """A certificate of the CA. Raises AuthorityError when there is none, OSError."""
    try:
        return read_chain(content(path))[0]
    except AuthorityError:
        raise
    except ValueError as error:
        raise AuthorityError(f"{path} cannot be used: {error}") from error


def sealed_or_plain_key(path: Path) -> bytes:
    """A private key of the CA as it lies there. Raises AuthorityError when it is missing or open to others, OSError."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise AuthorityError(f"{path} is missing; this CA cannot issue without it") from None
    if fault := key_mode_fault(status.st_mode, status.st_gid, own_gids={os.getegid(), *os.getgroups()}):
        raise AuthorityError(f"{path} has {fault}; run chmod 600 on it, and ask who has read it")
    return content(path)


def private_key(path: Path, *, passphrase: bytes | None) -> ec.EllipticCurvePrivateKey:
    """Open a private key of the CA. Raises AuthorityError when it is missing, open to others, or does not open."""
    try:
        key = keys.from_pem(sealed_or_plain_key(path), passphrase=passphrase)
    except keys.PrivateKeyError as error:
        raise AuthorityError(f"{path} is {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise AuthorityError(f"{path} is not a key of a CA made by meshproxy; restore it from a backup")
    return key


@contextmanager
def ledger_of(directory: Path, *, patience: float = PATIENCE) -> Iterator[SqliteLedger]:
    """The ledger of the CA in `directory`, open for a while; the record of an earlier version is taken over first.

    `patience` is how many seconds a transaction waits for another writer.

    Raises AuthorityError when there is no CA or it lies on a disk that several machines share, LedgerError, OSError.
    """
    require(directory)
    if kind := shared_file_system(directory):
        raise AuthorityError(
            f"{directory} lies on a file system that machines share ({kind}), where a ledger is not safe; move the CA "
            "to a local disk"
        )
    if os.path.lexists(directory / _LINES):
        _take_over(directory)
    with opened(directory / LEDGER, patience=patience) as ledger:
        yield ledger


@contextmanager
def opened(path: Path, *, patience: float = PATIENCE) -> Iterator[SqliteLedger]:
    """A ledger file, open for a while; one that lies in no CA's directory. Raises LedgerError."""
    ledger = open_ledger(path, patience=patience)
    try:
        yield ledger
    finally:
        ledger.close()


def first_events(
    trust_domain: str, slot: str, root: x509.Certificate, intermediate: x509.Certificate, *, now: datetime
) -> tuple[events.Event, ...]:
    """What a ledger begins with: the CA, its first two authorities, its first bundle."""
    at, uid = now.astimezone(UTC), os.getuid()
    return (
        events.Init(at=at, uid=uid, trust_domain=trust_domain),
        events.RotatePrepare(
            at=at,
            uid=uid,
            what=What.ROOT,
            slot=slot,
            key_id=key_id(intermediate),
            root_key_id=key_id(root),
            certificate=intermediate.public_bytes(Encoding.DER),
            root_certificate=root.public_bytes(Encoding.DER),
        ),
        events.RotateActivate(at=at, uid=uid, what=What.ROOT, slot=slot),
        events.PublishBundle(at=at, sequence=1, roots=(hashlib.sha256(root.public_bytes(Encoding.DER)).hexdigest(),)),
    )


def _take_over(directory: Path) -> None:
    """Make the record of an earlier version part of the ledger, once and whole, and keep it aside.

    A kill at any moment leaves it to be done again, and doing it again adds nothing twice. Should an earlier version
    have issued in this directory since, its new lines are added the same way.
    """
    with storage.locked(directory):
        path = directory / _LINES
        if path.is_symlink():
            raise AuthorityError(f"{path} is a symbolic link; the record itself must lie there")
        if not path.exists():
            return  # another process was faster
        record = path.read_bytes()
        now = datetime.now(UTC)  # when it is noted; nothing is decided by it
        ledger = open_ledger(directory / LEDGER, begin=_events_of_slots(directory, now=now))
        try:
            with ledger.writing() as transaction:
                _add_lines(transaction, record, now=now)
        finally:
            ledger.close()
        aside = directory / _TAKEN_OVER
        number = 2
        while os.path.lexists(aside):
            aside = directory / f"{_TAKEN_OVER}-{number}"
            number += 1
        path.rename(aside)
        storage.sync_directory(directory)


def _events_of_slots(directory: Path, *, now: datetime) -> tuple[events.Event, ...]:
    """What the ledger of a directory of the earlier form begins with; it has one active slot and no other."""
    for place in sorted((directory / AUTHORITIES).glob("*-*")):
        if (place / STATE).is_file() and content(place / STATE).strip() == State.ACTIVE.encode():
            return first_events(
                read_configuration(directory).trust_domain.name,
                place.name,
                certificate(place / ROOT_CERTIFICATE),
                certificate(place / CERTIFICATE),
                now=now,
            )
    raise AuthorityError(f"{directory} holds no active authority (no authorities/*/state says {State.ACTIVE.value!r})")


def _add_lines(transaction: Transaction, record: bytes, *, now: datetime) -> None:
    """Each leaf that the ledger does not know yet; the CA's own two certificates it knows from their slot."""
    found = issued_lines.read(record)
    faults = list(found.faults)
    issuers = {each.slot: each.key_id for each in transaction.every(AuthorityState) if each.what is What.INTERMEDIATE}
    for line in found.lines:
        if line.kind != "svid":
            continue
        issuer = issuers.get(line.issuer)
        if issuer is None:
            faults.append(f"serial {line.serial} is of {line.issuer}, which is not here")
        elif transaction.get(Issued, issuer, line.serial) is None:
            transaction.append(
                events.Issue(
                    at=line.at.astimezone(UTC),
                    uid=line.uid,
                    id=line.id,
                    issuer=issuer,
                    serial=line.serial,
                    fingerprint=line.fingerprint,
                    not_before=line.not_before.astimezone(UTC),
                    not_after=line.not_after.astimezone(UTC),
                    dns=line.dns,
                    ips=line.ips,
                    bundle_sequence=1,
                )
            )
    transaction.append(
        events.TakeOver(
            at=now.astimezone(UTC),
            uid=os.getuid(),
            lines=len(found.lines),
            sha256=hashlib.sha256(record).hexdigest(),
            faults=tuple(faults),
        )
    )
