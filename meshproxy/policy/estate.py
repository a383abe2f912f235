"""The allow-lists of a whole mesh in one directory: which file is of which service, and who may do what anywhere.

policies/team/pay/ledger.allow.toml      is of /team/pay/ledger, and of nobody else
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ca.spiffe_id import complete
from meshproxy.policy.cases import NOBODYS
from meshproxy.policy.regions import overlap

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from ca.spiffe_id import SpiffeId, TrustDomain
    from meshproxy.policy.document import Document, Rule
    from meshproxy.policy.match import IdentityPattern, PathPattern

SUFFIX: Final = ".allow.toml"


def service_of(name: str) -> str:
    """Return the path of the identity that a file is of; `name` is relative to the directory, with `/`.

    Raises ValueError with a phrase when no identity has such a path.
    """
    if not name.endswith(SUFFIX):
        raise ValueError(f"a name that ends in {SUFFIX}")
    return complete(f"/{name.removesuffix(SUFFIX)}", NOBODYS).path


def file_of(service: str) -> str:
    """Return the name of the file that is of the service with this path (`/team/pay/ledger`)."""
    return f"{service.removeprefix('/')}{SUFFIX}"


@dataclass(frozen=True, slots=True)
class Access:
    """That some callers may do something at a service: the caller pattern of a rule there, and the rule."""

    service: str
    callers: IdentityPattern
    rule: Rule
    file: str

    @property
    def what(self) -> str:
        """What they may do, as people say it."""
        rule = self.rule
        if not rule.is_http_only:
            return "anything"
        methods = "any method" if rule.methods is None else ", ".join(rule.methods)
        paths = "any path" if rule.paths is None else ", ".join(pattern.text for pattern in rule.paths)
        return f"{methods} on {paths}"

    @property
    def for_what(self) -> str:
        """The same, and until when."""
        return self.what + (f", until {self.rule.expires:%Y-%m-%d}" if self.rule.expires else "")


def accesses(services: Mapping[str, Document], *, now: datetime) -> Iterator[Access]:
    """Yield all that is granted anywhere at `now` (aware), service by service, in file order."""
    for service, document in services.items():
        for rule in document.rules:
            if not rule.expired(now):
                for pattern in dict.fromkeys(rule.callers):
                    yield Access(service, pattern, rule, document.file)


def who_can(found: Iterable[Access], *, method: str | None, path: PathPattern | None) -> Iterator[Access]:
    """Yield those that grant some of what is asked about; `method` and `path` None is any.

    `path` may be a pattern (`/accounts/**`): then whoever may reach anything below it.
    """
    for each in found:
        rule = each.rule
        if method is not None and rule.methods is not None and method not in rule.methods:
            continue
        if path is None or rule.paths is None or any(overlap(one.segments, path.segments) for one in rule.paths):
            yield each


def what_can(found: Iterable[Access], caller: SpiffeId, *, home: TrustDomain) -> Iterator[Access]:
    """Yield what is granted to one caller."""
    return (each for each in found if each.callers.match(caller, home=home))
