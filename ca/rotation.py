"""Replacing the CA's own keys while it works: ask `ca/slots`, make what is new, record it, publish it.

    prepare     a new key and certificate; a root is in the bundle from now on, and nothing is signed with it
    activate    it signs from now on, once everybody trusts it
    retire      the one before leaves the bundle, once nothing it signed lives
    taint       its key is in wrong hands: what it signed must be replaced at once

The keys of a new authority are on the disk before the ledger knows it, and the ledger before anybody else: a kill in
between leaves a directory that no event names, which is never used and can be removed.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from ca import events, issuance, keys, lifetime, premises, profiles, slot_files, slots, storage
from ca.events import What
from ca.lifetime import BACKDATE
from ca.premises import AuthorityError
from ca.revocation import revoking
from ca.rows import BUNDLE, AuthorityState, State, sequence
from ca.slot_files import Pair
from ca.spiffe_id import SpiffeId

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ca.ledger import Ledger, Transaction, View
    from ca.slots import Laggard

_INT: Final = What.INTERMEDIATE


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a rotation is. `lives_until`: by key id of an intermediate, when the last leaf it signed expires."""

    authorities: tuple[AuthorityState, ...]
    bundle_sequence: int
    laggards: tuple[Laggard, ...]  # whom the activation of the prepared root would cut off
    lives_until: Mapping[str, datetime]


def standing(view: View, *, now: datetime) -> Standing:
    """Look at all authorities, and at who depends on them. Leaves that are denied count for nothing."""
    authorities = tuple(view.every(AuthorityState))
    living = [
        leaf
        for leaf in view.leaves(alive_at=now)
        if revoking(view, leaf) is None and not slots.is_retired(authorities, leaf.issuer)
    ]
    lives_until: dict[str, datetime] = {}
    for leaf in living:
        lives_until[leaf.issuer] = max(leaf.not_after, lives_until.get(leaf.issuer, leaf.not_after))
    prepared = slots.one(authorities, What.ROOT, State.PREPARED)
    # The CA's own services know its roots as soon as it does.
    others = (leaf for leaf in living if not issuance.is_reserved(SpiffeId.parse(leaf.id).path))
    behind = (
        slots.laggards(others, view.reported(), sequence=prepared.published, now=now) if prepared is not None else ()
    )
    return Standing(authorities, sequence(view, BUNDLE), behind, lives_until)


def prepare(
    directory: Path,
    ledger: Ledger,
    what: What,
    *,
    passphrase: bytes | None,
    now: datetime,
    root_ttl: timedelta | None = None,
    intermediate_ttl: timedelta | None = None,
) -> str:
    """Make a new root with an intermediate below it, or a new intermediate below the active root; returns its slot.

    They bear the name of the ones before, and live as long as those did unless told otherwise. The passphrase must be
    the one the CA's keys are sealed with, and seals the new ones; None when they are not sealed. Raises RotationError,
    AuthorityError (the key of the root is not here), LifetimeError, LedgerError, OSError.
    """
    with ledger.reading() as view:
        authorities = tuple(view.every(AuthorityState))
    slots.may_prepare(authorities, what)
    _require_one_passphrase(directory, authorities, passphrase)
    below = None if what is What.ROOT else _active_root(directory, authorities, passphrase)
    ttls = (root_ttl or _ttl(_latest(authorities, What.ROOT)), intermediate_ttl or _ttl(_latest(authorities, _INT)))
    root, intermediate = _make(directory, _name(_latest(authorities, _INT)), below, *ttls, now=now)
    home = directory / premises.AUTHORITIES
    storage.clear_leftovers(home)
    newest = intermediate if below else root
    slot = slots.next_name((each.name for each in home.iterdir()), profiles.key_id(newest.certificate)[:8])
    place = home / slot
    with storage.new_directory(place) as fresh:
        slot_files.write(fresh, root.certificate if below else root, intermediate, passphrase=passphrase)
        storage.write_file(fresh / premises.STATE, f"{State.PREPARED}\n".encode())
    try:
        with ledger.writing() as transaction:
            slots.may_prepare(tuple(transaction.every(AuthorityState)), what)  # nobody else was faster
            transaction.append(
                events.RotatePrepare(
                    at=now.astimezone(UTC),
                    uid=os.getuid(),
                    what=what,
                    slot=slot,
                    key_id=profiles.key_id(intermediate.certificate),
                    root_key_id=profiles.key_id(root.certificate),
                    certificate=intermediate.certificate.public_bytes(Encoding.DER),
                    root_certificate=root.certificate.public_bytes(Encoding.DER),
                )
            )
            if what is What.ROOT:
                _publish_roots(transaction, now=now)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)  # nothing was signed with it, and nobody has seen it
        raise
    return slot


def activate(ledger: Ledger, what: What, *, now: datetime, force: bool = False) -> tuple[str, int]:
    """Let the prepared authority sign from now on; returns its slot, and how many holders that left behind.

    Raises RotationError when there is none, or when somebody would be left behind without `force`; LedgerError.
    """
    with ledger.writing() as transaction:
        found = standing(transaction, now=now)
        behind = found.laggards if what is What.ROOT else ()
        chosen = slots.may_activate(found.authorities, what, behind=behind, force=force)
        transaction.append(
            events.RotateActivate(
                at=now.astimezone(UTC),
                uid=os.getuid(),
                what=what,
                slot=chosen.slot,
                forced=force and bool(behind),
                laggards=len(behind),
            )
        )
    return chosen.slot, len(behind)


