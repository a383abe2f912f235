"""Making a CA: a root, an intermediate below it, and the ledger that begins with them; all of it or nothing."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from ca import configuration, lifetime, premises, profiles, publishing, slot_files, slots, storage
from ca.authority import Authority
from ca.configuration import Configuration
from ca.lifetime import INTERMEDIATE_TTL, ROOT_TTL, LeafLimits
from ca.premises import AuthorityError
from ca.sqlite_ledger import open_ledger

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from pathlib import Path

    from ca.spiffe_id import TrustDomain


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
    LifetimeError when the lifetimes do not fit together, LedgerError and OSError when it cannot be written.
    """
    refuse_occupied(directory)
    if fault := profiles.ca_name_fault(name):
        raise AuthorityError(fault)
    configured = Configuration(trust_domain, limits or LeafLimits())
    root_life = lifetime.root_validity(root_ttl, now=now)
    life = lifetime.intermediate_validity(intermediate_ttl, now=now, root=root_life, limits=configured.limits)
    root = slot_files.new_root(name, trust_domain, root_life)
    intermediate = slot_files.new_intermediate(name, trust_domain, life, below=root)
    slot = slots.next_name([], profiles.key_id(root.certificate)[:8])

    if directory.parent.is_dir():
        storage.clear_leftovers(directory.parent, of=directory.name)
    with storage.new_directory(directory) as fresh:
        for each in (premises.TRUST, premises.AUTHORITIES):
            (fresh / each).mkdir(mode=0o700)
        place = fresh / premises.AUTHORITIES / slot
        place.mkdir(mode=0o700)
        slot_files.write(place, root, intermediate, passphrase=passphrase)
        storage.write_file(fresh / premises.CONFIGURATION, configuration.first_text(configured))
        begin = premises.first_events(trust_domain.name, slot, root.certificate, intermediate.certificate, now=now)
        made = Authority(
            directory=fresh,
            configuration=configured,
            slot=slot,
            root=root.certificate,
            intermediate=intermediate.certificate,
            key_id=profiles.key_id(intermediate.certificate),
            roots=(root.certificate,),
            bundle_sequence=1,
            key=intermediate.key,
        )
        with closing(open_ledger(fresh / premises.LEDGER, begin=begin)) as ledger:
            publishing.publish(fresh, ledger, now=now, signer=made.signer)
    return replace(made, directory=directory)


def refuse_occupied(directory: Path) -> None:
    """Raise AuthorityError when `directory` exists and is not an empty directory: no CA is ever made over anything."""
    if os.path.lexists(directory) and not (directory.is_dir() and not any(directory.iterdir())):
        raise AuthorityError(f"{directory} already exists and is not an empty directory; name a new one for a new CA")
