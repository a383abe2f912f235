"""Whom to believe beside our own bundle, and whom not all the same: `trust.json` of the identity directory, judged.

Its deny-list is signed, and followed: what was ever denied stays so until its end, and an older list is not taken. Its
other parts are believed because only those may write the file who may write the bundle. Each part is judged by itself:
a partner's faulty bundle holds up no revocation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ca import deny_list, spiffe_bundle
from ca.bundle import BundleError
from ca.deny_list import DenyListError
from meshproxy.identity.federation import Federation, read_federation

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from cryptography import x509

    from ca import TrustDomain
    from ca.deny_list import DenyList
    from ca.messages import Trust


@dataclass(frozen=True, slots=True)
class Trusted:
    """What is in force. `sequence` is the number of the bundle in use, where the CA has said which it is."""

    deny_list: DenyList | None = None
    federation: Federation = field(default_factory=Federation)
    sequence: int | None = None

    def stale_for(self, now: datetime) -> timedelta | None:
        """For how long a newer deny-list should have been here, or None; also None while there is none at all."""
        return None if self.deny_list is None else self.deny_list.stale_for(now)


@dataclass(frozen=True, slots=True)
class Grounds:
    """What a document is judged by: the own trust domain, its roots, and the intermediate that may stand in for one."""

    home: TrustDomain
    roots: tuple[x509.Certificate, ...]
    stand_in: tuple[x509.Certificate, ...] = ()


def judged(said: Trust, *, before: Trusted, grounds: Grounds, now: datetime) -> tuple[Trusted, tuple[str, ...]]:
    """Return what is in force once `said` was read, and what is wrong with parts of it, in phrases. Pure."""
    faults: list[str] = []
    followed = before.deny_list
    if said.deny_list or followed is None:
        try:
            document = said.deny_list.encode()
            found = deny_list.read(document, home=grounds.home.name, roots=grounds.roots, now=now)
            followed = deny_list.follow(before.deny_list, found, now=now)
        except DenyListError as error:
            faults.append(f"its deny-list: {error}" if said.deny_list else "it has no deny-list")
    else:
        faults.append("it has no deny-list any more")
    own = (*grounds.roots, *grounds.stand_in)
    federation, disagreed = read_federation(said.federated, home=grounds.home, own=own, before=before.federation)
    sequence, fault = _sequence_in_use(said, grounds)
    return Trusted(followed, federation, sequence), (*faults, *disagreed, *fault)


def _sequence_in_use(said: Trust, grounds: Grounds) -> tuple[int | None, tuple[str, ...]]:
    """The number of the bundle, if it is the one we have: its roots come with the next identity, not from here."""
    try:
        bundle = spiffe_bundle.read(said.bundle.encode(), home=grounds.home)
    except BundleError as error:
        return None, (f"its bundle: {error}",)
    return (bundle.sequence if set(bundle.roots) == set(grounds.roots) else None), ()
