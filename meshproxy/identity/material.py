"""One consistent, judged look at an identity directory.

What is judged is what is used: the files are read once, and everything after works on those bytes. Times are not judged
here, because they change while an identity is in use: an expired certificate is a state, not a fault.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization

from ca import keys
from ca.bundle import BundleError, read_bundle
from ca.identity_directory import IdentityFiles, read_identity
from ca.passphrase import PassphraseError, read_passphrase_file
from ca.permissions import authority_mode_fault, key_mode_fault
from ca.svid import Leaf, LeafError, chain_fault, read_chain, read_leaf, stand_in
from meshproxy.errors import FaultyInput, Problem
from meshproxy.identity.expiry import CertificateRole, Term, Validity, validity

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography import x509

    from meshproxy.settings.schema import IdentitySettings

_REISSUE = "issue it again: meshproxy ca issue /PATH --dir CA_DIR --out {dir}"


def remedy_for(settings: IdentitySettings, path: str = "/PATH") -> str:
    """How a good identity comes into the directory: by itself where the CA is known, else by somebody's hand."""
    if not settings.ca:
        return _REISSUE.format(dir=settings.dir).replace("/PATH", path)
    where, at = ", ".join(map(str, settings.ca)), " ".join(f"--ca {each}" for each in settings.ca)
    out = settings.token_file or "TOKEN"
    return (
        f"the CA at {where} gives one as soon as it answers: enrolment_failed and renewal_failed in the log say why it "
        f"does not; with a new token: meshproxy ca token create {path} {at} --out {out} --dir CA_DIR"
    )


class MissingIdentity(Exception):
    """There is no identity yet; it may appear at any time. The text says what is missing, and `remedy` what to do."""

    def __init__(self, missing: str, settings: IdentitySettings) -> None:
        super().__init__(missing)
        self.remedy = remedy_for(settings)


@dataclass(frozen=True, slots=True)
class Material:
    """A key and the chain that certifies it, matching each other and the bundle.

    `key_pem` is secret and unencrypted: it lives in memory only, and never in a `repr`.
    """

    leaf: Leaf
    chain_pem: bytes
    key_pem: bytes
    roots_pem: bytes
    stand_in_pem: bytes  # the intermediate that may be an anchor beside the roots (`ca.svid.stand_in`), or empty
    terms: tuple[Term, ...]
    directory: str
    not_before: datetime = field(init=False)  # when the last certificate of the chain begins to be valid
    not_after: datetime = field(init=False)  # when the first one expires

    def __post_init__(self) -> None:
        # Asked at every handshake.
        object.__setattr__(self, "not_before", max(term.not_before for term in self.terms))
        object.__setattr__(self, "not_after", min(term.not_after for term in self.terms))

    def __repr__(self) -> str:
        return f"<Material {self.leaf.id} serial={self.leaf.serial:x} until {self.leaf.not_after:%Y-%m-%dT%H:%M:%SZ}>"

    def validity(self, now: datetime) -> Validity:
        """Whether leaf, intermediates and the root that signed them are all valid at `now`."""
        if self.not_before <= now <= self.not_after:
            return Validity.VALID
        return validity(self.terms, now)


def read_material(settings: IdentitySettings) -> Material:
    """Read and judge the identity directory.

    Raises MissingIdentity when there is none, and FaultyInput with every problem when what is there cannot be used.
    """
    directory = str(settings.dir)
    try:
        files = read_identity(settings.dir)
    except FileNotFoundError:
        raise MissingIdentity(f"there is no identity in {directory}", settings) from None
    except OSError as error:
        if isinstance(error, NotADirectoryError) and not settings.dir.exists():
            raise MissingIdentity(f"there is no identity in {directory}", settings) from None
        raise FaultyInput([_unreadable(directory, error)]) from error
    missing = [name for name, content in _contents(files) if content is None]
    if missing:
        raise MissingIdentity(f"{directory} lacks {' and '.join(missing)}", settings)
    try:
        return _Judge(settings, files).material()
    except FileNotFoundError:
        # Two re-issues at once removed what was just read; the newer identity is there already.
        raise MissingIdentity(f"the identity in {directory} was replaced while it was read", settings) from None


def _contents(files: IdentityFiles) -> list[tuple[str, bytes | None]]:
    return [("key.pem", files.key), ("chain.pem", files.chain), ("bundle.pem", files.bundle)]


def _unreadable(place: str, error: OSError) -> Problem:
    return Problem(
        file=error.filename or place,
        found=f"it cannot be read ({error.strerror})",
        expected="an identity directory this user may read",
        remedy="run the sidecar as the directory's owner, or mend owner and mode",
    )


