"""The CA itself: making one, opening one, and issuing from it: decide, sign, record, then write.

    DIR/ca.toml                            the trust domain and what leaves may ask for
    DIR/authorities/0001-<key id>/         root.crt root.key int.crt int.key state ("active")
    DIR/trust/bundle.pem                   the roots, public
    DIR/issued.jsonl                       the ledger

Time is always passed in as `now`, so a script can hold an identity that has already expired: make the CA with a `now`
in the past, and issue from it with another. The limits hold in either case.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Final, Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from ca import identity_directory, keys, ledger, lifetime, profiles, storage
from ca.lifetime import INTERMEDIATE_TTL, ROOT_TTL, LeafLimits
from ca.permissions import key_mode_fault
from ca.spiffe_id import TrustDomain
from ca.svid import read_chain

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

RESERVED: Final = "/meshproxy"  # for the mesh's own services: a CA that hands it out hands out the mesh
_ACTIVE: Final = "active"


class AuthorityError(ValueError):
    """The CA cannot be made, opened, or will not issue; the text is a sentence that says why and what to do."""


@dataclass(frozen=True, slots=True)
class Authority:
    """An open CA: who it speaks for, what it allows, its certificates, and the key that signs leaves."""

    directory: Path
    trust_domain: TrustDomain
    limits: LeafLimits
    slot: str  # the name of its directory below authorities/
    root: x509.Certificate
    intermediate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def bundle_pem(self) -> bytes:
        """The roots as PEM, encoded anew from the parsed certificate rather than copied from a file."""
        return self.root.public_bytes(Encoding.PEM)


@dataclass(frozen=True, slots=True)
class SvidRequest:
    """What is asked for: the names to certify, and for how long (None: the CA's default)."""

    names: profiles.Names
    ttl: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Svid:
    """An issued identity, recorded but not yet on disk. `clamped_by` names the CA that cut its life short, or None."""

    certificate: x509.Certificate
    clamped_by: str | None
    chain_pem: bytes  # leaf, then intermediate
    bundle_pem: bytes
    key_pem: bytes = field(repr=False)


class _LeafTable(msgspec.Struct, forbid_unknown_fields=True):
    default_seconds: int
    minimum_seconds: int
    maximum_seconds: int


class _CaFile(msgspec.Struct, forbid_unknown_fields=True):
    """ca.toml. Lifetimes are whole seconds: `ca` stands below the room that reads "24h"."""

    trust_domain: str
    leaf: _LeafTable


def initialise(
    directory: Path,
    trust_domain: TrustDomain,
    *,
    passphrase: bytes | None,
    now: datetime,
    name: str = "meshproxy",
    root_ttl: timedelta = ROOT_TTL,
    intermediate_ttl: timedelta = INTERMEDIATE_TTL,
    limits: LeafLimits | None = None,
) -> Authority:
    """Make a CA in `directory`, which must not exist or be empty, and return it open.

    Both keys are sealed when a passphrase is given. `name` begins the subject of both certificates. The directory
    appears complete (0700) or not at all. Raises AuthorityError when it has content or `name` cannot be used,
    LifetimeError when the lifetimes do not fit together, OSError when it cannot be written.
    """
    refuse_occupied(directory)
    if fault := profiles.ca_name_fault(name):
        raise AuthorityError(fault)
    limits = limits or LeafLimits()
    root_life = lifetime.root_validity(root_ttl, now=now)
    intermediate_life = lifetime.intermediate_validity(intermediate_ttl, now=now, root=root_life, limits=limits)

    root_key, key = keys.generate(), keys.generate()
    root = profiles.root(
        name, trust_domain, root_key.public_key(), serial=x509.random_serial_number(), validity=root_life
    ).sign(root_key, hashes.SHA256())
    intermediate = profiles.intermediate(
        name,
        trust_domain,
        key.public_key(),
        issuer=root,
        serial=x509.random_serial_number(),
        validity=intermediate_life,
    ).sign(root_key, hashes.SHA256())
    slot = f"0001-{profiles.short_key_id(root_key.public_key())}"
    authority = Authority(directory, trust_domain, limits, slot, root, intermediate, key)

    if directory.parent.is_dir():
        storage.clear_leftovers(directory.parent, of=directory.name)
    with storage.new_directory(directory) as fresh:
        place = fresh / "authorities" / slot
        for each in (fresh / "trust", place.parent, place):
            each.mkdir(mode=0o700)
        storage.write_file(place / "root.key", keys.to_pem(root_key, passphrase=passphrase))
        storage.write_file(place / "int.key", keys.to_pem(key, passphrase=passphrase))
        storage.write_file(place / "root.crt", authority.bundle_pem, mode=0o644)
        storage.write_file(place / "int.crt", intermediate.public_bytes(Encoding.PEM), mode=0o644)
        storage.write_file(place / "state", f"{_ACTIVE}\n".encode())
        storage.write_file(fresh / "trust" / "bundle.pem", authority.bundle_pem, mode=0o644)
        storage.write_file(fresh / "ca.toml", _ca_toml(trust_domain, limits))
        ledger.append(
            fresh / "issued.jsonl",
            _issuance("root", trust_domain.id, root, slot=slot, now=now),
            _issuance("intermediate", trust_domain.id, intermediate, slot=slot, now=now),
        )
    return authority


def refuse_occupied(directory: Path) -> None:
    """Raise AuthorityError when `directory` exists and is not an empty directory: no CA is ever made over anything."""
    if os.path.lexists(directory) and not (directory.is_dir() and not any(directory.iterdir())):
        raise AuthorityError(f"{directory} already exists and is not an empty directory; name a new one for a new CA")


def is_sealed(directory: Path) -> bool:
    """Whether issuing from the CA in `directory` needs a passphrase. Raises AuthorityError when there is no CA."""
    return keys.is_sealed(_read(_active(directory) / "int.key"))


def open_authority(directory: Path, *, passphrase: bytes | None) -> Authority:
    """Open the CA in `directory` for issuing; only the intermediate's key is read, the root's may lie elsewhere.

    Raises AuthorityError when there is no CA, when a file of it is damaged or its key is open to others, and when the
    passphrase is missing or wrong; OSError when a file cannot be read.
    """
    place = _active(directory)
    trust_domain, limits = _read_ca_toml(directory / "ca.toml")
    key_file = place / "int.key"
    try:
        status = key_file.stat()
    except FileNotFoundError:
        raise AuthorityError(f"{key_file} is missing; this CA cannot issue without it") from None
    if fault := key_mode_fault(status.st_mode, status.st_gid, own_gids={os.getegid(), *os.getgroups()}):
        raise AuthorityError(f"{key_file} has {fault}; run chmod 600 on it, and ask who has read it")
    try:
        key = keys.from_pem(_read(key_file), passphrase=passphrase)
    except keys.PrivateKeyError as error:
        raise AuthorityError(f"{key_file} is {error}") from error
    root, intermediate = (_certificate(place / name) for name in ("root.crt", "int.crt"))
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not keys.matches(key, intermediate):
        raise AuthorityError(f"{key_file} is not the key of {place / 'int.crt'}; restore both from the same backup")
    return Authority(directory, trust_domain, limits, place.name, root, intermediate, key)


def issue_svid(authority: Authority, request: SvidRequest, *, now: datetime) -> Svid:
    """Issue one identity with a new key at the aware time `now`: decided, signed, and recorded when this returns.

    Nothing is written but the ledger; `issue_into` also writes the identity directory. Raises AuthorityError for an ID
    of another trust domain or a reserved path, LifetimeError for a lifetime outside the limits or a CA that is running
    out, OSError when the ledger cannot be written (then no certificate leaves this function).
    """
    names = request.names
    if names.id.trust_domain != authority.trust_domain:
        raise AuthorityError(f"{names.id} is of another trust domain; this CA issues for {authority.trust_domain} only")
    if names.id.path == RESERVED or names.id.path.startswith(f"{RESERVED}/"):
        raise AuthorityError(f"{names.id.path} is reserved: {RESERVED}/** is for the mesh itself; choose another path")
    decided = lifetime.leaf_lifetime(
        authority.limits.default if request.ttl is None else request.ttl,
        now=now,
        limits=authority.limits,
        issuers=[
            (f"intermediate CA {_common_name(authority.intermediate)!r}", lifetime.validity_of(authority.intermediate)),
            (f"root CA {_common_name(authority.root)!r}", lifetime.validity_of(authority.root)),
        ],
    )
    key = keys.generate()
    certificate = profiles.leaf(
        names,
        key.public_key(),
        issuer=authority.intermediate,
        serial=x509.random_serial_number(),
        validity=decided.validity,
    ).sign(authority.key, hashes.SHA256())
    ledger.append(
        authority.directory / "issued.jsonl",
        _issuance("svid", str(names.id), certificate, slot=authority.slot, now=now, names=names),
    )
    return Svid(
        certificate,
        decided.clamped_by,
        chain_pem=certificate.public_bytes(Encoding.PEM) + authority.intermediate.public_bytes(Encoding.PEM),
        bundle_pem=authority.bundle_pem,
        key_pem=keys.to_pem(key, passphrase=None),
    )


def issue_into(authority: Authority, request: SvidRequest, out: Path, *, now: datetime) -> tuple[Svid, int]:
    """Issue one identity and make it the current one of the identity directory `out`; returns it and its generation.

    Raises what `issue_svid` and `identity_directory.write_identity` raise. A directory that could not take the identity
    is refused before anything is signed or recorded.
    """
    identity_directory.refuse_foreign(out)
    svid = issue_svid(authority, request, now=now)
    generation = identity_directory.write_identity(out, key=svid.key_pem, chain=svid.chain_pem, bundle=svid.bundle_pem)
    return svid, generation


def _active(directory: Path) -> Path:
    if not (directory / "ca.toml").is_file():
        raise AuthorityError(f"{directory} holds no CA (no ca.toml in it); make one with meshproxy ca init")
    for place in sorted((directory / "authorities").glob("*-*")):
        state = place / "state"
        if state.is_file() and _read(state).strip() == _ACTIVE.encode():
            return place
    raise AuthorityError(f"{directory} holds no active authority (no authorities/*/state says {_ACTIVE!r})")


def _read_ca_toml(path: Path) -> tuple[TrustDomain, LeafLimits]:
    content = _read(path)
    try:
        file = msgspec.convert(tomllib.loads(content.decode()), _CaFile)
        limits = LeafLimits(
            default=timedelta(seconds=file.leaf.default_seconds),
            minimum=timedelta(seconds=file.leaf.minimum_seconds),
            maximum=timedelta(seconds=file.leaf.maximum_seconds),
        )
        return TrustDomain.parse(file.trust_domain), limits
    except (ValueError, OverflowError) as error:  # undecodable, TOML, msgspec and our own are all ValueErrors
        raise AuthorityError(f"{path} cannot be used: {error}") from error


def _ca_toml(trust_domain: TrustDomain, limits: LeafLimits) -> bytes:
    return f"""\
# A meshproxy certificate authority. The trust domain is fixed for its life; the limits may be tightened.
trust_domain = "{trust_domain}"

[leaf]  # lifetimes, in seconds: 300 <= minimum <= default <= maximum <= 604800
default_seconds = {int(limits.default.total_seconds())}
minimum_seconds = {int(limits.minimum.total_seconds())}
maximum_seconds = {int(limits.maximum.total_seconds())}
""".encode()


def _certificate(path: Path) -> x509.Certificate:
    try:
        return read_chain(_read(path))[0]
    except ValueError as error:
        raise AuthorityError(f"{path} cannot be used: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise AuthorityError(f"{path} is missing; restore the CA's directory from a backup") from None


def _issuance(
    kind: Literal["root", "intermediate", "svid"],
    identity: str,
    certificate: x509.Certificate,
    *,
    slot: str,
    now: datetime,
    names: profiles.Names | None = None,
) -> ledger.Issuance:
    return ledger.Issuance(
        at=now.astimezone(UTC),
        kind=kind,
        id=identity,
        serial=f"{certificate.serial_number:x}",
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        issuer=slot,
        dns=names.dns if names else (),
        ips=tuple(map(str, names.ips)) if names else (),
        uid=os.getuid(),
    )


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()
