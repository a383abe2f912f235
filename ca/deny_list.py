"""The deny-list: whom not to believe although his certificate says so, signed by the intermediate.

The CA writes it (`content`, `sign`), whoever holds the roots reads it (`read`), keeps it up to date (`follow`) and asks
it after each handshake (`DenyList.denies`), about open connections too. It is short: entries leave it an hour after the
last certificate they mean has expired.

An entry that was ever seen stays in force until its own end, whatever a later list says: so a CA that was restored from
an old backup, or somebody who stole its key, can forget nothing on behalf of others.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca import json_text, signed
from ca.events import By, What
from ca.profiles import key_id
from ca.rows import DENY_LIST, AuthorityState, Revocation, State, sequence
from ca.signed import SignatureError
from ca.svid import UNREADABLE, LeafError, LeafFault, read_leaf

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ca.rows import Rows
    from ca.signed import Signer

KIND: Final = "meshproxy-deny-list"
LINGER: Final = timedelta(hours=1)  # after their end entries stay, for clocks that are late
MOST_BYTES: Final = 3 << 20  # of what a CA lets itself list: some fifteen thousand entries; read at every poll by all
_AHEAD: Final = timedelta(minutes=10)  # how far the CA's clock may be ahead of ours
_VERSION: Final = 1
_REMEMBERED_BYTES: Final = 8192  # larger leaves are read too, but not kept


class DenyListError(ValueError):
    """A deny-list that is not to be followed; the text is a phrase that says why."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One revocation; `subject`, `issuer` and `cutoff` as in `events.Revoke`. In force until `until`, and an hour."""

    by: By
    subject: str
    until: datetime
    issuer: str = ""
    cutoff: datetime | None = None


class RetiredIssuer(msgspec.Struct, frozen=True):
    """An intermediate that nobody believes any more, by its key id: a root above it may still be trusted."""

    key_id: str
    until: datetime


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What a deny-list says. `renew_now`: key ids of intermediates whose leaves must be replaced at once."""

    version: int = _VERSION
    trust_domain: str
    sequence: int
    issued: datetime
    next_update: datetime
    entries: tuple[Entry, ...] = ()
    retired: tuple[RetiredIssuer, ...] = ()
    renew_now: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Marks:
    """What a leaf is told by: the hex key id of its issuer (may be empty), serial, SHA-256 of its key, ID, beginning.

    Small enough to be kept for each open connection, to be asked about again when the list changes.
    """

    issuer: str
    serial: str
    spki: str
    id: str
    not_before: datetime


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a leaf is not to be believed, as a phrase, and the entry it falls under (None: its issuer is retired)."""

    detail: str
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class DenyList:
    """A deny-list in force. Use `read` and `follow`."""

    content: Content
    signer: str  # key id of the intermediate that signed it
    _serials: Mapping[tuple[str, str], Entry] = field(repr=False)
    _spkis: Mapping[str, Entry] = field(repr=False)
    _ids: Mapping[str, Entry] = field(repr=False)
    _retired: frozenset[str] = field(repr=False)

    def denies(self, leaf: bytes) -> Denial | None:
        """Why a leaf (DER) that is sound otherwise is not to be believed, or None.

        Cheap enough for every handshake: a leaf is read once and remembered. Raises `svid.LeafError` for what is no
        leaf; judge it first.
        """
        return self.denies_marked(marks_of(leaf))

    def denies_marked(self, marks: Marks) -> Denial | None:
        """As `denies`, of a leaf that was read before."""
        if entry := self._serials.get((marks.issuer, marks.serial)):
            return Denial(f"serial {marks.serial} was revoked", entry)
        if entry := self._spkis.get(marks.spki):
            return Denial("its key was revoked", entry)
        entry = self._ids.get(marks.id)
        if entry is not None and entry.cutoff is None:
            return Denial(f"all certificates of {marks.id} were revoked", entry)
        if entry is not None and entry.cutoff is not None and marks.not_before <= entry.cutoff:
            return Denial(f"all certificates of {marks.id} up to {entry.cutoff:%Y-%m-%dT%H:%M:%SZ} were revoked", entry)
        if marks.issuer in self._retired:
            return Denial("the intermediate that signed it was retired", None)
        return None

    def must_renew(self, leaf: bytes) -> bool:
        """Whether the holder of a leaf (DER) should get another at once: the key that signed it is in wrong hands."""
        return marks_of(leaf).issuer in self.content.renew_now

    def stale_for(self, now: datetime) -> timedelta | None:
        """For how long a newer list should have been here, or None while this one is good."""
        return now - self.content.next_update if now > self.content.next_update else None


def content(rows: Rows, *, trust_domain: str, life: timedelta, now: datetime) -> Content:
    """What the deny-list of a CA says at `now`, under the number of the last one; good for `life`."""
    at = now.astimezone(UTC).replace(microsecond=0)
    intermediates = [each for each in rows.every(AuthorityState) if each.what is What.INTERMEDIATE]
    retired = (RetiredIssuer(each.key_id, _end(each)) for each in intermediates if each.state is State.RETIRED)
    return Content(
        trust_domain=trust_domain,
        sequence=sequence(rows, DENY_LIST),
        issued=at,
        next_update=at + life,
        entries=_entries(rows, now=now),
        retired=tuple(each for each in retired if each.until + LINGER > now),
        renew_now=tuple(each.key_id for each in intermediates if each.state is State.TAINTED),
    )


