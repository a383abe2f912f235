"""Decisions on their way into the audit log: nothing follows from one before it is there, or has no need to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshproxy.audit.lines import Decision
from meshproxy.errors import Failure
from meshproxy.http.exchange import Decided
from meshproxy.http.terms import Refusal
from meshproxy.policy.decide import Outcome
from meshproxy.policy.records import CERTIFICATE_EXPIRED
from meshproxy.settings.schema import Audited
from meshproxy.telemetry.access import present_time

if TYPE_CHECKING:
    from ca.svid import Leaf
    from meshproxy.audit.journal import Journal
    from meshproxy.http.head import RequestHead
    from meshproxy.http.terms import Grant, Judge
    from meshproxy.inbound.live import Call
    from meshproxy.inbound.visit import Visit
    from meshproxy.policy.compile import Policy
    from meshproxy.settings.schema import Inbound
    from meshproxy.telemetry.record import Recorder

# Looking a member up in its class takes 0.1 us on Python 3.11.
_OFF, _ALL = Audited.OFF, Audited.ALL
_ALLOW = Outcome.ALLOW.value


class Witness:
    """Has the decisions of one listener recorded, as far as its settings and the rules want that."""

    __slots__ = ("_journal", "_recorder", "_rules_want_records", "audited")

    def __init__(self, settings: Inbound, policy: Policy, journal: Journal, recorder: Recorder) -> None:
        self.follow(settings, policy)
        self._journal = journal
        self._recorder = recorder

    def __repr__(self) -> str:
        return f"<Witness of {self.audited} at {self._journal!r}>"

    def follow(self, settings: Inbound, policy: Policy) -> None:
        """Record what these want, from the next decision on."""
        self.audited = settings.audit
        self._rules_want_records = policy.wants_records

    @property
    def wants_room(self) -> bool:
        """Whether it is better to ask nothing now."""
        return (self.audited is not _OFF or self._rules_want_records) and self._journal.crowded

    def wants(self, decided: Decided) -> bool:
        """Whether a decision is to be recorded: as its rule says, or else the listener."""
        if decided.recorded is not None:
            return decided.recorded
        audited = self.audited
        return audited is _ALL or (audited is not _OFF and decided.decision != _ALLOW)

    def record(
        self,
        visit: Visit,
        decided: Decided,
        serial: str,
        *,
        asked: tuple[str, str] = ("", ""),
        request_id: str = "",
    ) -> bool:
        """Record a decision; False when there is no room: then whatever it was about is to be refused.

        `asked` is a method and a path, and `serial` is of the caller's certificate, in hex.
        """
        if self._journal.put(
            # In the order of the struct, as of an access line.
            Decision(
                present_time(),
                visit.listener,
                decided.caller,
                serial,
                visit.peer,
                visit.id,
                request_id,
                *asked,
                decided.decision,
                decided.rule,
                decided.reason,
                decided.mode,
                decided.policy,
            )
        ):
            return True
        self._tell(visit.listener, visit.id, decided)
        return False

    def record_cut(self, listener: str, call: Call, decided: Decided) -> None:
        """Record that a stream which was let through is ended, which it is in any case."""
        decision = Decision(
            present_time(),
            listener,
            decided.caller,
            "",
            "",
            call.id,
            "",
            *(call.asked or ("", "")),
            decided.decision,
            decided.rule,
            decided.reason,
            decided.mode,
            decided.policy,
            cut=True,
        )
        if not self._journal.put(decision):
            self._tell(listener, call.id, decided)

    def _tell(self, listener: str, connection: str, decided: Decided) -> None:
        untold = self._recorder.may_tell(listener, "not_recorded")
        if untold is not None:
            self._recorder.log.error(
                "not_recorded",
                listener=listener,
                id=connection,
                caller=decided.caller,
                decision=decided.decision,
                effect="refused: the audit log has no room",
                untold=untold,
            )


class AuditedJudge:
    """A judge of one caller's requests whose decisions are recorded before they are told."""

    __slots__ = ("_judge", "_serial", "_visit", "_witness")

    def __init__(self, judge: Judge, witness: Witness, visit: Visit, leaf: Leaf) -> None:
        self._judge = judge
        self._witness = witness
        self._visit = visit
        self._serial = f"{leaf.serial:x}"

    def __repr__(self) -> str:
        return f"<AuditedJudge {self._witness!r} of {self._visit.caller}>"

    def judge(self, head: RequestHead, request_id: bytes) -> Grant | Refusal:
        """See `meshproxy.http.terms.Judge`."""
        verdict = self._judge(head, request_id)
        decided = verdict.decided
        if decided is None:
            decided = Decided(self._visit.caller, Outcome.DENY.value, "", CERTIFICATE_EXPIRED, "", "")
        if not self._witness.wants(decided):
            return verdict
        asked = head.method.decode("ascii"), head.target.path.decode("ascii")
        if self._witness.record(
            self._visit, decided, self._serial, asked=asked, request_id=request_id.decode("latin-1")
        ):
            return verdict
        return Refusal(Failure.NOT_RECORDED, decided)