class _Judge:
    """Collects every problem of one look before anything is raised."""

    def __init__(self, settings: IdentitySettings, files: IdentityFiles) -> None:
        self._settings = settings
        self._files = files
        self._problems: list[Problem] = []

    def material(self) -> Material:
        """Return what can be used; raises FaultyInput."""
        self._judge_modes()
        key = self._key()
        chain = self._chain()
        leaf = self._leaf(chain)
        roots = self._roots(leaf)
        if key is not None and chain and not keys.matches(key, chain[0]):
            self._add(
                "key.pem", "a key that does not belong to the first certificate of chain.pem", "the pair as issued"
            )
        if chain and roots and (fault := chain_fault(chain, roots, max(each.not_valid_before_utc for each in chain))):
            self._add("chain.pem", fault, "a chain that leads from the leaf to a root of bundle.pem")
        if self._problems or key is None or leaf is None:
            raise FaultyInput(self._problems)
        anchor = stand_in(chain, roots)
        return Material(
            leaf=leaf,
            chain_pem=b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain),
            key_pem=keys.to_pem(key, passphrase=None),
            roots_pem=b"".join(each.public_bytes(serialization.Encoding.PEM) for each in roots),
            stand_in_pem=b"" if anchor is None else anchor.public_bytes(serialization.Encoding.PEM),
            terms=_terms(leaf, chain, roots),
            directory=str(self._settings.dir),
        )

    def _add(self, name: str, found: str, expected: str, remedy: str | None = None) -> None:
        self._problems.append(
            Problem(
                file=str(self._settings.dir / name),
                found=found,
                expected=expected,
                remedy=remedy or remedy_for(self._settings),
            )
        )

    def _judge_modes(self) -> None:
        if self._settings.unsafe_key_mode:
            return
        own_gids = {os.getegid(), *os.getgroups()}
        place = self._files.place
        found = (place / "key.pem").stat()
        if fault := key_mode_fault(found.st_mode, found.st_gid, own_gids=own_gids):
            self._add(
                "key.pem",
                fault,
                "a private key only its service can read",
                f"chmod 600 {self._settings.dir / 'key.pem'}; if others have read it already, issue a new one",
            )
        # Who may write the directory may point `current` elsewhere: key, chain and trust are then his.
        home = self._settings.dir
        for path in dict.fromkeys((home, place, place.resolve().parent, place / "bundle.pem")):
            found = path.stat()
            if fault := authority_mode_fault(found.st_mode, found.st_gid, own_gids=own_gids):
                name = "bundle.pem" if path.name == "bundle.pem" else ""
                where = home / name if path in {home, place / "bundle.pem"} else path
                self._add(name, f"{where} has {fault}", "trust that nobody else can change", f"chmod go-w {where}")

    def _key(self) -> keys.SigningKey | None:
        try:
            return keys.from_pem(self._files.key or b"", passphrase=self._passphrase())
        except keys.PrivateKeyError as error:
            sealed = keys.is_sealed(self._files.key or b"")
            self._add(
                "key.pem",
                str(error),
                "a PEM private key that can be opened",
                'name the file that holds its passphrase: passphrase_file = "..." under [identity]' if sealed else None,
            )
        return None

    def _passphrase(self) -> bytes | None:
        source = self._settings.passphrase_file
        if source is None:
            return None
        try:
            return read_passphrase_file(source)
        except (PassphraseError, OSError) as error:
            found = str(error) if isinstance(error, PassphraseError) else f"it cannot be read ({error.strerror})"
            self._problems.append(
                Problem(
                    file=str(source),
                    found=found,
                    expected="a file with the key's passphrase in its first line, readable by this user only",
                    remedy="mend the file, or leave passphrase_file out if the key is not sealed",
                )
            )
        return None

    def _chain(self) -> tuple[x509.Certificate, ...]:
        try:
            return read_chain(self._files.chain or b"")
        except ValueError as error:
            self._add("chain.pem", str(error), "the leaf certificate, then its intermediates, in PEM")
        return ()

    def _leaf(self, chain: tuple[x509.Certificate, ...]) -> Leaf | None:
        if not chain:
            return None
        try:
            return read_leaf(chain[0].public_bytes(serialization.Encoding.DER))
        except LeafError as error:
            self._add("chain.pem", f"a leaf that is no SPIFFE identity: {error.detail}", "an X509-SVID")
        return None

    def _roots(self, leaf: Leaf | None) -> tuple[x509.Certificate, ...]:
        if leaf is None:
            return ()
        try:
            return read_bundle(self._files.bundle or b"", home=leaf.id.trust_domain)
        except BundleError as error:
            self._add("bundle.pem", str(error), f"the root certificates of {leaf.id.trust_domain}, in PEM")
        return ()


def _terms(own: Leaf, chain: tuple[x509.Certificate, ...], roots: tuple[x509.Certificate, ...]) -> tuple[Term, ...]:
    """The leaf, the intermediates, and the root that signed the topmost of them (one of several, in an overlap)."""
    leaf, *above = chain
    signing = [root for root in roots if root.subject == chain[-1].issuer]
    anchor = max(signing or roots, key=lambda root: root.not_valid_after_utc)
    ranked = [
        (CertificateRole.LEAF, leaf),
        *((CertificateRole.INTERMEDIATE, each) for each in above if each not in roots),
        (CertificateRole.ROOT, anchor),
    ]
    return tuple(
        Term(
            role,
            each.not_valid_before_utc,
            each.not_valid_after_utc,
            str(own.id) if each is leaf else each.subject.rfc4514_string(),
            f"{each.serial_number:x}",
        )
        for role, each in ranked
    )
