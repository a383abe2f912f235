"""ca.toml: the trust domain, what leaves may ask for, and what the server keeps to. Text in, a checked value out."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_network
from typing import TYPE_CHECKING, Final

import msgspec

from ca.issuance import PathGlob, Rule
from ca.lifetime import SHORTEST, LeafLimits, in_words
from ca.profiles import dns_name_fault
from ca.spiffe_id import TrustDomain

if TYPE_CHECKING:
    from collections.abc import Iterator

_RULE_HEADER: Final = "[[issue]]"


class ConfigurationError(ValueError):
    """A ca.toml that cannot be used; the text is a phrase that says why."""


class Rates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[rates]`: what the server answers at most; per second where nothing else is said."""

    enrol_per_address: float = 1.0
    enrol_burst_per_address: int = 5
    enrol_total: float = 20.0
    renew_per_identity_per_minute: float = 6.0
    renew_total: float = 500.0
    wrong_secrets: int = 10  # on one token, then it is locked

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if getattr(self, name) <= 0:
                raise ValueError(f"[rates] {name} must be more than 0")


@dataclass(frozen=True, slots=True)
class Configuration:
    """What ca.toml says.

    `refresh_hint`: how often who trusts this CA should ask for bundle and deny-list; `deny_list_life`: for how long a
    deny-list is good, after which it is stale.
    """

    trust_domain: TrustDomain
    limits: LeafLimits = field(default_factory=LeafLimits)
    rules: tuple[Rule, ...] = ()
    rates: Rates = field(default_factory=Rates)
    refresh_hint: timedelta = timedelta(seconds=60)
    deny_list_life: timedelta = timedelta(hours=1)


class _LeafTable(msgspec.Struct, forbid_unknown_fields=True):
    default_seconds: int
    minimum_seconds: int
    maximum_seconds: int
    unsafe_short_leaves: bool = False


class _RuleTable(msgspec.Struct, forbid_unknown_fields=True):
    paths: list[str]
    deny: bool = False
    maximum_seconds: int | None = None
    default_seconds: int | None = None
    dns_suffixes: list[str] | None = None
    ip_networks: list[str] | None = None
    renew_grace_seconds: int = 0


class _TrustTable(msgspec.Struct, forbid_unknown_fields=True):
    refresh_hint_seconds: int = 60
    deny_list_seconds: int = 3600


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """The file. Lifetimes are whole seconds: `ca` stands below the room that reads "24h"."""

    trust_domain: str
    leaf: _LeafTable
    issue: list[_RuleTable] = []
    trust: _TrustTable = msgspec.field(default_factory=_TrustTable)
    rates: Rates = msgspec.field(default_factory=Rates)


def read(content: bytes) -> Configuration:
    """Read a ca.toml. Raises ConfigurationError."""
    try:
        text = content.decode()
        file = msgspec.convert(tomllib.loads(text), _File)
        limits = LeafLimits(
            default=timedelta(seconds=file.leaf.default_seconds),
            minimum=timedelta(seconds=file.leaf.minimum_seconds),
            maximum=timedelta(seconds=file.leaf.maximum_seconds),
            short=file.leaf.unsafe_short_leaves,
        )
        return Configuration(
            trust_domain=TrustDomain.parse(file.trust_domain),
            limits=limits,
            rules=tuple(_rules(file.issue, text, limits)),
            rates=file.rates,
            refresh_hint=_span("refresh_hint_seconds", file.trust.refresh_hint_seconds, most=timedelta(hours=1)),
            deny_list_life=_span("deny_list_seconds", file.trust.deny_list_seconds, most=timedelta(days=7)),
        )
    except RecursionError as error:
        raise ConfigurationError("it is nested too deeply") from error
    except (ValueError, OverflowError) as error:  # undecodable, TOML, msgspec and our own are all ValueErrors
        raise ConfigurationError(str(error)) from error


