"""A CA in one file: its settings, its authorities with their keys, and its ledger as it was in one moment.

The file is a plain tar, for its owner alone, with sealed keys unless somebody insists: backups travel. What is public
(`trust/`) is not in it: it is written anew from the ledger.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import tarfile
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Final

import msgspec

from ca import json_text, keys, premises, storage
from ca.premises import AuthorityError
from ca.rows import AuthorityState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ca.events import Head
    from ca.sqlite_ledger import SqliteLedger

MANIFEST: Final = "manifest.json"
_VERSION: Final = 1
_SLOT_FILES: Final = (
    premises.ROOT_CERTIFICATE,
    premises.ROOT_KEY,
    premises.CERTIFICATE,
    premises.KEY,
)
_MEMBER: Final = re.compile(
    r"manifest\.json|ca\.toml|ledger\.sqlite3|ledger\.head|authorities/[0-9]{4}-[0-9a-f]{8}/(?:root|int)\.(?:crt|key)"
)
_MOST_BYTES: Final = 1 << 20  # of any file but the ledger


class BackupError(ValueError):
    """A backup that cannot be made or read; the text is a sentence that says why and what to do."""


class Manifest(msgspec.Struct, frozen=True):
    """What a backup says of itself: whose it is, when it was taken, how far its ledger goes."""

    version: int
    trust_domain: str
    taken: datetime
    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Sealing:
    """What is to become of keys that are not sealed: sealed with a passphrase, or (None) left as they are."""

    passphrase: bytes | None


def pack(directory: Path, ledger: SqliteLedger, out: Path, *, now: datetime, sealing: Sealing | None = None) -> Head:
    """Write the CA in `directory` into the file `out`, whole or not at all; returns how far its ledger goes.

    Without `sealing` keys that are not sealed are refused. Raises BackupError, AuthorityError, LedgerError, OSError.
    """
    beside = out.with_name(storage.temporary_name(out.name))
    beside.mkdir(mode=0o700)
    try:
        head_file = directory / premises.HEAD  # read before the ledger is copied, so that it covers no more than that
        signed_head = head_file.read_bytes() if head_file.is_file() else None
        ledger.copy_to(beside / premises.LEDGER)
        with premises.opened(beside / premises.LEDGER) as copy, copy.reading() as view:
            head = view.head()
            slots = sorted({each.slot for each in view.every(AuthorityState)})
        manifest = Manifest(
            _VERSION,
            premises.read_configuration(directory).trust_domain.name,
            now.astimezone(UTC).replace(microsecond=0),
            head.seq,
            head.hash.hex(),
        )
        archive = beside / "archive"
        with archive.open("xb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            os.fchmod(file.fileno(), 0o600)
            _add(tar, MANIFEST, msgspec.json.encode(manifest))
            _add(tar, premises.CONFIGURATION, premises.content(directory / premises.CONFIGURATION))
            if signed_head is not None:
                _add(tar, premises.HEAD, signed_head)
            for name, content in _slot_contents(directory, slots, sealing):
                _add(tar, name, content)
            with (beside / premises.LEDGER).open("rb") as copied:
                tar.addfile(_member(premises.LEDGER, (beside / premises.LEDGER).stat().st_size), copied)
            tar.close()
            file.flush()
            os.fsync(file.fileno())
        archive.rename(out)
        storage.sync_directory(out.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return head


def unpack(archive: Path, target: Path) -> Manifest:
    """Write what is in a backup into the directory `target`, which is there and empty; nothing of it is judged yet.

    Only the files that a backup has are taken, by name, whatever else the archive holds. Raises BackupError, OSError.
    """
    manifest: Manifest | None = None
    try:
        with tarfile.open(archive, mode="r:") as tar:
            for member in tar:
                if not member.isreg() or not _MEMBER.fullmatch(member.name):
                    raise BackupError(f"{archive} is no backup of a CA: it holds {member.name[:80]!a}")
                source = tar.extractfile(member)
                assert source is not None, "it is a regular file"
                if member.name == premises.LEDGER:
                    _copy(source, target / premises.LEDGER)
                    continue
                content = source.read(_MOST_BYTES + 1)
                if len(content) > _MOST_BYTES:
                    raise BackupError(f"{archive} is no backup of a CA: its {member.name} is too large")
                if member.name == MANIFEST:
                    manifest = json_text.read(content, Manifest)
                    continue
                place = target / member.name
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                storage.write_file(place, content, mode=0o644 if place.suffix == ".crt" else 0o600)
    except (tarfile.TarError, ValueError) as error:
        raise BackupError(f"{archive} is no backup of a CA, or damaged: {error}") from error
    if manifest is None or not (target / premises.LEDGER).is_file():
        raise BackupError(f"{archive} is no backup of a CA, or cut short: its manifest or its ledger is missing")
    if manifest.version != _VERSION:
        raise BackupError(f"{archive} is of version {manifest.version}, made by a later meshproxy")
    return manifest


def _slot_contents(directory: Path, slots: list[str], sealing: Sealing | None) -> Iterator[tuple[str, bytes]]:
    for slot in slots:
        for name in _SLOT_FILES:
            path = directory / premises.AUTHORITIES / slot / name
            if not path.exists():
                continue  # the root's key may lie elsewhere, and a slot for an intermediate has none
            content = premises.content(path)
            if path.suffix == ".key" and not keys.is_sealed(content):
                content = _sealed(path, content, sealing)
            yield f"{premises.AUTHORITIES}/{slot}/{name}", content


def _sealed(path: Path, content: bytes, sealing: Sealing | None) -> bytes:
    if sealing is None:
        raise AuthorityError(
            f"{path} is not sealed, and a backup travels: give --passphrase-file to seal the keys in the backup, or "
            "--unsealed to leave them as they are"
        )
    if sealing.passphrase is None:
        return content
    return keys.to_pem(premises.private_key(path, passphrase=None), passphrase=sealing.passphrase)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    tar.addfile(_member(name, len(content)), io.BytesIO(content))


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member


def _copy(source: IO[bytes], place: Path) -> None:
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        shutil.copyfileobj(source, file)
        file.flush()
        os.fsync(file.fileno())
