"""What the CA shows to others, written from the ledger: it decides, the files repeat it.

Whoever changed something calls `publish` afterwards. A kill in between leaves files that lag behind until the next
call, and never files that say what did not happen.
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding

from ca import crl, deny_list, events, ledger_head, premises, revocation, slots, spiffe_bundle, storage
from ca.events import What
from ca.rows import BUNDLE, CRL, DENY_LIST, AuthorityState, sequence
from ca.spiffe_bundle import SpiffeBundle

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

    from ca.authority import Authority
    from ca.configuration import Configuration
    from ca.events import Head
    from ca.ledger import Ledger, View
    from ca.signed import Signer
    from ca.spiffe_id import TrustDomain


def publish(
    directory: Path,
    ledger: Ledger,
    *,
    now: datetime,
    signer: Signer | None,
    configured: Configuration | None = None,
) -> None:
    """Write the trust bundle, the states of the slots and, with somebody to sign, the signed head.

    Without a signer (the key is sealed, and nobody gave a passphrase) what is signed stays as it was, which is no
    fault: the next who has the key open signs it. `configured` is for who keeps to what ca.toml said before; else it is
    read. Raises AuthorityError, LedgerError, OSError.
    """
    configured = configured or premises.read_configuration(directory)
    with storage.locked(_place(directory)), ledger.reading() as view:  # the last to look is the last to write
        authorities = list(view.every(AuthorityState))
        for name, content in trust_files(configured, view).items():
            _write(directory / premises.TRUST / name, content)
        for slot in {each.slot for each in authorities}:
            place = directory / premises.AUTHORITIES / slot
            if place.is_dir():
                _write(
                    place / premises.STATE, state_text(each for each in authorities if each.slot == slot), mode=0o600
                )
        if signer is not None:
            sign_head(directory, configured.trust_domain, view.head(), signer, now=now)


def publish_revocations(authority: Authority, ledger: Ledger, *, now: datetime) -> bool:
    """Write deny-list and CRL anew if they say something else by now, or will not be good for long.

    Their numbers are in the ledger before anybody sees them. Returns whether anything was written. Raises LedgerError,
    OSError.
    """
    trust = _place(authority.directory)
    with storage.locked(trust):
        with ledger.reading() as view:
            said = deny_list.content(
                view, trust_domain=authority.trust_domain.name, life=authority.configuration.deny_list_life, now=now
            )
            revoked = crl.lines(revocation.revoked_leaves(view, alive_at=now - deny_list.LINGER))
        before = _last_deny_list(trust, authority, now=now)
        signers = [authority.signer, *authority.others]
        fresh_list = before is not None and before.sequence == said.sequence and deny_list.says_the_same(before, said)
        due = before is None or now >= before.issued + (before.next_update - before.issued) / 2
        crls_current = crl.is_current(_content(trust / premises.CRL), revoked, signers, now=now)
        if fresh_list and not due and crls_current:
            return False
        with ledger.writing() as transaction:
            at = now.astimezone(UTC)
            if not fresh_list:
                number = sequence(transaction, DENY_LIST) + 1
                transaction.append(events.PublishDenyList(at=at, sequence=number))
                said = msgspec.structs.replace(said, sequence=number)
            number = sequence(transaction, CRL) + (0 if crls_current else 1)
            if not crls_current:
                transaction.append(events.PublishCrl(at=at, number=number))
        if not fresh_list or due:
            _write(trust / premises.DENY_LIST, deny_list.sign(said, authority.signer))
        if not crls_current:
            pem = b"".join(crl.build(revoked, each, number=number, now=at) for each in signers)
            _write(trust / premises.CRL, pem)
    return True


def trust_files(configured: Configuration, view: View) -> dict[str, bytes]:
    """The roots that everybody is to trust, by file name: for programs that read PEM, and as SPIFFE writes them."""
    roots = slots.roots(view)
    return {
        premises.BUNDLE_PEM: b"".join(each.public_bytes(Encoding.PEM) for each in roots),
        premises.BUNDLE_JSON: spiffe_bundle.write(
            SpiffeBundle(roots, sequence(view, BUNDLE), int(configured.refresh_hint.total_seconds()))
        ),
    }


def state_text(authorities: Iterable[AuthorityState]) -> bytes:
    """The file `state` of a slot: one word when all in it is in the same state, as earlier versions have it."""
    states = {each.what: each.state for each in authorities}
    if len(set(states.values())) == 1:
        return f"{next(iter(states.values()))}\n".encode()
    return "".join(f"{what} = {states[what]}\n" for what in What if what in states).encode()


def sign_head(directory: Path, home: TrustDomain, head: Head, signer: Signer, *, now: datetime) -> None:
    """Sign how far the ledger goes. Nothing depends on it being done at once: a head covers what it covers."""
    document = ledger_head.sign(head, trust_domain=home.name, by=signer, now=now.astimezone(UTC))
    storage.write_file(directory / premises.HEAD, document)


def _place(directory: Path) -> Path:
    """Where all of it lies; made again if somebody removed it, since the ledger knows what belongs there."""
    trust = directory / premises.TRUST
    trust.mkdir(mode=0o700, exist_ok=True)
    return trust


def _last_deny_list(trust: Path, authority: Authority, *, now: datetime) -> deny_list.Content | None:
    """What the file says, if it is one that everybody would follow; else it is written anew."""
    try:
        document = _content(trust / premises.DENY_LIST)
        found = deny_list.read(document, home=authority.trust_domain.name, roots=authority.roots, now=now)
    except deny_list.DenyListError:
        return None
    return found.content if found.signer == authority.key_id else None


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _write(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Replace a file if it says something else: readers look at the time it was changed."""
    if not path.is_file() or path.read_bytes() != content:
        storage.write_file(path, content, mode=mode)
