"""The bundles of other trust domains: kept beside our own and never merged with it.

DIR/federated/<SHA-256 of the trust domain>.json: the bundle, where it came from, and how to ask again.
Public, replaced whole. Whoever may write there decides whom the mesh can be told to let in: it is the CA's alone.
"""

from __future__ import annotations

import hashlib
import os
import re
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from ca import json_text, spiffe_bundle, storage
from ca.bundle import BundleError
from ca.spiffe_id import SpiffeId, TrustDomain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ca.spiffe_bundle import SpiffeBundle

PLACE: Final = "federated"
MOST_BYTES: Final = 256 * 1024  # of a bundle as it comes
MOST: Final = 64  # trust domains
MOST_ROOTS: Final = 16  # of each; two or three in a rotation
MOST_TOGETHER: Final = 512 * 1024  # bytes of all bundles as they are kept: they ride on every answer
_DEFAULT_HINT: Final = 300  # seconds, where a bundle says nothing (SPIFFE Trust Domain and Bundle 4.1.2)
_SHORTEST: Final = 10
_HOST: Final = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])"
_URL: Final = re.compile(rf"https://({_HOST})(?::([0-9]{{1,5}}))?(/[A-Za-z0-9._~!$&'()*+,;=:@%/-]{{0,1000}})?")


class FederationError(ValueError):
    """A bundle of another trust domain that is not taken; the text is a sentence that says why and what to do."""


class Profile(StrEnum):
    """How a bundle endpoint proves who it is (SPIFFE Federation 5.2)."""

    WEB = "https_web"  # as web servers do, to the system's roots
    SPIFFE = "https_spiffe"  # by its SPIFFE ID, to the bundle that was known before


class Endpoint(msgspec.Struct, frozen=True):
    """Where a bundle is fetched. `id` is the endpoint's SPIFFE ID, for https_spiffe."""

    url: str
    profile: Profile
    id: str = ""


class Partner(msgspec.Struct, frozen=True):
    """Another trust domain: its bundle (JWK Set), when that came, and where the next one is asked for.

    What is kept and handed out is written anew from the roots that were read: nothing else of theirs reaches anybody.
    """

    trust_domain: str
    bundle: str
    at: datetime
    endpoint: Endpoint | None = None


class Url(msgspec.Struct, frozen=True):
    """An https URL, taken apart."""

    host: str  # without brackets
    port: int
    path: str
    authority: str  # what the Host field says


def read_url(text: str) -> Url:
    """Read an https URL without query, user or fragment (SPIFFE Federation 5.2.1). Raises FederationError."""
    match = _URL.fullmatch(text)
    if match is None or not 0 < int(match[2] or 443) < 65536:
        raise FederationError(f"{text[:200]!a} is no URL of a bundle endpoint, expected https://host[:port]/path")
    return Url(
        match[1].strip("[]"), int(match[2] or 443), match[3] or "/", match[1] + (f":{match[2]}" if match[2] else "")
    )


def endpoint(url: str, profile: Profile, identity: str, *, of: TrustDomain) -> Endpoint:
    """Check where a bundle of the trust domain `of` is to be fetched. Raises FederationError."""
    read_url(url)
    if profile is Profile.WEB:
        if identity:
            raise FederationError("--endpoint-id is for https_spiffe: with https_web, the host name says who answers")
        return Endpoint(url, profile)
    try:
        served_as = SpiffeId.parse(identity)
    except ValueError as error:
        raise FederationError(
            f"https_spiffe needs --endpoint-id, the SPIFFE ID the endpoint is certified as: {error}"
        ) from None
    if served_as.trust_domain != of or not served_as.path:
        raise FederationError(f"the endpoint must be a service of {of}, found {served_as}: its own bundle judges it")
    return Endpoint(url, profile, str(served_as))


def require_foreign(domain: TrustDomain, home: TrustDomain) -> None:
    """Raise FederationError for our own trust domain: it has no partner of its name."""
    if domain == home:
        raise FederationError(f"{domain} is this CA's own trust domain, whose bundle is its own")


def judge(document: bytes, domain: TrustDomain, *, home: TrustDomain, before: Partner | None) -> SpiffeBundle:
    """Judge a bundle of another trust domain that takes the place of the one before. Raises FederationError.

    Its sequence never goes back (SPIFFE Trust Domain and Bundle 4.1.1), or who replays an old one brings back a root
    that was withdrawn.
    """
    require_foreign(domain, home)
    if len(document) > MOST_BYTES:
        raise FederationError(f"the bundle of {domain} is larger than {MOST_BYTES // 1024} KiB")
    try:
        found = spiffe_bundle.read(document, home=domain)
        spiffe_bundle.write(found)  # a root whose key has no form there
        known = None if before is None else spiffe_bundle.read(before.bundle.encode(), home=domain)
    except BundleError as error:
        raise FederationError(f"the bundle of {domain} is not taken: {error}") from error
    if len(found.roots) > MOST_ROOTS:
        raise FederationError(f"the bundle of {domain} has {len(found.roots)} roots, expected at most {MOST_ROOTS}")
    if known is not None and known.sequence is not None and (found.sequence is None or found.sequence < known.sequence):
        raise FederationError(
            f"the bundle of {domain} has the number {found.sequence}, and number {known.sequence} is known: it never "
            "goes back; to begin anew, delete it first"
        )
    return found


