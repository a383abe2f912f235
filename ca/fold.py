"""How an event changes what a CA knows. The only place that says it: every store calls this, and so does a rebuild.

A history that cannot be (a token used twice over, a renewal of what is not the latest, a number used again) is refused
here too, so no caller and no race can write one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ca import events, slots
from ca.events import What
from ca.rows import (
    BUNDLE,
    CRL,
    DENY_LIST,
    AuthorityState,
    Issued,
    Lineage,
    Redemption,
    Revocation,
    Sequence,
    State,
    Token,
    TokenState,
    sequence,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ca.rows import R, Tables


class ImpossibleEvent(ValueError):
    """An event that cannot follow what was before; the text is a phrase that says why."""


def fold(tables: Tables, entries: Iterable[events.Entry]) -> None:
    """Add events up, one after the other. Raises ImpossibleEvent at the first that cannot be."""
    for entry in entries:
        apply(tables, entry)


def apply(tables: Tables, entry: events.Entry) -> None:  # noqa: C901, PLR0912 - one case for each kind
    """Add one event up. Raises ImpossibleEvent; some rows may have been written by then, so roll back."""
    event, seq = entry.event, entry.seq
    _require((seq == 1) is isinstance(event, events.Init), "a CA begins with init, and only once")
    match event:
        case events.Init() | events.TakeOver():
            pass
        case events.Issue():
            tables.put(Lineage(lineage=seq, id=event.id, generation=1, issuer=event.issuer, serial=event.serial))
            _certify(tables, event, seq, lineage=seq, generation=1, online=event.token is not None)
        case events.Renew():
            _renew(tables, event, seq)
        case events.Revoke():
            _revoke(tables, event)
        case events.Suspect():
            lineage = _known(tables.get(Lineage, event.lineage), f"there is no lineage {event.lineage}")
            tables.put(msgspec.structs.replace(lineage, suspect=True))
        case events.TokenCreate():
            _require(tables.get(Token, event.token) is None, f"token {event.token} exists already")
            tables.put(
                Token(
                    token=event.token,
                    secret_sha256=event.secret_sha256,
                    id=event.id,
                    dns=event.dns,
                    ips=event.ips,
                    leaf_ttl=event.leaf_ttl,
                    created=event.at,
                    expires=event.expires,
                    uses=event.uses,
                )
            )
        case events.TokenUse():
            _use(tables, event)
        case events.TokenRevoke():
            tables.put(msgspec.structs.replace(_token(tables, event.token), state=TokenState.REVOKED))
        case events.TokenLock():
            tables.put(msgspec.structs.replace(_token(tables, event.token), state=TokenState.LOCKED))
        case events.RotatePrepare():
            _prepare(tables, event)
        case events.RotateActivate():
            _activate(tables, event)
        case events.RotateRetire():
            _move(tables, event.what, event.slot, State.RETIRED)
        case events.RotateTaint():
            _move(tables, event.what, event.slot, State.TAINTED)
        case events.PublishBundle():
            _advance(tables, BUNDLE, event.sequence)
            for root in slots.trusted(tables.every(AuthorityState)):
                if not root.published:
                    tables.put(msgspec.structs.replace(root, published=event.sequence))
        case events.PublishDenyList():
            _advance(tables, DENY_LIST, event.sequence)
        case events.PublishCrl():
            _advance(tables, CRL, event.number)
        case events.Restore():
            _advance(tables, BUNDLE, event.bundle_sequence)
            _advance(tables, DENY_LIST, event.deny_list_sequence)
            _advance(tables, CRL, event.crl_number)


def _certify(tables: Tables, event: events.Certified, seq: int, *, lineage: int, generation: int, online: bool) -> None:
    known = tables.get(Issued, event.issuer, event.serial)
    _require(known is None, f"serial {event.serial} of issuer {event.issuer} exists already")
    tables.put(
        Issued(
            issuer=event.issuer,
            serial=event.serial,
            seq=seq,
            id=event.id,
            spki=event.spki,
            fingerprint=event.fingerprint,
            not_before=event.not_before,
            not_after=event.not_after,
            lineage=lineage,
            generation=generation,
            online=online,
            bundle_sequence=event.bundle_sequence,
        )
    )


def _renew(tables: Tables, event: events.Renew, seq: int) -> None:
    previous = _known(
        tables.get(Issued, event.previous_issuer, event.previous_serial),
        f"there is no serial {event.previous_serial} to renew",
    )
    lineage = _known(tables.get(Lineage, previous.lineage), f"there is no lineage {previous.lineage}")
    latest = (lineage.issuer, lineage.serial) == (event.previous_issuer, event.previous_serial)
    _require(latest, f"serial {event.previous_serial} is not the latest of its lineage")
    _require(not lineage.suspect, f"lineage {lineage.lineage} is suspect")
    _require(event.id == lineage.id, f"lineage {lineage.lineage} is of {lineage.id}")
    generation = lineage.generation + 1
    tables.put(msgspec.structs.replace(lineage, generation=generation, issuer=event.issuer, serial=event.serial))
    _certify(tables, event, seq, lineage=lineage.lineage, generation=generation, online=True)


def _revoke(tables: Tables, event: events.Revoke) -> None:
    """The same subject may be revoked again, which only ever adds: later ends, later cut-offs, the first reason."""
    before = tables.get(Revocation, event.by, event.issuer, event.subject)
    tables.put(
        Revocation(
            by=event.by,
            issuer=event.issuer,
            subject=event.subject,
            cutoff=max(filter(None, (event.cutoff, before.cutoff)), default=None) if before else event.cutoff,
            until=max(event.until, before.until) if before else event.until,
            at=before.at if before else event.at,
            reason=before.reason if before else event.reason,
        )
    )


def _use(tables: Tables, event: events.TokenUse) -> None:
    token = _token(tables, event.token)
    _require(token.state is TokenState.OPEN, f"token {event.token} is {token.state}")
    _require(event.use == token.used + 1, f"use {event.use} of token {event.token} is not its next")
    _require(event.use <= token.uses, f"token {event.token} is used up")
    _require(tables.get(Issued, event.issuer, event.serial) is not None, f"there is no serial {event.serial}")
    tables.put(msgspec.structs.replace(token, used=event.use))
    tables.put(
        Redemption(
            token=event.token,
            use=event.use,
            at=event.at,
            spki=event.spki,
            peer=event.peer,
            issuer=event.issuer,
            serial=event.serial,
        )
    )


def _prepare(tables: Tables, event: events.RotatePrepare) -> None:
    _require(tables.get(AuthorityState, What.INTERMEDIATE, event.slot) is None, f"slot {event.slot} exists already")
    for what, key_id, certificate in (
        (What.ROOT, event.root_key_id, event.root_certificate),
        (What.INTERMEDIATE, event.key_id, event.certificate),
    ):
        if what is What.ROOT and event.what is not What.ROOT:
            continue  # below a root that is there already
        _require(slots.one(tables.every(AuthorityState), what, State.PREPARED) is None, f"a second {what} is prepared")
        tables.put(
            AuthorityState(
                what=what,
                slot=event.slot,
                key_id=key_id,
                root_key_id=event.root_key_id,
                certificate=certificate,
                state=State.PREPARED,
            )
        )


def _activate(tables: Tables, event: events.RotateActivate) -> None:
    """The one before becomes old; with a root, so does its intermediate, for every root brings its own."""
    if event.what is What.INTERMEDIATE:
        root = slots.above(tables.every(AuthorityState), _legal(tables, event.what, event.slot, State.ACTIVE))
        _require(root is not None and root.state is State.ACTIVE, f"the root of {event.slot} is not active")
    for what in (What.ROOT, What.INTERMEDIATE) if event.what is What.ROOT else (What.INTERMEDIATE,):
        chosen = _legal(tables, what, event.slot, State.ACTIVE)
        if before := slots.one(tables.every(AuthorityState), what, State.ACTIVE):
            tables.put(msgspec.structs.replace(before, state=State.OLD))
        tables.put(msgspec.structs.replace(chosen, state=State.ACTIVE))


def _move(tables: Tables, what: What, slot: str, to: State) -> None:
    """Retire or taint; with a root goes what is below it, as far as it has not gone further already.

    What was only prepared below a root that is tainted will never sign, so it is retired.
    """
    moved = _legal(tables, what, slot, to)
    tables.put(msgspec.structs.replace(moved, state=to))
    if what is not What.ROOT:
        return
    for each in slots.below(tables.every(AuthorityState), moved):
        follows = State.RETIRED if each.state is State.PREPARED else to
        if follows in slots.MOVES[each.state]:
            tables.put(msgspec.structs.replace(each, state=follows))


def _legal(tables: Tables, what: What, slot: str, to: State) -> AuthorityState:
    found = _known(tables.get(AuthorityState, what, slot), f"there is no {what} {slot}")
    _require(to in slots.MOVES[found.state], f"the {what} {slot} is {found.state}, it cannot become {to}")
    return found


def _advance(tables: Tables, name: str, value: int) -> None:
    _require(value > sequence(tables, name), f"the {name} number {value} was used already")
    tables.put(Sequence(name=name, value=value))


def _token(tables: Tables, name: str) -> Token:
    return _known(tables.get(Token, name), f"there is no token {name}")


def _known(row: R | None, otherwise: str) -> R:
    if row is None:
        raise ImpossibleEvent(otherwise)
    return row


def _require(condition: bool, otherwise: str) -> None:  # noqa: FBT001 - it reads as `assert`
    if not condition:
        raise ImpossibleEvent(otherwise)
