"""Bringing a CA back from a backup, knowing that the world went on since it was taken.

What happened after the backup is not in it, and must not be undone by that:

- **Revocations.** The last deny-list (from the old directory, or from any sidecar: it is signed, so anybody's copy will
  do) is read first, and everything on it is revoked again. Who has seen an entry keeps to it anyway (`ca/deny_list`).
- **Numbers.** Bundle, deny-list and CRL go on from numbers nobody can have seen, or nobody would follow them.
- **Serials.** Leaves the ledger does not know are not renewed (`ca/enrollment`): their holders need new tokens.
- **Tokens.** Whichever were open may have been used since; all are ended.
- **Intermediates** that were retired or tainted since are so again, and if nothing is left that may sign, nothing is
  issued until a new one was made.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Final

from ca import backup, deny_list, events, invitations, ledger_head, premises, publishing, slots, storage
from ca.audit import audit
from ca.backup import BackupError
from ca.deny_list import DenyListError
from ca.events import What
from ca.rows import BUNDLE, CRL, DENY_LIST, AuthorityState, State, Token, sequence

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from ca.backup import Manifest
    from ca.deny_list import DenyList
    from ca.ledger import Transaction, View

STRIDE: Final = 1_000_000  # numbers left out: no CA publishes as often between two backups


@dataclass(frozen=True, slots=True)
class Restored:
    """What came back: until when the ledger knows what happened, what was revoked again, how many tokens ended."""

    manifest: Manifest
    revoked_again: int
    tokens_ended: int
    signs: bool  # whether there is an authority that may


def restore(archive: Path, directory: Path, *, last_deny_list: bytes | None, now: datetime) -> Restored:
    """Make `directory`, which must not exist or be empty, the CA of a backup; it appears complete or not at all.

    `last_deny_list` None: there is none, and what was revoked since the backup is forgotten here. Raises BackupError,
    AuthorityError, LedgerError, OSError.
    """
    if directory.parent.is_dir():
        storage.clear_leftovers(directory.parent, of=directory.name)
    with storage.new_directory(directory) as fresh:
        manifest = backup.unpack(archive, fresh)
        (fresh / premises.TRUST).mkdir(mode=0o700)
        configured = premises.read_configuration(fresh)
        with premises.opened(fresh / premises.LEDGER) as ledger:
            with ledger.reading() as view:
                _require_sound(view, fresh, manifest, archive)
                last = _read(last_deny_list, view, configured.trust_domain.name, now=now)
            with ledger.writing() as transaction:
                restored = _go_on(transaction, manifest, last, now=now)
            publishing.publish(fresh, ledger, now=now, signer=None)
    return restored


def _require_sound(view: View, fresh: Path, manifest: Manifest, archive: Path) -> None:
    head = view.head()
    if (head.seq, head.hash.hex()) != (manifest.seq, manifest.hash):
        raise BackupError(f"{archive} is damaged: its ledger is not the one it was made with")
    for fault in audit(view):
        raise BackupError(f"the ledger in {archive} cannot be trusted: {fault}; take an older backup")
    document = fresh / premises.HEAD
    if document.is_file():
        seal = ledger_head.judge(
            document.read_bytes(), view, trust_domain=manifest.trust_domain, roots=slots.every_root(view)
        )
        for fault in seal.faults:
            raise BackupError(f"the ledger in {archive} cannot be trusted: {fault}; take an older backup")


def _read(document: bytes | None, view: View, trust_domain: str, *, now: datetime) -> DenyList | None:
    if document is None:
        return None
    try:
        return deny_list.read(document, home=trust_domain, roots=slots.roots(view), now=now)
    except DenyListError as error:
        raise BackupError(f"the deny-list cannot be believed: {error}") from error


def _go_on(transaction: Transaction, manifest: Manifest, last: DenyList | None, *, now: datetime) -> Restored:
    at, uid = now.astimezone(UTC), os.getuid()
    seen = last.content.sequence if last else 0
    transaction.append(
        events.Restore(
            at=at,
            uid=uid,
            taken=manifest.taken,
            bundle_sequence=sequence(transaction, BUNDLE) + STRIDE,
            deny_list_sequence=max(sequence(transaction, DENY_LIST), seen) + STRIDE,
            crl_number=sequence(transaction, CRL) + STRIDE,
        )
    )
    entries = last.content.entries if last else ()
    for each in entries:
        transaction.append(
            events.Revoke(
                at=at,
                uid=uid,
                by=each.by,
                subject=each.subject,
                issuer=each.issuer,
                cutoff=each.cutoff,
                until=each.until,
            )
        )
    if last is not None:
        _catch_up(transaction, last, at=at, uid=uid)
    open_tokens = [each for each in transaction.every(Token) if invitations.is_open(each, now=now)]
    for token in open_tokens:
        invitations.end(transaction, token, why="the CA was restored from a backup", now=now)
    signs = slots.one(transaction.every(AuthorityState), What.INTERMEDIATE, State.ACTIVE) is not None
    return Restored(manifest, len(entries), len(open_tokens), signs)


def _catch_up(transaction: Transaction, last: DenyList, *, at: datetime, uid: int) -> None:
    """What became of the intermediates since."""
    retired = {each.key_id for each in last.content.retired}
    for each in list(transaction.every(AuthorityState)):
        if each.what is not What.INTERMEDIATE:
            continue
        tainted = each.key_id in last.content.renew_now or (each.key_id in retired and each.state is State.ACTIVE)
        if tainted and State.TAINTED in slots.MOVES[each.state]:
            transaction.append(events.RotateTaint(at=at, uid=uid, what=each.what, slot=each.slot, forced=True))
        if each.key_id in retired and each.state is not State.RETIRED:
            transaction.append(events.RotateRetire(at=at, uid=uid, what=each.what, slot=each.slot, forced=True))
