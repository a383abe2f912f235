"""Everything `run` would load, judged without starting anything: the settings, the allow-lists, the identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ca.identity_directory import TRUST
from meshproxy.audit.file import directory_problems
from meshproxy.enroll.remedies import new_token
from meshproxy.enroll.token_file import NoTokenFile, TokenFileError, read_token_file
from meshproxy.errors import FaultyInput, Problem
from meshproxy.identity.expiry import Urgency, Validity, urgency
from meshproxy.identity.material import MissingIdentity, read_material, remedy_for
from meshproxy.identity.own import leaf_marks, look_at_trust
from meshproxy.identity.trust import Trusted
from meshproxy.identity.usable import denied, staleness
from meshproxy.policy.ending import Notice, notice
from meshproxy.settings.load import FaultyConfiguration, load_configuration
from meshproxy.units import format_duration

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from meshproxy.identity.material import Material
    from meshproxy.settings.load import Configuration
    from meshproxy.settings.schema import IdentitySettings


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was found: all problems, and what is only worth a warning. Sound when there is no problem."""

    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]
    configuration: Configuration | None
    material: Material | None


def judge(path: Path, now: datetime) -> Judgement:
    """Judge a sidecar's file and all it names, at `now`.

    Stricter than starting: a missing or expired identity lets `run` start (refusing, and healing), but is a problem.
    """
    problems: list[Problem] = []
    configuration: Configuration | None = None
    try:
        configuration = load_configuration(path)
        identity: IdentitySettings | None = configuration.settings.identity
    except FaultyInput as faulty:
        problems += faulty.problems
        identity = faulty.identity if isinstance(faulty, FaultyConfiguration) else None
    if configuration is not None and configuration.settings.audit is not None:
        problems += directory_problems(configuration.settings.audit.file)
    before = len(problems)
    material = None if identity is None else _material(identity, now, problems)
    if identity is not None:
        problems += _token_faults(identity, needed=material is None and len(problems) == before)
    warnings = [*_expiring(material, now), *_ending_grants(configuration, now)]
    if identity is not None and material is not None:
        warnings += _trust(identity, material, now, problems)
    return Judgement(FaultyInput(problems).problems, tuple(warnings), configuration, material)


def identity_faults(identity: IdentitySettings | None) -> tuple[Problem, ...]:
    """Return what would keep `run` from starting with this identity; one that is missing or expired is waited for."""
    try:
        if identity is not None:
            read_material(identity)
    except FaultyInput as faulty:
        return faulty.problems
    except MissingIdentity:
        pass
    return ()


def _material(identity: IdentitySettings, now: datetime, problems: list[Problem]) -> Material | None:
    try:
        material = read_material(identity)
    except FaultyInput as faulty:
        problems += faulty.problems
        return None
    except MissingIdentity as missing:
        if identity.token_file is not None:
            return None  # it enrols itself: the token is judged instead
        problems.append(
            Problem(
                str(identity.dir), str(missing), "key.pem, chain.pem and bundle.pem of this service", missing.remedy
            )
        )
        return None
    validity = material.validity(now)
    if validity is not Validity.VALID:
        until = (
            f"valid from {material.leaf.not_before:%Y-%m-%dT%H:%M:%SZ} until {material.not_after:%Y-%m-%dT%H:%M:%SZ}"
        )
        remedy = remedy_for(identity, material.leaf.id.path)
        problems.append(
            Problem(
                str(identity.dir / "chain.pem"),
                f"a certificate that is {validity.replace('_', ' ')} ({until})",
                "one that is valid now",
                remedy if validity is Validity.EXPIRED else f"check this machine's clock, or {remedy}",
            )
        )
    return material


def _token_faults(identity: IdentitySettings, *, needed: bool) -> list[Problem]:
    """Judge the token to enrol with; who has an identity already may have thrown it away."""
    file = identity.token_file
    if file is None:
        return []
    try:
        read_token_file(file)
    except TokenFileError as error:
        if not needed and isinstance(error, NoTokenFile):
            return []
        expected = "a join token of the CA, which only this user can read"
        return [Problem(str(file), str(error), expected, new_token("/PATH", identity.ca, file))]
    return []


def _trust(identity: IdentitySettings, material: Material, now: datetime, problems: list[Problem]) -> list[str]:
    """Judge `trust.json`: what `run` would refuse for is a problem, what it would only tell a warning."""
    file = identity.dir / TRUST
    trusted, faults = look_at_trust(material, identity, before=Trusted(), now=now)
    denial = None if trusted.deny_list is None else trusted.deny_list.denies_marked(leaf_marks(material))
    refusals = (staleness(trusted, identity, now), None if denial is None else denied(material, denial, identity))
    problems += [
        Problem(str(file), str(fault), "whom the CA believes today, us among them", fault.remedy)
        for fault in refusals
        if fault is not None
    ]
    late = trusted.stale_for(now)
    stale = [] if late is None else [f"{file}: the deny-list is stale for {format_duration(late.total_seconds())}"]
    return [*(f"{file}: {fault}" for fault in faults), *stale]


def _expiring(material: Material | None, now: datetime) -> list[str]:
    if material is None:
        return []
    return [
        f"the {term.role} certificate expires in {format_duration((term.not_after - now).total_seconds())}"
        for term in material.terms
        if Urgency.NONE < urgency(term, now) < Urgency.EXPIRED
    ]


def _ending_grants(configuration: Configuration | None, now: datetime) -> list[str]:
    if configuration is None:
        return []
    policies = {policy.file: policy for policy in configuration.policies.values()}
    rules = [(f"{policy.file}:{rule.line}", rule) for policy in policies.values() for rule in policy.rules]
    return [
        f"{place}: rule {rule.name} expired at {rule.expires:%Y-%m-%d} and no longer grants"
        if rule.expired(now)
        else f"{place}: rule {rule.name} expires in {format_duration((rule.expires - now).total_seconds())}"
        for place, rule in rules
        if rule.expires is not None and notice(rule, now) is not Notice.NONE
    ]
