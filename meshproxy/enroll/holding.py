"""The identity directory as whoever enrols and renews sees it: what it holds, and how more is put into it; blocking.

    OUT/pending/key.pem    the key a certificate was asked for with, and has not come yet: whoever asks again, after a
                           lost answer or a kill, asks with the same key and gets the same certificate. Its directory is
                           also what two processes lock, so that they do not both renew.
    OUT/enrolment.json     where the CA is, and the token we came with

A key is on disk before it is asked for, and goes when the identity made of it is in place; nothing that is valid is
ever taken away.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding

from ca import identity_directory, json_text, keys, storage
from ca.bundle import BundleError, read_bundle
from ca.identity_directory import ENROLMENT, PENDING, IdentityDirectoryError
from ca.passphrase import PassphraseError, read_passphrase_file
from ca.svid import LeafError, chain_fault, read_chain, read_leaf
from meshproxy.enroll import judging
from meshproxy.enroll.approach import Anchor, Proof
from meshproxy.enroll.faults import Unusable, Unwritable
from meshproxy.enroll.plan import Life
from meshproxy.wire.address import TcpAddress, parse_address

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from cryptography import x509

    from ca.identity_directory import IdentityFiles
    from ca.keys import SigningKey
    from ca.spiffe_id import TrustDomain
    from ca.svid import Leaf
    from meshproxy.enroll.judging import Believed, Certificate

_MOST_BYTES: Final = 64 * 1024


class Enrolment(msgspec.Struct, frozen=True):
    """Where the CA is, and the id of the token that let us in; either may be unknown."""

    addresses: tuple[str, ...] = ()
    token: str = ""

    @property
    def parsed(self) -> tuple[TcpAddress, ...]:
        """The addresses; what is none is passed over."""
        return tuple(each for text in self.addresses if (each := _address(text)) is not None)


@dataclass(frozen=True, slots=True)
class Held:
    """An identity that could be renewed, valid or not, and whom it believes."""

    key: SigningKey = field(repr=False)
    chain: tuple[x509.Certificate, ...]
    leaf: Leaf
    roots: tuple[x509.Certificate, ...]
    believed: Believed | None

    @property
    def life(self) -> Life:
        """From when to when the leaf is valid."""
        return Life(self.leaf.not_before, self.leaf.not_after)

    @property
    def der(self) -> bytes:
        """The leaf."""
        return self.chain[0].public_bytes(Encoding.DER)

    @property
    def anchor(self) -> Anchor:
        """What its CA is known by."""
        return Anchor(self.roots, self.leaf.id.trust_domain)

    @property
    def proof(self) -> Proof:
        """What it shows to its CA."""
        return Proof(_pem(self.chain), keys.to_pem(self.key, passphrase=None))

    @property
    def loaded(self) -> int | None:
        """The number of the roots in use, if they are the last the CA sent; else nobody may count on it."""
        believed = self.believed
        if believed is None or set(believed.bundle.roots) != set(self.roots):
            return None
        return believed.bundle.sequence

    def may_renew(self, now: datetime) -> bool:
        """Whether TLS still takes the leaf."""
        return now <= self.leaf.not_after


class Holding:
    """One identity directory, which need not exist yet. `passphrase_file` is for a key.pem that is sealed."""

    def __init__(self, directory: Path, passphrase_file: Path | None = None) -> None:
        self.directory = directory
        self.pending = directory / PENDING
        self._passphrase_file = passphrase_file
        self._judged: tuple[bytes | None, TrustDomain, Believed | None] | None = None

    def __repr__(self) -> str:
        return f"<Holding {self.directory}>"

    def look(self, *, now: datetime) -> Held | None:
        """What is held, or None when there is no identity. Raises Unusable."""
        try:
            files = self._files()
            if files is None or files.key is None or files.chain is None or files.bundle is None:
                return None
            return self._held(files.key, files.chain, files.bundle, now=now)
        except (OSError, PassphraseError, IdentityDirectoryError) as error:
            raise Unusable(f"the identity in {self.directory} cannot be read: {_words(error)}") from error

    def enrolment(self) -> Enrolment:
        """What is known of the CA; empty when nothing is."""
        try:
            with (self.directory / ENROLMENT).open("rb") as file:
                return json_text.read(file.read(_MOST_BYTES), Enrolment)
        except (OSError, ValueError):
            return Enrolment()

    def prepare(self) -> None:
        """Make the place where a key waits, and with it the directory. Raises Unwritable."""
        try:
            identity_directory.refuse_foreign(self.directory)
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = self.directory.stat().st_uid
            if os.geteuid() not in {owner, 0} or (os.geteuid() == 0 and owner != 0):
                # A key that root puts into somebody's directory is not root's, and what he links there is not his.
                raise Unwritable(
                    f"{self.directory} belongs to user {owner}; run this as that user (sudo -u '#{owner}')"
                )
            self.pending.mkdir(mode=0o700, exist_ok=True)
            storage.clear_leftovers(self.pending)
        except (OSError, IdentityDirectoryError) as error:
            raise Unwritable(f"{self.directory} cannot take an identity: {_words(error)}") from error

    def pending_key(self, held: Held | None) -> SigningKey:
        """The key to ask with: the one that was asked with before, else a new one, which is on disk on return.

        Call it under the lock only. Raises Unwritable.
        """
        path = self.pending / identity_directory.KEY
        self.forget_used(held)
        try:
            key = self._waiting()
            if key is None:
                key = keys.generate()
                storage.write_file(path, keys.to_pem(key, passphrase=self._passphrase()))
        except (OSError, PassphraseError) as error:
            raise Unwritable(f"a new key cannot be kept in {self.pending}: {_words(error)}") from error
        return key

    def forget_used(self, held: Held | None) -> None:
        """Let go of a pending key whose certificate is in place: we ended before we could."""
        try:
            key = self._waiting()
        except (OSError, PassphraseError) as error:
            raise Unwritable(f"the key in {self.pending} cannot be read: {_words(error)}") from error
        if key is not None and held is not None and keys.matches(key, held.chain[0]):
            self.forget_pending()

    def forget_pending(self) -> None:
        """Let go of the key: the next one is new."""
        try:
            (self.pending / identity_directory.KEY).unlink(missing_ok=True)
        except OSError as error:
            raise Unwritable(f"{self.pending} cannot be cleared: {_words(error)}") from error

    def note(self, enrolment: Enrolment) -> None:
        """Write down where the CA is. Raises Unwritable."""
        try:
            if self.enrolment() != enrolment:
                content = msgspec.json.encode(enrolment) + b"\n"
                storage.write_file(self.directory / ENROLMENT, content, mode=0o644)
        except OSError as error:
            raise Unwritable(f"{self.directory / ENROLMENT} was not written: {_words(error)}") from error

    def take(self, key: SigningKey, certificate: Certificate, roots: Sequence[x509.Certificate]) -> None:
        """Make this the current identity, all at once. Raises Unwritable; the old one is then still in place."""
        self._write(key, certificate.chain_pem, roots)
        self.forget_pending()

    def take_roots(self, held: Held, roots: Sequence[x509.Certificate]) -> None:
        """Keep key and chain, and believe these roots from now on. Raises Unwritable."""
        self._write(held.key, _pem(held.chain), roots)

    def take_trust(self, believed: Believed) -> None:
        """Keep what the CA says of whom to believe, if it is news. Raises Unwritable."""
        content = judging.encode(believed)
        try:
            if self._kept() != content:
                identity_directory.write_trust(self.directory, content)
        except OSError as error:
            raise Unwritable(f"{self.directory}/{identity_directory.TRUST} was not written: {_words(error)}") from error

    def _waiting(self) -> SigningKey | None:
        """The pending key; one that cannot be read nobody can have asked with."""
        path = self.pending / identity_directory.KEY
        if not path.is_file():
            return None
        try:
            return keys.from_pem(path.read_bytes(), passphrase=self._passphrase())
        except keys.PrivateKeyError:
            return None

    def _write(self, key: SigningKey, chain_pem: bytes, roots: Sequence[x509.Certificate]) -> None:
        try:
            sealed = keys.to_pem(key, passphrase=self._passphrase())
            identity_directory.write_identity(self.directory, key=sealed, chain=chain_pem, bundle=_pem(roots))
        except (OSError, PassphraseError, IdentityDirectoryError) as error:
            raise Unwritable(
                f"the new identity could not be written into {self.directory}: {_words(error)}; what was there is kept"
            ) from error

    def _files(self) -> IdentityFiles | None:
        for _ in range(3):
            try:
                return identity_directory.read_identity(self.directory)
            except NotADirectoryError:
                if self.directory.exists():
                    raise
                return None
            except FileNotFoundError:  # replaced while we looked: look again
                continue
        return None

    def _held(self, key_pem: bytes, chain_pem: bytes, bundle_pem: bytes, *, now: datetime) -> Held:
        try:
            key = keys.from_pem(key_pem, passphrase=self._passphrase())
            chain = read_chain(chain_pem)
            leaf = read_leaf(chain[0].public_bytes(Encoding.DER))
            roots = read_bundle(bundle_pem, home=leaf.id.trust_domain)
        except (keys.PrivateKeyError, LeafError, BundleError, ValueError) as error:
            raise Unusable(f"the identity in {self.directory} cannot be used: it holds {error}") from error
        if not keys.matches(key, chain[0]):
            raise Unusable(f"the identity in {self.directory} cannot be used: its key is not that of its certificate")
        return Held(key, chain, leaf, roots, self._believed(leaf.id.trust_domain, now=now))

    def _believed(self, home: TrustDomain, *, now: datetime) -> Believed | None:
        """What the CA said last, judged once: with thousands of revocations that takes a while, and we look often."""
        kept = self._kept()
        if self._judged is None or self._judged[:2] != (kept, home):
            self._judged = kept, home, judging.kept_trust(kept, home=home, now=now)
        return self._judged[2]

    def _kept(self) -> bytes | None:
        """What the CA said last; None also when that cannot be read: it is asked for anew, and keeps nobody waiting."""
        try:
            return identity_directory.read_trust(self.directory)
        except OSError:
            return None

    def _passphrase(self) -> bytes | None:
        return None if self._passphrase_file is None else read_passphrase_file(self._passphrase_file)


def leads_to(held: Held, roots: Sequence[x509.Certificate]) -> bool:
    """Whether the chain that is held would still be one with these roots; a bundle that ends it is not taken alone."""
    return chain_fault(held.chain, roots, max(each.not_valid_before_utc for each in held.chain)) is None


def _address(text: str) -> TcpAddress | None:
    try:
        parsed = parse_address(text)
    except ValueError:
        return None
    return parsed if isinstance(parsed, TcpAddress) and parsed.port else None


def _pem(certificates: Sequence[x509.Certificate]) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def _words(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