def next_look(partner: Partner) -> datetime:
    """When its bundle should be asked for again: after its refresh hint."""
    try:
        hint = spiffe_bundle.read(partner.bundle.encode(), home=TrustDomain.parse(partner.trust_domain)).refresh_hint
    except (BundleError, ValueError):
        hint = None
    return partner.at + timedelta(seconds=max(hint or _DEFAULT_HINT, _SHORTEST))


def get(directory: Path, domain: TrustDomain) -> Partner | None:
    """The partner of this name, or None. Raises FederationError for a damaged file, OSError."""
    try:
        return _read(_path(directory, domain))
    except FileNotFoundError:
        return None


def every(directory: Path) -> list[Partner]:
    """All partners, by name; a damaged file is passed over, for it must not hold up all others. Raises OSError."""
    place = directory / PLACE
    return sorted(_sound(place), key=lambda each: each.trust_domain) if place.is_dir() else []


def mark(directory: Path) -> frozenset[object]:
    """What changes whenever a partner does: cheap to compare. Raises OSError."""
    try:
        with os.scandir(directory / PLACE) as entries:
            found = [(each.name, each.stat()) for each in entries if each.name.endswith(".json")]
    except FileNotFoundError:
        return frozenset()
    return frozenset((name, status.st_ino, status.st_mtime_ns, status.st_size) for name, status in found)


def put(directory: Path, partner: Partner, *, home: TrustDomain) -> SpiffeBundle:
    """Judge a partner and keep it in the place of the one before. Raises FederationError, OSError."""
    domain = TrustDomain.parse(partner.trust_domain)
    place = directory / PLACE
    place.mkdir(mode=0o755, exist_ok=True)
    with storage.locked(place):
        before = get(directory, domain)
        found = judge(partner.bundle.encode(), domain, home=home, before=before)
        others = [each for each in _sound(place) if each.trust_domain != domain.name]
        if len(others) >= MOST:
            raise FederationError(f"there are {MOST} federated trust domains already; delete one first")
        _keep(directory, partner, found, others)
    return found


def refresh(directory: Path, fetched: Partner, *, home: TrustDomain) -> bool:
    """Keep what was fetched, unless the partner was deleted or set anew meanwhile; whether the bundle is another one.

    Raises FederationError, OSError.
    """
    domain = TrustDomain.parse(fetched.trust_domain)
    with storage.locked(directory / PLACE):
        before = get(directory, domain)
        if before is None or before.endpoint != fetched.endpoint:
            return False
        found = judge(fetched.bundle.encode(), domain, home=home, before=before)
        others = [each for each in _sound(directory / PLACE) if each.trust_domain != domain.name]
        return _keep(directory, fetched, found, others).bundle != before.bundle


def _keep(directory: Path, partner: Partner, found: SpiffeBundle, others: list[Partner]) -> Partner:
    """Write a partner whose bundle was judged, if all of them together are not too much for an answer."""
    kept = msgspec.structs.replace(partner, bundle=spiffe_bundle.write(found).decode())
    if sum(len(each.bundle) for each in (kept, *others)) > MOST_TOGETHER:
        raise FederationError(
            f"with the bundle of {kept.trust_domain} all would be larger than {MOST_TOGETHER // 1024} KiB together; "
            "delete one first"
        )
    storage.write_file(_path(directory, TrustDomain.parse(kept.trust_domain)), msgspec.json.encode(kept), mode=0o644)
    return kept


def delete(directory: Path, domain: TrustDomain) -> bool:
    """Forget a partner; whether there was one. Raises OSError."""
    place = directory / PLACE
    if not place.is_dir():
        return False
    with storage.locked(place):
        path = _path(directory, domain)
        if not path.exists():
            return False
        path.unlink()
        storage.sync_directory(place)
    return True


def _path(directory: Path, domain: TrustDomain) -> Path:
    return directory / PLACE / f"{hashlib.sha256(domain.name.encode()).hexdigest()}.json"


def _sound(place: Path) -> Iterator[Partner]:
    for path in place.glob("*.json"):
        try:
            partner = _read(path)
            spiffe_bundle.read(partner.bundle.encode(), home=TrustDomain.parse(partner.trust_domain))
        except (ValueError, FileNotFoundError):
            continue
        yield partner


def _read(path: Path) -> Partner:
    try:
        return json_text.read(path.read_bytes(), Partner)
    except ValueError as error:
        raise FederationError(f"{path} is damaged ({error}); delete it and set the trust domain again") from error