def weight(rows: Rows, *, now: datetime) -> int:
    """How many bytes the entries in force take on the list."""
    return len(msgspec.json.encode(_entries(rows, now=now)))


def says_the_same(one: Content, other: Content) -> bool:
    """Whether two lists differ in nothing but when they were written."""
    return (one.trust_domain, one.entries, one.retired, one.renew_now) == (
        other.trust_domain,
        other.entries,
        other.retired,
        other.renew_now,
    )


def sign(said: Content, by: Signer) -> bytes:
    """The document, for everybody."""
    return signed.sign(msgspec.json.encode(said), kind=KIND, by=by)


def read(document: bytes, *, home: str, roots: Iterable[x509.Certificate], now: datetime) -> DenyList:
    """Judge a document by the roots of trust domain `home`. Raises DenyListError.

    A list that is stale is returned: what it denies is denied still. Whether it is enough, `stale_for` and the reader's
    policy say.
    """
    try:
        found = signed.verify(document, kind=KIND, roots=roots, now=now)
        said = json_text.read(found.payload, Content)
    except SignatureError as error:
        raise DenyListError(str(error)) from error
    except ValueError as error:
        raise DenyListError(f"it cannot be read: {error}") from error
    if said.version != _VERSION:
        raise DenyListError(f"it is of version {said.version}, made by a later meshproxy")
    if said.trust_domain != home:
        raise DenyListError(f"it is of trust domain {said.trust_domain[:80]!a}, expected {home}")
    if said.issued > now + _AHEAD:
        raise DenyListError(f"it is from the future ({said.issued:%Y-%m-%dT%H:%M:%SZ}); check both clocks")
    return _in_force(said, key_id(found.signer))


def follow(before: DenyList | None, after: DenyList, *, now: datetime) -> DenyList:
    """The list in force when `after` was read while `before` was: the later one, with all that `before` still denies.

    Raises DenyListError when `after` is older, or signed by an intermediate that was retired before.
    """
    if before is None:
        return after
    if (after.content.sequence, after.content.issued) < (before.content.sequence, before.content.issued):
        raise DenyListError(f"it is older (number {after.content.sequence}) than the one in force")
    if after.signer in before._retired:  # noqa: SLF001 - a list of the same class
        raise DenyListError("it is signed by an intermediate that was retired")
    lasting = (each for each in before.content.entries if each.until + LINGER > now)
    retired = {each.key_id: each for each in (*before.content.retired, *after.content.retired)}
    kept = tuple(each for each in retired.values() if each.until + LINGER > now)
    said = msgspec.structs.replace(after.content, entries=(*after.content.entries, *lasting), retired=kept)
    return _in_force(said, after.signer)


def marks_of(leaf: bytes) -> Marks:
    """Read what a leaf (DER) is told by, once: it is remembered. Raises `svid.LeafError` for what is no leaf."""
    return _remembered_marks(leaf) if len(leaf) <= _REMEMBERED_BYTES else _marks(leaf)


def _marks(leaf: bytes) -> Marks:
    sound = read_leaf(leaf)
    certificate = x509.load_der_x509_certificate(leaf)
    try:
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except UNREADABLE as error:  # of a kind that TLS may know and we do not: nobody could say whether it was revoked
        raise LeafError(LeafFault.MALFORMED, "its key cannot be read", claimed=str(sound.id)) from error
    try:
        issuer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        issuer = None  # a leaf of another make: it is told by its key or its ID then
    return Marks(
        (issuer or b"").hex(), f"{sound.serial:x}", hashlib.sha256(spki).hexdigest(), str(sound.id), sound.not_before
    )


_remembered_marks = lru_cache(maxsize=512)(_marks)  # 512 leaves of at most 8 KiB, as in `svid`


def _in_force(said: Content, signer: str) -> DenyList:
    """Of several entries about the same, each counts as far as it goes."""
    entries: dict[tuple[By, str, str], Entry] = {}
    for each in said.entries:
        key = (each.by, each.issuer, each.subject)
        entries[key] = _stricter(each, entries[key]) if key in entries else each
    by = {kind: [each for each in entries.values() if each.by is kind] for kind in By}
    return DenyList(
        content=msgspec.structs.replace(said, entries=tuple(entries.values())),
        signer=signer,
        _serials={(each.issuer, each.subject): each for each in by[By.SERIAL]},
        _spkis={each.subject: each for each in by[By.SPKI]},
        _ids={each.subject: each for each in by[By.ID]},
        _retired=frozenset(each.key_id for each in said.retired),
    )


def _entries(rows: Rows, *, now: datetime) -> tuple[Entry, ...]:
    return tuple(
        Entry(by=each.by, subject=each.subject, issuer=each.issuer, cutoff=each.cutoff, until=each.until)
        for each in rows.every(Revocation)
        if each.until + LINGER > now
    )


def _stricter(one: Entry, other: Entry) -> Entry:
    cutoffs = [each.cutoff for each in (one, other) if each.cutoff is not None]
    return msgspec.structs.replace(
        other, until=max(one.until, other.until), cutoff=max(cutoffs) if len(cutoffs) == 2 else None
    )


def _end(authority: AuthorityState) -> datetime:
    return x509.load_der_x509_certificate(authority.certificate).not_valid_after_utc
