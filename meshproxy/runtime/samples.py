"""Numbers of several processes made into those of one sidecar; pure.

What is counted adds up, also what a process had counted that is gone: a total never goes backwards because somebody
died. What is a state has a rule for each family.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Labels = tuple[tuple[str, str], ...]


class Example(msgspec.Struct, frozen=True, array_like=True):
    """A trace that a bucket counts, how long it took, and when it ended (seconds since 1970)."""

    trace_id: str
    value: float
    at: float


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One number of `/metrics`; `name` is the sample's (`..._total`), `family` is what it belongs to."""

    family: str
    name: str
    labels: Labels
    value: float
    example: Example | None = None


class Fold(Enum):
    """How the values that several processes have for one sample become one."""

    SUM = auto()
    LOWEST = auto()  # the worst: one process with an older certificate is a sidecar with an older certificate
    HIGHEST = auto()
    SUPERVISOR = auto()  # only the supervisor knows
    COUNT = auto()  # a sum in which what the gone had counted stays, though the family is a gauge


GAUGES: Final[Mapping[str, Fold]] = {
    "meshproxy_connections_open": Fold.SUM,
    "meshproxy_tasks": Fold.SUM,
    "meshproxy_loop_lag_seconds": Fold.HIGHEST,
    "meshproxy_requests_in_flight": Fold.SUM,
    "meshproxy_requests_in_flight_limit": Fold.SUM,
    "meshproxy_overloaded": Fold.HIGHEST,
    "meshproxy_certificate_expiry_seconds": Fold.LOWEST,
    "meshproxy_grant_expiry_seconds": Fold.LOWEST,
    "meshproxy_identity_ready": Fold.LOWEST,
    "meshproxy_identity_generation": Fold.HIGHEST,
    "meshproxy_bundle_sequence": Fold.LOWEST,
    "meshproxy_deny_list_sequence": Fold.LOWEST,
    "meshproxy_deny_list_entries": Fold.LOWEST,
    "meshproxy_deny_list_age_seconds": Fold.HIGHEST,
    "meshproxy_deny_list_stale": Fold.HIGHEST,
    "meshproxy_federated_trust_domains": Fold.HIGHEST,
    "meshproxy_audit_queue_depth": Fold.SUM,
    "meshproxy_audit_failing": Fold.HIGHEST,
    "meshproxy_audit_checkpoint_age_seconds": Fold.HIGHEST,
    "meshproxy_reload_failing": Fold.SUPERVISOR,
    "meshproxy_configuration_generation": Fold.SUPERVISOR,
    "meshproxy_log_lines_dropped": Fold.COUNT,
    "meshproxy_trace_spans_waiting": Fold.SUM,
    "meshproxy_renewal_planned_seconds": Fold.SUPERVISOR,
    "meshproxy_renewal_last_success_timestamp_seconds": Fold.SUPERVISOR,
    "meshproxy_bundle_sequence_known": Fold.SUPERVISOR,
    "meshproxy_trust_age_seconds": Fold.SUPERVISOR,
}


def combined(
    supervisor: Iterable[Sample], workers: Iterable[Iterable[Sample]], gone: Iterable[Sample] = ()
) -> list[Sample]:
    """Return the samples of the sidecar; `gone` is what is `lasting` of the workers that have ended."""
    own = list(supervisor)
    values: dict[tuple[str, str, Labels], list[float]] = {}
    examples: dict[tuple[str, str, Labels], Example] = {}  # the last one of all
    for sample in (s for samples in (*workers, gone) for s in samples if _fold(s) is not Fold.SUPERVISOR):
        key = (sample.family, sample.name, sample.labels)
        values.setdefault(key, []).append(sample.value)
        if sample.example is not None and (key not in examples or examples[key].at < sample.example.at):
            examples[key] = sample.example
    for sample in own:
        key = (sample.family, sample.name, sample.labels)
        # A state that only workers are in is zero in the supervisor: it speaks for them when there is none.
        if _fold(sample) not in _STATES or key not in values:
            values.setdefault(key, []).append(sample.value)
    return [Sample(*key, _folded(Sample(*key, 0.0), found), examples.get(key)) for key, found in values.items()]


def lasting(samples: Iterable[Sample]) -> list[Sample]:
    """Return what of a worker's samples stays when it has ended: all that it counted."""
    return [sample for sample in samples if _fold(sample) is Fold.COUNT or sample.family not in GAUGES]


def granted_by_rule(samples: Iterable[Sample]) -> dict[str, dict[str, int]]:
    """Return how often each rule has granted, by listener; nothing when there were too many to tell them apart."""
    found: dict[str, dict[str, int]] = {}
    for sample in samples:
        if sample.name != "meshproxy_authz_decisions_total":
            continue
        labels = dict(sample.labels)
        listener, rule = labels["listener"], labels["rule"]
        if listener == "(other)":
            return {}
        if rule:
            rules = found.setdefault(listener, {})
            rules[rule] = rules.get(rule, 0) + int(sample.value)
    return found


_STATES: Final = frozenset({Fold.LOWEST, Fold.HIGHEST})


def _fold(sample: Sample) -> Fold:
    if sample.name.endswith("_created"):  # when a counter began: it has been counting since the first of all
        return Fold.LOWEST
    return GAUGES.get(sample.family, Fold.SUM)


def _folded(sample: Sample, values: list[float]) -> float:
    match _fold(sample):
        case Fold.LOWEST:
            return min(values)
        case Fold.HIGHEST:
            return max(values)
        case _:
            return sum(values)