def retire(ledger: Ledger, what: What, *, slot: str | None, now: datetime, force: bool = False) -> str:
    """Take an authority out of use for good, or give up one that is only prepared; returns its slot.

    Raises RotationError when it may not be, LedgerError.
    """
    with ledger.writing() as transaction:
        found = standing(transaction, now=now)
        chosen = slots.may_retire(found.authorities, what, slot, lives_until=found.lives_until, now=now, force=force)
        transaction.append(
            events.RotateRetire(at=now.astimezone(UTC), uid=os.getuid(), what=what, slot=chosen.slot, forced=force)
        )
        if what is What.ROOT:
            _publish_roots(transaction, now=now)
    return chosen.slot


def taint(ledger: Ledger, what: What, *, slot: str | None, now: datetime, force: bool = False) -> str:
    """Note that the key of an authority is in wrong hands; returns its slot. Raises RotationError, LedgerError."""
    with ledger.writing() as transaction:
        chosen = slots.may_taint(tuple(transaction.every(AuthorityState)), what, slot, force=force)
        transaction.append(
            events.RotateTaint(at=now.astimezone(UTC), uid=os.getuid(), what=what, slot=chosen.slot, forced=force)
        )
    return chosen.slot


def replace_intermediate_if_due(
    directory: Path, ledger: Ledger, *, passphrase: bytes | None, now: datetime
) -> str | None:
    """Once two thirds of the intermediate's life have passed: prepare another one and activate it at once.

    Nobody needs to be told: every leaf brings its intermediate. Returns the new slot, None when nothing was due. The
    key of the root must be here; raises what `prepare` raises.
    """
    with ledger.reading() as view:
        authorities = tuple(view.every(AuthorityState))
    active = slots.one(authorities, What.INTERMEDIATE, State.ACTIVE)
    if active is None or not slots.is_due(_validity(active), now):
        return None
    prepare(directory, ledger, What.INTERMEDIATE, passphrase=passphrase, now=now)
    return activate(ledger, What.INTERMEDIATE, now=now)[0]


def _publish_roots(transaction: Transaction, *, now: datetime) -> None:
    roots = tuple(root.fingerprint(hashes.SHA256()).hex() for root in slots.roots(transaction))
    number = sequence(transaction, BUNDLE) + 1
    transaction.append(events.PublishBundle(at=now.astimezone(UTC), sequence=number, roots=roots))


def _require_one_passphrase(directory: Path, authorities: tuple[AuthorityState, ...], passphrase: bytes | None) -> None:
    """Two passphrases in one CA are one too many: whoever opens it has only one at hand."""
    latest = _latest(authorities, What.INTERMEDIATE)
    path = directory / premises.AUTHORITIES / latest.slot / premises.KEY
    if passphrase is not None and not keys.is_sealed(premises.content(path)):
        raise AuthorityError("the keys of this CA are not sealed, so new ones are not either; give no passphrase")
    premises.private_key(path, passphrase=passphrase)


def _make(
    directory: Path, name: str, below: Pair | None, root_ttl: timedelta, intermediate_ttl: timedelta, *, now: datetime
) -> tuple[Pair, Pair]:
    """An intermediate below a root: the one given, or a new one."""
    configured = premises.read_configuration(directory)
    root = below or slot_files.new_root(name, configured.trust_domain, lifetime.root_validity(root_ttl, now=now))
    life = lifetime.intermediate_validity(
        intermediate_ttl, now=now, root=lifetime.validity_of(root.certificate), limits=configured.limits
    )
    return root, slot_files.new_intermediate(name, configured.trust_domain, life, below=root)


def _active_root(directory: Path, authorities: tuple[AuthorityState, ...], passphrase: bytes | None) -> Pair:
    root = slots.one(authorities, What.ROOT, State.ACTIVE)
    assert root is not None, "may_prepare saw to it"
    path = directory / premises.AUTHORITIES / root.slot / premises.ROOT_KEY
    if not path.exists():
        raise AuthorityError(f"the key of the active root is not here; bring it back as {path} for this")
    key, certificate = premises.private_key(path, passphrase=passphrase), _certificate(root)
    if not keys.matches(key, certificate):
        raise AuthorityError(f"{path} is not the key of the root that the ledger holds for {root.slot}")
    return Pair(certificate, key)


def _latest(authorities: tuple[AuthorityState, ...], what: What) -> AuthorityState:
    """The one that was made last: its name and its lifetime are those of the next."""
    return max((each for each in authorities if each.what is what), key=lambda each: each.slot)


def _certificate(authority: AuthorityState) -> x509.Certificate:
    return x509.load_der_x509_certificate(authority.certificate)


def _validity(authority: AuthorityState) -> lifetime.Validity:
    return lifetime.validity_of(_certificate(authority))


def _ttl(authority: AuthorityState) -> timedelta:
    life = _validity(authority)
    return life.not_after - life.not_before - BACKDATE


def _name(intermediate: AuthorityState) -> str:
    """What the subject of a CA begins with; behind it stands what it is, and whose key."""
    names = _certificate(intermediate).subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    text = str(names[0].value).rsplit(f" {What.INTERMEDIATE} ", 1)[0] if names else ""
    return text if profiles.ca_name_fault(text) is None else "meshproxy"
