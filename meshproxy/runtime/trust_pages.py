"""The pages about who may what and who did: connections, refusals, allow-lists, certificates, the audit log."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import trio

from ca.spiffe_id import SpiffeId, TrustDomain
from meshproxy.admin.answers import Inquiry, Page, json_page, text_page
from meshproxy.admin.denials import Explainer
from meshproxy.admin.questions import BadQuestion
from meshproxy.audit.query import Question, What
from meshproxy.policy.match import IdentityPattern
from meshproxy.runtime.audit_search import audit_files, search

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from meshproxy.admin.answers import Asked
    from meshproxy.admin.denials import DenialRow
    from meshproxy.admin.questions import Query
    from meshproxy.admin.roster import ConnectionRow
    from meshproxy.admin.status import CertificateStatus, Status
    from meshproxy.policy.compile import Policy
    from meshproxy.policy.document import Rule
    from meshproxy.runtime.chronicle import Chronicle
    from meshproxy.settings.load import Configuration
    from meshproxy.settings.schema import Inbound
    from meshproxy.telemetry.denials import Refused
    from meshproxy.wire.relay import Wall

_CONNECTIONS_SHOWN: Final = 1000
_DENIALS_SHOWN: Final = 100
_RECORDS_SHOWN: Final = 100
_MOST_RECORDS: Final = 1000
_RULES_SHOWN: Final = 2000


class Subject(Protocol):
    """The sidecar that the pages are about."""

    @property
    def configuration(self) -> Configuration:
        """What is in force."""

    async def describe(self) -> Status:
        """Return how it is, in full."""

    async def roster(self, most: int) -> tuple[Sequence[ConnectionRow], int]:
        """Return the newest connections, newest first, and how many are left out."""

    async def granted(self) -> Mapping[str, Mapping[str, int]]:
        """Return how often each rule has granted since start, by listener; none where there were too many kinds."""


class TrustPages:
    """The pages of one sidecar, whether it has workers or not."""

    def __init__(self, chronicle: Chronicle, subject: Subject, wall: Wall, workers: int = 1) -> None:
        self._chronicle = chronicle
        self._subject = subject
        self._wall = wall
        self._workers = workers
        self._explainer = Explainer()
        self._one_at_a_time = trio.CapacityLimiter(1)  # what explains and searches shall not take all processors
        self._searching = trio.CapacityLimiter(1)

    def __repr__(self) -> str:
        return f"<TrustPages {self._explainer!r}>"

    def all(self) -> Mapping[str, Inquiry]:
        """Return every page by its path."""
        return {
            "/connections": Inquiry(self.connections),
            "/denials": Inquiry(self.denials),
            "/policy": Inquiry(self.policy),
            "/certificates": Inquiry(self.certificates),
            "/audit": Inquiry(self.audit),
        }

    async def connections(self, asked: Asked) -> Page:
        """Return who is connected, newest first."""
        asked.query.done()
        rows, more = await self._subject.roster(_CONNECTIONS_SHOWN)
        return json_page({"now": self._now(), "connections": rows, "truncated": more > 0, "more": more})

    async def denials(self, asked: Asked) -> Page:
        """Return who was refused lately, each row with its explanation, newest first."""
        asked.query.done()
        refused, more = self._chronicle.denials.newest(_DENIALS_SHOWN)
        rows = await self.explained(refused)
        return json_page({"now": self._now(), "denials": rows, "more": more})

    async def explained(self, refused: Sequence[Refused]) -> list[DenialRow]:
        """Return refusals as rows: in a thread, as it asks every rule of a list about each."""
        policies, now, home = self._subject.configuration.policies, self._wall(), self._home()
        if home is None or not refused:
            return []

        def explain(home: TrustDomain) -> list[DenialRow]:
            row = self._explainer.row
            return [row(each, policies.get(each.listener), home=home, now=now) for each in refused]

        return await trio.to_thread.run_sync(partial(explain, home), limiter=self._one_at_a_time)

    async def policy(self, asked: Asked) -> Page:
        """Return the allow-lists, and how often each rule has granted."""
        asked.query.done()
        configuration, granted = self._subject.configuration, await self._subject.granted()
        listeners = []
        for inbound in configuration.settings.inbound:
            policy = configuration.policies[inbound.name]
            listeners.append(_portrait(inbound, policy, granted.get(inbound.name), self._wall()))
            await trio.lowlevel.checkpoint()
        return json_page({"now": self._now(), "listeners": listeners})

    async def certificates(self, asked: Asked) -> Page:
        """Return the own certificates, the first to end at first, and how it goes with their renewal."""
        asked.query.done()
        status = await self._subject.describe()
        now, identity = self._now(), status.identity
        rows = sorted((_certificate(each, now) for each in identity.certificates), key=_left)
        answer = {
            "now": now,
            "id": identity.id,
            "ready": identity.ready,
            "reason": identity.reason,
            "remedy": identity.remedy,
            "certificates": rows,
            "renewal": identity.renewal,
            "trust": identity.trust,
        }
        return json_page(answer)

    async def audit(self, asked: Asked) -> Page:
        """Return recorded decisions, the newest first."""
        settings = self._subject.configuration.settings.audit
        if settings is None:
            return text_page(404, "nothing is recorded here: the settings have no [audit]\n")
        query = asked.query
        question = _question(query, self._home())
        limit = query.number("limit", _RECORDS_SHOWN, least=1, most=_MOST_RECORDS)
        query.done()
        files = partial(audit_files, settings.file)
        look = partial(search, files, question, int(limit or _RECORDS_SHOWN))
        found = await trio.to_thread.run_sync(look, limiter=self._searching, abandon_on_cancel=True)
        return json_page({"now": self._now(), "records": found.records, "more": found.more})

    def _now(self) -> float:
        return self._wall().timestamp()

    def _home(self) -> TrustDomain | None:
        facts = self._chronicle.facts
        return None if facts is None or not facts.id else SpiffeId.parse(facts.id).trust_domain


def _portrait(inbound: Inbound, policy: Policy, granted: Mapping[str, int] | None, now: datetime) -> dict[str, object]:
    return {
        "listener": inbound.name,
        "protocol": inbound.protocol,
        "mode": inbound.mode,
        "file": policy.file,
        "hash": policy.content_hash,
        "generation": policy.generation,
        "rules": [_rule(rule, granted, now) for rule in policy.rules[:_RULES_SHOWN]],
        "more": max(len(policy.rules) - _RULES_SHOWN, 0),
    }


def _rule(rule: Rule, granted: Mapping[str, int] | None, now: datetime) -> dict[str, object]:
    return {
        "name": rule.name,
        "line": rule.line,
        "from": [pattern.text for pattern in rule.callers],
        "methods": rule.methods,
        "paths": None if rule.paths is None else [pattern.text for pattern in rule.paths],
        "reason": rule.reason,
        "owner": rule.owner,
        "expires": None if rule.expires is None else rule.expires.timestamp(),
        "expired": rule.expired(now),
        "granted": None if granted is None else granted.get(rule.name, 0),
    }


def _certificate(each: CertificateStatus, now: float) -> dict[str, object]:
    not_after = datetime.fromisoformat(each.not_after).timestamp()
    return {
        "role": each.role,
        "subject": each.subject,
        "serial": each.serial,
        "not_before": datetime.fromisoformat(each.not_before).timestamp() if each.not_before else None,
        "not_after": not_after,
        "seconds_left": round(not_after - now, 3),
    }


def _left(row: Mapping[str, object]) -> float:
    left = row["seconds_left"]
    return left if isinstance(left, float) else 0.0


def _question(query: Query, home: TrustDomain | None) -> Question:
    def parsed(name: str, parse: Callable[[str], object]) -> object:
        text = query.text(name)
        try:
            return None if text is None else parse(text)
        except (ValueError, OverflowError, OSError) as error:
            raise BadQuestion(f"{name} is {text!a}; expected {error}") from None

    caller, what = parsed("caller", IdentityPattern.parse), parsed("path", What.parse)
    since, until = parsed("from", _moment), parsed("to", _moment)
    decision = query.word("decision", ("", "allow", "deny", "would_deny"), "")
    return Question(
        who=caller if isinstance(caller, IdentityPattern) else None,
        what=what if isinstance(what, What) else None,
        since=since if isinstance(since, datetime) else None,
        until=until if isinstance(until, datetime) else None,
        decisions=(decision,) if decision else (),
        listener=query.text("listener") or "",
        home=home,
    )


def _moment(text: str) -> datetime:
    """Read seconds since 1970, or ISO 8601."""
    try:
        return datetime.fromtimestamp(float(text), UTC)
    except (ValueError, OverflowError, OSError):
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("seconds since 1970, or a time such as 2026-11-01T12:00:00Z") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
