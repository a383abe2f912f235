"""The statuses of several workers made into that of one sidecar; pure."""

from __future__ import annotations

from collections import Counter
from operator import attrgetter
from typing import TYPE_CHECKING

from msgspec.structs import replace

from meshproxy.admin.status import LoadStatus, UnusedRules

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from meshproxy.admin.status import (
        DenialStatus,
        IdentityStatus,
        ListenerStatus,
        ObjectionStatus,
        PolicyStatus,
        Status,
        TrustStatus,
    )

_DENIALS_KEPT = 50
_OBJECTIONS_SHOWN = 100
_WORST_FIRST = ("refusing", "draining", "overloaded", "serving")


def merged(base: Status, workers: Sequence[Status], gone: Status | None = None) -> Status:
    """Return `base`, which knows everything but what workers count, with the counts of the living and of the `gone`.

    The identity is one that all have taken up.
    """
    counted = [*workers, gone] if gone is not None else workers
    objections, beyond = _objections(counted)
    return replace(
        base,
        identity=_identity([each.identity for each in workers], base.identity),
        listeners=tuple(replace(_listener(each, counted), policy=_policy(each, workers)) for each in base.listeners),
        denials=_denials(counted),
        objections=objections,
        objections_beyond=beyond,
        log_lines_dropped=base.log_lines_dropped + _dropped(counted),
        audit=tuple(each for status in workers for each in status.audit),
        load=_load([each.load for each in workers if each.load is not None]),
    )


def remembered(gone: Status | None, last: Status) -> Status:
    """Return what stays of a worker that has ended, and of those that ended before it: counts, but nothing open."""
    counted = [last] if gone is None else [gone, last]
    listeners = {(each.direction, each.name): each for status in counted for each in status.listeners}
    objections, beyond = _objections(counted)
    return replace(
        last,
        listeners=tuple(replace(_listener(each, counted), open=0) for each in listeners.values()),
        denials=_denials(counted),
        objections=objections,
        objections_beyond=beyond,
        log_lines_dropped=_dropped(counted),
    )


def worst(states: Collection[str], *, of_none: str) -> str:
    """Return the state of a sidecar whose workers are in these: it serves when all serve who live."""
    return next((state for state in _WORST_FIRST if state in states), of_none)


def _identity(of_workers: Sequence[IdentityStatus], default: IdentityStatus) -> IdentityStatus:
    """Return the identity that is not ready, else the one that was loaded first: the last to follow decides."""
    if not of_workers:
        return default
    last = min(of_workers, key=attrgetter("ready", "loaded_at"))
    # One that was started again counts its loads anew, and has what the others have.
    generation = max(each.generation for each in of_workers if each.serial == last.serial)
    return replace(
        last,
        generation=generation,
        last_error=max(each.last_error for each in of_workers),
        renewal=default.renewal,  # only the supervisor renews
        trust=_trust([each.trust for each in of_workers if each.trust is not None]),
    )


def _trust(of_workers: Sequence[TrustStatus]) -> TrustStatus | None:
    """Return that of the last to follow."""
    if not of_workers:
        return None
    last = min(of_workers, key=lambda each: (each.deny_list or 0, -len(each.federated)))
    return replace(last, last_error=max(each.last_error for each in of_workers))


def _load(of_workers: Sequence[LoadStatus]) -> LoadStatus | None:
    if not of_workers:
        return None
    mosts = [each.most_in_flight for each in of_workers if each.most_in_flight is not None]
    return LoadStatus(
        max(each.turned_away_for for each in of_workers),
        max(each.lag_seconds for each in of_workers),
        sum(each.in_flight for each in of_workers),
        sum(mosts) if len(mosts) == len(of_workers) else None,
        sum(each.descriptors_held for each in of_workers),
        sum(each.descriptors for each in of_workers),
    )


def _listener(base: ListenerStatus, counted: Sequence[Status]) -> ListenerStatus:
    key = (base.direction, base.name)
    found = [each for status in counted for each in status.listeners if (each.direction, each.name) == key]
    return replace(
        base,
        open=sum(each.open for each in found),
        decided=_sums(each.decided for each in found),
        ended=_sums(each.ended for each in found),
        answered=_sums(each.answered for each in found),
        handshake_failures=sum(each.handshake_failures for each in found),
        refused=_sums(each.refused for each in found),
        failed_upstream=sum(each.failed_upstream for each in found),
        limits_reached=_sums(each.limits_reached for each in found),
    )


def _policy(base: ListenerStatus, workers: Sequence[Status]) -> PolicyStatus | None:
    """Return the allow-list with the rules that no worker has let anybody in by, since the last of them began to look.

    What workers had granted that are gone is older than that.
    """
    if base.policy is None:
        return None
    key = (base.direction, base.name)
    found = [each.policy for status in workers for each in status.listeners if (each.direction, each.name) == key]
    told = [each for each in found if each is not None and each.hash == base.policy.hash]
    if len(told) < len(workers):  # somebody judges by another list, in the middle of a change
        return base.policy
    since: dict[str, list[str]] = {}
    for policy in told:
        for unused in policy.unused:
            for rule in unused.rules:
                since.setdefault(rule, []).append(unused.since)
    by_time: dict[str, list[str]] = {}
    for rule, times in since.items():
        if len(times) == len(told):
            by_time.setdefault(max(times), []).append(rule)
    return replace(base.policy, unused=tuple(UnusedRules(time, tuple(rules)) for time, rules in by_time.items()))


def _sums(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)


def _denials(counted: Sequence[Status]) -> tuple[DenialStatus, ...]:
    """Return the last ones of all, in the order of time."""
    every = sorted((each for status in counted for each in status.denials), key=attrgetter("ts"))
    return tuple(every[-_DENIALS_KEPT:])


def _objections(counted: Sequence[Status]) -> tuple[tuple[ObjectionStatus, ...], int]:
    """Return the most frequent, the same ones added up, and how often all others were raised."""
    found: dict[tuple[str, ...], ObjectionStatus] = {}
    for each in (each for status in counted for each in status.objections):
        key = (each.listener, each.outcome, each.caller, each.asked, each.reason)
        other = found.get(key)
        if other is not None:
            latest = max(other, each, key=attrgetter("last"))
            nearest = latest.nearest or other.nearest or each.nearest
            each = replace(latest, count=other.count + each.count, nearest=nearest)  # noqa: PLW2901 - the two are one
        found[key] = each
    in_order = sorted(found.values(), key=attrgetter("count"), reverse=True)
    rest = sum(each.count for each in in_order[_OBJECTIONS_SHOWN:])
    return tuple(in_order[:_OBJECTIONS_SHOWN]), rest + sum(status.objections_beyond for status in counted)


def _dropped(counted: Sequence[Status]) -> int:
    return sum(status.log_lines_dropped for status in counted)