def first_text(configuration: Configuration) -> bytes:
    """The ca.toml of a new CA, with what may be added to it as comments."""
    limits = configuration.limits
    short = "unsafe_short_leaves = true\n" if limits.short else ""
    return f"""\
# A meshproxy certificate authority. The trust domain is fixed for its life; the limits may be tightened.
trust_domain = "{configuration.trust_domain}"

[leaf]  # lifetimes, in seconds: 300 <= minimum <= default <= maximum <= 604800
default_seconds = {int(limits.default.total_seconds())}
minimum_seconds = {int(limits.minimum.total_seconds())}
maximum_seconds = {int(limits.maximum.total_seconds())}
{short}\
# unsafe_short_leaves = true  # lets minimum_seconds go down to 10. A leaf of seconds is dead before a CA that restarts
#                             # is back, and is backdated by a quarter of its life only: clocks must agree that well.

# Who may be issued what. Without any [[issue]], every path but /meshproxy/**; with some, the first that matches
# decides, and what none matches is refused. Asked again for every renewal.
# [[issue]]
# paths = ["/legacy/**"]
# deny = true
# [[issue]]
# paths = ["/batch/*"]
# maximum_seconds = 3600
# dns_suffixes = ["batch.internal"]   # left out: any; []: none
# ip_networks = ["10.0.0.0/8"]        # as above
# renew_grace_seconds = 86400         # may be renewed so long after its end; 0 unless said
# [[issue]]
# paths = ["/**"]

# [trust]
# refresh_hint_seconds = 60           # how often bundle and deny-list are to be asked for
# deny_list_seconds = 3600            # after that, a deny-list is stale

# [rates]                             # per second
# enrol_per_address = 1.0
# enrol_burst_per_address = 5
# enrol_total = 20.0
# renew_per_identity_per_minute = 6.0
# renew_total = 500.0
# wrong_secrets = 10                  # on one token, then it is locked
""".encode()


def _rules(tables: list[_RuleTable], text: str, limits: LeafLimits) -> Iterator[Rule]:
    for table, line in zip(tables, _rule_lines(text) if tables else (), strict=True):
        try:
            yield _rule(table, line, limits)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"line {line}: {error}") from error


def _rule(table: _RuleTable, line: int, limits: LeafLimits) -> Rule:
    maximum, default = (_seconds(each) for each in (table.maximum_seconds, table.default_seconds))
    if not table.paths:
        raise ValueError("paths is empty: name at least one, as in /batch/*")
    if maximum is not None and maximum < limits.minimum:
        raise ValueError(f"maximum_seconds must be at least what every leaf lives, {in_words(limits.minimum)}")
    if default is not None and not limits.minimum <= default <= (maximum or limits.maximum):
        raise ValueError("default_seconds must be between the shortest and the longest life of a leaf")
    for suffix in table.dns_suffixes or ():
        if fault := dns_name_fault(suffix):
            raise ValueError(fault)
    return Rule(
        line=line,
        paths=tuple(map(PathGlob, table.paths)),
        deny=table.deny,
        maximum=maximum,
        default=default,
        dns_suffixes=None if table.dns_suffixes is None else tuple(table.dns_suffixes),
        networks=None if table.ip_networks is None else tuple(map(ip_network, table.ip_networks)),
        renew_grace=_span("renew_grace_seconds", table.renew_grace_seconds, least=0, most=timedelta(days=30)),
    )


def _seconds(value: int | None) -> timedelta | None:
    return None if value is None else timedelta(seconds=value)


def _span(name: str, seconds: int, *, least: int = int(SHORTEST.total_seconds()), most: timedelta) -> timedelta:
    if not least <= seconds <= most.total_seconds():
        raise ValueError(f"{name} must be between {least} and {int(most.total_seconds())}, found {seconds}")
    return timedelta(seconds=seconds)


def _rule_lines(text: str) -> Iterator[int]:
    """The lines of the `[[issue]]` headers, counted from 1, in a text that tomllib accepts.

    A line that looks like one may stand inside a string of several lines. It is a header if all between the last
    header and it is TOML by itself; inside a string that would lack its end.
    """
    lines = text.split("\n")
    begun = 0
    for number, line in enumerate(lines):
        words = line.split("#", 1)[0].replace(" ", "").replace("\t", "").rstrip("\r")
        if words not in {_RULE_HEADER, '[["issue"]]', "[['issue']]"}:
            continue
        try:
            tomllib.loads("\n".join(lines[begun:number]))
        except tomllib.TOMLDecodeError:
            continue
        yield number + 1
        begun = number
