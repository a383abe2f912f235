"""Authorities and their turns: prepare, wait until everybody trusts it, activate, wait again, retire. Decisions only.

A slot is a directory below `authorities/`, made once and never written over:

    0001-<key id>/   root.crt root.key int.crt int.key state     a root and an intermediate below it
    0002-<key id>/   root.crt          int.crt int.key state     another intermediate below a root that is there already

The root of a slot and its intermediate have states of their own: when an intermediate was replaced, its root signs on.
The ledger decides which state holds; the file `state` repeats it for people and for earlier versions.

Roots need time, for a root that signs before everybody trusts it cuts the mesh in two. Intermediates need none: every
leaf brings its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509

from ca.events import What
from ca.lifetime import in_words
from ca.rows import AuthorityState, State

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from ca.lifetime import Validity
    from ca.rows import Issued, Rows

# What may become of an authority. Retiring what was only prepared is giving the preparation up.
MOVES: Final[Mapping[State, frozenset[State]]] = {
    State.PREPARED: frozenset({State.ACTIVE, State.RETIRED}),
    State.ACTIVE: frozenset({State.OLD, State.TAINTED}),
    State.OLD: frozenset({State.TAINTED, State.RETIRED}),
    State.TAINTED: frozenset({State.RETIRED}),
    State.RETIRED: frozenset(),
}
_DUE: Final = 2 / 3  # of an intermediate's life: then its successor signs, and a leaf fits into what is left


class RotationError(ValueError):
    """A rotation that may not be; the text is a sentence that says why and what to do."""


@dataclass(frozen=True, slots=True)
class Laggard:
    """A holder that has not said it trusts the root that is about to sign. `sequence` is what it trusts, 0: unsaid."""

    id: str
    lineage: int
    sequence: int
    until: datetime  # when its last leaf expires


def one(authorities: Iterable[AuthorityState], what: What, state: State) -> AuthorityState | None:
    """The first authority of a kind in a state; of prepared and active ones there is never a second."""
    return next((each for each in authorities if each.what is what and each.state is state), None)


def below(authorities: Iterable[AuthorityState], root: AuthorityState) -> tuple[AuthorityState, ...]:
    """The intermediates that this root signed."""
    return tuple(
        each for each in authorities if each.what is What.INTERMEDIATE and each.root_key_id == root.root_key_id
    )


def above(authorities: Iterable[AuthorityState], intermediate: AuthorityState) -> AuthorityState | None:
    """The root that signed this intermediate."""
    roots = (each for each in authorities if each.what is What.ROOT)
    return next((each for each in roots if each.key_id == intermediate.root_key_id), None)


def is_retired(authorities: Iterable[AuthorityState], key_id: str) -> bool:
    """Whether the intermediate with this key id was retired: then nobody believes what it signed (`ca/deny_list`)."""
    intermediates = (each for each in authorities if each.what is What.INTERMEDIATE)
    return any(each.key_id == key_id and each.state is State.RETIRED for each in intermediates)


def trusted(authorities: Iterable[AuthorityState]) -> tuple[AuthorityState, ...]:
    """The roots of the bundle, oldest first: all that are not retired."""
    roots = (each for each in authorities if each.what is What.ROOT and each.state is not State.RETIRED)
    return tuple(sorted(roots, key=lambda each: each.slot))


def roots(rows: Rows) -> tuple[x509.Certificate, ...]:
    """The certificates of the bundle, oldest first."""
    return tuple(x509.load_der_x509_certificate(each.certificate) for each in trusted(rows.every(AuthorityState)))


def every_root(rows: Rows) -> tuple[x509.Certificate, ...]:
    """The certificates of all roots there ever were: old signatures are judged by them."""
    found = (each for each in rows.every(AuthorityState) if each.what is What.ROOT)
    return tuple(x509.load_der_x509_certificate(each.certificate) for each in found)


def is_due(intermediate: Validity, now: datetime) -> bool:
    """Whether an intermediate has lived so long that its successor should sign from now on."""
    return now >= intermediate.not_before + (intermediate.not_after - intermediate.not_before) * _DUE


def next_name(taken: Iterable[str], short_key_id: str) -> str:
    """The name of the next slot: one more than the highest number in use, and whose it is."""
    numbers = [int(name[:4]) for name in taken if name[:4].isascii() and name[:4].isdigit()]
    return f"{max(numbers, default=0) + 1:04d}-{short_key_id}"


def laggards(
    leaves: Iterable[Issued], reported: Mapping[int, int], *, sequence: int, now: datetime
) -> tuple[Laggard, ...]:
    """Whom the activation of a root would cut off: holders of a leaf that lives, by what they trust.

    `leaves` are those that are not revoked; `reported` is, by lineage, the sequence of the roots that its holder said
    it has loaded. Who got his leaf as files got the roots in the same moment and by the same rename, and reports
    nothing: each of his leaves speaks for itself. `sequence` is the bundle's since the root is in it.
    """
    found: dict[int, Laggard] = {}
    for leaf in leaves:
        if leaf.not_after < now:
            continue
        trusts = reported.get(leaf.lineage, 0)
        if not leaf.online:
            trusts = max(trusts, leaf.bundle_sequence)
        if trusts < sequence:
            before = found.get(leaf.lineage)
            until = max(leaf.not_after, before.until) if before else leaf.not_after
            found[leaf.lineage] = Laggard(leaf.id, leaf.lineage, trusts, until)
    return tuple(sorted(found.values(), key=lambda each: (each.id, each.lineage)))


def may_prepare(authorities: Sequence[AuthorityState], what: What) -> None:
    """Raise RotationError when something is prepared already, or when there is nothing to sign an intermediate with."""
    for kind in What:
        if waiting := one(authorities, kind, State.PREPARED):
            raise RotationError(
                f"a {kind} is prepared already ({waiting.slot}); activate it, or give it up with "
                f"meshproxy ca rotate retire --what {kind} --slot {waiting.slot}"
            )
    if what is What.INTERMEDIATE and one(authorities, What.ROOT, State.ACTIVE) is None:
        raise RotationError(
            "no root is active, so nothing can sign an intermediate; prepare a root with meshproxy ca rotate prepare "
            "--what root"
        )


def may_activate(
    authorities: Sequence[AuthorityState], what: What, *, behind: Collection[Laggard], force: bool
) -> AuthorityState:
    """The authority that is to be activated. Raises RotationError when none is prepared, and, for a root without
    `force`, when somebody would be cut off.
    """  # noqa: D205 - one sentence each
    waiting = one(authorities, what, State.PREPARED)
    if waiting is None:
        raise RotationError(f"no {what} is prepared; begin with meshproxy ca rotate prepare --what {what}")
    root = waiting if what is What.ROOT else above(authorities, waiting)
    if what is What.INTERMEDIATE and (root is None or root.state is not State.ACTIVE):
        raise RotationError(
            f"the root of the intermediate {waiting.slot} is not active; activate that one first, with meshproxy ca "
            "rotate activate --what root: its intermediate goes with it"
        )
    if what is What.ROOT and behind and not force:
        first = next(iter(behind))
        others = f" and {len(behind) - 1} more" if len(behind) > 1 else ""
        raise RotationError(
            f"{first.id}{others} would be cut off: {'its holder has' if len(behind) == 1 else 'their holders have'} "
            f"not loaded the new root yet; see meshproxy ca rotate status, wait, or leave them behind with --force"
        )
    return waiting


def may_retire(
    authorities: Sequence[AuthorityState],
    what: What,
    slot: str | None,
    *,
    lives_until: Mapping[str, datetime],
    now: datetime,
    force: bool,
) -> AuthorityState:
    """The authority that is to be retired: the one in `slot`, else the only one that is neither active nor prepared.

    `lives_until` is, by key id of an intermediate, when the last leaf it signed expires, revoked ones left out. Raises
    RotationError when there is no such authority, when it is active, and, without `force`, while a leaf of it lives.
    """
    chosen = _chosen(authorities, what, slot, {State.OLD, State.TAINTED})
    if chosen.state is State.ACTIVE:
        raise RotationError(
            f"the {what} {chosen.slot} is active; prepare and activate another one first, or nothing can be issued"
        )
    root = above(authorities, chosen)
    if what is What.INTERMEDIATE and chosen.state is State.PREPARED and root and root.state is State.PREPARED:
        raise RotationError(f"the root of {chosen.slot} is prepared as well, and is useless alone; retire --what root")
    signers = below(authorities, chosen) if what is What.ROOT else (chosen,)
    ends = max((lives_until[each.key_id] for each in signers if each.key_id in lives_until), default=now)
    if ends > now and not force:
        raise RotationError(
            f"a certificate of the {what} {chosen.slot} lives for another {in_words(ends - now)}; its holder would be "
            "cut off: wait, or retire it now with --force"
        )
    return chosen


def may_taint(authorities: Sequence[AuthorityState], what: What, slot: str | None, *, force: bool) -> AuthorityState:
    """The authority that is to be tainted: the one in `slot`, else the only old one.

    Raises RotationError when there is no such authority, and, without `force`, when it is the active one: nothing
    would be issued until another one is active.
    """
    chosen = _chosen(authorities, what, slot, {State.OLD})
    if State.TAINTED not in MOVES[chosen.state]:
        raise RotationError(
            f"the {what} {chosen.slot} is {chosen.state}; only one that is active or old can be tainted"
        )
    if chosen.state is State.ACTIVE and not force:
        raise RotationError(
            f"the {what} {chosen.slot} is active: first meshproxy ca rotate prepare --what {what}, then activate "
            "--force, then taint it; or taint it now with --force, and issue nothing until another one is active"
        )
    return chosen


def _chosen(
    authorities: Sequence[AuthorityState], what: What, slot: str | None, otherwise: Collection[State]
) -> AuthorityState:
    if slot is not None:
        named = next((each for each in authorities if each.what is what and each.slot == slot), None)
        if named is None:
            raise RotationError(f"there is no {what} {slot}; meshproxy ca rotate status lists them")
        if named.state is State.RETIRED:
            raise RotationError(f"the {what} {slot} is retired already")
        return named
    found = [each for each in authorities if each.what is what and each.state in otherwise]
    if len(found) == 1:
        return found[0]
    words = " or ".join(sorted(otherwise))
    if not found:
        raise RotationError(f"no {what} is {words}; name one with --slot, as meshproxy ca rotate status lists them")
    listed = ", ".join(each.slot for each in found)
    raise RotationError(f"several {what}s are {words} ({listed}); name one with --slot")
