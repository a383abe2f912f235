"""An allow-list file, read into rules that cannot be wrong; or every fault in it at once.

One file per service, made for code review: `[[allow]]` tables with `from`, optionally `methods` and `paths` (HTTP),
`name`, `reason`, `owner`, `expires`, `audit`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Final

from meshproxy.policy.match import IdentityPattern, PathPattern
from meshproxy.toml import Judge, parse_toml, quote, written

if TYPE_CHECKING:
    from meshproxy.toml import Table

MAX_NOTE: Final = 1000  # characters of `reason` and `owner`; they go into every access log line's neighbourhood

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # becomes a metric label
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")  # RFC 9110 section 5.6.2
_RECORDED: Final = {"all": True, "off": False}
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"})


@dataclass(frozen=True, slots=True)
class Rule:
    """One grant. `methods` and `paths` are None when left out (any); `expires` is aware, in UTC.

    `recorded`: whether the audit log holds what it grants; None: the listener says.
    `ordinal` counts from 1 in file order, `line` is where the rule begins in the file.
    """

    name: str
    ordinal: int
    line: int
    callers: tuple[IdentityPattern, ...]
    methods: tuple[str, ...] | None = None
    paths: tuple[PathPattern, ...] | None = None
    reason: str = ""
    owner: str = ""
    expires: datetime | None = None
    recorded: bool | None = None

    def expired(self, now: datetime) -> bool:
        """Whether the rule no longer grants: from `expires` itself on. `now` is aware."""
        return self.expires is not None and now >= self.expires

    @property
    def is_http_only(self) -> bool:
        """Whether the rule says something a TCP connection cannot be judged by."""
        return self.methods is not None or self.paths is not None


@dataclass(frozen=True, slots=True)
class Document:
    """A faultless allow-list: its file as the user knows it, the rules in file order, and what it was read from.

    `content_hash` is the SHA-256 of the file's bytes, the first 12 hex digits.
    """

    file: str
    rules: tuple[Rule, ...]
    content_hash: str


def parse_allow_list(content: bytes, *, file: str, tcp_listener: str | None = None) -> Document:
    """Read the bytes of the allow-list the user knows as `file`; raises FaultyInput with every problem in it.

    `tcp_listener` names a tcp listener that is to be judged by this file, in words for a problem: such a listener sees
    connections only, so `methods` and `paths` are refused rather than silently not looked at.

    A file without rules is a problem unless it says `allow = []`: an empty file is more often an accident (a failed
    render, a full disk) than the wish to let nobody in.
    """
    judge = Judge(parse_toml(content, file=file))
    root = judge.root
    if "allow" not in root:
        root.problem(
            found="neither an [[allow]] rule nor `allow = []`",
            expected="at least one rule, or the written wish to allow nobody",
            remedy="Add [[allow]] with `from = [...]` below it, or write `allow = []`",
        )
    tables = root.tables("allow")
    rules = [_read_rule(table, ordinal) for ordinal, table in enumerate(tables, start=1)]
    if tcp_listener is not None:
        for rule, table in zip(rules, tables, strict=True):
            _refuse_http_only(rule, table, tcp_listener)
    _refuse_repeated_names(rules, tables)
    judge.verdict()
    return Document(file, tuple(rules), hashlib.sha256(content).hexdigest()[:12])


def _read_rule(table: Table, ordinal: int) -> Rule:
    return Rule(
        name=table.take("name", written(_name), f"rule-{ordinal}", like='"web-reads"'),
        ordinal=ordinal,
        line=table.place_of().line,
        callers=table.require_each("from", written(IdentityPattern.parse), like='["/web"]'),
        methods=table.take_each("methods", written(method), None, like='["GET", "HEAD"]'),
        paths=table.take_each("paths", written(PathPattern.parse), None, like='["/charges", "/docs/**"]'),
        reason=table.take("reason", written(note), "", like='"why this is allowed"'),
        owner=table.take("owner", written(note), "", like='"team-pay"'),
        expires=table.take("expires", instant, None, like="2027-03-01"),
        recorded=table.take("audit", written(_recorded), None, like='"all"'),
    )


def _refuse_http_only(rule: Rule, table: Table, tcp_listener: str) -> None:
    for key in ("methods", "paths"):
        if key in table:
            table.problem(
                key,
                found=f"`{key}` in rule {quote(rule.name)}",
                expected=f'only `from`: {tcp_listener} has protocol = "tcp" and sees no requests',
                remedy=f"Remove `{key}`, if the rule may grant whole connections",
            )


def _refuse_repeated_names(rules: list[Rule], tables: list[Table]) -> None:
    first: dict[str, Rule] = {}
    for rule, table in zip(rules, tables, strict=True):
        other = first.setdefault(rule.name, rule)
        if other is not rule:
            table.problem(
                "name",
                found=f"the name {quote(rule.name)}, which the rule on line {other.line} has",
                expected="a name of its own for each rule (the default is rule-<ordinal>)",
                remedy="Rename one of the two",
            )


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("a name of 1 to 64 letters, digits, dots, hyphens and underscores")
    return text


def _recorded(text: str) -> bool:
    if text not in _RECORDED:  # "denials" among them, as a listener may say: but no rule denies
        raise ValueError('"all" or "off": what becomes of its grants; denials are recorded as the listener says')
    return _RECORDED[text]


def method(text: str) -> str:
    """Read a method as rules name it; raises ValueError."""
    if text == "*":  # a legal token, but nobody means a method called `*`
        raise ValueError("a method; to allow any, leave `methods` out")
    if not _TOKEN.fullmatch(text):
        raise ValueError("a method such as GET (a token of RFC 9110 5.6.2)")
    if text not in _METHODS and text.upper() in _METHODS:
        raise ValueError(f"{text.upper()}: methods are case-sensitive (RFC 9110 9.1)")
    return text


def note(text: str) -> str:
    """Read a text for people; raises ValueError."""
    if len(text) > MAX_NOTE:
        raise ValueError(f"at most {MAX_NOTE} characters")
    return text


def instant(value: object) -> datetime:
    """Read a TOML date (00:00 UTC of that day) or a date-time with an offset; returns it in UTC."""
    match value:
        case datetime(tzinfo=None):
            raise ValueError("an offset behind the time, as in 2027-03-01T00:00:00Z")
        case datetime():
            try:
                return value.astimezone(UTC)
            except OverflowError:  # 0001-01-01T00:00:00+01:00
                raise ValueError("a time within the years 1 to 9999 in UTC") from None
        case date():
            return datetime.combine(value, time(), tzinfo=UTC)
        case _:
            raise ValueError("a date without quotes, or a date-time with its offset")
