"""Who may be certified as what, and for how long: the rules of ca.toml. Decisions only.

The first rule whose paths match an identity decides about it. Without any rule, every path may be issued; with rules,
what none of them matches is refused. `/meshproxy/**` is the mesh's own, whatever a rule says.

    [[issue]]                          # ca.toml
    paths = ["/batch/*", "/cron/**"]   # * is one whole segment, a trailing ** any number of them
    maximum_seconds = 3600
    dns_suffixes = ["batch.internal"]  # left out: any DNS name; []: none

Asked for every certificate, renewals included: whoever takes a right away here takes it away with the next renewal.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ca.lifetime import in_words
from ca.spiffe_id import SpiffeId, TrustDomain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Network, IPv6Network

    from ca.lifetime import LeafLimits
    from ca.profiles import Names

RESERVED: Final = "/meshproxy"  # for the mesh's own services: a CA that hands it out hands out the mesh
_ANY: Final = "*"
_TAIL: Final = "**"
_STAND_IN_DOMAIN: Final = TrustDomain("x")


class IssuanceRefused(ValueError):
    """What was asked for is not issued; the text is a sentence that says why, with the line of ca.toml."""


@dataclass(frozen=True, slots=True)
class PathGlob:
    """Paths of identities: `/batch/*`, `/cron/**`, `/web`. Constructing one checks it; ValueError with a phrase."""

    text: str

    def __post_init__(self) -> None:
        segments = self.text.split("/")[1:]
        if not self.text.startswith("/"):
            raise ValueError(f"{self.text[:80]!a} is no path of identities: it must begin with /, as in /batch/*")
        if any(
            _ANY in each and each != _ANY for each in segments[:-1] + ([] if segments[-1] == _TAIL else segments[-1:])
        ):
            raise ValueError(
                f"{self.text[:80]!a}: * only as a whole segment (/batch/*), ** only as the last (/batch/**)"
            )
        plain = "/".join(["", *("x" if each in {_ANY, _TAIL} else each for each in segments)])
        SpiffeId.of(_STAND_IN_DOMAIN, plain)  # segments obey SPIFFE-ID 2.2

    def match(self, path: str) -> bool:
        """Whether it matches the path of an identity; `/batch/**` matches `/batch` too."""
        wanted, found = self.text.split("/")[1:], path.split("/")[1:]
        if wanted[-1] == _TAIL:
            wanted = wanted[:-1]
            found = found[: len(wanted)]
        return len(wanted) == len(found) and all(w in {_ANY, f} for w, f in zip(wanted, found, strict=True))


@dataclass(frozen=True, slots=True)
class Rule:
    """One `[[issue]]` of ca.toml, `line` counted from 1. None in a limit: as for every leaf of this CA."""

    line: int
    paths: tuple[PathGlob, ...]
    deny: bool = False
    maximum: timedelta | None = None
    default: timedelta | None = None
    dns_suffixes: tuple[str, ...] | None = None
    networks: tuple[IPv4Network | IPv6Network, ...] | None = None
    renew_grace: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What an identity may have. `ttl` is the lifetime decided: what was asked for, or what the rules give unasked.

    `renew_grace` is for how long after its end a leaf may still be renewed by whoever holds its key.
    """

    ttl: timedelta
    limits: LeafLimits
    renew_grace: timedelta


def is_reserved(path: str) -> bool:
    """Whether a path belongs to the mesh itself."""
    return path == RESERVED or path.startswith(f"{RESERVED}/")


def decide(
    rules: Sequence[Rule],
    limits: LeafLimits,
    home: TrustDomain,
    names: Names,
    ttl: timedelta | None,
    *,
    fit: bool = False,
) -> Allowed:
    """Whether `names` may be certified, for `ttl` (None: whatever is usual) within `limits`. Raises IssuanceRefused.

    `fit`: a lifetime outside the limits is fitted into them: it was granted once, and the rules have changed since.
    """
    if names.id.trust_domain != home:
        raise IssuanceRefused(f"{names.id} is of another trust domain; this CA issues for {home} only")
    path = names.id.path
    if is_reserved(path):
        raise IssuanceRefused(f"{path} is reserved: {RESERVED}/** is for the mesh itself; choose another path")
    rule = _rule(rules, path)
    if rule is None:
        return Allowed(_wanted(ttl, limits, fit=fit), limits, timedelta(0))
    for name in names.dns:
        if rule.dns_suffixes is not None and not any(_is_within(name, suffix) for suffix in rule.dns_suffixes):
            raise IssuanceRefused(
                f"{path} may not have the DNS name {name}: ca.toml line {rule.line} allows "
                f"{', '.join(rule.dns_suffixes) or 'none'}"
            )
    for address in names.ips:
        if rule.networks is not None and not any(address in network for network in rule.networks):
            raise IssuanceRefused(
                f"{path} may not have the address {address}: ca.toml line {rule.line} allows "
                f"{', '.join(map(str, rule.networks)) or 'none'}"
            )
    own = _within(limits, rule)
    wanted = _wanted(ttl, own, fit=fit)
    if limits.maximum >= wanted > own.maximum:
        raise IssuanceRefused(
            f"a lifetime of {in_words(wanted)} is too long for {path}: at most {in_words(own.maximum)}, as ca.toml "
            f"line {rule.line} says"
        )
    return Allowed(wanted, own, rule.renew_grace)


def _rule(rules: Sequence[Rule], path: str) -> Rule | None:
    """The rule that decides about a path; None when there are no rules. Raises IssuanceRefused when it denies."""
    if not rules:
        return None
    for rule in rules:
        glob = next((each for each in rule.paths if each.match(path)), None)
        if glob is None:
            continue
        if rule.deny:
            raise IssuanceRefused(f"{path} is not issued: ca.toml line {rule.line} denies {glob.text}")
        return rule
    raise IssuanceRefused(f"{path} is not issued: no rule of ca.toml (from line {rules[0].line} on) allows it")


def _wanted(ttl: timedelta | None, limits: LeafLimits, *, fit: bool) -> timedelta:
    if ttl is None:
        return limits.default
    return min(max(ttl, limits.minimum), limits.maximum) if fit else ttl


def _within(limits: LeafLimits, rule: Rule) -> LeafLimits:
    maximum = limits.maximum if rule.maximum is None else min(rule.maximum, limits.maximum)
    default = min(limits.default if rule.default is None else rule.default, maximum)
    return limits.narrowed(default=default, maximum=maximum)


def _is_within(name: str, suffix: str) -> bool:
    return name == suffix or name.endswith(f".{suffix}")
